// Objects that stand in the place of others (git-replace(1)): for commits that people name, what git shows counts; for updates,
// kernels and notes nothing does.

import Testing

@testable import Core

@Suite struct ReplacementTests {
    @Test func whatGitShowsOfACommitCounts() async throws {
        let fixture = try await GitFixture()
        let (source, fix) = try await EveryDay.history(fixture)
        try await fixture.git("checkout", "-q", "-b", "side", source)
        let better = try await fixture.commit(
            "a better fix", ["kernel/sys.c": GitFixture.lines(1...40, [30: "better"])])
        let plain = try await fixture.repository.commit(fix)
        try await fixture.git("replace", fix, better)
        let repository = try await fixture.repository
        #expect(try await fixture.git("log", "-1", "--format=%s", fix) == "a better fix")
        #expect(try repository.commit(fix).subject == "a better fix")
        #expect(try repository.commit(fix, as: .stored) == plain)
        #expect(try repository.signedCommit(fix).tree == plain.tree)
        let change = try await repository.change(fix)
        #expect(try change.changeTree == repository.tree(of: better))
        #expect(
            try repository.changedFiles(pre: change.baseTree, post: change.changeTree).map(\.path) == [
                "kernel/sys.c"
            ])
        // A file in the place of another, also where a kernel's source is written out.
        let (file, other) = ("fs/open.c", try await fixture.git("rev-parse", better + ":Makefile"))
        try await fixture.git("replace", fixture.git("rev-parse", better + ":" + file), other)
        let now = try await fixture.repository
        #expect(try now.blob(file, tree: change.changeTree) == Array("all:\n".utf8))
        #expect(try now.blob(file, tree: change.changeTree, as: .stored) == Array("open\n".utf8))
        let place = try Files.temporaryDirectory("ksplice-test")
        defer { try? Files.remove(place) }
        try await now.exportTree(change.changeTree, to: place + "/tree", index: place + "/index")
        #expect(try Files.readText(place + "/tree/" + file) == "all:\n")
        // Where git does not heed them, neither is it here.
        try await fixture.git("config", "core.useReplaceRefs", "false")
        #expect(try await fixture.repository.commit(fix).subject == "fix")
    }

    @Test func nothingStandsInThePlaceOfAnUpdate() async throws {
        let fixture = try await GitFixture()
        let (source, fix) = try await EveryDay.history(fixture)
        let kernel = try await fixture.register("one", source: source, buildID: "ab12")
        let stored = try await fixture.storeUpdate(fix, for: kernel)
        let before = try await UpdateStore(fixture.repository).load(stored.ref)
        // Another commit with other trailers, another module, another kernel, another note.
        let message = try await fixture.git("log", "-1", "--format=%B", stored.commit)
        try fixture.write("message", message.replacing("6.1.0-1", with: "6.1.0-99"))
        let tree = stored.commit + "^{tree}"
        let forged = try await fixture.git("commit-tree", "-F", "message", fixture.git("rev-parse", tree))
        try await fixture.git("replace", stored.commit, forged)
        try fixture.write("module", "evil\n")
        let module = try await fixture.git("hash-object", "-w", "module")
        try await fixture.git("replace", fixture.git("rev-parse", stored.commit + ":update.ko"), module)
        let kernelCommit = try await fixture.git("rev-parse", "refs/ksplice/kernels/x86_64/ab12")
        try await fixture.git("replace", kernelCommit, forged)
        let notes = try await fixture.git("rev-parse", UpdateStore.programNotes)
        try await fixture.git("replace", notes, forged)
        let repository = try await fixture.repository
        #expect(try repository.store is ProgramStore)
        let store = UpdateStore(repository)
        #expect(try await store.list() == [stored])
        let loaded = try await store.load(stored.ref)
        #expect(loaded.id == before.id && loaded.files == before.files)
        #expect(try await KernelStore(repository).list().map(\.subject) == ["kernel one"])
        #expect(try await KernelRegistry(repository).all().map(\.name) == ["one"])
        #expect(try await repository.noteLines(UpdateStore.programNotes, commit: fix).count == 1)
        #expect(try await store.manifest(stored).preTree == stored.preTree)
    }
}
