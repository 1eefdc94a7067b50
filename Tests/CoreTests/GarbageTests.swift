// git's garbage collection keeps everything that is stored, and takes what was pruned.

import Testing

@testable import Core

@Suite struct GarbageTests {
    @Test func everythingStoredOutlivesGit() async throws {
        let fixture = try await StorageFixture()
        let repository = try await fixture.repository
        try await fixture.git(
            "update-ref", ChannelMark.ref(of: fixture.ref(fixture.three)), fixture.ref(fixture.three))
        let before = try await repository.references(["refs/"])
        #expect(before.keys.contains { $0.hasPrefix("refs/ksplice-local/") })
        // The branch goes from which updates were made: notes hold no commit, and updates need none.
        try await fixture.git("checkout", "-q", "--detach", fixture.commits[0])
        try await fixture.git("branch", "-q", "-D", "main")
        try await fixture.git("reflog", "expire", "--all", "--expire=now")
        try await fixture.git("gc", "-q", "--prune=now", "--aggressive")
        #expect(try await !fixture.tries("cat-file", "-e", fixture.commits[2]))
        let again = try await fixture.repository
        #expect(
            try await again.references(["refs/"]) == before.filter { $0.key != "refs/heads/main" })
        #expect(try await fixture.problems() == [])
        let store = UpdateStore(again)
        for id in [fixture.one, fixture.two, fixture.three] {
            #expect(try await store.load(fixture.ref(id)).id == id)
        }
        let kernel = try await KernelRegistry(again).summary("kernel")
        #expect(try await KernelRegistry(again).descriptor(kernel).config.contains("CONFIG"))
        let policy = try #require(try await TrustChain(again).policy())
        let name = try #require(ChannelName(ref: StorageFixture.channel))
        let state = try #require(try await ChannelStore(again).state(name))
        try await policy.check(state, in: again)
        #expect(try await again.noteLines(UpdateStore.programNotes, commit: fixture.commits[1]).count == 1)
    }

    @Test func whatWasPrunedGoes() async throws {
        let fixture = try await StorageFixture()
        let repository = try await fixture.repository
        let commit = try await fixture.git("rev-parse", fixture.ref(fixture.three))
        let manifest = try await fixture.git("rev-parse", commit + ":manifest")
        let shared = try await fixture.git("rev-parse", commit + ":update.ko")
        var policy = PrunePolicy(expire: 0)
        policy.keep = 0
        let pruner = Pruner(repository, policy: policy)
        let plan = try await pruner.plan()
        #expect(plan.updates.map(\.update.id) == [fixture.three])
        try await pruner.run(plan)
        #expect(try await fixture.tries("cat-file", "-e", manifest))
        try await fixture.git("gc", "-q", "--prune=now")
        for object in [commit, manifest] { #expect(try await !fixture.tries("cat-file", "-e", object)) }
        // What another update has, too, stays.
        #expect(try await fixture.tries("cat-file", "-e", shared))
        #expect(try await fixture.problems() == [])
    }
}

extension StorageFixture {
    fileprivate func tries(_ arguments: String...) async throws -> Bool {
        try await Command(["git"] + arguments, directory: directory).run().succeeded
    }
}
