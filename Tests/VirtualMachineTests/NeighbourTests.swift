// Others with hands on the very functions that an update replaces: the kernel's own live patching, BPF programs, perf. Each
// comes first and comes second, and goes first and goes last.
//
// A live patch redirects at the ftrace site, which stands in front of an update's jump: the live patch wins while it is
// enabled, whoever came first, and status says so. apply refuses to come second. Where an update redirects by ftrace
// itself, the kernel lets in only one of the two.

import Core
import Testing

extension Laboratory {
    /// A module that patches one function of the kernel image by the kernel's own live patching.
    func livePatch(_ name: String, of function: String, _ replacement: String) async throws -> [UInt8] {
        try await buildModule(
            name,
            """
            #include <linux/module.h>
            #include <linux/livepatch.h>
            #include <linux/seq_file.h>
            \(replacement)
            static struct klp_func functions[] = { { .old_name = "\(function)", .new_func = replacement }, { } };
            static struct klp_object objects[] = { { .funcs = functions }, { } };
            static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objects };
            static int __init begin(void) { return klp_enable_patch(&patch); }
            static void __exit end(void) { }
            module_init(begin);
            module_exit(end);
            MODULE_LICENSE("GPL");
            MODULE_INFO(livepatch, "Y");

            """)
    }
}

extension VirtualMachineTests {
    @Suite struct Neighbours {
        /// Shell functions of the guest.
        private static let shell = """
            livepatch=/sys/kernel/livepatch
            patch() {
                insmod /root/$1.ko || return; n=0
                while [ "$(cat $livepatch/$1/transition)" = 1 ] && [ $((n += 1)) -lt 300 ]; do usleep 200000; done
                cat $livepatch/$1/transition
            }
            unpatch() {
                echo 0 > $livepatch/$1/enabled; n=0
                while [ -e $livepatch/$1 ] && [ $((n += 1)) -lt 300 ]; do usleep 200000; done
                rmmod $1
            }
            look() { auxv 2>&1 || true; }
            pressure() { sed -n 's/some avg10=\\([0-9]\\)[0-9]*\\..*/\\1/p' /proc/pressure/memory; }
            attach() {
                echo 1 > /proc/sys/kernel/bpf_stats_enabled
                fentry prctl_set_auxv > /tmp/entry 2>&1 & fentry prctl_set_auxv exit > /tmp/exit 2>&1 &
                n=0; until cat /tmp/entry /tmp/exit | grep -c attached | grep -q 2 || [ $((n += 1)) -gt 100 ]; do usleep 200000; done
                cat /tmp/entry /tmp/exit
            }
            detach() { kill $(pidof fentry); wait; }
            # How often each of the two programs has run.
            runs() { echo $(for p in $(pidof fentry); do cat /proc/$p/fdinfo/* | sed -n 's/run_cnt:[^0-9]*//p'; done); }
            cd /root

            """

        static let boot = SharedBoot { laboratory in
            var guest = Guest(laboratory)
            guest.configure(commandLine: "psi=1")
            try await guest.add(.auxv, .fentry, .counted, .samples, .work, .cycles)
            for (change, name) in [(KernelChange.auxv, "auxv"), (.byFtrace, "psi"), (.busyPaths, "busy")] {
                guest.add(try await laboratory.update(change), as: name)
            }
            let refuses = "static int replacement(void) { return -EPERM; }"
            let says =
                "static int replacement(struct seq_file *m, void *v) { seq_puts(m, \"a live patch\\n\"); return 0; }"
            for (name, function, code) in [
                ("same", "prctl_set_auxv", refuses), ("other", "cmdline_proc_show", says),
                ("ftraced", "psi_show", says),
            ] {
                guest.add(
                    try await laboratory.livePatch(name, of: function, code), as: name + ".ko")
            }
            guest.add(Array(shell.utf8), as: "shell.sh")
            func step(_ name: String, _ command: String) { guest.step(name, ". ./shell.sh; " + command) }
            step("we first", "git-ksplice apply auxv.tar.gz && look; patch same; look; git-ksplice status")
            step("status", "git-ksplice status --json")
            step("they go first", "unpatch same; look; git-ksplice status; git-ksplice undo --all; look")
            step("we go first", "git-ksplice apply auxv.tar.gz && patch same; git-ksplice undo --all; look")
            step("they first", "look; git-ksplice apply auxv.tar.gz")
            step("they go", "unpatch same; look")
            step(
                "another function",
                "patch other; git-ksplice apply auxv.tar.gz; look; cat /proc/cmdline; git-ksplice status")
            step("another function goes", "git-ksplice undo --all; unpatch other; look; cat /proc/cmdline")
            step("both by ftrace", "git-ksplice apply psi.tar.gz; patch ftraced; pressure; ls $livepatch")
            step(
                "they first by ftrace",
                "git-ksplice undo --all; patch ftraced; git-ksplice apply psi.tar.gz; s=$?; cat /proc/pressure/memory; unpatch ftraced; exit $s"
            )
            step("programs first", "attach; look; runs; git-ksplice apply auxv.tar.gz; look; runs")
            step("programs go last", "git-ksplice undo --all; look; runs; detach; look")
            step("programs second", "git-ksplice apply auxv.tar.gz; attach; look; runs")
            step("programs go first", "detach; look; git-ksplice undo --all; look")
            step(
                "counted",
                """
                entry=$(sed -n 's/^\\(.*\\) t prctl_set_auxv$/\\1/p' /proc/kallsyms)
                counted $entry auxv; git-ksplice apply auxv.tar.gz; counted $entry auxv; git-ksplice undo --all
                counted $entry auxv
                """)
            let id = "$(cd /sys/kernel/ksplice; echo \(try await laboratory.update(.busyPaths).id)*)"
            step(
                "samples",
                """
                git-ksplice apply busy.tar.gz; ifconfig lo up; rm -f /tmp/stop
                work > /tmp/work & work=$!; samples > /tmp/samples & samples=$!
                sleep 3; echo 0 > /sys/kernel/ksplice/\(id)/enabled; cycles \(id) 20; status=$?
                touch /tmp/stop; wait $work; echo "work ended with $?"; wait $samples; cat /tmp/samples; exit $status
                """)
            return try await guest.run()
        }

        private func lines(_ step: String, status: Int = 0) async throws -> [String] {
            try await Self.boot.report().output(step, status: status).lines.map { String($0) }
        }

        private static let denied = "prctl: Operation not permitted"

        @Test("a live patch on an update's function wins, and status says so")
        func weFirst() async throws {
            let (boot, id) = try await (
                Self.boot.report(), Laboratory.shared().update(.auxv).id.prefix(12)
            )
            let first = try boot.output("we first")
            #expect(first.contains("Done!\nreplaced\n0\n\(Self.denied)\n\(id)  applied"), "\(first)")
            #expect(
                first.contains(
                    "'prctl_set_auxv' is patched by the kernel's own live patching ('same'), too: its code runs instead"
                ), "\(first)")
            let status = try JSON(parsing: boot.output("status"))
            let overridden = try #require(status["updates"]?.array?.first?["overridden"]?.array)
            #expect(overridden.map { $0["function"]?.string } == ["prctl_set_auxv"])
            #expect(overridden.map { $0["live_patch"]?.string } == ["same"])
            let back = try boot.output("they go first")
            #expect(back.hasPrefix("replaced\n\(id)  applied") && back.hasSuffix("Done!\nmixed"), "\(back)")
            #expect(!back.contains("live patching"), "\(back)")
            let undone = try boot.output("we go first")
            #expect(undone.hasSuffix("Done!\n\(Self.denied)"), "\(undone)")
        }

        @Test("an update for a function that a live patch has is refused, with its name")
        func theyFirst() async throws {
            let status = Int(Status.verificationRefused)
            let refused = try await lines("they first", status: status)
            #expect(refused.first == Self.denied)
            #expect(
                refused.contains {
                    $0.contains("'prctl_set_auxv' is patched by the kernel's own live patching ('same')")
                }, "\(refused)")
            #expect(try await lines("they go") == ["mixed"])
            let redirected = try await lines("they first by ftrace", status: status)
            #expect(
                redirected.contains {
                    $0.contains("'psi_show' is patched by the kernel's own live patching ('ftraced')")
                }, "\(redirected)")
            #expect(redirected.last == "a live patch", "\(redirected)")
        }

        @Test("each on its own function, both work")
        func apart() async throws {
            let both = try await lines("another function")
            #expect(both.contains("replaced") && both.contains("a live patch"), "\(both)")
            #expect(!both.contains { $0.contains("live patching") }, "\(both)")
            let gone = try await lines("another function goes")
            #expect(gone.suffix(2).first == "mixed" && gone.last?.contains("psi=1") == true, "\(gone)")
        }

        @Test("where the update itself redirects by ftrace, the kernel refuses the live patch")
        func ftraceTakesOne() async throws {
            let said = try await lines("both by ftrace")
            #expect(said.contains { $0.contains("Device or resource busy") }, "\(said)")
            #expect(said.last == "7", "\(said)")
        }

        @Test("BPF programs at entry and return run with the new code, whoever came first")
        func programs() async throws {
            for (step, expected) in [
                ("programs first", ["attached", "attached", "mixed", "1 1", "replaced", "2 2"]),
                ("programs go last", ["mixed", "3 3", "mixed"]),
                ("programs second", ["attached", "attached", "replaced", "1 1"]),
                ("programs go first", ["replaced", "mixed"]),
            ] {
                let said = try await lines(step)
                let known = ["attached", "mixed", "replaced"]
                // "2 2" is how often the two have run.
                #expect(said.filter { known.contains($0) || $0.count == 3 } == expected, "\(step): \(said)")
            }
        }

        @Test(
            "perf counts calls of the function, and samples stacks through new code while it comes and goes")
        func perf() async throws {
            let all = try await lines("counted")
            let counts = all.filter { ["mixed", "replaced"].contains($0) || $0.hasPrefix("counted") }
            #expect(
                counts == ["mixed", "counted 1", "replaced", "counted 1", "mixed", "counted 1"], "\(all)")
            let said = try await Self.boot.report().output("samples")
            let found = try #require(
                said.firstMatch(of: /samples: ([0-9]+), through modules: ([0-9]+)/), "\(said)")
            #expect(Int(found.1) ?? 0 > 100 && Int(found.2) ?? 0 > 0, "\(said)")
            #expect(said.contains("20 cycles, ") && said.contains("work ended with 0"), "\(said)")
        }

        @Test func kernelLogHasNoWarnings() async throws {
            #expect(try await Self.boot.report().warnings == [])
        }
    }
}
