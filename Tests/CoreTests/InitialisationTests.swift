import Testing

@testable import Core

@Suite struct InitialisationTests {
    @Test func setsOnceAndTakesBackExactly() async throws {
        let fixture = try await GitFixture()
        try await fixture.git("config", "notes.displayRef", "refs/notes/mine")
        let before = try Files.readText(fixture.directory + "/.git/config")
        let initialisation = Initialisation(try await fixture.repository)
        let steps = try await initialisation.run()
        #expect(steps.count == 6 && steps.allSatisfy(\.changed))
        #expect(
            try await fixture.git("config", "--get-all", "notes.displayRef")
                == "refs/notes/mine\nrefs/notes/ksplice/updates*")
        #expect(Files.isDirectory(fixture.directory + "/.git/ksplice"))
        let after = try Files.readText(fixture.directory + "/.git/config")
        #expect(try await initialisation.run().contains(where: \.changed) == false)
        #expect(try Files.readText(fixture.directory + "/.git/config") == after)
        _ = try await initialisation.undo()
        #expect(try Files.readText(fixture.directory + "/.git/config") == before)
        #expect(!Files.exists(fixture.directory + "/.git/ksplice"))
    }

    @Test func leavesWhatTheUserSet() async throws {
        let fixture = try await GitFixture()
        try await fixture.git("config", "notes.rewriteRef", "refs/notes/*")
        try await fixture.git("config", "log.excludeDecoration", "refs/ksplice/*")
        let initialisation = Initialisation(try await fixture.repository)
        let steps = try await initialisation.run()
        #expect(steps.contains { $0.text.hasPrefix("notes.rewriteMode left alone") && !$0.changed })
        _ = try await initialisation.undo()
        #expect(try await fixture.git("config", "log.excludeDecoration") == "refs/ksplice/*")
        #expect(try await fixture.git("config", "--get-all", "notes.rewriteRef") == "refs/notes/*")
    }

    @Test func undoKeepsUpdatesUnlessToldOtherwise() async throws {
        let fixture = try await GitFixture()
        let id = try await fixture.commit("fix", ["f": "1\n"])
        let repository = try await fixture.repository
        let initialisation = Initialisation(repository)
        _ = try await initialisation.run()
        try await UpdateStore(repository).store(GitFixture.update(commits: [id]))
        let kept = try await initialisation.undo()
        #expect(kept.contains { $0.text.hasPrefix("kept 3 refs") })
        #expect(try await UpdateStore(repository).list().count == 1)
        _ = try await initialisation.undo(everything: true)
        #expect(try await fixture.git("for-each-ref", "--format=%(refname)") == "refs/heads/main")
    }
}
