// What the original tool's page promised, and the life of an update around it: the change of prctl's range check, a
// change of what printk logs, several updates at once, again after undo, from an archive where there is neither a
// repository nor git.

import Core
import Testing

extension VirtualMachineTests {
    @Suite struct OriginalPage {
        static let boot = SharedBoot { laboratory in
            var guest = Guest(laboratory)
            try await guest.add(.dumpable)
            let (dumpable, printk) = try await (laboratory.update(.dumpable), laboratory.update(.printk))
            guest.add(dumpable, as: "dumpable")
            guest.add(printk, as: "printk")
            guest.step("no git", "command -v git || ls -d /.git /root/.git || echo neither")
            guest.step("dumpable before", "dumpable 2; dumpable 3")
            guest.step("undo too early", "git-ksplice undo dumpable.tar.gz")
            guest.step("apply", "git-ksplice apply dumpable.tar.gz")
            guest.step("dumpable after", "dumpable 2; dumpable 3")
            guest.step("apply twice", "git-ksplice apply dumpable.tar.gz")
            guest.step("log before", "echo '@one' > /dev/kmsg; dmesg | grep -c '#one'")
            guest.step("apply printk", "git-ksplice apply printk.tar.gz")
            guest.step("log after", "echo '@two' > /dev/kmsg; dmesg | grep '#two'")
            guest.step("status", "git-ksplice status")
            guest.step("undo all", "git-ksplice undo --all")
            guest.step("status after", "git-ksplice status")
            guest.step("dumpable undone", "dumpable 2")
            guest.step("log undone", "echo '@three' > /dev/kmsg; dmesg | grep -c '#three'")
            guest.step("apply again", "git-ksplice apply dumpable.tar.gz && dumpable 2")
            guest.step("undo again", "git-ksplice undo \(dumpable.id) && dumpable 2")
            guest.step("undo twice", "git-ksplice undo \(dumpable.id)")
            guest.step("undo nothing", "git-ksplice undo --all")
            return try await guest.run()
        }

        @Test func prctlAcceptsAnotherRange() async throws {
            let report = try await Self.boot.report()
            #expect(try report.output("dumpable before") == "Invalid argument\nInvalid argument")
            #expect(try report.output("apply").contains("Done!"))
            #expect(try report.output("dumpable after") == "dumpable 2\nInvalid argument")
            #expect(try report.output("dumpable undone") == "Invalid argument")
        }

        @Test func printkLogsOtherwise() async throws {
            let report = try await Self.boot.report()
            #expect(try report.output("log before", status: 1) == "0")
            #expect(try report.output("apply printk").contains("Done!"))
            #expect(try report.output("log after").contains("#two"))
            #expect(try report.output("log undone", status: 1) == "0")
        }

        @Test func worksWithoutGitAndRepository() async throws {
            let report = try await Self.boot.report()
            #expect(try report.output("no git").hasSuffix("neither"))
        }

        @Test func applyOfWhatIsAppliedIsRefused() async throws {
            let output = try await Self.boot.report().output("apply twice", status: Int(Status.no))
            #expect(output.contains("is applied already"))
        }

        @Test func undoOfWhatIsNotAppliedIsRefused() async throws {
            let report = try await Self.boot.report()
            #expect(try report.output("undo too early", status: Int(Status.no)).contains("is not applied"))
            #expect(try report.output("undo twice", status: Int(Status.no)).contains("is not applied"))
        }

        @Test func undoAllUndoesEveryUpdate() async throws {
            let report = try await Self.boot.report()
            let laboratory = try await Laboratory.shared()
            let ids = try await [laboratory.update(.dumpable).id, laboratory.update(.printk).id]
            let (before, after) = try (report.output("status"), report.output("status after"))
            let undone = try report.output("undo all")
            for id in ids {
                #expect(before.contains("\(id)  applied"))
                #expect(undone.contains("update \(id) undone"))
                #expect(!after.contains("\(id)  applied"))
            }
            // The newest first.
            let positions = ids.compactMap { undone.firstRange(of: $0)?.lowerBound }
            #expect(positions.count == 2 && positions[0] > positions[1], "\(undone)")
            #expect(try report.output("undo nothing").contains("no update is applied"))
        }

        @Test func appliesAgainAfterUndo() async throws {
            let report = try await Self.boot.report()
            #expect(try report.output("apply again").hasSuffix("dumpable 2"))
            #expect(try report.output("undo again").hasSuffix("Invalid argument"))
        }

        @Test func kernelLogHasNoWarnings() async throws {
            #expect(try await Self.boot.report().warnings.isEmpty)
        }
    }

    @Suite struct TestCommand {
        @Test("git ksplice test runs a command before, after apply and after undo")
        func runs() async throws {
            let laboratory = try await Laboratory.shared()
            let update = try await laboratory.update(.dumpable)
            let program = laboratory.folder + "/dumpable"
            try Files.write(try await GuestProgram.dumpable.executable(), to: program, mode: 0o755)
            let result = try await laboratory.run("test", update.commit, "--quiet", "--copy", program, "--run", "chmod +x dumpable; ./dumpable 2")
            #expect(result.status == 0, "\(result.said)")
            let expected = [
                "before (exit status 0):", "    Invalid argument", "after (exit status 0):", "    dumpable 2",
                "after undo (exit status 0):", "    Invalid argument",
            ]
            #expect(result.text.lines.map { String($0) } == expected)
        }

        @Test("a warning in the kernel log fails the run", arguments: ["WARNING: made by a test", "BUG: made by a test"])
        func warningFails(_ line: String) async throws {
            let laboratory = try await Laboratory.shared()
            let update = try await laboratory.update(.dumpable)
            let result = try await laboratory.run("test", update.commit, "--quiet", "--run", "echo '\(line)' > /dev/kmsg")
            #expect(result.status == Status.no, "\(result.said)")
            #expect(result.errorText.contains("warning: kernel log: "))
            #expect(result.errorText.contains(line))
            #expect(result.errorText.contains("fatal: the kernel log has warnings"))
        }
    }
}
