// An update comes and goes while the kernel is busy with itself: processors are switched off and on, probes come and go in
// the very functions, keys, static calls and tracers are toggled, the machine goes to sleep. And what is applied at such a
// time stays applied: with a processor that was away, after sleep; but not in the kernel that is started by kexec.

import Core
import Testing

extension GuestProgram {
    /// Loads a kernel and its initial file system, and jumps into it.
    static let kexec = GuestProgram(
        name: "kexec",
        code: """
            #include <fcntl.h>
            #include <linux/reboot.h>
            #include <stdio.h>
            #include <string.h>
            #include <sys/reboot.h>
            #include <sys/syscall.h>
            #include <unistd.h>
            int main(int argc, char **argv) {
                int kernel = open(argv[1], O_RDONLY), files = open(argv[2], O_RDONLY);
                if (syscall(SYS_kexec_file_load, kernel, files, strlen(argv[3]) + 1, argv[3], 0)) {
                    perror("kexec_file_load");
                    return 1;
                }
                fflush(stdout);
                syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_KEXEC, 0);
                perror("reboot");
                return 1;
            }
            """)
}

extension VirtualMachineTests {
    @Suite struct BadMoments {
        /// How many times the update is applied and undone while everything else goes on.
        private static let count = 30

        private static let shell = """
            cpu1=/sys/devices/system/cpu/cpu1/online
            [ -d /sys/kernel/debug/sched ] || mount -t debugfs none /sys/kernel/debug
            cd /sys/kernel/tracing
            folder() { echo /sys/kernel/ksplice/$1*; }
            # What the code does, on each processor that is there.
            effect() { for m in 1 2; do taskset $m auxv 2> /dev/null || echo away; done | tr '\\n' ' '; }
            # Whatever is switched here is switched on and off again in each round.
            processors() { echo 0 > $cpu1 && echo 1 > $cpu1; }
            keys() {
                for n in 1 0; do
                    echo $n > /proc/sys/kernel/sched_schedstats && echo $n > events/sched/sched_wakeup/enable || return 1
                done
            }
            preemption() { for m in full voluntary; do echo $m > /sys/kernel/debug/sched/preempt || return 1; done; }
            # The redirect's neighbours, five bytes before it.
            tracers() {
                echo tcp_sendmsg > set_ftrace_filter && echo function > current_tracer && echo nop > current_tracer
            }
            # By address, because the update has a function of the same name.
            start=$(sed -n 's/^\\(.*\\) T tcp_sendmsg$/\\1/p' /proc/kallsyms)
            probe() { echo "p:inside 0x$(printf %x $((0x$start + $1)))" >> kprobe_events; }
            # Where an instruction of the old code begins. Behind the redirect there may be none for the kernel.
            place() { for o in $(seq 12 40); do probe $o 2> /dev/null && echo $o && break; done; echo > kprobe_events; }
            probes() {
                probe $place 2> /dev/null || return 0
                echo 1 > events/kprobes/inside/enable && echo 0 > events/kprobes/inside/enable && echo > kprobe_events
            }
            goes_on() {
                n=0
                while [ ! -e /tmp/stop ]; do usleep $2; $1 || { echo "$1: failed in round $n"; exit 1; }; n=$((n + 1)); done
                echo "$1: $n rounds"
            }

            """

        /// What the second kernel runs, which ends the step in which it was started.
        private static let second = """
            #!/bin/busybox sh
            /bin/busybox mkdir /proc /sys
            /bin/busybox mount -t proc proc /proc; /bin/busybox mount -t sysfs sysfs /sys
            /bin/busybox mount -t devtmpfs devtmpfs /dev
            /bin/busybox stty -F /dev/ttyS1 raw -echo
            exec > /dev/ttyS1 2>&1
            echo; echo "second: $(/bin/auxv) $(/bin/busybox ls /sys/kernel | /bin/busybox grep -c ksplice)" \\
                "$(/bin/busybox cat /proc/sys/kernel/tainted)"
            echo; echo "@ksplice@ end 0 0"
            /bin/busybox reboot -f

            """

        static let boot = SharedBoot { laboratory in
            var guest = Guest(laboratory)
            guest.configure(commandLine: "")
            try await guest.add(.auxv, .cycles, .kexec)
            guest.add(try await laboratory.update(.busyPaths), as: "busy")
            guest.add(try await laboratory.update(.auxv), as: "auxv")
            guest.add(try Files.read(laboratory.oldBootImage), as: "vmlinuz")
            guest.add(Array(shell.utf8), as: "shell.sh")
            guest.add(Array(second.utf8), as: "second")
            let (busy, auxv) = try await (laboratory.update(.busyPaths).id, laboratory.update(.auxv).id)
            func step(_ name: String, _ command: String) {
                guest.step(
                    name,
                    ". ./shell.sh; busy=$(folder \(busy)); auxv=$(folder \(auxv)); \(command)"
                )
            }
            // Not both at once: they change one source file, whose code is compared as a whole.
            step(
                "apply",
                """
                cd /root; git-ksplice apply busy.tar.gz && echo 0 > $(folder \(busy))/enabled &&
                    git-ksplice apply auxv.tar.gz && echo 0 > $(folder \(auxv))/enabled
                """)
            step("begin", "effect")
            step(
                "goes on",
                """
                place=$(place); echo "place: $place"; rm -f /tmp/stop; pids=
                for what in processors keys preemption tracers probes; do
                    goes_on $what 300000 > /tmp/$what 2>&1 & pids="$pids $!"
                done
                cycles ${busy##*/} \(count); status=$?
                touch /tmp/stop; wait $pids
                cat /tmp/processors /tmp/keys /tmp/preemption /tmp/tracers /tmp/probes
                cat $busy/state; exit $status
                """)
            // A processor that is away when redirects are written must not come back with what it knew before.
            step(
                "applied, off, undone, on",
                """
                echo 1 > $auxv/enabled; effect; echo 0 > $cpu1; effect; echo 0 > $auxv/enabled; effect
                echo 1 > $cpu1; effect
                """)
            step(
                "off, applied, on, undone",
                """
                echo 0 > $cpu1; echo 1 > $auxv/enabled; effect; echo 1 > $cpu1; effect; echo 0 > $auxv/enabled; effect
                """)
            addSleep(step)
            step("still there", "effect; cat $busy/state $auxv/state; dmesg | grep -c 'PM: suspend exit'")
            step(
                "kexec",
                """
                mkdir -p /tmp/second/bin /tmp/second/dev; cd /tmp/second
                cp /bin/busybox /bin/auxv bin; cp /root/second init; chmod 755 init
                find . | cpio -o -H newc > /tmp/files 2> /dev/null
                echo "first: $(auxv) $(ls /sys/kernel | grep -c ksplice)"
                kexec /root/vmlinuz /tmp/files 'console=ttyS0 panic=-1 quiet no_timer_check random.trust_cpu=on'
                """)
            return try await guest.run()
        }

        private static func addSleep(_ step: (String, String) -> Void) {
            step(
                "sleep",
                """
                cat /sys/power/state /sys/power/mem_sleep; echo 1 > /sys/module/suspend/parameters/pm_test_delay
                echo 1 > $auxv/enabled; effect
                echo core > /sys/power/pm_test; echo mem > /sys/power/state; echo "core: $?"; effect
                echo devices > /sys/power/pm_test; echo freeze > /sys/power/state; echo "freeze: $?"; effect
                echo none > /sys/power/pm_test; echo +3 > /sys/class/rtc/rtc0/wakealarm; echo mem > /sys/power/state; echo "mem: $?"; effect
                """)
            step(
                "sleep while it is applied and undone",
                """
                echo core > /sys/power/pm_test
                cycles ${busy##*/} 20 & pid=$!
                for n in 1 2 3; do usleep 300000; echo mem > /sys/power/state; echo "sleep: $?"; done
                wait $pid; status=$?; echo none > /sys/power/pm_test; exit $status
                """)
        }

        @Test func nothingBreaksWhileTheKernelRewritesItself() async throws {
            let report = try await Self.boot.report()
            #expect(try report.output("apply").hasSuffix("Done!"))
            #expect(try report.output("begin").trimmed == "mixed mixed")
            let said = try report.output("goes on")
            #expect(said.contains("\(Self.count) cycles, "), "\(said)")
            #expect(!said.contains("wrong") && !said.contains("failed"), "\(said)")
            for what in [
                "processors", "keys", "preemption", "tracers",
                "probes",
            ] {
                let rounds = said.lines.filter { $0.hasPrefix(what + ": ") && $0.hasSuffix(" rounds") }
                #expect(!rounds.isEmpty && !rounds.contains("\(what): 0 rounds"), "\(what): \(said)")
            }
            #expect(said.hasSuffix("undone"), "\(said)")
            #expect(report.warnings == [])
        }

        @Test func aProcessorThatWasAwayRunsWhatTheOthersRun() async throws {
            let report = try await Self.boot.report()
            #expect(
                try report.output("applied, off, undone, on").trimmed
                    == "replaced replaced replaced away mixed away mixed mixed")
            #expect(
                try report.output("off, applied, on, undone").trimmed
                    == "replaced away replaced replaced mixed mixed")
        }

        @Test func sleepChangesNothing() async throws {
            let report = try await Self.boot.report()
            let both = "replaced replaced"
            let said = try report.output("sleep")
            // To memory, not only to an idle loop.
            #expect(said.contains("[deep]"), "\(said)")
            #expect(
                said.lines.suffix(4).map { String($0).trimmed } == [
                    "\(both) core: 0", "\(both) freeze: 0", "\(both) mem: 0", both,
                ], "\(said)")
            let meanwhile = try report.output("sleep while it is applied and undone")
            #expect(meanwhile.contains("20 cycles, "), "\(meanwhile)")
            #expect(meanwhile.lines.filter { $0 == "sleep: 0" }.count == 3, "\(meanwhile)")
            let after = try report.output("still there").lines.map { String($0) }
            #expect(after == ["\(both) undone", "applied", "6"], "\(after)")
        }

        @Test func theNextKernelKnowsNothingOfIt() async throws {
            let said = try await Self.boot.report().output("kexec").lines.filter { !$0.isEmpty }
            #expect(said == ["first: replaced 1", "second: mixed 0 0"], "\(said)")
        }
    }
}
