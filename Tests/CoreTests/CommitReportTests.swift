import Testing

@testable import Core

@Suite struct CommitReportTests {
    /// Each answer as `KERNEL STATE REASON`, by subject.
    private func answers(_ fixture: GitFixture, _ arguments: String...) async throws -> [String: [String]] {
        let repository = try await fixture.repository
        let reporter = try await CommitReporter(repository)
        let reports = try await reporter.report(try await repository.revisions(arguments))
        return Dictionary(
            uniqueKeysWithValues: reports.map { report in
                (report.commit.subject, report.answers.map { "\($0.kernel) \($0.state.rawValue)" })
            })
    }

    @Test func eachCommitHasAnAnswerForEachKernel() async throws {
        let fixture = try await GitFixture()
        let base = try await fixture.commit("base", ["f": GitFixture.lines(1...30), "g": "g\n"])
        let one = try await fixture.register("one", source: base, buildID: "ab10")
        try await fixture.register("two", source: base, buildID: "ab20")
        let queue = BuildQueue(try await fixture.repository)
        let fix = try await fixture.commit("fix", ["g": "1\n"])
        try await fixture.storeUpdate(fix, for: one)
        for subject in ["refused", "nothing", "broken"] {
            try queue.add(try await fixture.commit(subject, [subject: "1\n"]))
        }
        _ = try await fixture.worker(FakeBuilder(fixture)).run()
        try queue.add(try await fixture.commit("waits", ["w": "1\n"]))
        try await fixture.commit("new", ["n": "1\n"])
        try await fixture.git("checkout", "-q", "-b", "side", base)
        try await fixture.commit("side", ["s": "1\n"])
        try await fixture.git("checkout", "-q", "main")
        try await fixture.git("merge", "-q", "-m", "merge", "side")
        let found = try await answers(fixture, "\(base)..HEAD")
        #expect(found["fix"] == ["one update", "two untried"])
        for (subject, state) in [
            ("refused", "refused"), ("nothing", "nothing"), ("broken", "failed"), ("waits", "waiting"),
            ("new", "untried"), ("side", "untried"), ("merge", "untried"),
        ] {
            #expect(found[subject] == ["one \(state)", "two \(state)"], "\(subject)")
        }
        let reporter = try await CommitReporter(try await fixture.repository, kernels: ["two"])
        let refused = try await reporter.report(
            try await fixture.repository.revisions(["--grep=refused", "HEAD"]))
        #expect(refused.map { $0.answers.map(\.words) } == [["refused: data-changed, type-layout"]])
        #expect(
            refused[0].json.text.hasSuffix(
                "\"state\":\"refused\",\"updates\":[],\"codes\":[\"data-changed\",\"type-layout\"],\"reason\":\"the type changes\"}]}"
            ))
        #expect(reporter.newCommits == ["HEAD", "--not", base])
        // A kernel of other source: what was found out before is not true of it.
        try await fixture.register(
            "two", source: try await fixture.git("rev-parse", "side"), buildID: "ab20")
        #expect(try await answers(fixture, "HEAD")["refused"] == ["one refused", "two untried"])
    }

    @Test func whatWasRewrittenIsComparedByTrees() async throws {
        let fixture = try await GitFixture()
        let base = try await fixture.commit("base", ["f": GitFixture.lines(1...30), "g": "g\n"])
        let kernel = try await fixture.register("one", source: base, buildID: "ab10")
        let repository = try await fixture.repository
        _ = try await Initialisation(repository).run()
        let fix = try await fixture.commit("fix", ["f": GitFixture.lines(1...30, [10: "fixed"])])
        let update = try await fixture.storeUpdate(fix, for: kernel)
        let store = UpdateStore(repository)
        // Rebased: the same change to the kernel's source, found through the note.
        try await fixture.git("checkout", "-q", "-b", "onto", base)
        try await fixture.commit("before", ["f": GitFixture.lines(1...30, [1: "other"])])
        try await fixture.git("checkout", "-q", "main")
        try await fixture.git("rebase", "-q", "onto")
        #expect(try await answers(fixture, "-1")["fix"] == ["one update"])
        #expect(try await store.find("HEAD", kernel: kernel.identity) == update)
        // Squashed with something: another change, whatever the note says.
        try fixture.write("g", "more\n")
        try await fixture.git("commit", "-qa", "--amend", "-m", "squashed")
        #expect(try await answers(fixture, "-1")["squashed"] == ["one stale"])
        let stale = await #expect(throws: Failure.self) { try await store.find("HEAD") }
        #expect(stale?.status == .stale)
        // Picked: no note, the same trees.
        try await fixture.git("checkout", "-q", "-b", "picked", "onto")
        try await fixture.git("cherry-pick", fix)
        #expect(try await store.find("HEAD", kernel: kernel.identity) == update)
        #expect(try await answers(fixture, "-1")["fix"] == ["one update"])
        // The same lines, and another tree of the kernel: the update was made for something else.
        try await store.remove([update])
        let forged = try await fixture.storeUpdate(fix, for: kernel, post: String(repeating: "7", count: 40))
        #expect(try await answers(fixture, "-1")["fix"] == ["one stale"])
        let similar = await #expect(throws: Failure.self) { try await store.find("HEAD") }
        #expect(similar?.status == .stale && similar?.message.contains(forged.id.prefix(12)) == true)
        // Other lines of the same file are no resemblance.
        try await fixture.commit("else", ["f": GitFixture.lines(1...30, [1: "other", 20: "else"])])
        #expect(try await answers(fixture, "-1")["else"] == ["one untried"])
        let none = await #expect(throws: Failure.self) { try await store.find("HEAD") }
        #expect(none?.status == .notFound)
    }

    @Test func refusalsFollowTheChangeAndNotTheCommit() async throws {
        let fixture = try await GitFixture()
        let base = try await fixture.commit("base", ["f": GitFixture.lines(1...30)])
        try await fixture.register("one", source: base, buildID: "ab10")
        let queue = BuildQueue(try await fixture.repository)
        try queue.add(
            try await fixture.commit("refused", ["f": GitFixture.lines(1...30, [10: "changed"])]))
        _ = try await fixture.worker(FakeBuilder(fixture)).run()
        try await fixture.git("commit", "-q", "--amend", "-m", "other words")
        #expect(try await answers(fixture, "-1")["other words"] == ["one refused"])
        // It is to be built again: until then the former refusal is no answer, and afterwards the queue leaves it last.
        try queue.add(try await fixture.git("rev-parse", "HEAD"))
        #expect(try await answers(fixture, "-1")["other words"] == ["one waiting"])
        _ = try await fixture.worker(FakeBuilder(fixture)).run()
        try fixture.write("f", GitFixture.lines(1...30, [10: "changed otherwise"]))
        try await fixture.git("commit", "-qa", "--amend", "-m", "other change")
        #expect(try await answers(fixture, "-1")["other change"] == ["one untried"])
    }

    @Test("a record whose update was removed is no answer, neither for its commit nor for one that waits")
    func recordsOfRemovedUpdates() async throws {
        let fixture = try await GitFixture()
        let base = try await fixture.commit("base", ["f": GitFixture.lines(1...30)])
        let kernel = try await fixture.register("one", source: base, buildID: "ab10")
        let queue = BuildQueue(try await fixture.repository)
        let fix = try await fixture.commit("fix", ["f": GitFixture.lines(1...30, [10: "fixed"])])
        try queue.add(fix)
        _ = try await fixture.worker(FakeBuilder(fixture)).run()
        #expect(try await answers(fixture, "-1")["fix"] == ["one update"])
        let store = UpdateStore(try await fixture.repository)
        try await store.remove(
            try await store.list(arch: kernel.identity.arch, buildID: kernel.identity.refName))
        #expect(try await answers(fixture, "-1")["fix"] == ["one untried"])
        try await fixture.git("commit", "-q", "--amend", "-m", "other words")
        try queue.add(try await fixture.git("rev-parse", "HEAD"))
        #expect(try await answers(fixture, "-1")["other words"] == ["one waiting"])
    }

    @Test func revisionsAreGitsOwn() async throws {
        let fixture = try await GitFixture()
        for n in 1...4 { try await fixture.commit("c\(n)", [n % 2 == 0 ? "even" : "odd": "\(n)\n"]) }
        let repository = try await fixture.repository
        func subjects(_ arguments: String..., input: String? = nil) async throws -> [String] {
            try await repository.revisions(arguments, input: input.map { Array($0.utf8) }).map(\.subject)
        }
        #expect(try await subjects("HEAD~2..") == ["c4", "c3"])
        #expect(try await subjects("-2", "--reverse", "main") == ["c3", "c4"])
        #expect(try await subjects("HEAD", "--", "odd") == ["c3", "c1"])
        #expect(try await subjects("-1", input: "HEAD~1\n") == ["c3"])
        #expect(try await subjects(input: "^HEAD~1\nHEAD\n") == ["c4"])
        #expect(try await subjects("HEAD..HEAD") == [])
        #expect(try await subjects("-1") == ["c4"])
        for arguments in [["--objects", "HEAD"], ["--graph", "HEAD"], ["--count", "HEAD"], ["--no-such"]] {
            let failure = await #expect(throws: Failure.self) { try await repository.revisions(arguments) }
            #expect(failure?.status == .usage, "\(arguments): \(failure?.message ?? "")")
        }
        let unknown = await #expect(throws: Failure.self) { try await repository.revisions(["nowhere"]) }
        #expect(unknown?.status == .notFound)
    }
}
