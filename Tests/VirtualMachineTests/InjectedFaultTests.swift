// Every call of ksplice.ko that can fail does fail once, on the way in, at apply and at undo: an allocation, a lookup, a reference,
// a hook, the pause itself. Each time the kernel must be as it was, and the next try must succeed. The calls fail in a
// copy of ksplice.ko's sources in which they are wrapped (Tests/Support/faults).

import Core
import Testing

extension KernelChange {
    /// Everything that ksplice.ko has books for: functions of the kernel and of a module, a constant, hooks, shadow variables.
    static let everything = KernelChange(
        "sys, sfq, fs: everything that an update can hold",
        options: ["--replace-constant", "fs_ftype_by_dtype"],
        Edit(path: "fs/fs_types.c", old: "\t[DT_SOCK]\t= FT_SOCK,", new: "\t[DT_SOCK]\t= FT_UNKNOWN,"),
        Edit(
            path: "kernel/sys.c", old: "EXPORT_SYMBOL(overflowuid);\n",
            new: """
                EXPORT_SYMBOL(overflowuid);

                #include "ksplice.h"
                ksplice_shadow_id(0x616c6c, NULL);
                static int agree(void) { return 0; }
                ksplice_pre_apply(agree);
                ksplice_check_apply(agree);
                ksplice_pre_reverse(agree);
                ksplice_check_reverse(agree);

                """),
        Edit(
            path: "kernel/sys.c", old: "\tif (len > sizeof(user_auxv))\n",
            new: "\tif (len == 16)\n\t\treturn -EDOM;\n\n\tif (len > sizeof(user_auxv))\n"),
        Edit(
            path: "net/sched/sch_sfq.c", old: "\tWRITE_ONCE(q->perturb_period, 0);\n",
            new: "\tWRITE_ONCE(q->perturb_period, 0);\n\tq->cur_depth = 0;\n"))
}

extension VirtualMachineTests {
    @Suite struct InjectedFaults {
        /// The archive of a change, with a ksplice.ko whose calls can be made to fail.
        private static func archive(_ laboratory: Laboratory, _ kernel: String) async throws -> [UInt8] {
            let here = #filePath.directoryPart.directoryPart
            let (sources, faults) = ("\(here.directoryPart)/kernel", "\(here)/Support/faults")
            let folder = laboratory.folder + "/faults-" + kernel
            try Files.createDirectory(folder)
            for name in try Files.list(sources) where name.hasSuffix(".c") || name.hasSuffix(".h") {
                var text = try Files.readText("\(sources)/\(name)")
                if name == "hooks.c" { text = "#define KSPLICE_WITHOUT_FAULTS\n" + text }
                if name == "text.c" {
                    text = text.replacing(
                        "return cmpxchg64(", with: "return !ksplice_fault(\"cmpxchg64\") && cmpxchg64(")
                }
                if name == "internal.h" { text += "#include \"faults.h\"\n" }
                try Files.write(text, to: "\(folder)/\(name)")
            }
            for name in try Files.list(faults) {
                try Files.write(Files.read("\(faults)/\(name)"), to: "\(folder)/\(name)")
            }
            let commit = try await laboratory.commit(.everything)
            let file = "\(folder)/everything.tar.gz"
            let created = try await laboratory.run(
                "create", "--kernel", kernel, "--replace-constant", "fs_ftype_by_dtype", commit,
                environment: ["GIT_KSPLICE_KERNEL_DIR": folder])
            guard created.succeeded, let line = created.text.lines.first else {
                throw Failure("create ended: \(created.said)")
            }
            let exported = try await laboratory.run(
                "export", "--output", file, String(line.split(separator: " ")[1]))
            guard exported.succeeded else { throw Failure("export ended: \(exported.said)") }
            return try Files.read(file)
        }

        private static let shell = """
            all=everything.tar.gz
            module=/sys/module/ksplice
            books=/sys/kernel/ksplice
            awaited=$(printf %064d 1)
            # What the functions do.
            effect() { echo $(auxv 2>&1; sfq) | tr ' ' _; }
            # References, updates, memory, mappings.
            books() {
                echo $(cat $module/refcnt) $(cat /sys/module/sch_sfq/refcnt) $(ls $books $books/late | wc -l) \\
                    $(cat $module/parameters/live) $(grep -c '\\[ksplice\\]' /proc/vmallocinfo)
            }
            # Of the update that holds everything: the kernel's and the module's.
            parts() { for part in $(\(Guest.updates)); do [ $part = $base ] || echo $part; done; }
            whole() { cat $books/$(parts | tail -n 1)/update; }
            # In one pause: all that come first are undone, then what stands behind "+" is applied.
            change() {
                sign=-
                request=$(for word; do [ $word = + ] && sign=+ || echo $sign$word; done)
                printf '%s\\n' "$request" > $books/transition
            }
            await() { printf "$1$awaited sch_red$2" > $books/await; }
            fails() { echo $1 > $module/parameters/fail_at; }
            # What an attempt did: call, status, effect, books; false when nothing was left to fail.
            try() {
                fails $1; shift
                "$@" > /tmp/said 2>&1; status=$?
                left=$(cat $module/parameters/fail_at); where=$(cat $module/parameters/last_fault); fails 0
                [ $left = 0 ] || where=none
                echo $where $status $(effect) "$(books)"
                [ $left = 0 ]
            }

            """

        static let boot = SharedBoot { laboratory in
            var guest = Guest(laboratory)
            guest.load("net/sched/sch_sfq.ko")
            let waiting = "\(laboratory.modules)/kernel/net/sched/sch_red.ko"
            return try await prepared(guest, laboratory, Laboratory.kernel, waiting).run()
        }

        /// Adds what has every call fail once, to a guest that loads the kernel's sch_sfq. `waiting` is its sch_red.
        static func prepared(
            _ guest: Guest, _ laboratory: Laboratory, _ kernel: String, _ waiting: String
        ) async throws -> Guest {
            var guest = guest
            try await guest.add(.auxv, .sfq)
            guest.add(try Files.read(waiting), as: "sch_red.ko")
            guest.add(try await archive(laboratory, kernel), as: "everything.tar.gz")
            guest.add(try await laboratory.update(.dumpable, for: kernel), as: "base")
            guest.add(Array(shell.utf8), as: "shell.sh")
            let base = try await laboratory.update(.dumpable, for: kernel).id
            func step(_ name: String, _ command: String) {
                guest.step(
                    name,
                    "base=$(ls /sys/kernel/ksplice 2>/dev/null | grep ^\(base)); . ./shell.sh; " + command)
            }
            step("before", "effect")
            step("keep", "git-ksplice apply -q $all && git-ksplice apply -q base.tar.gz")
            step("undo", "git-ksplice undo -q $(whole) > /dev/null; effect; books")
            // Up to the first call of an attempt to apply it.
            step(
                "load faults",
                "books; for n in $(seq 99); do try $n git-ksplice apply $all; [ $where != hook ] || break; done"
            )
            step(
                "apply faults",
                """
                git-ksplice apply -q $all > /dev/null; change $(parts); books
                for n in $(seq 99); do
                    try $n change + $(parts) || break
                    [ $status != 0 ] || change $(parts)
                done
                """)
            step(
                "undo faults",
                """
                books
                for n in $(seq 99); do
                    try $n change $(parts) || break
                    [ $status != 0 ] || change + $(parts)
                done
                """)
            step(
                "exchange faults",
                """
                change $base + $(parts); books
                for n in $(seq 99); do
                    try $n change $(parts) + $base || break
                    [ $status != 0 ] || change $base + $(parts)
                done
                """)
            step("after", "git-ksplice undo $(whole) > /dev/null 2>&1; effect; books")
            step(
                "again",
                "git-ksplice apply -q $all > /dev/null; effect; git-ksplice undo -q $(whole) > /dev/null; effect; books"
            )
            // What undo asked for has ended by then.
            step(
                "await faults",
                "sleep 1; books; for n in $(seq 99); do try $n await + ' refuse' || break; done")
            // The program ends well, and has done nothing: so the module never runs.
            step(
                "gate faults",
                """
                printf /bin/true > $books/helper; books
                for n in $(seq 99); do try $n insmod sch_red.ko || break; done
                """)
            step("awaited no longer", "await -; lsmod | grep -c sch_red; books")
            step("end", "git-ksplice undo -q --all > /dev/null; lsmod | grep -c ^ksplice_; rmmod sch_sfq")
            return guest
        }

        private static let old = "mixed_accepted"
        private static let new = "prctl:_Numerical_argument_out_of_domain_accepted"

        /// What one attempt left.
        private struct Attempt {
            var call: String
            var status: Int
            var effect: String
            var books: [Int]

            init(_ line: Substring) throws {
                let words = line.split(separator: " ").map { String($0) }
                guard words.count == 8, let status = Int(words[1]) else { throw Failure("'\(line)'") }
                call = words[0]
                self.status = status
                effect = words[2]
                books = words[3...].compactMap { Int($0) }
            }
        }

        /// The attempts of a step, after the books as they were before them.
        private static func attempts(_ step: String, _ report: GuestReport) throws -> (
            before: [Int], attempts: [Attempt]
        ) {
            let lines = try report.output(step).lines
            let before = try #require(lines.first).split(separator: " ").compactMap { Int($0) }
            return (before, try lines.dropFirst().map { try Attempt($0) })
        }

        private func books(_ text: String) throws -> [Int] {
            try #require(text.lines.last).split(separator: " ").compactMap { Int($0) }
        }

        /// Each but the last failed, and left everything as it was. Returns the last, and the calls that failed.
        private static func check(_ step: String, _ effect: String, _ report: GuestReport) throws -> (
            last: Attempt, calls: Set<String>
        ) {
            let (before, attempts) = try attempts(step, report)
            #expect(before.count == 5)
            for attempt in attempts.dropLast() {
                #expect(attempt.status != 0, "\(step): \(attempt)")
                #expect(attempt.effect == effect, "\(step): \(attempt)")
                #expect(attempt.books == before, "\(step): \(attempt), \(before)")
            }
            return (try #require(attempts.last), Set(attempts.map(\.call)))
        }

        private func check(_ step: String, _ effect: String, calls: Set<String>) async throws -> Attempt {
            let (last, failed) = try Self.check(step, effect, try await Self.boot.report())
            #expect(failed == calls, "\(step): \(failed)")
            return last
        }

        /// The same of all steps of another kernel, whose config decides which calls there are.
        static func check(_ report: GuestReport) throws {
            for (step, from, to) in [
                ("load faults", old, old), ("apply faults", old, new), ("undo faults", new, old),
                ("exchange faults", new, old),
            ] {
                let (last, calls) = try check(step, from, report)
                #expect(calls.count >= 8 && last.effect == to, "\(step): \(calls), \(last)")
            }
            #expect(try report.output("end") == "0")
        }

        @Test func everyFaultOnTheWayInLeavesNothing() async throws {
            let last = try await check(
                "load faults", Self.old,
                calls: [
                    "try_module_get", "kzalloc", "kvcalloc", "find_module", "__module_text_address",
                    "kobject_init_and_add", "kobject_create_and_add", "kcalloc", "hook",
                ])
            #expect(last.call == "hook" && last.status != 0 && last.effect == Self.old, "\(last)")
        }

        @Test func everyFaultOfApplyLeavesTheOldCode() async throws {
            let last = try await check(
                "apply faults", Self.old,
                calls: [
                    "try_module_get", "kzalloc", "kvcalloc", "hook", "__module_text_address", "vmap",
                    "kvmalloc_array", "stop_machine_cpuslocked", "cmpxchg64", "none",
                ])
            #expect(last.call == "none" && last.status == 0 && last.effect == Self.new, "\(last)")
        }

        @Test func everyFaultOfUndoLeavesTheUpdateInPlace() async throws {
            let last = try await check(
                "undo faults", Self.new,
                calls: [
                    "hook", "kzalloc", "kvcalloc", "vmap", "kvmalloc_array", "stop_machine_cpuslocked",
                    "cmpxchg64", "none",
                ])
            #expect(last.call == "none" && last.status == 0 && last.effect == Self.old, "\(last)")
        }

        @Test("where one update replaces another, a fault leaves the one in place, also behind its half")
        func exchange() async throws {
            let last = try await check(
                "exchange faults", Self.new,
                calls: [
                    "try_module_get", "hook", "kzalloc", "kvcalloc", "vmap", "kvmalloc_array",
                    "stop_machine_cpuslocked", "cmpxchg64", "none",
                ])
            #expect(last.call == "none" && last.status == 0 && last.effect == Self.old, "\(last)")
        }

        @Test func everyFaultOfWaitingForAModuleLeavesNothing() async throws {
            let last = try await check(
                "await faults", Self.old,
                calls: ["kstrndup", "try_module_get", "kzalloc", "kobject_init_and_add", "none"])
            #expect(last.call == "none" && last.status == 0 && last.effect == Self.old, "\(last)")
        }

        @Test func everyFaultAtTheGateOfAModuleRefusesIt() async throws {
            let last = try await check(
                "gate faults", Self.old,
                calls: [
                    "kzalloc", "try_module_get", "kcalloc", "kstrdup", "call_usermodehelper_setup", "none",
                ])
            #expect(last.call == "none" && last.status != 0 && last.effect == Self.old, "\(last)")
            let report = try await Self.boot.report()
            let after = try report.output("awaited no longer")
            #expect(after.hasPrefix("0\n"))
            #expect(try books(after) == Self.attempts("await faults", report).before)
        }

        @Test func nothingIsLeftInTheEnd() async throws {
            let report = try await Self.boot.report()
            let again = try report.output("again").lines.map { String($0) }
            #expect(again.prefix(2) == [Self.new, Self.old])
            for step in ["after", "again"] {
                #expect(try books(report.output(step)) == books(report.output("undo")), "\(step)")
            }
            #expect(try report.output("before") == Self.old)
            #expect(try report.output("end") == "0")
            #expect(report.warnings == [])
        }
    }
}
