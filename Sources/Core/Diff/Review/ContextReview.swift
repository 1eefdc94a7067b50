// Replaced functions that run where a redirect is difficult: always on some task's stack, in an NMI, or in a task that
// is on no list any more. What they are is known by name, or by what the source does with them.

struct ContextReview {
    let pre: SourceFile
    let post: SourceFile

    /// Functions in which tasks wait while they are not running, or for as long as they live.
    private static let waiting: Set = [
        "__schedule", "schedule", "schedule_idle", "schedule_timeout", "do_idle", "cpu_startup_entry",
        "cpu_idle_poll",
        "kthread", "kthreadd", "kthread_worker_fn", "smpboot_thread_fn", "worker_thread", "rescuer_thread",
        "rcu_gp_kthread", "rcu_gp_fqs_loop", "rcu_tasks_kthread", "irq_thread", "kauditd_thread",
        "oom_reaper",
    ]
    private static let nmi: Set = [
        "exc_nmi", "default_do_nmi", "nmi_handle", "unknown_nmi_error", "nmi_cpu_backtrace",
        "perf_event_nmi_handler",
    ]
    /// What do_exit() runs behind exit_notify() (kernel/exit.c of Linux 6.1).
    private static let leaving: Set = [
        "do_exit", "do_task_dead", "exit_io_context", "free_pipe_info", "proc_exit_connector", "exit_rcu",
        "exit_tasks_rcu_finish", "check_stack_usage",
    ]
    private static let starters: Set = [
        "kthread_run", "kthread_create", "kthread_create_on_node", "kthread_create_on_cpu",
        "kthread_run_on_cpu",
        "kernel_thread", "user_mode_thread",
    ]

    /// Remarks about the functions that an update replaces, given by their names in post.
    func findings(replaced: [String]) -> [Finding] {
        // A clone of the compiler is the function.
        Set(replaced.map { String($0.prefix { $0 != "." }) }).sorted().flatMap { name in
            [
                stack(name),
                Self.nmi.contains(name) || isArgument(1, name, of: ["register_nmi_handler"])
                    ? nmi(name) : nil,
                Self.leaving.contains(name) ? leaving(name) : nil,
            ].compactMap { $0 }
        }
    }

    private func stack(_ name: String) -> Finding? {
        let reason: String
        if Self.waiting.contains(name) {
            reason = "tasks wait inside of it"
        } else if isArgument(0, name, of: Self.starters) {
            reason = "it is the main function of a kernel thread"
        } else if isThreadLoop(name) {
            reason = "it is the loop of a kernel thread"
        } else if (pre[name] ?? post[name])?.isEndless == true, !Self.leaving.contains(name) {
            reason = "it never returns, so a task that is inside stays there until it ends"
        } else {
            return nil
        }
        return remark(
            "always-on-stack", name, "'\(name)' is probably always on the stack of some task: \(reason)",
            "apply will be refused as busy while the thread lives; make the change in a function that it calls, or stop the thread for the time of apply (unload the module, switch the feature off); git ksplice check names the tasks"
        )
    }

    private func nmi(_ name: String) -> Finding {
        remark(
            "nmi-context", name, "'\(name)' runs in non-maskable interrupts",
            "the pause does not keep them off: one may come while the redirect is written, and the new code runs in them too; make the change in a function that runs elsewhere if you can"
        )
    }

    private func leaving(_ name: String) -> Finding {
        remark(
            "exit-path", name, "'\(name)' runs at the end of do_exit()",
            "a task that nobody waits for is on no list there, so the check of stacks does not see it; make the change in what runs before exit_notify(), or accept that a task which ends at that moment finishes in the old code"
        )
    }

    private func remark(_ code: String, _ name: String, _ message: String, _ advice: String) -> Finding {
        Finding(
            code, .warning, file: post.path, line: post[name]?.line, symbol: name, message, advice: advice)
    }

    private func isArgument(_ position: Int, _ name: String, of callees: Set<String>) -> Bool {
        (pre.functions + post.functions).contains { function in
            function.calls.contains { call in
                guard callees.contains(call.name) else { return false }
                let arguments = call.argumentTexts
                return position < arguments.count
                    && (arguments[position] == name || arguments[position] == "&" + name)
            }
        }
    }

    /// A loop that ends only when the thread is told to, and that sleeps.
    private func isThreadLoop(_ name: String) -> Bool {
        guard let function = pre[name] ?? post[name] else { return false }
        let ends = ["kthread_should_stop", "kthread_should_stop_or_park"]
        let isLoop = ["while", "for", "do"].contains { function.names($0) }
        return isLoop && function.calls.contains { ends.contains($0.name) }
            && function.calls.contains { $0.name.hasPrefix("schedule") || $0.name.contains("wait_event") }
    }
}
