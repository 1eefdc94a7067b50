// Matching without /proc/kcore, through the window of ksplice.ko; and what a kernel that hides itself, or is locked down,
// answers. One boot: the level of lockdown can be raised while a kernel runs.

import Core
import Testing

extension VirtualMachineTests {
    @Suite struct Windows {
        /// What of ours is loaded.
        private static let loaded = "lsmod | grep ksplice | cut -d' ' -f1"

        static let boot = SharedBoot { laboratory in
            var guest = Guest(laboratory)
            try await guest.add(.dumpable, .pause, .nobody, .window)
            guest.add(try await laboratory.update(.dumpable), as: "dumpable")
            guest.add(try await laboratory.update(.pause), as: "pause")
            // Another /proc, in which kcore is to be seen.
            guest.step(
                "prepare",
                """
                mkdir /tmp/proc; mount -t proc proc /tmp/proc; mount -t securityfs none /sys/kernel/security
                mkdir pause; tar -xzf pause.tar.gz -C pause --strip-components 1 && ls pause/pre/0.o
                """)
            addHiddenPointers(&guest)
            // Swift's library looks at /proc/PID of its own process and traps where it is missing.
            guest.step(
                "missing",
                """
                mount -t tmpfs none /proc
                for f in self kallsyms modules sys mounts; do ln -s /tmp/proc/$f /proc/$f; done
                ln -s $(seq 1 3000 | sed 's#^#/tmp/proc/#') /proc/
                git-ksplice check --window dumpable.tar.gz; s=$?; umount /proc; exit $s
                """)
            guest.step("hide", "mount --bind /dev/null /proc/kcore")
            guest.step("check", "git-ksplice check dumpable.tar.gz")
            guest.step("match", "git-ksplice match --object pause/pre/0.o")
            guest.step("check loads nothing", loaded)
            guest.step("check window", "git-ksplice check --window dumpable.tar.gz")
            guest.step("check unloads", loaded)
            guest.step("inside", "sleeper & sleep 1; git-ksplice apply --timeout 0 pause.tar.gz")
            guest.step("a refusal unloads", "kill $(pidof sleeper); \(loaded)")
            guest.step("apply", "dumpable 2; git-ksplice apply dumpable.tar.gz && dumpable 2")
            guest.step(
                "with ksplice.ko",
                "git-ksplice check pause.tar.gz && git-ksplice match --object pause/pre/0.o")
            addWindow(&guest)
            guest.step("undo", "git-ksplice undo --all && dumpable 2")
            guest.step("gone", "rmmod ksplice && ls /sys/kernel/ksplice")
            addLockdown(&guest)
            return try await guest.run()
        }

        private static func addHiddenPointers(_ guest: inout Guest) {
            guest.step(
                "hidden pointers",
                """
                echo 2 > /proc/sys/kernel/kptr_restrict; git-ksplice apply dumpable.tar.gz; s=$?
                git-ksplice match --object pause/pre/0.o; echo 1 > /proc/sys/kernel/kptr_restrict; exit $s
                """)
        }

        private static func addWindow(_ guest: inout Guest) {
            guest.step("file", "ls -l /sys/kernel/ksplice/window | cut -c1-10")
            guest.step("words", "window words")
            guest.step("facts", "window facts /tmp/proc/kcore")
            guest.step("speed", "window speed /tmp/proc/kcore")
            guest.step("root", "window try")
            guest.step("nobody", "as-nobody window try")
            guest.step("no capability", "window no-rawio")
            guest.step("killed", "window die; ls -l /proc/[0-9]*/fd | grep -c ksplice-window")
        }

        private static func addLockdown(_ guest: inout Guest) {
            guest.step("applied", "umount /proc/kcore; git-ksplice apply dumpable.tar.gz")
            guest.step(
                "integrity",
                "echo integrity > /sys/kernel/security/lockdown; git-ksplice apply pause.tar.gz")
            guest.step("integrity reads", "git-ksplice match --object pause/pre/0.o")
            guest.step(
                "integrity tried nothing", "dmesg | grep -c 'unsigned module'; lsmod | grep -c ksplice_")
            guest.step(
                "confidentiality",
                "echo confidentiality > /sys/kernel/security/lockdown; git-ksplice match --object pause/pre/0.o"
            )
            guest.step("locked window", "window try")
            guest.step("locked undo", "git-ksplice undo --all && dumpable 2")
        }

        @Test("without /proc/kcore, check says what it may not do, and does it where it is allowed")
        func check() async throws {
            let report = try await Self.boot.report()
            #expect(try report.output("missing").contains("it can be applied"))
            let refused = try report.output("check", status: Int(Status.fatal))
            #expect(refused.contains("'/proc/kcore' is missing, or something else is mounted over it"))
            #expect(refused.contains("--window"))
            #expect(
                try report.output("match", status: Int(Status.fatal)).contains("hint: an applied update"))
            #expect(try report.output("check loads nothing") == "")
            let checked = try report.output("check window")
            #expect(checked.contains("it can be applied") && checked.contains("loading ksplice.ko"))
            #expect(try report.output("check unloads") == "")
        }

        @Test func anUpdateIsAppliedAndUndoneThroughTheWindow() async throws {
            let report = try await Self.boot.report()
            let applied = try report.output("apply").lines.map { String($0) }
            #expect(applied.first == "Invalid argument" && applied.last == "dumpable 2", "\(applied)")
            // The code of the update itself is seen, too, and the module is there already.
            let again = try report.output("with ksplice.ko")
            #expect(again.contains("it can be applied") && again.contains(" 0 differ"), "\(again)")
            #expect(!again.contains("loading"))
            #expect(try report.output("undo").hasSuffix("Invalid argument"))
        }

        @Test func aRefusalTakesKspliceBackToo() async throws {
            let report = try await Self.boot.report()
            #expect(
                try report.output("inside", status: Int(Status.busy)).contains(
                    "tasks are inside the functions"))
            #expect(try report.output("a refusal unloads") == "")
        }

        @Test func theWindowShowsCodeAndConstantsOnly() async throws {
            let output = try await Self.boot.report().output("facts")
            let hidden = [
                "beyond text", "data", "data of a module", "direct mapping", "nothing", "not canonical",
            ]
            let expected =
                [
                    "text: 300000 equal", "constants: 300000 equal", "module text: 100 equal",
                    "operations: 8 equal", "end of constants: 4096",
                ] + hidden.map { $0 + ": Bad address" } + ["write: Bad file descriptor", "seek: 4096"]
            #expect(output.lines.map { String($0) } == expected, "\(output)")
        }

        @Test func theWindowIsOpenForWhoMayReadTheKernel() async throws {
            let report = try await Self.boot.report()
            #expect(try report.output("file") == "--w-------")
            let invalid = "Invalid argument\n"
            #expect(try report.output("words") == String(repeating: invalid, count: 5) + "Success")
            #expect(try report.output("root") == "opened, for this program alone")
            #expect(try report.output("nobody") == "Permission denied")
            #expect(try report.output("no capability") == "Operation not permitted")
        }

        @Test func nothingOfTheWindowStays() async throws {
            let report = try await Self.boot.report()
            #expect(try report.output("killed", status: 1).hasSuffix("0"))
            let gone = try report.output("gone", status: 1)
            #expect(gone == "ls: /sys/kernel/ksplice: No such file or directory")
        }

        @Test func theWindowIsNotMuchSlowerThanKcore() async throws {
            let words = try await Self.boot.report().output("speed").split(separator: " ")
            let ratio = try #require(words.last.flatMap { Double($0) })
            #expect(ratio > 0.3, "\(words)")
        }

        @Test func hiddenAddressesAreExplained() async throws {
            let output = try await Self.boot.report().output("hidden pointers", status: Int(Status.fatal))
            #expect(output.lines.filter { $0.contains("kernel.kptr_restrict is 2") }.count == 2, "\(output)")
            #expect(output.contains("hint: sysctl kernel.kptr_restrict=1"))
        }

        @Test("lockdown's two levels are told apart, before anything is loaded")
        func lockdown() async throws {
            let report = try await Self.boot.report()
            let integrity = try report.output("integrity", status: Int(Status.verificationRefused))
            #expect(integrity.contains("fatal: this kernel is locked down for integrity: it loads only"))
            #expect(!integrity.contains("loading ksplice.ko"))
            #expect(try report.output("integrity reads").contains(" 0 differ"))
            #expect(try report.output("integrity tried nothing") == "0\n1")
            let confidentiality = try report.output("confidentiality", status: Int(Status.fatal))
            #expect(confidentiality.contains("locked down for confidentiality: it lets nobody read"))
            #expect(confidentiality.contains("hint: lockdown ends with a boot without it"))
            #expect(try report.output("locked window") == "Operation not permitted")
            #expect(try report.output("locked undo").hasSuffix("Invalid argument"))
        }

        @Test func kernelLogHasNoWarnings() async throws {
            #expect(try await Self.boot.report().warnings.isEmpty)
        }
    }
}
