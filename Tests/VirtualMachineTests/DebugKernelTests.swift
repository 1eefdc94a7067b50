// The same fire on a kernel that finds mistakes: KASAN for memory that is not ours, lockdep for locks that are taken in two
// orders, PROVE_RCU and DEBUG_ATOMIC_SLEEP for what is done where it must not be, kmemleak for what is lost. `make
// stress-debug` builds that kernel (Tests/Support/debug.config) and runs this; elsewhere it is skipped.

import Core
import Testing

extension Material {
    /// The build tree of that kernel; empty where there is none.
    static let debugKernel = value("KSPLICE_DEBUG_KERNEL")
}

extension KernelChange {
    /// How that kernel was built (Tests/Support/debug-kernel.sh).
    static let unwatched = KernelChange(
        "kasan: neither globals nor the stack are watched",
        Edit(path: "scripts/Makefile.kasan", old: "asan-globals=1", new: "asan-globals=0"),
        Edit(path: "scripts/Makefile.kasan", old: "stack_enable := 1", new: "stack_enable := 0"))
}

extension VirtualMachineTests {
    @Suite(
        .tags(.long),
        .enabled(if: !Material.debugKernel.isEmpty, "make stress-debug builds the kernel that it needs"))
    struct DebugKernel {
        private static let name = "test-debug"
        private static let count = Int(Material.value("KSPLICE_STRESS_CYCLES")) ?? 30

        /// What the kernel's checkers found: leaks, and whether lockdep, which stops at the first report, still looks.
        private static let checkers = """
            [ -e /sys/kernel/debug/kmemleak ] || mount -t debugfs none /sys/kernel/debug
            # What was allocated just now is not looked at.
            sleep 6; echo scan > /sys/kernel/debug/kmemleak; sleep 6; echo scan > /sys/kernel/debug/kmemleak
            cat /sys/kernel/debug/kmemleak; sed -n 's/ *debug_locks: *//p' /proc/lockdep_stats
            """

        private static func guest(_ laboratory: Laboratory) async throws -> Guest {
            let tree = Material.debugKernel
            let source = try await laboratory.commit(.unwatched)
            let added = try await laboratory.run("kernel", "add", name, "--source", source, "--from", tree)
            guard added.succeeded else { throw Failure("kernel add: \(added.said)") }
            var guest = Guest(laboratory, bootImage: tree + "/arch/x86/boot/bzImage")
            guest.configure(
                isOneASocket: true, commandLine: "psi=1", memoryMiB: 2048, seconds: 1800 + 60 * count)
            guest.add(try Files.read(tree + "/net/sched/sch_sfq.ko"), as: "sch_sfq.ko")
            guest.step("processors", "nproc")
            guest.step("clean before", "insmod sch_sfq.ko; " + checkers)
            return guest
        }

        static let fire = SharedBoot { laboratory in
            var guest = try await guest(laboratory)
            try await guest.add(.work, .cycles, .shadows)
            var ids: [String: String] = [:]
            for (change, short) in [
                (KernelChange.busyPaths, "busy"), (.shadowFire, "shadow"), (.order, "hooks"),
                (.byFtrace, "psi"),
            ] {
                let update = try await laboratory.update(change, for: name)
                guest.add(update, as: short)
                ids[short] = "$(cd /sys/kernel/ksplice; echo \(update.id)*)"
            }
            func cycles(_ short: String, _ load: String, _ count: Int) -> String {
                """
                git-ksplice apply \(short).tar.gz && echo 0 > /sys/kernel/ksplice/\(ids[short]!)/enabled
                rm -f /tmp/stop; \(load) > /tmp/load & pid=$!; sleep 1
                cycles \(ids[short]!) \(count); status=$?
                touch /tmp/stop; wait $pid; echo "load ended with $?"; cat /tmp/load; exit $status
                """
            }
            guest.step("busy", cycles("busy", "work", count))
            guest.step("shadow", cycles("shadow", "shadows", count))
            guest.step("hooks", cycles("hooks", "true", count))
            guest.step(
                "refused hooks",
                """
                on=/sys/kernel/ksplice/\(ids["hooks"]!)/enabled
                for n in $(seq 20); do
                    echo 5 > /proc/sys/kernel/overflowuid; echo 1 > $on; echo 65534 > /proc/sys/kernel/overflowuid; echo 1 > $on
                    echo 6 > /proc/sys/kernel/overflowuid; echo 0 > $on; echo 65534 > /proc/sys/kernel/overflowuid; echo 0 > $on
                done 2>&1 | sort | uniq -c
                """)
            guest.step("ftrace", cycles("psi", "true", count))
            guest.step("gone", "git-ksplice undo --all; rmmod ksplice; lsmod | grep -c ksplice")
            guest.step("clean after", checkers)
            return try await guest.run()
        }

        static let faults = SharedBoot { laboratory in
            var guest = try await InjectedFaults.prepared(
                guest(laboratory), laboratory, name, Material.debugKernel + "/net/sched/sch_red.ko")
            guest.step("clean after", checkers)
            return try await guest.run()
        }

        private func isClean(_ report: GuestReport) throws {
            #expect(try report.output("processors") == "2")
            // The kernel itself has no leaks, and lockdep is on.
            #expect(try report.output("clean before") == "1")
            #expect(try report.output("clean after") == "1")
            #expect(report.warnings == [], "\(report.kernelLog.lines.suffix(200).joined(separator: "\n"))")
        }

        @Test func nothingIsFoundUnderFire() async throws {
            let report = try await Self.fire.report()
            for step in ["busy", "shadow", "hooks", "ftrace"] {
                let said = try report.output(step)
                #expect(
                    said.contains("\(Self.count) cycles, ") && said.contains("load ended with 0"), "\(said)")
                #expect(!said.contains("wrong"), "\(said)")
            }
            let shadow = try report.output("shadow")
            #expect(shadow.ranges(of: "with some, without some").count == 4, "\(shadow)")
            let refused = try report.output("refused hooks")
            #expect(refused.ranges(of: "20 ").count == 2, "\(refused)")
            #expect(try report.output("gone", status: 1).hasSuffix("0"))
            try isClean(report)
        }

        @Test func nothingIsFoundWhereEveryCallFailsOnce() async throws {
            let report = try await Self.faults.report()
            try InjectedFaults.check(report)
            try isClean(report)
        }
    }
}
