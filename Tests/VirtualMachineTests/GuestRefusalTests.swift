// What apply must refuse, in the guest: each with its own message and exit status, and with nothing left behind.

import Testing

@testable import Core

extension VirtualMachineTests {
    @Suite struct GuestRefusals {
        /// Shows whether anything of ours is loaded.
        private static let traces = "ls /sys/kernel/ksplice 2>/dev/null; lsmod | grep ksplice_; true"

        static let boot = SharedBoot { laboratory in
            var guest = Guest(laboratory)
            try await guest.add(.dumpable, .pause, .nobody)
            let (dumpable, pause) = try await (laboratory.update(.dumpable), laboratory.update(.pause))
            guest.add(dumpable, as: "dumpable")
            guest.add(pause, as: "pause")
            guest.add(Array(dumpable.archive.dropLast(dumpable.archive.count / 3)), as: "truncated.tar.gz")
            guest.add(try await altered(dumpable.archive), as: "altered.tar.gz")
            guest.add(Array("no archive\n".utf8), as: "text.tar.gz")
            for name in ["truncated", "altered", "text", "missing"] {
                guest.step(name, "git-ksplice apply \(name).tar.gz")
            }
            guest.step(
                "not root",
                "cp dumpable.tar.gz /tmp; chmod 644 /tmp/dumpable.tar.gz; as-nobody git-ksplice apply /tmp/dumpable.tar.gz"
            )
            guest.step("check not root", "as-nobody git-ksplice check /tmp/dumpable.tar.gz")
            guest.step("not in a repository", "git-ksplice apply HEAD")
            guest.step("traces", traces)
            guest.step(
                "asleep check",
                "sleeper & sleep 1; git-ksplice check pause.tar.gz; s=$?; echo pid $!; exit $s")
            guest.step("asleep apply", "git-ksplice apply --timeout 1 pause.tar.gz")
            guest.step("asleep json", "git-ksplice apply --json --timeout 2 pause.tar.gz")
            guest.step("asleep traces", "ls /sys/kernel/ksplice; lsmod | grep ksplice_")
            guest.step(
                "asleep gone", "kill $(pidof sleeper); sleep 1; git-ksplice apply pause.tar.gz && sleeper")
            guest.step("asleep undo", "git-ksplice undo --all")
            guest.step(
                "nudged apply",
                "sleeper > /tmp/said & sleep 1; git-ksplice apply --json --nudge pause.tar.gz; s=$?; wait $!; exit $s"
            )
            guest.step("nudged task", "cat /tmp/said")
            guest.step("nudged undo", "git-ksplice undo --json --all")
            guest.step(
                "modules off", "echo 1 > /proc/sys/kernel/modules_disabled; git-ksplice apply dumpable.tar.gz"
            )
            guest.step("still works", "dumpable 2")
            return try await guest.run()
        }

        /// The archive with one byte of the update module changed, properly packed again.
        private static func altered(_ archive: [UInt8]) async throws -> [UInt8] {
            let folder = try Files.temporaryDirectory()
            defer { try? Files.remove(folder) }
            try await Command(["tar", "-xz", "-C", folder], input: archive).check()
            let list = try await Command(["find", ".", "-type", "f"], directory: folder).check().text.lines
                .sorted()
            let module = try #require(list.first { $0.hasSuffix(".ko") && !$0.hasSuffix("/ksplice.ko") })
            var bytes = try Files.read("\(folder)/\(module)")
            bytes[bytes.count / 2] ^= 1
            try Files.write(bytes, to: "\(folder)/\(module)")
            let order = try await Command(["tar", "-tz"], input: archive).check().text.lines.map {
                String($0)
            }
            return try await Command(["tar", "-cz", "--no-recursion"] + order, directory: folder).check()
                .output
        }

        @Test(
            "an archive that is truncated, altered or none is refused",
            arguments: [("truncated", "gzip data"), ("altered", "update.ko"), ("text", "gzip data")])
        func archive(_ name: String, _ cause: String) async throws {
            let output = try await Self.boot.report().output(name, status: Int(Status.verificationRefused))
            #expect(output.contains("fatal: '\(name).tar.gz' holds no update that can be trusted: "))
            #expect(output.contains(cause), "\(output)")
        }

        @Test func missingArchiveIsNamed() async throws {
            let result = try #require(try await Self.boot.report().result("missing"))
            #expect(result.status == Int(Status.fatal) || result.status == Int(Status.notFound))
            #expect(result.output.contains("missing.tar.gz"))
        }

        @Test(
            "only root may apply and check, and the message says so",
            arguments: ["not root", "check not root"])
        func root(_ step: String) async throws {
            let output = try await Self.boot.report().output(step, status: Int(Status.fatal))
            #expect(output.contains("root"))
        }

        @Test func outsideOfARepositoryAnArchiveIsAskedFor() async throws {
            let output = try await Self.boot.report().output(
                "not in a repository", status: Int(Status.notFound))
            #expect(output.contains("no such archive: 'HEAD'") && output.contains("name an archive"))
        }

        @Test func refusalsLeaveNothingBehind() async throws {
            #expect(try await Self.boot.report().output("traces") == "")
        }

        @Test("a task inside is named by check and by apply, which works once it has left")
        func taskInside() async throws {
            let report = try await Self.boot.report()
            let check = try report.output("asleep check", status: Int(Status.busy))
            #expect(check.contains("in use     sleeper["), "\(check)")
            let apply = try report.output("asleep apply", status: Int(Status.busy))
            #expect(apply.contains("tasks are inside the functions"))
            #expect(apply.contains("  sleeper["))
            #expect(try !report.output("asleep traces", status: 1).contains("ksplice_"))
            #expect(try report.output("asleep gone").hasSuffix("Numerical argument out of domain"))
            #expect(try report.output("asleep undo").contains("undone"))
        }

        @Test func programsAreToldWhoIsInsideAndSinceWhen() async throws {
            let said = try await Self.boot.report().output("asleep json", status: Int(Status.busy))
            let report = try JSON(parsing: said)
            #expect(report["done"] == .bool(false) && report["status"]?.number == Int(Status.busy))
            let task = try #require(report["details"]?.array?.first)
            #expect(task["comm"]?.string == "sleeper" && task["certain"] == .bool(true), "\(said)")
            #expect(task["function"]?.string?.hasSuffix("_sys_pause") == true, "\(said)")
            #expect((1000..<10_000).contains(task["met_ms"]?.number ?? 0), "\(said)")
            // It sleeps since two steps before.
            #expect((task["asleep_ms"]?.number ?? 0) > (task["met_ms"]?.number ?? 0), "\(said)")
        }

        @Test func aSleeperCanBeTakenOut() async throws {
            let report = try await Self.boot.report()
            let applied = try JSON(parsing: report.output("nudged apply"))
            #expect(applied["done"] == .bool(true) && applied["tries"]?.number ?? 0 > 1, "\(applied)")
            // Its system call has begun again, in the new code.
            #expect(try report.output("nudged task") == "Numerical argument out of domain")
            let undone = try JSON(parsing: report.output("nudged undo"))
            #expect(undone["done"] == .bool(true) && undone["unloaded"] == .bool(true), "\(undone)")
        }

        @Test func loadingModulesSwitchedOffIsSaid() async throws {
            let report = try await Self.boot.report()
            #expect(
                try report.output("modules off", status: Int(Status.fatal)).contains(
                    "loading modules is switched off"))
            #expect(try report.output("still works") == "Invalid argument")
        }

        @Test func kernelLogHasNoWarnings() async throws {
            #expect(try await Self.boot.report().warnings.isEmpty)
        }
    }

    @Suite struct WrongKernel {
        static let boot = SharedBoot { laboratory in
            var guest = Guest(laboratory, newKernel: true)
            let update = try await laboratory.update(.auxv)
            guest.add(update, as: "auxv")
            guest.step("identity", "git-ksplice apply auxv.tar.gz")
            guest.step("check", "git-ksplice check auxv.tar.gz")
            guest.step("matching", "GIT_KSPLICE_TEST_IGNORE_IDENTITY=1 git-ksplice apply auxv.tar.gz")
            guest.step(
                "window",
                """
                mount --bind /dev/null /proc/kcore; GIT_KSPLICE_TEST_IGNORE_IDENTITY=1 git-ksplice apply auxv.tar.gz
                s=$?; umount /proc/kcore; exit $s
                """)
            let content = try Update(archive: update.archive)
            guest.add(try content.file(content.manifest.units[0].object), as: "unit.o")
            guest.step("explained", "git-ksplice match --object --json unit.o")
            guest.step("in words", "git-ksplice match --object unit.o")
            guest.step("traces", "ls /sys/kernel/ksplice 2>/dev/null; lsmod | grep ksplice; true")
            return try await guest.run()
        }

        @Test("another build is refused by its identity", arguments: ["identity", "check"])
        func identity(_ step: String) async throws {
            let output = try await Self.boot.report().output(step, status: Int(Status.wrongKernel))
            #expect(output.contains("the update is for another kernel: build-id"))
        }

        @Test("even without the identity, run-pre matching refuses it")
        func matching() async throws {
            let output = try await Self.boot.report().output(
                "matching", status: Int(Status.verificationRefused))
            #expect(output.contains("run-pre matching: "))
            #expect(output.contains("prctl_set_auxv"))
            // The first function that differs is explained: both sides, why, and what to do.
            #expect(output.contains("pre (what was compiled)"))
            #expect(output.contains("\n      > "))
            #expect(output.contains("likely: other source: it was compiled for "))
            #expect(output.contains("nearest of the unit that match: "))
            #expect(output.contains("hint: git ksplice explain other-source"))
        }

        @Test("programs get the same as people of each function that differs")
        func explanation() async throws {
            let report = try await Self.boot.report()
            let output = try report.output("explained", status: Int(Status.verificationRefused))
            let json = try JSON(parsing: String(output.lines.last { $0.hasPrefix("{") } ?? ""))
            let failures = try #require(json["units"]?.array?.first?["failures"]?.array)
            #expect(failures.count >= 1)
            for failure in failures {
                #expect(failure["code"]?.string?.isEmpty == false && failure["address"]?.string != nil)
                let (pre, run) = (failure["pre_window"]?.array ?? [], failure["run_window"]?.array ?? [])
                #expect(pre.count >= 2 && run.count >= 2, "\(failure.text)")
                let offset = try #require(failure["offset"]?.number)
                func covers(_ line: JSON) -> Bool {
                    guard let start = line["offset"]?.number, let bytes = line["bytes"]?.string else {
                        return false
                    }
                    return (start..<start + bytes.count / 2).contains(offset)
                }
                #expect(pre.contains(where: covers), "\(failure.text)")
                #expect(failure["causes"]?.array?.first?["code"]?.string == "other-source")
                #expect(
                    (failure["hints"]?.array?.count ?? 0) >= 2 && (failure["near"]?.array?.count ?? 0) >= 1)
            }
            let words = try report.output("in words", status: Int(Status.verificationRefused))
            let names = failures.compactMap { $0["function"]?.string }
            for name in names { #expect(words.contains("  differs  \(name)+0x"), "\(name)") }
            #expect(words.lines.count { $0.hasPrefix("    > ") } == min(3, names.count))
        }

        @Test("where ksplice.ko must come before matching, its checksums let the kernel refuse it")
        func checksums() async throws {
            let report = try await Self.boot.report()
            let output = try report.output("window", status: Int(Status.fatal))
            #expect(output.contains("cannot load module 'ksplice'"))
            #expect(report.kernelLog.contains("ksplice: disagrees about version of symbol"))
        }

        @Test func nothingIsLeftBehind() async throws {
            let report = try await Self.boot.report()
            #expect(try report.output("traces") == "")
            #expect(report.warnings.isEmpty)
        }
    }
}
