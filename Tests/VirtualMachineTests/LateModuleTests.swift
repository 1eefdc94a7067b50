// Modules that are loaded after an update that changes them was applied: they get it before their init function runs, or are
// not loaded, and the kernel's log says why.

import Testing

@testable import Core

extension KernelChange {
    /// Refuses to be switched on.
    static let miscError = KernelChange(
        "binfmt_misc: an error", "fs/binfmt_misc.c",
        "\tNode *e, *next;\n\tstruct inode *inode;\n\n\tswitch (res) {\n\tcase 1:\n\t\t/* Disable all",
        "\tNode *e, *next;\n\tstruct inode *inode;\n\n\tif (res == 2)\n\t\treturn -ERANGE;\n\n"
            + "\tswitch (res) {\n\tcase 1:\n\t\t/* Disable all")
    /// The same once more.
    static let miscErrorAgain: KernelChange = {
        var change = KernelChange(
            "binfmt_misc: yet another error", "fs/binfmt_misc.c", "return -ERANGE;", "return -EDOM;")
        change.ground = [.miscError]
        return change
    }()
    static let miscOtherwise: KernelChange = {
        var change = KernelChange("binfmt_misc: another error in the kernel's source", edits: miscError.edits)
        change.edits[0].new.replace("ERANGE", with: "EXDEV")
        return change
    }()
    /// A function of the kernel image, and one of a module.
    static let auxvAndMisc: KernelChange = {
        var change = KernelChange("sys and binfmt_misc: a fix of each", fixed: "kernel/sys.c")
        change.edits = miscError.edits
        return change
    }()
    /// The kernel image gets a function that the module uses.
    static let bringing = KernelChange(
        "sys and binfmt_misc: a new export",
        Edit(
            path: "kernel/sys.c", old: "EXPORT_SYMBOL(overflowuid);\n",
            new:
                "EXPORT_SYMBOL(overflowuid);\n\nint misc_answer(int res)\n{\n\treturn res == 2 ? -ERANGE : 0;\n}\n"
                + "EXPORT_SYMBOL(misc_answer);\n"),
        Edit(
            path: "fs/binfmt_misc.c",
            old:
                "\tNode *e, *next;\n\tstruct inode *inode;\n\n\tswitch (res) {\n\tcase 1:\n\t\t/* Disable all",
            new: "\tNode *e, *next;\n\tstruct inode *inode;\n\textern int misc_answer(int res);\n\n"
                + "\tif (misc_answer(res))\n\t\treturn misc_answer(res);\n\n"
                + "\tswitch (res) {\n\tcase 1:\n\t\t/* Disable all"))
    /// A function with a jump label whose key is in the module: that of a tracepoint.
    static let erofs = KernelChange(
        "erofs: shorter names", "fs/erofs/namei.c", "dentry->d_name.len > EROFS_NAME_LEN",
        "dentry->d_name.len > EROFS_NAME_LEN - 1")
    /// A function that the module's init function calls, and that then makes it fail.
    static let jitter = KernelChange(
        "jitterentropy: never start", "crypto/jitterentropy.c",
        "\tstruct rand_data ec = { 0 };\n\n\t/* Required for RCT */\n",
        "\tstruct rand_data ec = { 0 };\n\n\tif (!ec.osr)\n\t\treturn 77;\n\n\t/* Required for RCT */\n")
}

extension VirtualMachineTests {
    @Suite struct LateModules {
        /// Switches the module on by its file.
        private static let misc = """
            mkdir -p /tmp/b
            mount -t binfmt_misc none /tmp/b || exit
            sh -c 'echo 1 > /tmp/b/status' && echo accepted
            umount /tmp/b

            """
        /// A file system that has the name of the module's, so that the module's init function fails.
        private static func squatter(_ name: String) -> String {
            """
            #include <linux/fs.h>
            #include <linux/module.h>
            static struct file_system_type type = { .name = "\(name)", .owner = THIS_MODULE };
            static int __init squat(void) { return register_filesystem(&type); }
            static void __exit leave(void) { unregister_filesystem(&type); }
            module_init(squat);
            module_exit(leave);
            MODULE_LICENSE("GPL");
            """
        }

        static let boot = SharedBoot { laboratory in
            var guest = Guest(laboratory)
            try await guest.add(.auxv, .sfq)
            let changes: [(name: String, change: KernelChange)] = [
                ("both", .auxvAndMisc), ("first", .miscError), ("second", .miscErrorAgain),
                ("jitter", .jitter),
                ("rival", .miscOtherwise), ("resident", .sfq), ("bringing", .bringing), ("erofs", .erofs),
            ]
            var ids: [String] = []
            for (name, change) in changes {
                let update = try await laboratory.update(change)
                guest.add(update, as: name)
                ids.append(update.id)
            }
            let module = try laboratory.module("fs/binfmt_misc.ko")
            guest.add(module, as: "misc.ko")
            guest.add(Array(misc.utf8), as: "misc")
            guest.add(try laboratory.module("net/sched/sch_sfq.ko"), as: "sch_sfq.ko")
            guest.add(try laboratory.module("crypto/jitterentropy_rng.ko"), as: "jitterentropy_rng.ko")
            guest.add(try damaged(module), as: "damaged.ko")
            guest.add(try laboratory.module("fs/erofs/erofs.ko"), as: "erofs.ko")
            try guest.tryToLoad(["libcrc32c"])
            for (name, system) in [("squatter", "binfmt_misc"), ("second", "erofs")] {
                guest.add(
                    try await laboratory.buildModule(name, squatter(system)), as: name + ".ko")
            }
            func step(_ name: String, _ lines: String...) {
                guest.step(name, lines.joined(separator: "\n"))
            }
            let load = "dmesg -c > /dev/null; insmod misc.ko; s=$?; dmesg | grep -i ksplice; "
            let root = "/sys/kernel/ksplice"

            step("before", "auxv; insmod misc.ko && sh misc && rmmod binfmt_misc")
            step("check", "git-ksplice check both.tar.gz")
            step("apply", "git-ksplice apply both.tar.gz")
            step("again", "git-ksplice apply both.tar.gz")
            step("applied", "auxv; git-ksplice status; cat \(root)/late/*/policy; ls /run/git-ksplice")
            step("load", load + "sh misc; exit $s")
            step("hold", "rmmod binfmt_misc")
            step("loaded", "git-ksplice status --json; ls \(root) | grep -c '^[0-9a-f]*$'")
            step("undo", "git-ksplice undo --all; auxv; sh misc; rmmod binfmt_misc; rmmod ksplice; lsmod")

            step(
                "damaged",
                "git-ksplice apply -q both.tar.gz; dmesg -c > /dev/null; insmod damaged.ko 2>&1; s=$?",
                "dmesg | grep -i ksplice; lsmod | grep misc; exit $s")
            step(
                "allowed", "git-ksplice undo -q --all; git-ksplice apply -q --late=allow both.tar.gz",
                "dmesg -c > /dev/null; insmod damaged.ko; s=$?; dmesg | grep -i ksplice; sh misc; rmmod binfmt_misc; exit $s"
            )
            step("good after all", load + "sh misc; git-ksplice undo -q --all; rmmod binfmt_misc; exit $s")

            step("stacked", "git-ksplice apply first.tar.gz && git-ksplice apply second.tar.gz")
            step("rival", "git-ksplice apply rival.tar.gz")
            step("undo the lower", "git-ksplice undo \(ids[1])")
            step("load stacked", load + "sh misc; exit $s")
            step(
                "undo stacked",
                "git-ksplice undo \(ids[1]); git-ksplice undo --all; sh misc; rmmod binfmt_misc")
            step(
                "upgrade",
                "git-ksplice apply -q first.tar.gz && git-ksplice upgrade rival.tar.gz --undo \(ids[1])",
                "git-ksplice status; insmod misc.ko; sh misc; git-ksplice undo -q --all; rmmod binfmt_misc")

            // One part refers to the other, which comes before it or with it.
            step(
                "bringing", "git-ksplice apply -q bringing.tar.gz; insmod misc.ko; sh misc",
                "git-ksplice undo -q --all; sh misc; git-ksplice check bringing.tar.gz",
                "git-ksplice apply -q bringing.tar.gz; sh misc; git-ksplice undo -q --all; sh misc",
                "rmmod binfmt_misc; lsmod | grep ksplice_; true")

            // New code runs in init, which fails for it: the module goes, and what stood on it is given up.
            step(
                "init",
                "git-ksplice apply -q jitter.tar.gz; dmesg -c > /dev/null; insmod jitterentropy_rng.ko; s=$?",
                "dmesg; lsmod; exit $s")
            step("init again", "insmod jitterentropy_rng.ko; lsmod | grep -c jitterentropy")
            step(
                "init undone",
                "git-ksplice undo --all && insmod jitterentropy_rng.ko && rmmod jitterentropy_rng")
            // Init fails for another reason, and then not.
            step(
                "squatter", "insmod squatter.ko; git-ksplice apply -q first.tar.gz; insmod misc.ko; s=$?",
                "rmmod squatter; insmod misc.ko && sh misc",
                "git-ksplice undo -q --all; rmmod binfmt_misc; exit $s")

            step(
                "keys", "insmod second.ko; git-ksplice apply -q erofs.tar.gz; insmod erofs.ko; s=$?",
                "git-ksplice status; rmmod second; insmod erofs.ko && lsmod | grep -c ^erofs",
                "git-ksplice undo -q --all; rmmod erofs; insmod erofs.ko && rmmod erofs; exit $s")

            step(
                "no program", "git-ksplice apply -q first.tar.gz; echo /nowhere > \(root)/helper",
                "dmesg -c > /dev/null; insmod misc.ko; s=$?; dmesg | grep -i ksplice; exit $s")
            // Whoever waits at the gate can be killed.
            step(
                "killed", "printf '#!/bin/sh\\nsleep 1000\\n' > /bin/endless; chmod +x /bin/endless",
                "echo /bin/endless > \(root)/helper", "insmod misc.ko & p=$!",
                "sleep 2; cat \(root)/late/*/state",
                "kill -9 $p; wait $p; echo ended $?; lsmod | grep -c misc; cat \(root)/late/*/state; killall sleep"
            )
            step(
                "bad requests",
                """
                for text in '' x '+abc binfmt_misc refuse' '+\(ids[1]) a/b refuse' '+\(ids[1]) m maybe' '+\(ids[1]) m' \
                    '+\(ids[1]) m refuse x' '-\(ids[1]) m refuse'; do
                    echo "$text" > \(root)/await && echo "accepted: $text"
                done
                echo "-\(ids[1]) m" > \(root)/await && echo accepted
                for path in '' x; do echo "$path" > \(root)/helper && echo "accepted: $path"; done
                rmmod ksplice && echo gone
                ls \(root)/late
                """)
            step(
                "many times",
                """
                git-ksplice undo -q --all
                for i in 1 2 3 4 5 6 7 8; do
                    git-ksplice apply -q first.tar.gz && insmod misc.ko && sh misc
                    git-ksplice undo -q --all && rmmod binfmt_misc
                done
                """)
            // Who asks for the update and who loads the module meet.
            step(
                "at once",
                """
                for i in 1 2 3 4; do
                    git-ksplice apply -q both.tar.gz & a=$!
                    sleep 1.$i; insmod misc.ko; wait $a; sh misc
                    git-ksplice undo -q --all; rmmod binfmt_misc
                done
                """)
            step("end", "git-ksplice status; rmmod ksplice; lsmod; ls /run/git-ksplice")
            step(
                "resident",
                "git-ksplice apply -q resident.tar.gz && insmod sch_sfq.ko; sfq; git-ksplice undo -q --all; sfq",
                "rmmod sch_sfq; git-ksplice apply -q resident.tar.gz; sfq; git-ksplice undo -q --all; sfq")
            guest.configure(commandLine: "", seconds: 400)
            return try await guest.run()
        }

        /// The module with a byte changed in a function that the update replaces.
        private static func damaged(_ bytes: [UInt8]) throws -> [UInt8] {
            let object = try ObjectFile(bytes, name: "misc.ko")
            let function = try #require(
                object.symbols.first { $0.name == "bm_status_write" && $0.isFunction })
            let section = object.sections[function.section]
            // Far from relocated fields.
            let place = try #require(
                (Int(function.value) + 32..<Int(function.value) + Int(function.size) - 8).first { start in
                    section.relocations(in: start - 8..<start + 8).isEmpty
                })
            let code = Array(section.contents[Int(function.value)..<Int(function.value) + Int(function.size)])
            let end = try #require(bytes.load(UInt64.self, at: 40)) + 64 * UInt64(object.sections.count)
            let start = try #require(
                bytes.indices.dropLast(code.count).first { bytes[$0..<$0 + code.count].elementsEqual(code) })
            // Without its signature, which stands behind the object.
            var result = Array(bytes[..<Int(end)])
            result[start + place - Int(function.value)] ^= 1
            return result
        }

        private func output(_ step: String, status: Int = 0) async throws -> String {
            try await Self.boot.report().output(step, status: status)
        }

        @Test("the image's part is applied at once, the module's when the module comes, before it runs")
        func twoParts() async throws {
            #expect(try await output("before") == "mixed\naccepted")
            let check = try await output("check")
            #expect(
                check.contains("waits for  binfmt_misc") && check.hasSuffix("it can be applied"), "\(check)")
            let apply = try await output("apply")
            #expect(apply.contains("waiting for binfmt_misc: not loaded"), "\(apply)")
            #expect(try await output("again", status: Int(Status.no)).contains("is applied already"))
            let applied = try await output("applied")
            #expect(
                applied.hasPrefix("replaced\n") && applied.contains("waits for binfmt_misc"), "\(applied)")
            #expect(applied.contains("refuse\n") && applied.contains(".tar.gz"), "\(applied)")
            let load = try await output("load")
            #expect(load.hasSuffix("Numerical result out of range"), "\(load)")
            let order = ["module binfmt_misc waits", ": applied", "has its part of update"].map { text in
                load.lines.firstIndex { $0.contains(text) } ?? -1
            }
            #expect(order == order.sorted() && order[0] >= 0, "\(load)")
            #expect(try await output("hold", status: 1).contains("misc"))
            let loaded = try await output("loaded")
            #expect(loaded.contains("\"waiting\":[]") && loaded.hasSuffix("\n2"), "\(loaded)")
            let undo = try await output("undo")
            #expect(undo.contains("Done!\nmixed\naccepted"), "\(undo)")
            #expect(!undo.contains("ksplice_") && !undo.contains("misc"), "\(undo)")
        }

        @Test(
            "a module that does not match is refused with the reason, or runs without where that is allowed")
        func mismatch() async throws {
            let damaged = try await output("damaged", status: 125)
            #expect(damaged.contains("Operation canceled"), "\(damaged)")
            #expect(damaged.contains("run-pre matching") && damaged.contains("module binfmt_misc is refused"))
            #expect(!damaged.contains("\nbinfmt_misc"))
            let allowed = try await output("allowed")
            #expect(allowed.contains("goes without update") && allowed.hasSuffix("accepted"), "\(allowed)")
            #expect(try await output("good after all").contains("Numerical result out of range"))
        }

        @Test("several updates wait for one module, in their order; one is replaced by another")
        func several() async throws {
            #expect(try await output("stacked").contains("Done!"))
            let rival = try await output("rival", status: Int(Status.busy))
            #expect(rival.contains("which waits for a module, replaces 'bm_status_write', too"), "\(rival)")
            #expect(
                try await output("undo the lower", status: Int(Status.busy)).contains("was made on update"))
            let load = try await output("load stacked")
            #expect(load.hasSuffix("Numerical argument out of domain"), "\(load)")
            let undo = try await output("undo stacked")
            #expect(
                undo.contains("was made on update") && undo.hasSuffix("accepted"), "\(undo)")
            let upgrade = try await output("upgrade")
            #expect(
                upgrade.contains("undone") && upgrade.contains("Invalid cross-device link\nDone!"),
                "\(upgrade)")
        }

        @Test func onePartRefersToTheOther() async throws {
            let lines = try await output("bringing").lines.map { String($0) }.filter {
                $0 == "accepted" || $0.hasSuffix("out of range") || $0.contains("ksplice_")
                    || $0 == "it can be applied"
            }
            let refused = "sh: write error: Numerical result out of range"
            #expect(lines == [refused, "accepted", "it can be applied", refused, "accepted"], "\(lines)")
        }

        @Test(
            "a module whose init function fails takes what stood on it along, and gets it anew the next time")
        func failingInit() async throws {
            let initial = try await output("init", status: 14)
            #expect(initial.contains("not compliant with requirements: 77"), "\(initial)")
            #expect(initial.contains("the update's part for it is given up") && !initial.contains("\njitter"))
            #expect(try await output("init again", status: 1).hasSuffix("0"))
            #expect(try await output("init undone").contains("Done!"))
            #expect(try await output("squatter", status: 16).contains("Numerical result out of range\nDone!"))
        }

        @Test("what hangs on keys of a module that goes is taken off them before")
        func keysThatGo() async throws {
            let keys = try await output("keys", status: 16)
            #expect(
                keys.contains("  applied  erofs: shorter names\n") && keys.contains("\n1\nDone!"), "\(keys)")
        }

        @Test("without the program, and when whoever waits is killed, the module is not loaded")
        func noProgram() async throws {
            let none = try await output("no program", status: 125)
            #expect(none.contains("module binfmt_misc is refused: it did not get its updates"), "\(none)")
            let killed = try await output("killed")
            #expect(killed.contains("coming\nKilled\nended 137\n0\nawaited"), "\(killed)")
            let bad = try await output("bad requests")
            #expect(!bad.contains("accepted") && !bad.contains("gone"), "\(bad)")
        }

        @Test("it works again and again, and while both happen at once")
        func again() async throws {
            let many = try await output("many times").lines
            #expect(many.count { $0.hasSuffix("Numerical result out of range") } == 8, "\(many)")
            let met = try await output("at once").lines
            #expect(met.count { $0.hasSuffix("Numerical result out of range") } == 4, "\(met)")
            let end = try await output("end")
            #expect(end.hasPrefix("no update is loaded") && !end.contains("ksplice"), "\(end)")
            let resident = try await output("resident").lines.filter { !$0.contains("Done!") }
            #expect(
                resident.filter { !$0.contains("rmmod") }
                    == ["Invalid argument", "accepted", "Invalid argument", "accepted"], "\(resident)")
            #expect(resident.contains { $0.contains("rmmod") })
            #expect(try await Self.boot.report().warnings == [])
        }
    }
}
