// Places in replaced functions that the kernel itself rewrites or looks up go on working: each is toggled as its user
// would do it, in the old code, in the new code, and in the old code again after undo. And functions that are reached
// in unusual ways are replaced: through pointers, by other modules, from assembly, from interrupts, by themselves. One
// boot serves them all.

import Core
import Testing

extension VirtualMachineTests {
    @Suite struct LiveSites {
        /// A command, and what it prints on one line in the old code and in the new one.
        struct Site: Sendable, CustomTestStringConvertible {
            var name: String
            var command: String
            var before: String
            var after: String
            /// After undo, where that differs from before.
            var undone: String?
            var testDescription: String { name }
        }

        static let sites = [
            Site(
                name: "static key",
                command:
                    "for n in 0 1 0 1; do echo $n > /proc/sys/kernel/sched_schedstats; waiter; done; quiet",
                before: "none ones none ones", after: "none thousands none thousands"),
            Site(
                name: "static key in the path of packets",
                command:
                    "for n in 0 64 0; do echo $n > /proc/sys/net/core/rps_sock_flow_entries; packet; done",
                before: "nothing nothing nothing",
                after: "echo, softirq 1; not steered echo, softirq 1; steered echo, softirq 1; not steered"),
            Site(
                name: "new static key",
                command: "for n in 0 1 0; do ask 0x6b7307 $n; ask 0x6b7308; done",
                before: [String](repeating: "Invalid argument", count: 6).joined(separator: " "),
                after: "0 8 0 7 0 8"),
            Site(
                name: "static call",
                command:
                    "for m in full voluntary full voluntary; do echo $m > $debug/sched/preempt; ask 0x6b7305; done",
                before: [String](repeating: "Invalid argument", count: 4).joined(separator: " "),
                after: "0 1 0 1"),
            // The one that was switched on last stays on, so that the next round finds it so.
            Site(
                name: "tracepoint",
                command: "traced task/task_rename newcomm=@a rename @a",
                before: "@a 0 @a 1 @a 0 @a 1", after: "#a 1 #a 1 #a 0 #a 1", undone: "@a 1 @a 1 @a 0 @a 1"),
            Site(
                name: "tracepoint of a module", command: "traced mac80211/drv_start drv_start: updown wlan0",
                before: "0 1 0 1", after: "1 1 0 1", undone: "1 1 0 1"),
            Site(
                name: "old and new debug statement",
                command: "debugged kobject_uevent_env eval 'echo change > /sys/class/mem/null/uevent'",
                before: "nothing kobject_uevent_env nothing",
                after: "nothing added to an event; kobject_uevent_env nothing"),
            Site(
                name: "new debug statement in new code",
                command: "debugged __do_sys_prctl 'ask 0x6b7306 > /dev/null'",
                before: "nothing nothing nothing", after: "nothing added to prctl nothing"),
            Site(
                name: "old and new debug statement of a module",
                command: "debugged mac80211_hwsim_start updown wlan0",
                before: "nothing mac80211_hwsim_start nothing",
                after:
                    "called by a module; start added to a module; called by a module; mac80211_hwsim_start; start "
                    + "called by a module; start"),
            Site(
                name: "fault at a user's address", command: "ask 0x6b7301 8", before: "Invalid argument",
                after: "Bad address"),
            Site(
                name: "fault at a kernel's address", command: "ask 0x6b7302 0xffffc80000000008",
                before: "Invalid argument", after: "Numerical result out of range"),
            Site(
                name: "warning", command: "ask 0x6b7303; quiet; ask 0x6b7303",
                before: "Invalid argument Invalid argument",
                after: "0 0"),
            Site(
                name: "warning that is given once", command: "quiet; ask 0x6b7304; ask 0x6b7304; said",
                before: "Invalid argument Invalid argument nothing", after: "0 0 warned once"),
            // cr_pinning, in memory that is read-only since boot: its jump is settled when the code is loaded. The function
            // runs when a processor starts.
            Site(
                name: "static key that cannot change any more",
                command:
                    "for n in 0 1; do echo $n > /sys/devices/system/cpu/cpu1/online; done; ask 0x6b7309",
                before: "Invalid argument", after: "1"),
            Site(name: "recursion", command: "epolls", before: "all levels", after: "3 levels"),
            Site(
                name: "called from assembly", command: "quiet; forker; said", before: "nothing",
                after: "first steps"),
            Site(
                name: "called by a timer", command: "quiet; waiter > /dev/null; said", before: "nothing",
                after: "time is up, softirq 1"),
        ]

        /// Shell functions of the guest.
        private static let shell = """
            debug=/sys/kernel/debug
            tracing=/sys/kernel/tracing
            [ -d $debug/sched ] || mount -t debugfs none $debug
            [ -e $tracing/trace ] || mount -t tracefs none $tracing
            quiet() { dmesg -c > /dev/null; }
            said() {
                lines=$(dmesg -c | sed -n -e 's/.*probe: //p' -e 's/.*\\(kobject_uevent_env\\|mac80211_hwsim_start\\)$/\\1/p' | sort -u)
                [ -n "$lines" ] && echo "$lines" | sed '$!s/$/;/' || echo nothing
            }
            packet() { quiet; ip link set lo up; ping -c 1 127.0.0.1 > /dev/null; said; }
            # EVENT WORD COMMAND: how often WORD is traced as it is, switched on, off, and on again
            traced() {
                switch=$tracing/events/$1/enable; word=$2; shift 2
                for state in "$(cat $switch)" 1 0 1; do
                    echo $state > $switch; echo > $tracing/trace
                    "$@"; grep -c $word $tracing/trace
                done
                quiet
            }
            # FUNCTION COMMAND: what its debug statements say when they are off, on, and off again
            debugged() {
                function=$1; shift
                for sign in - + -; do
                    echo "func $function ${sign}p" > $debug/dynamic_debug/control
                    quiet; eval "$@"; said
                done
            }

            """

        static let boot = SharedBoot { laboratory in
            var guest = Guest(laboratory)
            for module in [
                "net/rfkill/rfkill", "lib/crypto/libarc4", "net/wireless/cfg80211", "net/mac80211/mac80211",
                "drivers/virtio/virtio", "drivers/virtio/virtio_ring",
                "drivers/net/wireless/mac80211_hwsim",
            ] { guest.load(module + ".ko") }
            try await guest.add(.ask, .rename, .forker, .waiter, .epolls, .updown)
            guest.add(Array(shell.utf8), as: "live.sh")
            let updates = try await [laboratory.update(.liveSites), laboratory.update(.liveSitesOfModules)]
            func look(_ phase: String) {
                for site in sites {
                    guest.step(
                        "\(site.name) \(phase)", ". ./live.sh; { \(site.command); } 2>&1 | tr '\\n' ' '")
                }
            }
            look("before")
            for (number, update) in updates.enumerated() {
                guest.add(update, as: "live\(number)")
                guest.step("apply \(number)", "git-ksplice apply live\(number).tar.gz")
            }
            look("after")
            guest.step("undo", "git-ksplice undo --all")
            look("undone")
            return try await guest.run()
        }

        @Test("follows its switch in old code, in new code, and in old code again", arguments: sites)
        func follows(_ site: Site) async throws {
            let report = try await Self.boot.report()
            #expect(try report.output("\(site.name) before").trimmed == site.before)
            #expect(try report.output("\(site.name) after").trimmed == site.after)
            #expect(try report.output("\(site.name) undone").trimmed == site.undone ?? site.before)
        }

        @Test("both are applied and undone")
        func isApplied() async throws {
            let report = try await Self.boot.report()
            #expect(try report.output("apply 0").contains("Done!"))
            #expect(try report.output("apply 1").contains("Done!"))
            #expect(try report.output("undo").contains("Done!"))
        }

        @Test("a warning in new code names the line where it stands, and nothing else warns")
        func warnsOfItsOwnLine() async throws {
            let report = try await Self.boot.report()
            let laboratory = try await Laboratory.shared()
            let update = try await laboratory.update(.liveSites)
            let source = try await laboratory.source("kernel/sys.c", at: update.commit)
            let lines = source.lines.map { String($0) }
            func line(_ text: String) throws -> Int {
                try #require(lines.firstIndex { $0.contains(text) }) + 1
            }
            let places = try [line("WARN(1, \"probe"), line("WARN(1, \"probe"), line("WARN_ONCE(1, \"probe")]
            let warnings = report.kernelLog.lines.filter { $0.contains("WARNING:") }
            #expect(warnings.count == places.count, "\(warnings)")
            for (warning, place) in zip(warnings, places) {
                #expect(warning.contains("at kernel/sys.c:\(place) __do_sys_prctl+"), "\(warning)")
            }
            for word in ["BUG:", "Oops", "general protection"] { #expect(!report.kernelLog.contains(word)) }
        }
    }
}
