// Layouts of types from debug information, the findings about their differences, and the lines that findings name.

import Testing

@testable import Core

@Suite struct TypeLayoutTests {
    /// The findings about types of a unit that begins with these texts; its function f uses `struct s`.
    private func findings(_ pre: String, _ post: String, use: String = "p->a") async throws -> [Finding] {
        let rest = """

            int f(struct s *p)
            {
                return \(use) + %d;
            }

            """
        let fixture = try await DiffFixture(
            pre + rest.replacing("%d", with: "1"), post + rest.replacing("%d", with: "2"))
        return fixture.difference.findings.filter { $0.code == "type-layout" }
    }

    private func messages(_ pre: String, _ post: String) async throws -> [String] {
        try await findings(pre, post).map(\.message)
    }

    @Test func anotherNameForAMember() async throws {
        let pre = "struct s { int a; struct s *p; };"
        let found = try await findings(
            pre, "struct s { int a; union { struct s *p; struct s *q; }; };", use: "p->a")
        #expect(found.map(\.message) == ["'struct s' changes: 'q' is another name for what 'p' is"])
        #expect(found.first?.severity == .note)
        // Of another size, or where the old member has gone, it is more than a name.
        for post in [
            "struct s { int a; union { struct s *p; char q; }; };",
            "struct s { int a; union { struct s *q; struct s *r; }; };",
        ] {
            #expect(try await findings(pre, post).contains { $0.severity == .error }, "\(post)")
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
        // Another name of the same integer.
        #expect(
            try await messages(
                "struct s { int a; unsigned int n; };",
                "typedef unsigned int u32; struct s { int a; u32 n; };") == [])
    }

    @Test func newMember() async throws {
        let found = try await findings("struct s { int a; };", "struct s {\nint a;\nint b;\n};")
        #expect(found.count == 1)
        #expect(found.first?.severity == .error)
        #expect(found.first?.symbol == "struct s")
        #expect(
            found.first?.message
                == "the layout of 'struct s' changes: new member 'b' at offset 4; size was 4 and is 8 bytes")
        // The member's own line.
        #expect(found.first?.file == "u.c" && found.first?.line == 3)
        #expect(found.first?.functions == ["f"])
    }

    @Test("a function that uses the changed member is named with it")
    func users() async throws {
        let found = try await findings(
            "struct s { int a; int b; };", "struct s { int b; int a; };", use: "p->a")
        #expect(found.first?.functions == ["f (a)"])
        #expect(found.first?.text.contains("\n    used by f (a)\n") == true)
    }

    /// The finding about `struct s` of a unit whose function f has one on its stack and gives it to g.
    private func stackFinding(
        _ more: String = "", body: String = "struct s o = { .a = 1 };", _ after: String = "return g(&o);",
        parameter: String = "struct s *p", replacesHolder: Bool = true
    ) async throws -> Finding? {
        func text(_ members: String, _ number: String) -> String {
            """
            struct s { \(members) };
            \(more)
            __attribute__((noinline)) int g(\(parameter))
            {
                return p->a + \(number);
            }

            int f(void)
            {
                \(body)
                \(after)
            }

            """
        }
        // A new member at the end does not change what fills nothing but the first.
        let (pre, post) =
            replacesHolder
            ? ("long a; long b;", "long c; long a; long b;") : ("int a; long b;", "int a; int c; long b;")
        let fixture = try await DiffFixture(text(pre, "1"), text(post, "2"))
        return fixture.difference.findings.first { $0.code == "type-layout" && $0.symbol == "struct s" }
    }

    @Test("a type whose objects live on replaced functions' stacks may change")
    func objectsOnStacks() async throws {
        let found = try #require(try await stackFinding())
        #expect(found.severity == .note)
        #expect(found.advice.contains("only while 'f' runs"))
        #expect(
            try await stackFinding(
                "typedef int (*fn)(struct s *p);", body: "fn h = g; struct s o = { 1 };",
                "return h(&o);")?.severity == .note)
    }

    @Test(
        "an object that may live elsewhere keeps its layout",
        arguments: [
            ("struct s x;", "struct s o = { .a = 1 };", "x = o; return g(&o);", "struct s *p"),
            ("", "static struct s o;", "return g(&o);", "struct s *p"),
            (
                "extern struct s *get(void);", "struct s o = { .a = 1 };", "return g(&o) + g(get());",
                "struct s *p"
            ),
            (
                "extern void *get(unsigned long);", "struct s o = { .a = 1 }, *q = get(4);",
                "return g(&o) + g(q);", "struct s *p"
            ),
            (
                "extern void *get(unsigned long);", "struct s o = { .a = 1 };",
                "return g(&o) + g(get(sizeof(struct s)));", "struct s *p"
            ),
            (
                "extern void *get(void);", "struct s o = { .a = 1 };", "return g(&o) + g((struct s *)get());",
                "struct s *p"
            ),
            (
                "extern int get(void *, unsigned long);", "struct s o = { .a = 1 };",
                "return get(&o, sizeof(o)) + g(&o);", "struct s *p"
            ),
            (
                "struct t { struct s *s; }; struct t *t;", "struct s o = { .a = 1 };",
                "t->s = &o; return g(&o);",
                "struct s *p"
            ),
            (
                "extern void put(struct s **);", "struct s o = { .a = 1 };", "return g(&o);",
                "struct s *p"
            ),
            ("", "struct s o[2] = { { .a = 1 } };", "return g(o);", "struct s *p"),
            (
                "#define ASK(x) ((struct s *)(x))", "struct s o = { .a = 1 };", "return g(&o);",
                "struct s *p"
            ),
        ])
    func objectsElsewhere(more: String, body: String, after: String, parameter: String) async throws {
        #expect(
            try await stackFinding(more, body: body, after, parameter: parameter)?.severity == .error,
            "\(more) \(body) \(after)")
    }

    @Test("a frame that the stack check would not look for keeps the layout")
    func objectsInKeptFrames() async throws {
        let found = try await stackFinding(
            "extern void fill(void *);", body: "struct s o; fill(&o);", replacesHolder: false)
        #expect(found?.severity == .error)
    }

    @Test func holes() async throws {
        let found = try await findings(
            "struct s { int a; char c; long l; };", "struct s { int a; char c; short n; long l; };")
        #expect(
            found.first?.message
                == "the layout of 'struct s' changes: new member 'n' at offset 6, which fits into a hole of 3 bytes"
        )
        #expect(found.first?.severity == .error)
        let bits = try await messages(
            "struct s { int a; unsigned x:3, y:2; };", "struct s { int a; unsigned x:3, y:2, z:1; };")
        #expect(bits.first?.contains("'z' at offset 4 bit 5, which fits into a hole of 27 bits") == true)
        let reused = try await messages(
            "struct s { int a; int gone; };", "struct s { int a; short x; short y; };")
        #expect(reused.first?.contains("new member 'x' at offset 4, where 'gone' was") == true)
        #expect(reused.first?.contains("member 'gone' at offset 4 is gone") == true)
    }

    @Test func movedMembers() async throws {
        let found = try await messages("struct s { int a; int b; };", "struct s { int b; int a; };")
        #expect(found.first?.contains("member 'a' moves from offset 0 to offset 4") == true)
        let many = try await messages(
            "struct s { int a, b, c, d, e; };", "struct s { int n, a, b, c, d, e; };")
        #expect(
            many.first?.contains("the 5 members from 'a' (offset 0) to 'e' (offset 16) move 4 bytes up")
                == true)
    }

    @Test func bitFieldsAndNestedTypes() async throws {
        let bits = try await messages(
            "struct s { int a; unsigned x:3, y:2; };", "struct s { int a; unsigned x:2, y:3; };")
        #expect(bits.first?.contains("member 'x' had 3 bits and has 2 bits") == true)
        let inner = "struct s { int a; struct { int x; %int y; } in; union { int k; int m; }; };"
        let nested = try await messages(inner.replacing("%", with: ""), inner.replacing("%", with: "int z; "))
        #expect(nested.count == 1)
        #expect(nested.first?.contains("new member 'in.z' at offset 8") == true)
        #expect(nested.first?.contains("member 'm' moves from offset 12 to offset 16") == true)
        let list = try await messages(
            "struct s { int a; int list[4]; };", "struct s { int a; int list[8]; };")
        #expect(list.first?.contains("'32-bit signed[4]' and is '32-bit signed[8]'") == true)
    }

    @Test("what contains a changed type is told with it")
    func containers() async throws {
        let text =
            "struct in { int x; % }; struct s { int a; struct in in; int b; }; struct t { struct s s[2]; }; struct t *t;"
        let found = try await findings(text.replacing("%", with: ""), text.replacing("%", with: "int y;"))
        #expect(found.map(\.symbol) == ["struct in"])
        #expect(found.first?.advice.contains("'struct s', 'struct t'") == true)
        #expect(found.first?.functions == ["f"])
    }

    @Test("a change of meaning is a warning")
    func meaning() async throws {
        let renamed = try await findings("struct s { int a; int b; };", "struct s { int a; int flags; };")
        #expect(renamed.map(\.severity) == [.warning])
        #expect(renamed.first?.message == "'struct s' changes: member 'b' is now called 'flags'")
        let sign = try await findings("struct s { int a; int b; };", "struct s { int a; unsigned b; };")
        #expect(sign.map(\.severity) == [.warning])
        let call = try await findings(
            "struct s { int a; int (*op)(int); };", "struct s { int a; int (*op)(int, long); };")
        #expect(call.map(\.severity) == [.warning])
        #expect(call.first?.message.contains("'op' pointed to a function") == true)
    }

    @Test("where no function changes, nothing depends on the type")
    func noUsers() async throws {
        let text = "struct s { int a; % }; int f(struct s *p) { return p->a; }"
        let fixture = try await DiffFixture(
            text.replacing("%", with: ""), text.replacing("%", with: "int b;"))
        #expect(fixture.difference.findings.map(\.severity) == [.note])
        // A function that has nothing to do with it.
        let other = text + "\nextern void g(int);\nvoid h(int x)\n{\n g(x);\n g(%d);\n}\n"
        let seen = try await DiffFixture(
            other.replacing("%d", with: "1").replacing("%", with: ""),
            other.replacing("%d", with: "2").replacing("%", with: "int b;"))
        #expect(seen.difference.findings.map(\.severity) == [.warning])
    }

    @Test("a type in the body of one function has no objects elsewhere")
    func localType() async throws {
        let text =
            "extern void g(void *);\nvoid f(void)\n{\n struct l { int a; % } l = { 1 };\n g(&l);\n g(0);\n}\n"
        let fixture = try await DiffFixture(
            text.replacing("%", with: ""), text.replacing("%", with: "int b;"))
        #expect(fixture.changed == ["f"] && fixture.difference.findings.isEmpty)
    }

    @Test func enumValues() async throws {
        let text = "enum e { A, B% }; struct s { int a; enum e k; };"
        #expect(try await messages(text.replacing("%", with: ""), text.replacing("%", with: ", C")) == [])
        let moved = try await findings(
            "enum e { A, B }; struct s { int a; enum e k; };",
            "enum e { A, X, B }; struct s { int a; enum e k; };")
        #expect(moved.map(\.severity) == [.error])
        #expect(moved.first?.message.contains("'B' was 1 and is 2") == true)
        // How many there are is nobody's state.
        let counted = try await findings(
            "enum e { A, B, __E_NUM, E_MAX = __E_NUM - 1 }; struct s { int a; enum e k; };",
            "enum e { A, B, C, __E_NUM, E_MAX = __E_NUM - 1 }; struct s { int a; enum e k; };")
        #expect(counted.map(\.severity) == [.note])
    }

    @Test("findings name the line of what they are about")
    func lines() async throws {
        let text = """
            extern void g(int);
            int other;
            static int count = %;

            void f(int x)
            {
                static int inner = %;
                count += x;
                g(count + inner++);
            }

            """
        let fixture = try await DiffFixture(text.replacing("%", with: "5"), text.replacing("%", with: "6"))
        let found = fixture.difference.findings.filter { $0.code == "data-changed" }
        #expect(found.map(\.line).sorted { $0 ?? 0 < $1 ?? 0 } == [3, 7])
        #expect(found.allSatisfy { $0.file == "u.c" })
    }
}
