// The two ways to a repository's objects: whatever is written through one is read through the other, and both give everything the
// same name.

import Glibc
import Testing

@testable import Core

@Suite struct StoreTests {
    private static let person = ("a <a@b> 1 +0000", "a <a@b> 1 +0000")

    /// Two repositories with the same objects, one for each way.
    private static func twins(_ build: (GitFixture) async throws -> Void) async throws -> [GitFixture] {
        let fixture = try await GitFixture(store: .libgit2)
        try await build(fixture)
        let copy = try await GitFixture(store: .git)
        try await copy.git("fetch", "-q", fixture.directory, "refs/heads/*:refs/copies/*")
        return [fixture, copy]
    }

    /// What both give, which must be one.
    private static func same<Value: Equatable & Sendable>(
        _ twins: [GitFixture], _ body: (Repository) async throws -> Value
    ) async throws -> Value {
        let values = [try await body(twins[0].repository), try await body(twins[1].repository)]
        #expect(values[0] == values[1])
        return values[0]
    }

    @Test func theOneThatIsNamedIsUsed() async throws {
        let fixture = try await GitFixture()
        #expect(try await Repository(directory: fixture.directory, store: .git).store is ProgramStore)
        #expect(try await Repository(directory: fixture.directory, store: .libgit2).store is LibraryStore)
        // What libgit2 cannot serve, it is not made to.
        let other = try await GitFixture(format: .sha256)
        defer { withExtendedLifetime((fixture, other)) {} }
        #expect(try await Repository(directory: other.directory, store: .libgit2).store is ProgramStore)
    }

    @Test(arguments: [ObjectFormat.sha1, .sha256]) func namesAreGits(_ format: ObjectFormat) async throws {
        let fixture = try await GitFixture(format: format)
        for text in ["", "a\n", String(repeating: "x", count: 100_000)] {
            try fixture.write("f", text)
            let name = try await fixture.git("hash-object", "f")
            #expect(format.name(of: GitObject(kind: .blob, bytes: Array(text.utf8))) == name)
        }
        // An entry's name need not be UTF-8, and a folder is sorted as if a slash were behind it.
        let empty = try await fixture.git("hash-object", "-w", "--stdin", "-t", "tree")
        let blob = try await fixture.git("hash-object", "-w", "f")
        let entries = [
            "100644 blob \(blob)\ta.b", "40000 tree \(empty)\ta", "100755 blob \(blob)\ta-b",
            "120000 blob \(blob)\tb\u{e4}",
        ]
        let command = Command(
            ["git", "mktree"], directory: fixture.directory,
            input: Array((entries.joined(separator: "\n") + "\n").utf8) + Array("100644 blob \(blob)\t".utf8)
                + [0xff, 0xfe, 10])
        let tree = try await command.check().text.trimmed
        let repository = try await fixture.repository
        let bytes = try repository.object(tree, .tree, as: .stored)
        let read = try TreeObject(parsing: bytes, format: format)
        #expect(read.entries.count == 5 && read.entries.last?.name == [0xff, 0xfe])
        #expect(TreeObject(entries: read.entries.reversed()).bytes == bytes)
        for end in [1, 8, bytes.count - 1] {
            #expect(throws: Failure.self) {
                try TreeObject(parsing: Array(bytes[..<end]), format: format)
            }
        }
        // What is changed in it leaves all else as it is.
        let changed = try repository.updateTree(tree, with: ["a/new": [1], "a.b": nil], as: .stored)
        #expect(
            try await fixture.git("ls-tree", "-r", "--name-only", "-z", changed).split(separator: "\0").count
                == 4)
        #expect(try repository.updateTree(changed, with: ["a/new": nil], as: .stored) != tree)
        #expect(throws: Failure.self) { try repository.updateTree(tree, with: ["a": [1]], as: .stored) }
        #expect(throws: Failure.self) { try repository.updateTree(tree, with: ["a.b/c": [1]], as: .stored) }
        #expect(try await fixture.git("fsck", "--strict").contains("error") == false)
    }

    @Test func bothReadTheSame() async throws {
        let twins = try await Self.twins { fixture in
            _ = try await EveryDay.history(fixture)
            #expect(symlink("f", fixture.directory + "/link") == 0)
            try await fixture.commit(
                "  many files\nin a subject \n\nbody\n\nmore",
                ["d/e/f": "1\n", "big": GitFixture.lines(1...90_000)])
        }
        let tip = try await twins[0].git("rev-parse", "main")
        let commit = try await Self.same(twins) { try $0.commit(tip) }
        #expect(commit.subject == "many files in a subject")
        #expect(try await twins[0].git("log", "-1", "--format=%s", "main") == commit.subject)
        #expect(try await Self.same(twins) { try $0.signedCommit(tip).payload }.count > 100)
        let big = try await Self.same(twins) { try $0.blob("big", tree: commit.tree) }
        #expect(big == Array(GitFixture.lines(1...90_000).utf8))
        #expect(try await Self.same(twins) { try $0.blob("d/e", tree: commit.tree) } == nil)
        #expect(try await Self.same(twins) { try $0.blob("link", tree: commit.tree) } == Array("f".utf8))
        let nothing = String(repeating: "1", count: 40)
        #expect(try await Self.same(twins) { try $0.hasObject(nothing) } == false)
        #expect(try await Self.same(twins) { try $0.hasObject(tip) })
        for question: @Sendable (Repository) throws -> Void in [
            { _ = try $0.commit(nothing) }, { _ = try $0.commit(commit.tree) },
            { _ = try $0.files(tree: commit.tree) }, { _ = try $0.hasObject("main") },
            { _ = try $0.hasObject("1\ninfo 2") }, { _ = try $0.files(tree: nothing) },
        ] {
            _ = try await Self.same(twins) { repository in
                let failure = await TrustFixture.failure { try question(repository) }
                #expect(failure.status != .success)
                return [failure.message, failure.status.rawValue.description] + failure.hints
            }
        }
        let pre = try await twins[0].git("rev-parse", "main~3^{tree}")
        let files = try await Self.same(twins) { try $0.changedFiles(pre: pre, post: commit.tree) }
        let said = try await twins[0].git("diff-tree", "-r", "--no-renames", "--name-only", pre, commit.tree)
        #expect(files.map(\.path) == said.lines.map(String.init) && files.count == 6)
    }

    @Test func bothSeeWhatGitSeesBetweenFilesAndFolders() async throws {
        let twins = try await Self.twins { fixture in
            try await fixture.commit(
                "one", ["a": "1\n", "a.b": "1\n", "d/x": "1\n", "e/f/g": "1\n", "z": "1\n"])
            for path in ["a", "d", "e/f"] { try Files.remove(fixture.directory + "/" + path) }
            try await fixture.commit("two", ["a/c": "2\n", "a.b": "2\n", "e/h": "2\n"])
            try await fixture.commit("three", ["d": "3\n", "z": nil])
        }
        for (one, other) in [
            ("main~2", "main~1"), ("main~1", "main"), ("main~2", "main"), ("main", "main~2"),
        ] {
            let names = try await [one, other].asyncMap {
                try await twins[0].git("rev-parse", $0 + "^{tree}")
            }
            let found = try await Self.same(twins) { try $0.changedFiles(pre: names[0], post: names[1]) }
            let said = try await twins[0].git(
                "diff-tree", "-r", "--no-renames", "--name-status", names[0], names[1])
            let letters: [ChangedFile.Status: String] = [.added: "A", .deleted: "D", .modified: "M"]
            #expect(found.map { "\(letters[$0.status] ?? "")\t\($0.path)" } == said.lines.map(String.init))
        }
    }

    @Test func bothWriteTheSame() async throws {
        let twins = try await Self.twins { _ = try await EveryDay.history($0) }
        let files: [String: [UInt8]] = [
            "a": [1], "b/c/d": [], "b/e": [0, 255], "b.x": [2], "b-x": [2],
            "big": .init(repeating: 9, count: 3 << 20),
        ]
        let tree = try await Self.same(twins) { try $0.writeTree(files: files) }
        #expect(try await Self.same(twins) { try $0.files(tree: tree) } == files)
        _ = try await Self.same(twins) { repository in
            try repository.updateTree(tree, with: ["b/c/d": nil, "b/new": [3], "x/y": [4]], as: .stored)
        }
        #expect(
            try await Self.same(twins) { try $0.writeTree(files: [:]) }
                == "4b825dc642cb6eb9a060e54bf8d69288fbee4904")
        let commit = try await Self.same(twins) {
            try $0.writeCommit(tree: tree, message: "m", parents: [], identity: Self.person)
        }
        let lines = (0..<300).map {
            NoteLine(commit: sha256("\($0)").prefix(40).description, line: "line \($0)")
        }
        let tip = try await Self.same(twins) {
            try $0.notesCommit(after: commit, lines, message: "notes", identity: Self.person)
        }
        _ = try await Self.same(twins) {
            var less = lines[7]
            less.isRemoval = true
            return try $0.notesCommit(after: tip, [less], message: "less", identity: Self.person)
        }
        for twin in twins { #expect(try await twin.git("fsck", "--strict").contains("error") == false) }
        defer { withExtendedLifetime(twins) {} }
        // Both are read by the other.
        let first = try await Repository(directory: twins[0].directory, store: .git)
        #expect(try first.files(tree: tree) == files)
        let second = try await Repository(directory: twins[1].directory, store: .libgit2)
        #expect(try second.files(tree: tree) == files)
    }

    @Test func bothMergeTheSame() async throws {
        let twins = try await Self.twins { fixture in
            try await fixture.commit(
                "base", ["f.c": GitFixture.lines(1...30), "old.c": GitFixture.lines(50...90), "run": "1\n"])
            try await fixture.git("checkout", "-q", "-b", "kernel")
            try await fixture.commit(
                "kernel",
                [
                    "f.c": GitFixture.lines(1...30, [2: "ours"]), "old.c": nil,
                    "new.c": GitFixture.lines(50...90), "other": "o\n",
                ])
            try await fixture.git("checkout", "-q", "main")
            try await fixture.commit("touched", ["f.c": GitFixture.lines(1...30, [20: "theirs"])])
            try await fixture.commit(
                "moved", ["old.c": GitFixture.lines(50...90, [60: "fixed"]), "made": "m\n"])
            try await fixture.git("update-index", "--chmod=+x", "run")
            try await fixture.git("commit", "-q", "-m", "mode")
            try await fixture.git("checkout", "-q", "--", "run")
            try await fixture.commit(
                "clash", ["f.c": GitFixture.lines(1...30, [2: "mine", 20: "theirs"]), "other": "t\n"])
        }
        let pre = try await twins[0].git("rev-parse", "kernel^{tree}")
        var trees: Set<String> = []
        for revision in ["main~3", "main~2", "main~1", "main~4..main~1"] {
            let change = try await twins[0].repository.change(revision)
            trees.insert(try await Self.same(twins) { try $0.postTree(change, preTree: pre) })
            let whole = try await Self.same(twins) { try $0.mergeTrees(change, preTree: pre) }
            #expect(trees.contains(whole), "\(revision)")
        }
        #expect(trees.count == 4)
        let clash = try await twins[0].repository.change("main~4..main")
        let words = try await Self.same(twins) { repository in
            await TrustFixture.failure { try repository.postTree(clash, preTree: pre) }.message
        }
        #expect(
            words.contains("f.c: kernel's source: changed") && words.contains("other: kernel's source: added")
        )
    }

    @Test func bothStoreTheSame() async throws {
        let twins = try await Self.twins { _ = try await EveryDay.history($0) }
        let fix = try await twins[0].git("rev-parse", "main")
        // All but the second in which a commit was made, and what follows from it: names of commits.
        let kept = try await [0, 1].asyncMap { index in
            try await twins[index].register("one", source: fix, buildID: "ab12")
            try await UpdateStore(twins[index].repository).store(GitFixture.update(commits: [fix]))
            let refs = try await twins[index].git(
                "for-each-ref", "--format=%(refname)", "refs/ksplice", "refs/notes/ksplice"
            ).lines.map(String.init)
            return try await refs.asyncMap { ref in
                "\(ref)\n"
                    + (try await twins[index].git("log", "--format=%T%n%an %ae%n%cn %ce%n%B", ref))
            }
        }
        #expect(kept[0] == kept[1] && kept[0].count == 4)
    }

    @Test("an object whose content is not what its name says is refused")
    func damaged() async throws {
        for store in [StoreChoice.libgit2, .git] {
            let fixture = try await GitFixture(store: store)
            let commit = try await fixture.commit("one", ["f": "1\n", "g": "2\n"])
            let names = try await ["f", "g"].asyncMap { try await fixture.git("rev-parse", "main:" + $0) }
            let paths = names.map { "\(fixture.directory)/.git/objects/\($0.prefix(2))/\($0.dropFirst(2))" }
            try Files.remove(paths[0])
            try Files.write(Files.read(paths[1]), to: paths[0])
            let repository = try await fixture.repository
            let tree = try repository.tree(of: commit)
            #expect(throws: Failure.self) { try repository.blob("f", tree: tree) }
            #expect(try repository.blob("g", tree: tree) == Array("2\n".utf8))
        }
    }
}
