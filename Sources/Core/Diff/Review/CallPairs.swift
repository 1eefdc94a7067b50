// Calls that belong together: what one takes, the other gives back. The one table for the remarks about balance and
// about sleeping.

/// Two kinds of calls.
struct CallPair: Sendable {
    /// For people.
    var title: String
    var taking: Set<String>
    var giving: Set<String>
    /// Whether a task that holds it must not sleep.
    var isAtomic = false
}

extension CallPair {
    private init(_ title: String, _ taking: String, _ giving: String, atomic: Bool = false) {
        func words(_ text: String) -> Set<String> { Set(text.split(separator: " ").map { String($0) }) }
        self.init(title: title, taking: words(taking), giving: words(giving), isAtomic: atomic)
    }

    static let all: [CallPair] = [
        .init(
            "a spin lock",
            "spin_lock spin_lock_bh spin_lock_irq spin_lock_irqsave spin_lock_nested spin_lock_irqsave_nested",
            "spin_unlock spin_unlock_bh spin_unlock_irq spin_unlock_irqrestore", atomic: true),
        .init(
            "a raw spin lock", "raw_spin_lock raw_spin_lock_irq raw_spin_lock_irqsave raw_spin_lock_nested",
            "raw_spin_unlock raw_spin_unlock_irq raw_spin_unlock_irqrestore", atomic: true),
        .init(
            "a read lock", "read_lock read_lock_bh read_lock_irq read_lock_irqsave",
            "read_unlock read_unlock_bh read_unlock_irq read_unlock_irqrestore", atomic: true),
        .init(
            "a write lock", "write_lock write_lock_bh write_lock_irq write_lock_irqsave",
            "write_unlock write_unlock_bh write_unlock_irq write_unlock_irqrestore", atomic: true),
        .init(
            "the RCU read side", "rcu_read_lock rcu_read_lock_bh rcu_read_lock_sched",
            "rcu_read_unlock rcu_read_unlock_bh rcu_read_unlock_sched", atomic: true),
        .init(
            "preemption", "preempt_disable preempt_disable_notrace",
            "preempt_enable preempt_enable_notrace preempt_enable_no_resched", atomic: true),
        .init(
            "interrupts", "local_irq_disable local_irq_save", "local_irq_enable local_irq_restore",
            atomic: true),
        .init("softirqs", "local_bh_disable", "local_bh_enable", atomic: true),
        .init(
            "the spin lock of a socket", "bh_lock_sock bh_lock_sock_nested", "bh_unlock_sock", atomic: true),
        .init("the CPU", "get_cpu get_cpu_ptr get_cpu_var", "put_cpu put_cpu_ptr put_cpu_var", atomic: true),
        .init("an atomic mapping", "kmap_atomic", "kunmap_atomic", atomic: true),
        .init(
            "a mutex",
            "mutex_lock mutex_lock_nested mutex_lock_interruptible mutex_lock_killable mutex_trylock",
            "mutex_unlock"),
        .init(
            "the read side of a semaphore",
            "down_read down_read_nested down_read_trylock down_read_killable down_read_interruptible",
            "up_read"),
        .init(
            "the write side of a semaphore",
            "down_write down_write_nested down_write_trylock down_write_killable", "up_write"),
        .init("the SRCU read side", "srcu_read_lock", "srcu_read_unlock"),
        .init("the lock of a socket", "lock_sock lock_sock_nested", "release_sock"),
        .init("the rtnl lock", "rtnl_lock rtnl_lock_killable", "rtnl_unlock"),
        .init("the lock of an inode", "inode_lock inode_lock_nested inode_lock_killable", "inode_unlock"),
        .init("the lock of a page", "lock_page folio_lock", "unlock_page folio_unlock"),
        .init("references to sockets", "sock_hold", "sock_put __sock_put"),
        .init(
            "references to network devices", "dev_hold netdev_hold dev_get_by_index dev_get_by_name",
            "dev_put netdev_put"),
        .init("kref", "kref_get kref_get_unless_zero", "kref_put"),
        .init(
            "reference counts", "refcount_inc refcount_inc_not_zero",
            "refcount_dec refcount_dec_and_test"),
        .init("references to modules", "try_module_get __module_get", "module_put"),
        .init("references to files", "fget get_file", "fput"),
        .init("references to pages", "get_page folio_get", "put_page folio_put"),
        .init("references to kobjects", "kobject_get", "kobject_put"),
        .init("references to devices", "get_device", "put_device"),
        .init("references to network namespaces", "get_net maybe_get_net", "put_net"),
        .init("references to routes", "dst_hold dst_clone", "dst_release"),
        .init("references to dentries", "dget", "dput"),
        .init("references to inodes", "ihold igrab", "iput"),
        .init("references to tasks", "get_task_struct", "put_task_struct"),
        .init("references to address spaces", "mmget mmgrab", "mmput mmdrop"),
        .init("references to buffers", "skb_get", "kfree_skb consume_skb"),
        .init("references to credentials", "get_cred", "put_cred"),
        .init("references to mounts", "mntget mnt_want_write", "mntput mnt_drop_write"),
        .init(
            "power references", "pm_runtime_get_sync pm_runtime_get pm_runtime_get_noresume",
            "pm_runtime_put pm_runtime_put_autosuspend pm_runtime_put_sync pm_runtime_put_noidle"),
        .init(
            "memory", "kmalloc kzalloc kcalloc kmalloc_array kmemdup kstrdup kvmalloc kvzalloc kvcalloc",
            "kfree kvfree kfree_sensitive kfree_rcu"),
    ]

    /// By the name of a call: the pair's position in `all`, and whether the call takes.
    static let byCall: [String: (pair: Int, takes: Bool)] = {
        var table: [String: (pair: Int, takes: Bool)] = [:]
        for (index, pair) in all.enumerated() {
            for name in pair.taking { table[name] = (index, true) }
            for name in pair.giving { table[name] = (index, false) }
        }
        return table
    }()
}

/// Calls during which a task may sleep.
enum SleepingCalls {
    static let names: Set<String> = Set(
        """
        mutex_lock mutex_lock_interruptible mutex_lock_killable mutex_lock_nested down_read down_write
        down_read_killable down_write_killable down down_interruptible down_killable inode_lock rtnl_lock lock_sock
        lock_sock_nested lock_page folio_lock msleep ssleep usleep_range msleep_interruptible schedule schedule_timeout
        schedule_timeout_interruptible schedule_timeout_uninterruptible schedule_timeout_killable cond_resched
        might_sleep wait_event wait_event_interruptible wait_event_killable wait_event_timeout
        wait_event_interruptible_timeout wait_for_completion wait_for_completion_timeout
        wait_for_completion_interruptible wait_for_completion_killable synchronize_rcu synchronize_rcu_expedited
        synchronize_rcu_tasks synchronize_net synchronize_srcu synchronize_irq rcu_barrier copy_from_user copy_to_user
        get_user put_user clear_user strncpy_from_user memdup_user flush_work flush_workqueue flush_delayed_work
        cancel_work_sync cancel_delayed_work_sync kthread_stop vmalloc vzalloc free_irq disable_irq
        """.split(whereSeparator: \.isWhitespace).map { String($0) })

    private static let flags: Set = [
        "GFP_KERNEL", "GFP_KERNEL_ACCOUNT", "GFP_NOFS", "GFP_NOIO", "GFP_USER", "GFP_HIGHUSER",
    ]

    /// Whether a call is known to sleep, or to allocate with leave to sleep.
    static func contains(_ call: SourceCall) -> Bool {
        names.contains(call.name)
            || call.arguments.contains { $0.kind == .word && flags.contains($0.text) }
    }
}
