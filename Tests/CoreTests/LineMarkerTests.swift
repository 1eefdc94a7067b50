// Line markers: `__LINE__` outside of the changed lines is what it was, and a marker never lands where it would break
// the code. The compiler itself is the judge.

import Testing

@testable import Core

@Suite struct LineMarkerTests {
    private func marked(_ post: String, _ hunks: [Hunk]) -> String {
        String(decoding: addLineMarkers(Array(post.utf8), hunks: hunks), as: UTF8.self)
    }

    @Test func insertionAtTheTop() {
        let hunk = Hunk(preStart: 1, preCount: 0, postStart: 1, postCount: 2)
        #expect(marked("x\ny\na\nb\n", [hunk]) == "x\ny\n#line 1\na\nb\n")
    }

    @Test func removalAndReplacement() {
        let removed = Hunk(preStart: 2, preCount: 1, postStart: 2, postCount: 0)
        #expect(marked("a\nc\n", [removed]) == "a\n#line 3\nc\n")
        let two = [removed, Hunk(preStart: 4, preCount: 1, postStart: 3, postCount: 2)]
        #expect(marked("a\nc\nD\nE\ne\n", two) == "a\n#line 3\nc\nD\nE\n#line 5\ne\n")
    }

    @Test func noChangeNoMarker() {
        #expect(marked("a\nb", []) == "a\nb")
    }

    @Test func unsafePlacesAreSkipped() {
        let hunk = Hunk(preStart: 1, preCount: 0, postStart: 1, postCount: 1)
        #expect(marked("f(1,\n2,\n3);\ng();\n", [hunk]) == "f(1,\n2,\n3);\n#line 3\ng();\n")
        #expect(marked("/* a\n b */\nc\n", [hunk]) == "/* a\n b */\n#line 2\nc\n")
        #expect(marked("#define A \\\n b \\\n c\nd\n", [hunk]) == "#define A \\\n b \\\n c\n#line 3\nd\n")
        #expect(marked("x = \"(\";\ny\n", [hunk]) == "x = \"(\";\n#line 1\ny\n")
    }

    @Test func linesFromGitLeadToEqualLines() async throws {
        let fixture = try await GitFixture()
        let pre = (1...30).map { "int a\($0) = __LINE__;\n" }.joined()
        var lines = (1...30).map { "int a\($0) = __LINE__;\n" }
        lines.insert("int z1;\n", at: 20)
        lines.insert("int z2;\n", at: 20)
        lines.remove(at: 10)
        lines.insert("int z3;\n", at: 0)
        let post = lines.joined()
        let repository = try await fixture.repository
        let hunks = try repository.hunks(pre: Array(pre.utf8), post: Array(post.utf8))
        let folder = try Files.temporaryDirectory()
        defer { do { try Files.remove(folder) } catch {} }
        try Files.write(addLineMarkers(Array(post.utf8), hunks: hunks), to: folder + "/u.c")
        let result = try await Command(["gcc", "-E", "-P", folder + "/u.c"]).check()
        for line in result.text.lines where line.hasPrefix("int a") {
            let parts = line.dropFirst(5).dropLast(1).split(separator: " ")
            #expect(parts.first == parts.last)
        }
    }
}
