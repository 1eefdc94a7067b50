import Glibc
import Synchronization
import Testing

@testable import Core

@Suite struct QueueWorkerTests {
    /// A repository with a kernel, and its queue.
    private func prepared(_ kernels: String...) async throws -> (GitFixture, BuildQueue) {
        let fixture = try await GitFixture()
        let base = try await fixture.commit("base", ["f": GitFixture.lines(1...30), "g": "g\n"])
        for (index, name) in kernels.enumerated() {
            try await fixture.register(name, source: base, buildID: "ab\(index)0")
        }
        return (fixture, BuildQueue(try await fixture.repository))
    }

    @Test func eachCommitIsBuiltForEachKernel() async throws {
        let (fixture, queue) = try await prepared("one", "two")
        for subject in ["fix", "refused: a type", "nothing: a comment", "broken: a mistake"] {
            try queue.add(try await fixture.commit(subject, [subject: "1\n"]))
        }
        let builder = FakeBuilder(fixture)
        #expect(try await fixture.worker(builder).run() == .done)
        #expect(builder.calls.count == 8 && builder.calls[1] == "fix for two")
        let results = try await fixture.results()
        #expect(results["fix for one"]?.hasPrefix("update ") == true)
        #expect(results["refused: a type for two"] == "refused data-changed, type-layout")
        #expect(results["nothing: a comment for one"] == "nothing no code")
        #expect(results["broken: a mistake for one"] == "failed it does not compile")
        #expect(try queue.entries().isEmpty && queue.lastBuilding() == nil)
        #expect(try await UpdateStore(try await fixture.repository).list().count == 2)
    }

    @Test func onlyKernelsThatAreWantedAreBuiltFor() async throws {
        let (fixture, queue) = try await prepared("one", "two")
        try queue.add(try await fixture.commit("fix", ["g": "1\n"]))
        try await fixture.git("config", "ksplice.hook.kernel", "two")
        try await fixture.git("config", "ksplice.hook.delay", "7")
        try await fixture.git("config", "ksplice.hook.limit", "3")
        var options = try await QueueOptions(try await fixture.repository)
        #expect(options.delay == 7 && options.limit == 3 && options.waits)
        options.waits = false
        let builder = FakeBuilder(fixture)
        _ = try await fixture.worker(builder, options: options).run()
        #expect(builder.calls == ["fix for two"])
        try await fixture.git("config", "ksplice.hook.delay", "soon")
        let repository = try await fixture.repository
        await #expect(throws: Failure.self) { try await QueueOptions(repository) }
    }

    @Test func whatNothingNamesAnyMoreIsNotBuilt() async throws {
        let (fixture, queue) = try await prepared("one")
        try queue.add(try await fixture.commit("amended later", ["g": "1\n"]))
        try fixture.write("g", "2\n")
        try await fixture.git("commit", "-qa", "--amend", "-m", "fix")
        try queue.add(try await fixture.git("rev-parse", "HEAD"))
        try queue.add(String(repeating: "9", count: 40))
        try await fixture.git("checkout", "-q", "--detach")
        try queue.add(try await fixture.commit("on no branch", ["f": "x\n"]))
        let builder = FakeBuilder(fixture)
        #expect(try await fixture.worker(builder).run() == .done)
        #expect(builder.calls == ["fix for one", "on no branch for one"])
        // A stash keeps the commit that it was made on, and is no reason to build it.
        try queue.add(try await fixture.commit("stashed on", ["h": "3\n"]))
        try fixture.write("g", "4\n")
        try await fixture.git("stash", "-q")
        try await fixture.git("checkout", "-q", "main")
        #expect(try await fixture.worker(builder).run() == .done)
        #expect(try builder.calls.count == 2 && queue.entries().isEmpty)
    }

    @Test func aRebaseIsWaitedForAndNothingElse() async throws {
        let (fixture, queue) = try await prepared("one")
        try await fixture.git("checkout", "-q", "-b", "side")
        let old = try await fixture.commit("side", ["f": "s\n" + GitFixture.lines(1...30)])
        _ = try await fixture.commit("conflict", ["g": "s\n"])
        try await fixture.git("checkout", "-q", "main")
        let main = try await fixture.commit("main", ["g": "m\n"])
        try await fixture.git("checkout", "-q", "side")
        #expect(try await !fixture.tries("rebase", "-q", "main"))
        let new = try await fixture.git("rev-parse", "HEAD")
        for commit in [old, new, main] { try queue.add(commit) }
        let builder = FakeBuilder(fixture)
        let outcome = try await fixture.worker(builder).run()
        guard case .left(let left, "a rebase is in progress") = outcome else {
            Issue.record("\(outcome)")
            return
        }
        #expect(Set(left.map(\.name)) == [old, new])
        #expect(builder.calls == ["main for one"])
        let overview = try #require(try await QueueOverview(try await fixture.repository))
        #expect(overview.waiting.map(\.reason) == ["a rebase is in progress", "a rebase is in progress"])
        try await fixture.git("checkout", "-q", "--theirs", "g")
        try await fixture.git("add", "g")
        #expect(try await fixture.tries("rebase", "--continue", environment: ["GIT_EDITOR": "true"]))
        #expect(try await fixture.worker(builder).run() == .done)
        // The new one is there to stay, and nothing has the old one any more.
        #expect(builder.calls == ["main for one", "side for one"])
        #expect(try await fixture.results()["side for one"] != nil)
        #expect(try queue.results().last?.commit == new)
    }

    @Test func aWorkerWaitsUntilTheMergeIsOver() async throws {
        let (fixture, queue) = try await prepared("one")
        let fix = try await fixture.commit("fix", ["g": "1\n"])
        try queue.add(fix)
        let sign = fixture.directory + "/.git/MERGE_HEAD"
        try Files.write(fix + "\n", to: sign)
        var options = QueueOptions()
        (options.delay, options.pause) = (0.1, 0.02)
        let builder = FakeBuilder(fixture)
        let worker = try await fixture.worker(builder, options: options)
        let work = Task { try await worker.run() }
        try await Task.sleep(for: .milliseconds(300))
        #expect(builder.calls.isEmpty)
        try Files.remove(sign)
        #expect(try await work.value == .done)
        #expect(builder.calls == ["fix for one"])
        // Its patience has an end.
        try Files.write(fix + "\n", to: sign)
        try queue.add(fix)
        options.patience = 0.05
        guard case .left = try await fixture.worker(builder, options: options).run() else {
            Issue.record("it did not leave")
            return
        }
    }

    @Test func whatIsKnownIsNotBuiltAgain() async throws {
        let (fixture, queue) = try await prepared("one")
        let kernel = try await KernelRegistry(try await fixture.repository).summary("one")
        let fix = try await fixture.commit("fix", ["g": "1\n"])
        let update = try await fixture.storeUpdate(fix, for: kernel)
        try queue.add(fix)
        let builder = FakeBuilder(fixture)
        _ = try await fixture.worker(builder).run()
        #expect(try builder.calls.isEmpty && queue.results().isEmpty)
        try await fixture.git("commit", "-q", "--amend", "-m", "fix, with other words")
        try queue.add(try await fixture.git("rev-parse", "HEAD"))
        _ = try await fixture.worker(builder).run()
        #expect(builder.calls.isEmpty)
        #expect(try queue.results().map(\.update) == [update.id])
        for (message, name, count) in [
            ("refused", "fake 1", 1), ("refused, with other words", "fake 1", 1),
            ("refused, by another program", "fake 2", 2),
        ] {
            try fixture.write("g", "2\n")
            try await fixture.git("commit", "-qa", "--amend", "-m", message)
            try queue.add(try await fixture.git("rev-parse", "HEAD"))
            _ = try await fixture.worker(builder, name: name).run()
            #expect(builder.calls.count == count, "\(message)")
            #expect(try await fixture.results()["\(message) for one"] == "refused data-changed, type-layout")
        }
    }

    @Test func whatAMergeBringsIsBuiltIfItIsNotTooMuch() async throws {
        let (fixture, queue) = try await prepared("one")
        let base = try await fixture.git("rev-parse", "HEAD")
        try await fixture.git("checkout", "-q", "-b", "side")
        for n in 1...3 { try await fixture.commit("side \(n)", ["side\(n)": "1\n"]) }
        try await fixture.git("checkout", "-q", "main")
        try await fixture.commit("main", ["g": "1\n"])
        try await fixture.git("merge", "-q", "--no-ff", "-m", "merge", "side")
        let merge = try await fixture.git("rev-parse", "HEAD")
        let builder = FakeBuilder(fixture)
        try queue.add(merge)
        _ = try await fixture.worker(builder).run()
        #expect(Set(builder.calls) == ["side 1 for one", "side 2 for one", "side 3 for one"])
        try queue.add("\(base)..\(merge)")
        var options = QueueOptions()
        (options.waits, options.limit) = (false, 3)
        _ = try await fixture.worker(builder, options: options).run()
        #expect(try builder.calls.count == 3 && queue.entries().isEmpty)
        #expect(
            try await fixture.results()["merge for "]
                == "skipped it brought more than 3 commits (ksplice.hook.limit)")
        options.limit = 4
        try queue.add("\(base)..\(merge)")
        _ = try await fixture.worker(builder, options: options).run()
        #expect(builder.calls.last == "main for one")
    }

    @Test func oneWorkerIsEnough() async throws {
        let (fixture, queue) = try await prepared("one")
        try queue.add(try await fixture.commit("first", ["g": "1\n"]))
        let late = try await fixture.commit("late", ["f": "x\n" + GitFixture.lines(1...30)])
        let repository = try await fixture.repository
        let builder = FakeBuilder(fixture) { subject in
            let queue = BuildQueue(repository)
            #expect(try queue.isWorkedOn())
            #expect(try queue.building()?.kernel == "one")
            #expect(try queue.lock() == nil)
            let other = try await fixture.worker(FakeBuilder(fixture)).run()
            #expect(other == .occupied)
            if subject == "first" { try queue.add(late) }
        }
        #expect(try await fixture.worker(builder).run() == .done)
        #expect(builder.calls == ["first for one", "late for one"])
        #expect(try !queue.isWorkedOn())
    }

    @Test func aWorkerThatIsKilledLosesNothing() async throws {
        let (fixture, queue) = try await prepared("one")
        let store = UpdateStore(try await fixture.repository)
        var commits: [String] = []
        for subject in ["fix", "refused: it"] {
            commits.append(try await fixture.commit(subject, [subject: "1\n"]))
        }
        var isDone = false
        var step = 0
        while !isDone {
            try Files.remove(queue.folder.path)
            for update in try await store.list() { try await store.remove([update]) }
            for commit in commits { try queue.add(commit) }
            var mortal = queue
            let life = Countdown(step)
            mortal.folder.interruption = { _ in try life.tick() }
            let builder = FakeBuilder(fixture)
            do {
                _ = try await fixture.worker(builder, queue: mortal).run()
                isDone = true
            } catch is Countdown.Death {}
            #expect(try !queue.isWorkedOn())
            #expect(try await fixture.worker(builder).run() == .done)
            let results = try await fixture.results()
            #expect(results["refused: it for one"] == "refused data-changed, type-layout", "step \(step)")
            #expect(try await store.list().count == 1, "step \(step)")
            #expect(try queue.entries().isEmpty && queue.lastBuilding() == nil, "step \(step)")
            step += 1
        }
        #expect(step > 10)
    }

    @Test func whatKillsTheWorkerIsNotTriedForEver() async throws {
        let (fixture, queue) = try await prepared("one")
        let fix = try await fixture.commit("fix", ["g": "1\n"])
        try queue.add(fix)
        try queue.begin(.init(commit: fix, kernel: "one", tries: 3, since: 0))
        let builder = FakeBuilder(fixture)
        _ = try await fixture.worker(builder).run()
        #expect(builder.calls.isEmpty)
        let ended = "failed git-ksplice was ended 3 times while it built this"
        #expect(try await fixture.results()["fix for one"] == ended)
    }
}

/// Dies after so many ticks.
private final class Countdown: Sendable {
    struct Death: Error {}
    private let left: Mutex<Int>
    init(_ count: Int) { left = Mutex(count) }

    func tick() throws {
        let rest = left.withLock { left in
            left -= 1
            return left
        }
        if rest < 0 { throw Death() }
    }
}
