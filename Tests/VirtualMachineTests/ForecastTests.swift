// The dry run says what apply will do: in each of many situations check is asked first, then apply is tried, and both must
// agree. One boot serves them all; each situation cleans up behind itself.

import Testing

@testable import Core

extension VirtualMachineTests {
    @Suite(.tags(.long)) struct Forecasts {
        /// A situation, and what check and apply must say in it.
        struct Situation: Sendable, CustomTestStringConvertible {
            var name: String
            /// Commands that bring it about, and that end it.
            var begin = ":"
            var end = ":"
            var update = "auxv"
            var options = ""
            /// The exit status of both.
            var status: Int32 = 0
            /// Of the first obstacle.
            var point = ""
            var message = ""
            /// Who is attached to the function's entry.
            var tracer = ""
            var testDescription: String { name }
        }

        private static let undo = "ksplice undo --all"
        private static let removeProbe = "echo > kprobe_events"

        static let situations = [
            Situation(name: "nothing special", end: undo),
            Situation(
                name: "applied already", begin: "ksplice apply auxv.tar.gz", end: undo,
                status: Status.no, point: "state", message: "is applied already"),
            Situation(
                name: "another update is applied", begin: "ksplice apply pause.tar.gz", end: undo),
            Situation(
                name: "a task sleeps inside", begin: "sleeper > /dev/null & sleep 1",
                end: "kill $(pidof sleeper)", update: "pause", options: "--timeout 1", status: Status.busy,
                point: "tasks", message: "sleeper["),
            Situation(
                name: "a probe in the body",
                begin: "probe inside \"$body\"; echo 1 > events/kprobes/inside/enable",
                end: "echo 0 > events/kprobes/inside/enable; \(removeProbe)",
                status: Status.busy, point: "matching", message: "kprobe"),
            Situation(
                name: "a disabled probe in the body", begin: "probe inside \"$body\"", end: removeProbe,
                status: Status.busy,
                point: "room", message: "a probe, which is disabled, stands at prctl_set_auxv+0x"),
            Situation(
                name: "a probe in a function that stays",
                begin: """
                    for o in $(seq 12 40); do echo "p:stays getrusage+$o" >> kprobe_events 2>/dev/null && break; done
                    echo 1 > events/kprobes/stays/enable; grep getrusage /sys/kernel/debug/kprobes/list
                    """,
                end: "\(undo); echo 0 > events/kprobes/stays/enable; \(removeProbe)"),
            Situation(
                name: "a probe on the entry",
                begin:
                    "probe entry 0; echo 1 > events/kprobes/entry/enable",
                end: "\(undo); echo 0 > events/kprobes/entry/enable; \(removeProbe)", tracer: "a kprobe"),
            Situation(
                name: "the function tracer",
                begin: "echo prctl_set_auxv > set_ftrace_filter; echo function > current_tracer",
                end: "\(undo); echo nop > current_tracer; echo > set_ftrace_filter",
                tracer: "the function tracer"),
            Situation(
                name: "the function graph tracer",
                begin: "echo prctl_set_auxv > set_ftrace_filter; echo function_graph > current_tracer",
                end: "\(undo); echo nop > current_tracer; echo > set_ftrace_filter",
                tracer: "the function graph tracer"),
            Situation(
                name: "a BPF program",
                begin: "fentry prctl_set_auxv > /tmp/fentry 2>&1 & sleep 2; cat /tmp/fentry",
                end: "\(undo); kill $(pidof fentry); sleep 1", tracer: "a BPF program"),
            Situation(
                name: "a live patch",
                begin: "insmod /root/live.ko; sleep 1; ls /sys/kernel/livepatch",
                end: """
                    echo 0 > /sys/kernel/livepatch/live/enabled
                    n=0; while [ -e /sys/kernel/livepatch/live ] && [ $((n += 1)) -lt 30 ]; do sleep 1; done
                    rmmod live
                    """,
                status: Status.verificationRefused, point: "neighbours",
                message: "is patched by the kernel's own live patching ('live')",
                tracer: "the kernel's live patching"),
            Situation(
                name: "a module is missing", end: undo, update: "sfq"),
            Situation(
                name: "an export exists", begin: "ksplice apply exports.tar.gz", end: undo,
                update: "twice", status: Status.busy, point: "neighbours", message: "exports already"),
            // ksplice.ko, which an earlier update has left, shows it; WindowTests have the rest.
            Situation(
                name: "memory is hidden", begin: "mount --bind /dev/null /proc/kcore",
                end: "\(undo); umount /proc/kcore"),
            Situation(
                name: "a module that stays, and a live patch",
                begin: """
                    ksplice apply audit.tar.gz && ksplice undo --all && lsmod | grep ksplice_
                    insmod /root/other.ko; sleep 1; ls /sys/kernel/livepatch
                    """,
                end: """
                    echo 0 > /sys/kernel/livepatch/other/enabled
                    n=0; while [ -e /sys/kernel/livepatch/other ] && [ $((n += 1)) -lt 30 ]; do sleep 1; done
                    rmmod other
                    """,
                update: "audit", status: Status.verificationRefused, point: "neighbours",
                message: "is patched by the kernel's own live patching ('other')",
                tracer: "the kernel's live patching"),
            Situation(
                name: "a module that stays, and hidden memory", begin: "mount --bind /dev/null /proc/kcore",
                end: "umount /proc/kcore; \(undo)", update: "audit"),
            Situation(name: "all of it is over", end: undo),
            Situation(
                name: "no more modules", begin: "echo 1 > /proc/sys/kernel/modules_disabled",
                status: Status.fatal, point: "loading", message: "loading modules is switched off"),
        ]

        /// Situations in which check is also asked as a person would.
        private static let said = [
            "nothing special", "a task sleeps inside", "a disabled probe in the body", "a live patch",
        ]

        /// Shell functions of the guest.
        private static let shell = """
            cd /sys/kernel/tracing
            [ -e trace ] || mount -t tracefs none /sys/kernel/tracing && cd /sys/kernel/tracing
            [ -d /sys/kernel/debug/kprobes ] || mount -t debugfs none /sys/kernel/debug
            # By address: an update that stays loaded has functions of the same names. Behind the redirect the kernel takes
            # only places where an instruction begins.
            probe() {
                start=$(sed -n 's/^\\(.*\\) t prctl_set_auxv$/\\1/p' /proc/kallsyms)
                for o in $2; do
                    echo "p:$1 0x$(printf %x $((0x$start + o)))" >> kprobe_events 2>/dev/null && break
                done
                grep -q "/$1 " kprobe_events
            }
            body="12 13 14 15 16 17 18 19 20 21 22 23 24"
            ksplice() { (cd /root && git-ksplice "$@"); }

            """

        private static func live(_ function: String) -> String {
            """
            #include <linux/module.h>
            #include <linux/livepatch.h>
            static int refuse(void)
            {
                return -EPERM;
            }
            static struct klp_func functions[] = { { .old_name = "\(function)", .new_func = refuse }, { } };
            static struct klp_object objects[] = { { .funcs = functions }, { } };
            static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };
            static int __init begin(void) { return klp_enable_patch(&patch); }
            static void __exit end(void) { }
            module_init(begin);
            module_exit(end);
            MODULE_LICENSE("GPL");
            MODULE_INFO(livepatch, "Y");

            """
        }

        static let boot = SharedBoot { laboratory in
            var guest = Guest(laboratory)
            try await guest.add(.pause, .fentry)
            for (change, name) in [
                (KernelChange.auxv, "auxv"), (.audit, "audit"), (.pause, "pause"), (.sfq, "sfq"),
                (.exports, "exports"),
                (.exportsTwice, "twice"),
            ] { guest.add(try await laboratory.update(change), as: name) }
            for (name, function) in [("live", "prctl_set_auxv"), ("other", "audit_rule_change")] {
                guest.add(try await laboratory.buildModule(name, live(function)), as: name + ".ko")
            }
            guest.add(Array(shell.utf8), as: "shell.sh")
            func step(_ name: String, _ command: String) { guest.step(name, ". ./shell.sh; " + command) }
            for situation in situations {
                step("\(situation.name): begin", situation.begin)
                step("\(situation.name): check", "ksplice check --json \(situation.update).tar.gz")
                if said.contains(situation.name) {
                    step("\(situation.name): say", "ksplice check \(situation.update).tar.gz")
                }
                step(
                    "\(situation.name): apply",
                    "ksplice apply \(situation.options) \(situation.update).tar.gz")
                step("\(situation.name): end", situation.end)
            }
            return try await guest.run()
        }

        @Test("check and apply agree", arguments: situations)
        func agreement(_ situation: Situation) async throws {
            let report = try await Self.boot.report()
            _ = try report.output("\(situation.name): begin")
            let said = try report.output("\(situation.name): check", status: Int(situation.status))
            let forecast = try JSON(parsing: try #require(said.lines.last.map { String($0) }))
            let applied = try report.output("\(situation.name): apply", status: Int(situation.status))
            #expect(forecast["status"]?.number == Int(situation.status))
            #expect(forecast["applies"] == .bool(situation.status == 0))
            let first = forecast["obstacles"]?.array?.first
            #expect(first?["point"]?.string ?? "" == situation.point, "\(said)")
            let message = first?["message"]?.string ?? ""
            #expect(message.contains(situation.message), "\(message)")
            // For people: the same, and what apply said.
            if Self.said.contains(situation.name) {
                let text = try report.output("\(situation.name): say", status: Int(situation.status))
                #expect(text.contains(situation.status == 0 ? "it can be applied" : "it cannot be applied"))
                #expect(text.contains(situation.message), "\(text)")
            }
            if situation.point != "room" {
                #expect(applied.contains(situation.message), "\(applied)")
            } else {
                #expect(applied.contains("a kprobe is in one of the functions"), "\(applied)")
            }
            let tracers = forecast["traced"]?.array?.first?["tracers"]?.array?.compactMap(\.string) ?? []
            #expect(tracers == (situation.tracer.isEmpty ? [] : [situation.tracer]), "\(said)")
        }

        @Test func everyObstacleIsToldAtOnce() async throws {
            let said = try await Self.boot.report().output(
                "a live patch: check", status: Int(Status.verificationRefused))
            let forecast = try JSON(parsing: try #require(said.lines.last.map { String($0) }))
            #expect((forecast["matched_functions"]?.number ?? 0) > 100)
        }

        @Test func kernelLogHasNoWarnings() async throws {
            #expect(try await Self.boot.report().warnings.isEmpty)
        }
    }
}
