import Testing

@testable import Core

@Suite struct ChangeTests {
    @Test func commitsAndRangesBecomeChanges() async throws {
        let fixture = try await GitFixture()
        let root = try await fixture.commit("root", ["f": "1\n"])
        let second = try await fixture.commit("second", ["f": "2\n"])
        let third = try await fixture.commit("third", ["g": "3\n"])
        let repository = try await fixture.repository
        let one = try await repository.change("HEAD")
        #expect(one.commits == [third] && one.description == "third")
        #expect(
            try one.baseTree == repository.tree(of: second) && one.changeTree == repository.tree(of: third))
        #expect(try await repository.change("HEAD^!") == one)
        let range = try await repository.change("HEAD~2..")
        #expect(range.commits == [second, third])
        #expect(try range.baseTree == repository.tree(of: root))
        #expect(range.description == "third (and 1 before it)")
        for wrong in ["HEAD..HEAD", "HEAD...HEAD~1", "HEAD..HEAD~1", "nothing..HEAD", "HEAD~2"] {
            let failure = await #expect(throws: Failure.self) { try await repository.change(wrong) }
            if wrong == "HEAD~2" { #expect(failure?.message.contains("root commit") == true) }
        }
    }

    @Test func mergesAndMissingHistoryAreRefused() async throws {
        let fixture = try await GitFixture()
        try await fixture.commit("root", ["f": "1\n"])
        try await fixture.git("checkout", "-q", "-b", "side")
        try await fixture.commit("side", ["g": "2\n"])
        try await fixture.git("checkout", "-q", "main")
        try await fixture.commit("main", ["h": "2\n"])
        try await fixture.git("merge", "-q", "-m", "merged", "side")
        let repository = try await fixture.repository
        let failure = await #expect(throws: Failure.self) { try await repository.change("HEAD") }
        #expect(failure?.message.contains("is a merge commit") == true)
        let hint = try #require(failure?.hints.first?.split(separator: " ").last)
        let merged = try await repository.change(String(hint))
        #expect(
            try repository.changedFiles(pre: merged.baseTree, post: merged.changeTree) == [
                .init(path: "g", status: .added)
            ])
        try await fixture.git(
            "clone", "-q", "--depth=1", "-b", "side", "file://" + fixture.directory, "shallow")
        let shallow = try await Repository(directory: fixture.directory + "/shallow")
        let missing = await #expect(throws: Failure.self) { try await shallow.change("HEAD") }
        #expect(missing?.message.contains("shallow") == true)
    }

    @Test(arguments: ["a/", "linux-old/", ""]) func patchesApplyWithoutTouchingTheUser(prefix: String)
        async throws
    {
        let fixture = try await GitFixture()
        try await fixture.commit("root", ["kernel/f.c": GitFixture.lines(1...20), "other": "x\n"])
        try fixture.write("kernel/f.c", "dirty\n")
        let repository = try await fixture.repository
        let tree = try await repository.tree(of: repository.resolveCommit("HEAD"))
        let before = try await fixture.userState()
        let new = prefix == "linux-old/" ? "linux-new/" : prefix == "a/" ? "b/" : ""
        let patch = """
            From x
            Subject: [PATCH v2 1/2] fix line ten
             for good

            diff -ur \(prefix)kernel/f.c \(new)kernel/f.c
            --- \(prefix)kernel/f.c\t2020-01-01 00:00:00.000000000 +0000
            +++ \(new)kernel/f.c\t2020-01-02 00:00:00.000000000 +0000
            @@ -9,3 +9,3 @@
             line 9
            -line 10
            +line ten
             line 11

            """
        let change = try await repository.change(patch: Array(patch.utf8), name: "x/fix.patch", tree: tree)
        #expect(change.description == "fix line ten for good")
        #expect(change.baseTree == tree && change.commits.isEmpty)
        let after = try repository.blob("kernel/f.c", tree: change.changeTree)
        #expect(after == Array(GitFixture.lines(1...20, [10: "line ten"]).utf8))
        #expect(try await fixture.userState() == before)
        let wrong = patch.replacing("-line 10", with: "-line X")
        let failure = await #expect(throws: Failure.self) {
            try await repository.change(patch: Array(wrong.utf8), name: "fix.patch", tree: tree)
        }
        #expect(failure?.message.contains("patch does not apply") == true)
    }

    @Test func changesAreMergedOntoTheKernelsSource() async throws {
        let fixture = try await GitFixture()
        let base = try await fixture.commit(
            "base", ["f.c": GitFixture.lines(1...30), "old.c": GitFixture.lines(50...90)])
        try await fixture.git("checkout", "-q", "-b", "kernel")
        let kernel = try await fixture.commit(
            "kernel",
            ["f.c": GitFixture.lines(1...30, [2: "ours"]), "old.c": nil, "new.c": GitFixture.lines(50...90)])
        try await fixture.git("checkout", "-q", "main")
        let fix = try await fixture.commit(
            "fix",
            [
                "f.c": GitFixture.lines(1...30, [20: "theirs"]),
                "old.c": GitFixture.lines(50...90, [60: "fixed"]),
            ])
        let clash = try await fixture.commit(
            "clash", ["f.c": GitFixture.lines(1...30, [2: "mine", 20: "theirs"])])
        let repository = try await fixture.repository
        let before = try await fixture.userState()
        let pre = try repository.tree(of: kernel)
        let change = try await repository.change(fix)
        let post = try repository.postTree(change, preTree: pre)
        #expect(
            try repository.blob("f.c", tree: post)
                == Array(GitFixture.lines(1...30, [2: "ours", 20: "theirs"]).utf8))
        #expect(
            try repository.blob("new.c", tree: post) == Array(GitFixture.lines(50...90, [60: "fixed"]).utf8))
        #expect(try repository.blob("old.c", tree: post) == nil)
        #expect(
            try repository.postTree(change, preTree: repository.tree(of: base)) == repository.tree(of: fix))
        #expect(try repository.postTree(change, preTree: post) == post)
        let clashing = try await repository.change(clash)
        let failure = #expect(throws: Failure.self) { try repository.postTree(clashing, preTree: pre) }
        #expect(failure?.message.contains("f.c: kernel's source: changed") == true)
        #expect(failure?.message.contains("new.c") == false)
        #expect(try await fixture.userState() == before)
    }

    @Test func bothWaysToMergeAgree() async throws {
        let fixture = try await GitFixture()
        try await fixture.commit(
            "base",
            ["a": GitFixture.lines(1...30), "b": GitFixture.lines(1...9), "c": "c\n", "d": "x", "run": "1\n"])
        try await fixture.git("checkout", "-q", "-b", "kernel")
        let kernel = try await fixture.commit(
            "kernel", ["a": GitFixture.lines(1...30, [2: "o", 9: "both"]), "c": "k\n", "z": "z\n"])
        try await fixture.git("checkout", "-q", "main")
        let simple = try await fixture.commit(
            "simple",
            [
                "a": GitFixture.lines(1...30, [9: "both", 25: "t"]), "b": GitFixture.lines(1...9, [3: "t"]),
                "c": "k\n",
            ])
        let added = try await fixture.commit("added", ["new": "n\n"])
        try await fixture.git("update-index", "--chmod=+x", "run")
        try await fixture.git("commit", "-q", "-m", "mode")
        try await fixture.git("checkout", "-q", "--", "run")
        let clash = try await fixture.commit(
            "clash", ["a": GitFixture.lines(1...30, [2: "t", 9: "both", 25: "t"])])
        let repository = try await fixture.repository
        let pre = try repository.tree(of: kernel)
        let change = try await repository.change(simple)
        let merged = try #require(try repository.mergeFiles(change, preTree: pre))
        #expect(try merged == repository.mergeTrees(change, preTree: pre))
        #expect(
            try repository.blob("a", tree: merged)
                == Array(GitFixture.lines(1...30, [2: "o", 9: "both", 25: "t"]).utf8))
        for id in [added, clash, "HEAD~1"] {
            let change = try await repository.change(id)
            #expect(try repository.mergeFiles(change, preTree: pre) == nil)
        }
    }

    @Test func differencesAreExact() async throws {
        let fixture = try await GitFixture()
        let old = try await fixture.commit(
            "old", ["a": GitFixture.lines(1...9), "gone": "x\n", "same": "s\n"])
        let text = "first\n" + GitFixture.lines(1...9, [5: "five"]).replacing("line 8\n", with: "")
        let new = try await fixture.commit("new", ["a": text, "gone": nil, "made/up": "y\n"])
        let repository = try await fixture.repository
        let (pre, post) = try (repository.tree(of: old), repository.tree(of: new))
        #expect(
            try repository.changedFiles(pre: pre, post: post) == [
                .init(path: "a", status: .modified), .init(path: "gone", status: .deleted),
                .init(path: "made/up", status: .added),
            ])
        #expect(
            try repository.hunks("a", pre: pre, post: post) == [
                .init(preStart: 1, preCount: 0, postStart: 1, postCount: 1),
                .init(preStart: 5, preCount: 1, postStart: 6, postCount: 1),
                .init(preStart: 8, preCount: 1, postStart: 9, postCount: 0),
            ])
        #expect(
            try repository.hunks("made/up", pre: pre, post: post) == [
                .init(preStart: 1, preCount: 0, postStart: 1, postCount: 1)
            ])
        let patch = try await repository.patchText(pre: pre, post: post)
        for (key, value) in [
            ("diff.noprefix", "true"), ("diff.context", "9"), ("color.ui", "always"),
            ("diff.algorithm", "patience"),
            ("diff.external", "false"), ("diff.mnemonicPrefix", "true"), ("diff.interHunkContext", "20"),
        ] { try await fixture.git("config", key, value) }
        try fixture.write(".gitattributes", "* binary\n")
        #expect(try await repository.patchText(pre: pre, post: post) == patch)
        #expect(try await repository.change(patch: patch, name: "p", tree: pre).changeTree == post)
    }
}
