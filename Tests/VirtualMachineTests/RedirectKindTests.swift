// Functions at whose beginning no jump can stand, because the kernel itself rewrites those bytes: they are redirected by
// ftrace, and what the kernel rewrites goes on to work in the old code and in the new.

import Core
import Testing

extension KernelChange {
    private static let average = "\t\t\t\tavg[w] = group->avg[res * 2 + full][w];\n"

    /// Two functions that begin with a jump label; one shows what it does.
    static let byFtrace = KernelChange(
        "psi, dev: code at whose beginning the kernel writes",
        edits: [
            Edit(
                path: "kernel/sched/psi.c", old: average,
                new: "\t\t\t\tavg[w] = group->avg[res * 2 + full][w] + 700 * FIXED_1;\n"),
            Edit(
                path: "net/core/dev.c",
                old: "\tint ret;\n\n\tlockdep_assert_once(hardirq_count() | softirq_count());\n\n",
                new: "\tint ret;\n\n\tasm volatile(\"nopl 0x12345678(%rax)\");\n"),
        ])
    static let byFtraceAgain: KernelChange = {
        var change = KernelChange("psi: once more", "kernel/sched/psi.c", "700 * FIXED_1", "900 * FIXED_1")
        change.ground = [.byFtrace]
        return change
    }()
    static let byFtraceOtherwise = KernelChange(
        "psi: in the kernel's source", "kernel/sched/psi.c", average,
        "\t\t\t\tavg[w] = group->avg[res * 2 + full][w] + 500 * FIXED_1;\n")
}

extension VirtualMachineTests {
    @Suite struct RedirectKinds {
        static let boot = SharedBoot { laboratory in
            var guest = Guest(laboratory)
            guest.configure(commandLine: "psi=1")
            guest.add(try await laboratory.update(.byFtrace), as: "first")
            guest.add(try await laboratory.update(.byFtraceAgain), as: "second")
            guest.add(try await laboratory.update(.byFtraceOtherwise), as: "other")
            let id = try await laboratory.update(.byFtrace).id
            let second = try await laboratory.update(.byFtraceAgain).id
            let tracing = "/sys/kernel/tracing"
            let look = "sed -n 's/some avg10=\\([0-9]\\)[0-9]*\\..*/\\1/p' /proc/pressure/memory"
            // The key of the tracepoint is that at the beginning of __netif_rx.
            let toggle = """
                cd \(tracing); for n in 1 2 3; do echo > trace; echo 1 > events/net/netif_rx_entry/enable; ping -c 1 127.0.0.1 > /dev/null
                echo 0 > events/net/netif_rx_entry/enable; grep -q netif_rx_entry: trace && echo traced; done
                """
            guest.step(
                "before", "ifconfig lo up; mount -t tracefs none \(tracing) 2> /dev/null; \(look); \(toggle)")
            guest.step("check", "git-ksplice check first.tar.gz")
            guest.step("apply", "git-ksplice apply first.tar.gz")
            guest.step(
                "kinds", "cat /sys/kernel/ksplice/\(id)*/functions/*/kind; cat \(tracing)/enabled_functions")
            guest.step("applied", "\(look); \(toggle)")
            guest.step(
                "ftrace off",
                "echo 0 > /proc/sys/kernel/ftrace_enabled; cat /proc/sys/kernel/ftrace_enabled; \(look)")
            guest.step(
                "traced too",
                """
                cd \(tracing); echo psi_show > set_ftrace_filter; echo function > current_tracer; \(look)
                grep -c 'psi_show <-' trace; grep -o 'psi_show <-[a-z_]*' trace | head -1; echo function_graph > current_tracer
                \(look); grep -c 'psi_show()' trace; echo nop > current_tracer; echo > set_ftrace_filter
                """)
            guest.step("other", "git-ksplice apply other.tar.gz")
            guest.step("second", "git-ksplice apply second.tar.gz && \(look)")
            guest.step("not the first", "git-ksplice undo \(id)")
            guest.step("second undone", "git-ksplice undo \(second) && \(look)")
            guest.step("upgrade", "git-ksplice upgrade --all other.tar.gz && \(look); \(toggle)")
            guest.step(
                "undone",
                "git-ksplice undo --all && \(look); \(toggle); cat \(tracing)/enabled_functions; true"
            )
            return try await guest.run()
        }

        private static let toggled = ["traced", "traced", "traced"]

        @Test func noRoomForAJumpIsNoObstacle() async throws {
            let report = try await Self.boot.report()
            #expect(try report.output("before").lines.map { String($0) } == ["0"] + Self.toggled)
            #expect(try report.output("check").contains("it can be applied"))
            #expect(try report.output("apply").hasSuffix("Done!"))
            let kinds = try report.output("kinds")
            let words = kinds.lines.map { String($0) }
            #expect(words.count { $0 == "ftrace" } == 2 && !words.contains("jump"), "\(kinds)")
            #expect(
                kinds.contains("psi_show (1)") && kinds.contains("__netif_rx (1)"), "\(kinds)")
            #expect(try report.output("applied").lines.map { String($0) } == ["7"] + Self.toggled)
            let undone = try report.output("undone")
            #expect(undone.lines.map { String($0) }.suffix(4) == ["0"] + Self.toggled, "\(undone)")
            #expect(report.warnings == [])
        }

        @Test func ftraceStaysOnAndTracersWork() async throws {
            let report = try await Self.boot.report()
            let off = try report.output("ftrace off")
            #expect(off.hasSuffix("1\n7"), "\(off)")
            let traced = try report.output("traced too").lines.map { String($0) }
            try #require(traced.count == 5, "\(traced)")
            #expect(traced[0] == "7" && traced[3] == "7" && traced[2].hasPrefix("psi_show <-"), "\(traced)")
            #expect(Int(traced[1]) ?? 0 > 0 && Int(traced[4]) ?? 0 > 0, "\(traced)")
        }

        @Test func updatesOnItAreMatchedWithTheNewestCode() async throws {
            let report = try await Self.boot.report()
            let other = try report.output("other", status: Int(Status.verificationRefused))
            #expect(other.contains("psi_show"), "\(other)")
            #expect(try report.output("second").hasSuffix("Done!\n9"))
            #expect(
                try report.output("not the first", status: Int(Status.busy)).contains("stands on this one"))
            #expect(try report.output("second undone").hasSuffix("Done!\n7"))
            let upgraded = try report.output("upgrade").lines.map { String($0) }
            #expect(upgraded.suffix(4) == ["5"] + Self.toggled, "\(upgraded)")
        }
    }
}
