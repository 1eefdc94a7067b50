// Commands that end with each status of the table in git-ksplice(1), but 9, which only a kernel gives.

import Testing

@testable import Core

@Suite struct ExitStatusTests {
    @Test func eachStatusIsMet() async throws {
        let program = try await ProgramFixture()
        let fixture = program.fixture
        let (kernel, update, commits) = try await program.populate()
        let archive = program.state + "/a.tar.gz"
        try await program.output("export", "-o", archive, update.id)
        var met: Set<Int32> = [9]
        func expect(_ status: Core.ExitStatus, _ arguments: String..., in folder: String? = nil) async throws
        {
            let result = try await program.run(arguments, in: folder)
            #expect(result.status == status.rawValue, "\(arguments): \(result.errorText)")
            met.insert(result.status)
        }
        try await expect(.success, "list")
        try await expect(.no, "hook", "status")
        try await expect(.notFound, "show", "nowhere")
        // Its update is for another kernel than the running one.
        try await expect(.wrongKernel, "check", commits[0])
        try await expect(.cannotBePatched, "create", commits[1])
        try await expect(.noChange, "create", commits[2])
        try await expect(.fatal, "list", in: "/")
        try await expect(.usage, "list", "--nonsense")
        try await expect(.usage, "nonsense")
        try await expect(.usage, "list", "-h", in: "/")

        let lock = try #require(try BuildQueue(await fixture.repository).lock())
        try await expect(.busy, "hook", "run")
        lock.release()

        let other = try await fixture.storeUpdate(commits[3], for: kernel)
        try await fixture.git("notes", "--ref=ksplice/builds", "list")
        try await program.output("init")
        try fixture.write("n.c", "2\n")
        try await fixture.git("commit", "-q", "-a", "--amend", "-m", "new, and other")
        #expect(!other.id.isEmpty)
        try await expect(.stale, "show", "HEAD")

        try Files.write(Array(try Files.read(archive).dropLast(40)), to: archive)
        try await expect(.verificationRefused, "show", archive)
        try await expect(.no, "verify", archive)
        #expect(met == Set(Core.ExitStatus.allCases.map(\.rawValue)))
    }

    @Test func everyCommandHasAUsage() async throws {
        let program = try await ProgramFixture()
        for command in try CommandSource.all() {
            for words in [[command.name]] + command.subcommands.map({ [command.name, $0] }) {
                let result = try await program.run(words + ["-h"], in: "/")
                #expect(result.status == 129, "\(words)")
                #expect(
                    result.text.contains("git ksplice \(command.name)") || result.text.contains("USAGE"),
                    "\(words)")
                #expect(result.errorText == "", "\(words)")
            }
        }
    }

    @Test func whoStopsListeningEndsItQuietly() async throws {
        let program = try await ProgramFixture()
        _ = try await program.populate()
        let result = try await program.shell("{ \"$P\" explain; echo $? >&2; } | true")
        // The signal of a closed pipe, as git ends; or it was faster than the reader.
        #expect(["141\n", "0\n"].contains(result.errorText), "\(result.errorText)")
        let slow = try await program.shell("{ sleep 0.3; \"$P\" list; echo $? >&2; } | true")
        #expect(slow.errorText == "141\n", "\(slow.errorText)")
    }
}
