import Glibc
import Testing

@testable import Core

@Suite struct RepositoryTests {
    @Test func isFoundFromFoldersWorktreesAndBareRepositories() async throws {
        let fixture = try await GitFixture()
        let id = try await fixture.commit("one", ["a/b": "x\n"])
        let top = try Files.absolute(fixture.directory)
        let inside = try await Repository(directory: fixture.directory + "/a")
        #expect(inside.worktree == top)
        #expect(inside.commonDirectory == top + "/.git")
        #expect(inside.stateDirectory == top + "/.git/ksplice")
        try await fixture.git("worktree", "add", "-q", "--detach", "other")
        let other = try await Repository(directory: fixture.directory + "/other")
        #expect(other.commonDirectory == top + "/.git")
        #expect(other.gitDirectory == top + "/.git/worktrees/other")
        #expect(try await other.resolveCommit("HEAD") == id)
        try await fixture.git("clone", "-q", "--bare", ".", "bare.git")
        let bare = try await Repository(directory: fixture.directory + "/bare.git")
        #expect(bare.isBare && bare.worktree == nil)
        #expect(try await bare.tree(of: bare.resolveCommit("main")) == inside.tree(of: id))
        await #expect(throws: Failure.self) { try await Repository(directory: "/proc") }
    }

    @Test func pathsAreTakenAsGitTakesThem() async throws {
        let fixture = try await GitFixture()
        _ = try await fixture.commit("one", ["a/b": "x\n"])
        try await fixture.git("clone", "-q", "--bare", ".", "bare.git")
        let repository = try await Repository(directory: fixture.directory)
        let bare = try await Repository(directory: fixture.directory + "/bare.git")
        let top = try #require(repository.worktree)
        for (argument, folder) in [
            ("a/b", top), ("./a//b", top), ("b", top + "/a"), ("../a/b", top + "/a"), (top + "/a/b", "/"),
            (fixture.directory + "/a/../a/b", "/"), ("a/b", "/"), ("x/../a/b", "/"),
        ] {
            #expect(try repository.treePath(argument, from: folder) == "a/b", "\(argument) in \(folder)")
        }
        #expect(try repository.treePath("a/new", from: top) == "a/new")
        #expect(try bare.treePath("a/./b", from: top) == "a/b")
        for argument in ["/etc/passwd", "../x", "/", "/nowhere/b", top] {
            let failure = #expect(throws: Failure.self) { try repository.treePath(argument, from: top) }
            #expect(failure?.message.contains("is outside of the repository") == true)
        }
        #expect(throws: Failure.self) { try bare.treePath(top + "/a/b", from: top) }
    }

    @Test func opensWithWorktreeConfiguration() async throws {
        let fixture = try await GitFixture()
        let id = try await fixture.commit("one", ["a": "x\n"])
        try await fixture.git("config", "core.repositoryFormatVersion", "1")
        try await fixture.git("config", "extensions.worktreeConfig", "true")
        #expect(try await fixture.repository.commit(id).subject == "one")
    }

    @Test func resolvesNamesAndReadsCommits() async throws {
        let fixture = try await GitFixture()
        let first = try await fixture.commit("one", ["a": "x\n"])
        let second = try await fixture.commit("two", ["a": "y\n"])
        let repository = try await fixture.repository
        #expect(try await repository.resolveCommit("HEAD~1") == first)
        let failure = await #expect(throws: Failure.self) { try await repository.resolveCommit("--all") }
        #expect(failure?.message == "no such commit: '--all'")
        #expect(failure?.status == .notFound)
        let commit = try repository.commit(second)
        #expect(commit.parents == [first])
        #expect(commit.subject == "two")
        #expect(commit.author == "Ann Author <ann@example.org>")
        try await fixture.git("config", "core.abbrev", "9")
        #expect(try await repository.shortIDs([first, second])[first] == String(first.prefix(9)))
    }

    @Test func aPathIsAPathUnlessARemoteIsCalledSo() async throws {
        let fixture = try await GitFixture()
        let repository = try await fixture.repository
        let name = fixture.directory + "/../" + fixture.directory.lastPathComponent
        #expect(try await repository.place(ofRemote: name) == Files.absolute(fixture.directory))
        try await fixture.git("config", "remote.\(name).url", "elsewhere")
        #expect(try await repository.place(ofRemote: name) == name)
        #expect(try await repository.place(ofRemote: "origin") == "origin")
    }

    @Test func configurationIsReadAndWritten() async throws {
        let fixture = try await GitFixture()
        let repository = try await fixture.repository
        #expect(try await repository.config("ksplice.x") == nil)
        try await repository.setConfig("ksplice.x", "a b\nc")
        #expect(try await repository.config("ksplice.x") == "a b\nc")
        try await repository.addConfig("ksplice.x", "*")
        #expect(try await repository.configAll("ksplice.x") == ["a b\nc", "*"])
        #expect(try await repository.unsetConfig("ksplice.x", "*"))
        #expect(try await repository.unsetConfig("ksplice.x", "*") == false)
        #expect(try await repository.config("ksplice.x") == "a b\nc")
    }

    @Test func treesAreWrittenAndRead() async throws {
        let fixture = try await GitFixture(bare: true)
        let repository = try await fixture.repository
        let files: [String: [UInt8]] = [
            "a": [1], "b/c/d": [], "b/e": [0, 255], "b.x": [2], "big": .init(repeating: 9, count: 3 << 20),
        ]
        let tree = try repository.writeTree(files: files)
        #expect(try repository.files(tree: tree) == files)
        #expect(try repository.blob("b/e", tree: tree) == [0, 255])
        #expect(try repository.blob("b", tree: tree) == nil)
        #expect(try repository.blob("nothing/there", tree: tree) == nil)
        #expect(throws: Failure.self) { try repository.files(tree: tree, limit: 1 << 20) }
        for path in ["../x", "/x", "a//b", ".git/config", ""] {
            #expect(throws: Failure.self) { try repository.writeTree(files: [path: []]) }
        }
        #expect(throws: Failure.self) { try repository.writeTree(files: ["a": [], "a/b": []]) }
        let commit = try await repository.commitTree(tree, message: "subject\n\nbody")
        #expect(try repository.commit(commit).subject == "subject")
        #expect(try await fixture.git("fsck", "--strict") == "dangling commit \(commit)")
        #expect(try await fixture.git("ls-tree", "-r", "--name-only", commit).lines.count == 5)
    }
}
