import Glibc
import Testing

@testable import Core

@Suite struct ExportTreeTests {
    private func modified(_ path: String) throws -> Int {
        var info = stat()
        guard stat(path, &info) == 0 else { throw Failure.system("look at", path, errno: errno) }
        return info.st_mtim.tv_sec * 1_000_000_000 + info.st_mtim.tv_nsec
    }

    @Test func folderFollowsTheTreeAndIsRepaired() async throws {
        let fixture = try await GitFixture()
        try await fixture.git("config", "core.autocrlf", "true")
        try await fixture.git("config", "filter.bad.smudge", "false")
        let one = try await fixture.commit("one", ["a.c": "a\n", "d/b.c": "b\n$Id$\n", "d/only": "1\n"])
        try symlinkOrFail("a.c", fixture.directory + "/link")
        let two = try await fixture.commit(
            "two",
            [
                "a.c": "a\n", "d/b.c": "b2\n", "d/only": nil, "e": "e\n",
                ".gitattributes": "* text eol=crlf ident\n",
            ])
        let before = try await fixture.userState()
        let repository = try await fixture.repository
        let place = try Files.temporaryDirectory()
        defer { try? Files.remove(place) }
        let (tree, index) = (place + "/tree", place + "/index")
        func export(_ commit: String) async throws {
            try await repository.exportTree(repository.tree(of: commit), to: tree, index: index)
        }
        try await export(one)
        #expect(try Files.readText(tree + "/d/b.c") == "b\n$Id$\n")
        let stamp = try modified(tree + "/a.c")
        try await export(two)
        #expect(try Files.readText(tree + "/d/b.c") == "b2\n")
        #expect(try Files.readText(tree + "/e") == "e\n")
        #expect(try Files.readText(tree + "/link") == "a\n")
        #expect(!Files.exists(tree + "/d/only"))
        #expect(try modified(tree + "/a.c") == stamp)
        // Damage: removed, altered, replaced by a folder, added; a lock and an index that were cut short.
        try Files.remove(tree + "/e")
        try Files.write("bad\n", to: tree + "/d/b.c")
        try Files.remove(tree + "/link")
        try Files.createDirectory(tree + "/link/x")
        try Files.write("", to: tree + "/extra.h")
        try Files.write("", to: index + ".lock")
        try await export(two)
        #expect(try Files.list(tree) == [".gitattributes", "a.c", "d", "e", "link"])
        #expect(try Files.readText(tree + "/d/b.c") == "b2\n")
        #expect(try Files.readText(tree + "/link") == "a\n")
        #expect(try modified(tree + "/a.c") == stamp)
        try Files.write(Array(try Files.read(index).prefix(50)), to: index)
        try await export(one)
        #expect(try Files.list(tree) == ["a.c", "d"])
        #expect(try Files.readText(tree + "/d/b.c") == "b\n$Id$\n")
        #expect(try await fixture.userState() == before)
    }

    @Test func worksForBareRepositoriesAndOnlyOnceAtATime() async throws {
        let fixture = try await GitFixture()
        let id = try await fixture.commit("one", ["a": "a\n"])
        try await fixture.git("clone", "-q", "--bare", ".", "bare.git")
        let bare = try await Repository(directory: fixture.directory + "/bare.git")
        let index = bare.stateDirectory + "/k/index"
        try await bare.exportTree(bare.tree(of: id), to: bare.stateDirectory + "/k/tree", index: index)
        #expect(try Files.readText(bare.stateDirectory + "/k/tree/a") == "a\n")
        let held = open(index + ".guard", O_RDWR)
        defer { close(held) }
        #expect(flock(held, LOCK_EX | LOCK_NB) == 0)
        let failure = await #expect(throws: Failure.self) {
            try await bare.exportTree(bare.tree(of: id), to: bare.stateDirectory + "/k/tree", index: index)
        }
        #expect(failure?.status == .busy)
    }

    private func symlinkOrFail(_ target: String, _ path: String) throws {
        guard symlink(target, path) == 0 else { throw Failure.system("create", path, errno: errno) }
    }
}
