// The changes of LiveSiteTests: functions that hold places which the kernel itself rewrites or looks up (jump labels,
// static calls, tracepoints, debug statements, alternatives, exception and bug tables), and functions that are reached in
// unusual ways. Each new piece of code shows itself, by what it returns or by a line in the kernel's log.

extension KernelChange {
    /// In the kernel image.
    static let liveSites = KernelChange(
        "live sites of the image",
        edits: [
            Edit(
                path: "kernel/sys.c", old: "static int prctl_set_auxv(",
                new: "static DEFINE_STATIC_KEY_FALSE(probe_key);\n\nstatic int prctl_set_auxv("),
            Edit(path: "kernel/sys.c", old: "\tcase PR_GET_DUMPABLE:\n", new: prctl),
            wakeups, firstSteps, timeIsUp, carrierOff,
            Edit(
                path: "fs/exec.c", old: "\tstrscpy_pad(tsk->comm, buf, sizeof(tsk->comm));\n",
                new: "\tstrscpy_pad(tsk->comm, buf, sizeof(tsk->comm));\n"
                    + "\tif (tsk->comm[0] == '@')\n\t\ttsk->comm[0] = '#';\n"),
            Edit(
                path: "lib/kobject_uevent.c",
                old: "\tpr_debug(\"kobject: '%s' (%p): %s\\n\",\n\t\t kobject_name(kobj), kobj, __func__);\n",
                new: "\tpr_debug(\"kobject: '%s' (%p): %s\\n\",\n\t\t kobject_name(kobj), kobj, __func__);\n"
                    + "\tpr_debug(\"probe: added to an event\\n\");\n"),
            Edit(
                path: "net/core/dev.c",
                old: "\t\tint cpu;\n\n\t\trcu_read_lock();\n\n\t\tcpu = get_rps_cpu(",
                new: "\t\tint cpu;\n\n\t\trcu_read_lock();\n\n\t\tpr_notice(\"probe: steered\\n\");\n"
                    + "\t\tcpu = get_rps_cpu("),
            Edit(
                path: "net/core/dev.c",
                old: "\t\tunsigned int qtail;\n\n\t\tret = enqueue_to_backlog(skb, smp_processor_id(), ",
                new: "\t\tunsigned int qtail;\n\n\t\tpr_notice(\"probe: not steered\\n\");\n"
                    + "\t\tret = enqueue_to_backlog(skb, smp_processor_id(), "),
            Edit(
                path: "net/ipv4/icmp.c", old: "\tif (READ_ONCE(net->ipv4.sysctl_icmp_echo_ignore_all))\n",
                new: "\tpr_notice(\"probe: echo, softirq %d\\n\", !!in_serving_softirq());\n"
                    + "\tif (READ_ONCE(net->ipv4.sysctl_icmp_echo_ignore_all))\n"),
            Edit(
                path: "arch/x86/kernel/cpu/common.c",
                old: "void cr4_init(void)\n{\n\tunsigned long cr4 = __read_cr4();\n",
                new:
                    "int probe_cr4;\n\nvoid cr4_init(void)\n{\n\tunsigned long cr4 = __read_cr4();\n\n\tprobe_cr4++;\n"
            ),
            Edit(
                path: "fs/eventpoll.c", old: "ep_tovisit == inserting_into || depth > EP_MAX_NESTS)",
                new: "ep_tovisit == inserting_into || depth > 1)"),
        ])

    /// In two modules, one of which uses the other.
    static let liveSitesOfModules = KernelChange(
        "live sites of modules",
        edits: [
            Edit(
                path: "net/mac80211/driver-ops.c", old: "\ttrace_drv_start(local);\n",
                new: "\ttrace_drv_start(local);\n\tpr_notice(\"probe: start\\n\");\n"),
            Edit(
                path: "drivers/net/wireless/mac80211_hwsim.c",
                old: "\twiphy_dbg(hw->wiphy, \"%s\\n\", __func__);\n\tdata->started = true;\n",
                new: "\twiphy_dbg(hw->wiphy, \"%s\\n\", __func__);\n"
                    + "\tpr_debug(\"probe: added to a module\\n\");\n\tdata->started = true;\n"),
        ])

    /// Operations of prctl that no kernel has. `WARN(1` stands once in them.
    private static let prctl = """
        \tcase 0x6b7301:
        \t\tif (!user_read_access_begin((int __user *)arg2, sizeof(int)))
        \t\t\treturn -EDOM;
        \t\tunsafe_get_user(error, (int __user *)arg2, probe_user);
        \t\tuser_read_access_end();
        \t\tbreak;
        probe_user:
        \t\tuser_read_access_end();
        \t\terror = -EFAULT;
        \t\tbreak;
        \tcase 0x6b7302:
        \t\tpagefault_disable();
        \t\t__get_kernel_nofault(&error, (const void *)arg2, int, probe_kernel);
        \t\tpagefault_enable();
        \t\tbreak;
        probe_kernel:
        \t\tpagefault_enable();
        \t\terror = -ERANGE;
        \t\tbreak;
        \tcase 0x6b7303:
        \t\tWARN(1, "probe: warned\\n");
        \t\terror = 0;
        \t\tbreak;
        \tcase 0x6b7304:
        \t\tWARN_ONCE(1, "probe: warned once\\n");
        \t\terror = 0;
        \t\tbreak;
        \tcase 0x6b7305:
        \t\tset_tsk_need_resched(current);
        \t\tset_preempt_need_resched();
        \t\terror = cond_resched();
        \t\tbreak;
        \tcase 0x6b7306:
        \t\tpr_debug("probe: added to prctl\\n");
        \t\tbreak;
        \tcase 0x6b7307:
        \t\tif (arg2)
        \t\t\tstatic_branch_enable(&probe_key);
        \t\telse
        \t\t\tstatic_branch_disable(&probe_key);
        \t\tbreak;
        \tcase 0x6b7308:
        \t\terror = static_branch_unlikely(&probe_key) ? 7 : 8;
        \t\tbreak;
        \tcase 0x6b7309: {
        \t\textern int probe_cr4;

        \t\terror = probe_cr4;
        \t\tbreak;
        \t}
        \tcase PR_GET_DUMPABLE:

        """

    private static let wakeups = Edit(
        path: "kernel/sched/core.c", old: "__schedstat_inc(p->stats.nr_wakeups);",
        new: "__schedstat_add(p->stats.nr_wakeups, 1000);")
    /// Called from arch/x86/entry/entry_64.S.
    private static let firstSteps = Edit(
        path: "kernel/sched/core.c", old: "\tif (current->set_child_tid)\n\t\tput_user(task_pid_vnr(current)",
        new: "\tif (!strcmp(current->comm, \"forker\"))\n\t\tpr_notice(\"probe: first steps\\n\");\n"
            + "\tif (current->set_child_tid)\n\t\tput_user(task_pid_vnr(current)")
    private static let timeIsUp = Edit(
        path: "kernel/time/timer.c", old: "\twake_up_process(timeout->task);\n",
        new: "\tif (!strcmp(timeout->task->comm, \"waiter\"))\n"
            + "\t\tpr_notice(\"probe: time is up, softirq %d\\n\", !!in_serving_softirq());\n"
            + "\twake_up_process(timeout->task);\n")
    /// Exported, and called by mac80211 when an interface goes up.
    private static let carrierOff = Edit(
        path: "net/sched/sch_generic.c",
        old: "void netif_carrier_off(struct net_device *dev)\n{\n",
        new: "void netif_carrier_off(struct net_device *dev)\n{\n"
            + "\tif (!strcmp(current->comm, \"updown\"))\n\t\tpr_notice(\"probe: called by a module\\n\");\n")
}
