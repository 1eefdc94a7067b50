// What `create` has refused by hand, as `git ksplice log` says it.

import Testing

@testable import Core

@Suite struct HandRecordTests {
    private static let refusal = Refusal(findings: [
        Finding("type-layout", .error, file: "f", "the type changes", advice: "none"),
        Finding("makefile", .warning, file: "f", "a remark", advice: "none"),
    ])

    @Test func logSaysWhatCreateHasRefused() async throws {
        let program = try await ProgramFixture()
        let (_, _, commits) = try await program.populate()
        #expect(try await program.run(["create", "HEAD~2"]).status == 6)
        #expect(try await program.run(["create", "HEAD~1"]).status == 8)
        let log = try await program.output("log")
        #expect(log.contains("an odd file\n    one  refused: unknown-file\n"), "\(log)")
        #expect(log.contains("words\n    one  nothing: the change touches no code of the kernel\n"), "\(log)")
        // Nothing was built in the background.
        #expect(!(try await program.output("status").contains("background")))
        // It follows the commit as far as its change stays the same.
        try await program.fixture.git("commit", "-q", "--amend", "-m", "other words")
        #expect(try await program.output("log").contains("refused: unknown-file"))
        #expect(commits.count == 4)
    }

    @Test func onlyWhatIsTrueOfTheCommitIsKept() async throws {
        let fixture = try await GitFixture()
        let base = try await fixture.commit("base", ["f": "0\n"])
        try await fixture.register("one", source: base, buildID: "ab12")
        let commit = try await fixture.commit("fix", ["f": "1\n"])
        let repository = try await fixture.repository
        var options = CreateOptions(kernelSources: SourceTree.root + "/kernel")
        let queue = BuildQueue(repository)
        func note(_ error: any Error, _ name: String) async throws -> [BuildRecord] {
            try await HandRecords(repository, options).note(error, of: name)
            return queue.exists ? try queue.results() : []
        }
        for error in [
            Failure("it does not compile"), Failure("in use", status: .busy),
        ] as [any Error] { #expect(try await note(error, "HEAD").isEmpty) }
        let limit = Finding("too-many-units", .error, file: "f", "many", advice: "none")
        #expect(try await note(Refusal(findings: [limit]), "HEAD").isEmpty)
        #expect(
            try await note(Refusal(findings: Self.refusal.findings, interruption: Failure("x")), "HEAD")
                .isEmpty)
        #expect(try await note(Self.refusal, "HEAD~1..HEAD").isEmpty)
        options.force = ["makefile"]
        #expect(try await note(Self.refusal, "HEAD").isEmpty)
        options.force = []
        let kept = try await note(Self.refusal, "HEAD^!")
        #expect(
            kept.count == 1 && kept[0].commit == commit && kept[0].codes == ["type-layout"]
                && kept[0].isByHand)
        #expect(BuildRecord(line: kept[0].json.text) == kept[0])
        // The background takes it for what it is, and what it finds out takes its place.
        try queue.add(commit)
        let builder = FakeBuilder(fixture)
        _ = try await fixture.worker(builder, name: kept[0].builder).run()
        #expect(builder.calls.isEmpty)
        #expect(try queue.results().map(\.isByHand) == [false])
        #expect(try queue.results().map(\.state) == [.refused])
    }

    @Test func twoWritersLoseNothing() async throws {
        let fixture = try await GitFixture()
        let base = try await fixture.commit("base", ["f": "0\n"])
        let kernel = try await fixture.register("one", source: base, buildID: "ab12")
        let queue = BuildQueue(try await fixture.repository)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for writer in 0..<4 {
                group.addTask {
                    for number in 0..<25 {
                        let name = String(repeating: "0", count: 36) + String(1000 + writer * 25 + number)
                        try queue.keep(
                            BuildRecord(commit: name, subject: "s", kernel: kernel, builder: "b", time: 1))
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(try queue.results().count == 100)
    }
}
