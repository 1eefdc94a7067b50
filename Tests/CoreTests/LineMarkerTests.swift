// Line markers: `__LINE__` outside of the changed lines is what it was, and a marker never lands where it would break
// the code. The compiler itself is the judge.

import Testing

@testable import Core

@Suite struct LineMarkerTests {
    private func marked(_ post: String, _ hunks: [Hunk]) -> String {
        // Without the pragmas that go before the directives.
        String(decoding: addLineMarkers(Array(post.utf8), hunks: hunks), as: UTF8.self)
            .split(separator: "\n", omittingEmptySubsequences: false).filter { !$0.hasPrefix("#pragma") }
            .joined(separator: "\n")
    }

    @Test func insertionAtTheTop() {
        let hunk = Hunk(preStart: 1, preCount: 0, postStart: 1, postCount: 2)
        #expect(marked("x\ny\na\nb\n", [hunk]) == "x\ny\n#line 1\na\nb\n")
    }

    @Test func removalAndReplacement() {
        let removed = Hunk(preStart: 2, preCount: 1, postStart: 2, postCount: 0)
        #expect(marked("a\nc\n", [removed]) == "a\n#line 3\nc\n")
        let two = [removed, Hunk(preStart: 4, preCount: 1, postStart: 3, postCount: 2)]
        #expect(marked("a\nc\nD\nE\ne\n", two) == "a\n#line 3\nc\n#line 3\nD\nE\ne\n")
    }

    @Test("changed lines have their numbers in the post text, also where a marker has to wait")
    func changedLinesAreTrue() {
        let hunks = [
            Hunk(preStart: 1, preCount: 0, postStart: 1, postCount: 2),
            Hunk(preStart: 2, preCount: 0, postStart: 4, postCount: 2),
        ]
        #expect(marked("x\ny\na\nW\nW\nb\n", hunks) == "x\ny\n#line 1\na\n#line 4\nW\nW\n#line 2\nb\n")
        #expect(
            marked("x\ny\nf(\nW,\nW);\nb\n", hunks) == "x\ny\n#line 1\nf(\nW,\nW);\n#line 2\nb\n")
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

    @Test("a marker in a branch that the config leaves out is said again behind it")
    func branches() {
        let hunk = Hunk(preStart: 3, preCount: 0, postStart: 3, postCount: 1)
        #expect(
            marked("#ifdef A\na\nnew\nb\n#else\nc\n#endif\nd\n#if B\n#endif\ne\n", [hunk])
                == "#ifdef A\na\nnew\n#line 3\nb\n#else\n#line 5\nc\n#endif\n#line 7\nd\n#if B\n#endif\ne\n")
        // Of the outer one, too; a comment is no directive.
        #expect(
            marked("#if A\n# if B\nnew\n# endif\n/*\n#endif\n*/\n#endif\nd\n", [hunk])
                == "#if A\n# if B\nnew\n#line 3\n# endif\n#line 4\n/*\n#endif\n*/\n#endif\n#line 8\nd\n")
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

    @Test("what the compiler reads has true lines, and the code the old ones")
    func trueLines() async throws {
        let folder = try Files.temporaryDirectory()
        defer { do { try Files.remove(folder) } catch {} }
        let header = "int h1;\nint h2;\n#if 0\nint h3;\n#endif\nint h4 = __LINE__;\n"
        let changes = [Hunk(preStart: 2, preCount: 0, postStart: 2, postCount: 1)]
        try Files.write(addLineMarkers(Array(header.utf8), hunks: changes), to: folder + "/u.h")
        let text =
            "int a;\nint new;\n#include \"u.h\"\nint b = __LINE__;\n\n\n\n\n\n\n\n\n\n\nint c = __LINE__;\n"
        let hunks = [
            Hunk(preStart: 2, preCount: 0, postStart: 2, postCount: 1),
            Hunk(preStart: 9, preCount: 2, postStart: 10, postCount: 1),
        ]
        try Files.write(addLineMarkers(Array(text.utf8), hunks: hunks), to: folder + "/u.c")
        let result = try await Command(["gcc", "-E", "u.c"], directory: folder).check()
        let restored = String(decoding: withTrueLines(Array(result.text.utf8)), as: UTF8.self)
        #expect(!restored.contains("pragma"))
        var place = (file: "", line: 0)
        var found: [String: String] = [:]
        for line in restored.lines {
            if line.hasPrefix("# ") {
                let parts = line.split(separator: " ")
                place = (String(parts[2]), Int(parts[1])!)
                continue
            }
            if line.hasPrefix("int ") { found[String(line.dropFirst(4))] = "\(place.file):\(place.line)" }
            place.line += 1
        }
        #expect(found["a;"] == "\"u.c\":1" && found["new;"] == "\"u.c\":2")
        #expect(found["h2;"] == "\"u.h\":2" && found["h4 = 5;"] == "\"u.h\":6")
        #expect(found["b = 3;"] == "\"u.c\":4")
        #expect(found["c = 15;"] == "\"u.c\":15")
        // Text without marks of ours is left alone.
        #expect(withTrueLines(Array("# 5 \"x\"\nint a;\n".utf8)) == Array("# 5 \"x\"\nint a;\n".utf8))
    }
}
