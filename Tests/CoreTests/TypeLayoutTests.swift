// Layouts of types from debug information, and the findings about their differences.

import Testing

@testable import Core

@Suite struct TypeLayoutTests {
    private func messages(_ pre: String, _ post: String) async throws -> [String] {
        let use = " int f(struct s *p) { return p->a; } extern void g(int); void h(int x) { g(x); g(%d); }"
        let fixture = try await DiffFixture(
            pre + use.replacing("%d", with: "1"), post + use.replacing("%d", with: "2"))
        return fixture.difference.findings.filter { $0.code == "type-layout" }.map {
            "\($0.symbol): \($0.message)"
        }
    }

    @Test func equalTypes() async throws {
        let text = "struct s { int a; union { long b; char c[8]; }; struct s *next; };"
        #expect(try await messages(text, text) == [])
        // A declaration that has become complete, or a new type, is nobody's old object.
        #expect(
            try await messages(
                "struct t; struct s { int a; struct t *p; };",
                "struct t { int x; }; struct s { int a; struct t *p; }; struct t *q;") == [])
    }

    @Test func newMember() async throws {
        let found = try await messages("struct s { int a; };", "struct s { int a; int b; };")
        #expect(found.count == 1)
        #expect(found.first?.contains("new member 'b' at offset 4") == true)
        #expect(found.first?.contains("size was 4 and is 8 bytes") == true)
    }

    @Test func movedMember() async throws {
        let found = try await messages("struct s { int a; int b; };", "struct s { int b; int a; };")
        #expect(found.first?.contains("member 'a' moves from offset 0 to offset 4") == true)
    }

    @Test func bitFieldsAndNestedTypes() async throws {
        #expect(
            try await messages(
                "struct s { int a; unsigned x:3, y:2; };", "struct s { int a; unsigned x:2, y:3; };"
            ).count == 1)
        let inner = "struct s { int a; struct { int x; %int y; } in; };"
        #expect(
            try await messages(inner.replacing("%", with: ""), inner.replacing("%", with: "int z; ")).count
                == 1)
    }

    @Test func enumValues() async throws {
        let text = "enum e { A, B% }; struct s { int a; enum e k; };"
        #expect(try await messages(text.replacing("%", with: ""), text.replacing("%", with: ", C")) == [])
        #expect(
            try await messages(
                "enum e { A, B }; struct s { int a; enum e k; };",
                "enum e { A, X, B }; struct s { int a; enum e k; };"
            ).count == 1)
    }
}
