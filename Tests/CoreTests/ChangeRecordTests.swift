// Why a function changed: the kinds of causes, on pairs of small units that the real compiler makes.

import Testing

@testable import Core

@Suite struct ChangeRecordTests {
    private func kinds(_ record: ChangeRecord?) -> [ChangeRecord.Reason.Kind]? { record?.reasons.map(\.kind) }

    @Test func edited() async throws {
        let text = """
            extern void g(int);

            void e(int x)
            {
                g(x);
                g(1);
            }

            void f(int x)
            {
                g(x);%
                g(2);
            }

            """
        let fixture = try await DiffFixture(
            text.replacing("%", with: ""), text.replacing("%", with: "\n    g(x + 7);"))
        let record = try #require(fixture.record("f"))
        #expect(fixture.difference.records.count == 1)
        #expect(kinds(record) == [.edited])
        #expect(record.reasons.first?.place == SourceLine(file: "u.c", line: 12))
        #expect(record.pre?.declared == SourceLine(file: "u.c", line: 9))
        #expect(record.pre?.place?.file == "u.c" && record.post?.place?.file == "u.c")
        let old = try #require(record.pre)
        #expect(old.instructions.contains { $0.offset == old.offset })
        #expect(record.post?.instructions.contains { $0.text.contains("# g") } == true)
    }

    @Test("a callee that is inlined, over two levels")
    func inlined() async throws {
        let text = """
            extern void g(int);
            static inline __attribute__((always_inline)) void deep(int x)
            {
                g(x + %);
            }
            static inline __attribute__((always_inline)) void middle(int x)
            {
                g(1);
                deep(x);
            }
            void f(int x)
            {
                middle(x);
                g(2);
            }
            void other(int x)
            {
                g(x);
                g(3);
            }

            """
        let fixture = try await DiffFixture(text.replacing("%", with: "5"), text.replacing("%", with: "6"))
        #expect(fixture.difference.records.map(\.function) == ["f"])
        let reason = try #require(fixture.record("f")?.reasons.first)
        #expect(fixture.record("f")?.reasons.count == 1)
        #expect(reason.kind == .inlined)
        #expect(reason.callees == ["middle", "deep"])
        #expect(reason.place == SourceLine(file: "u.c", line: 4))
        let post = try #require(fixture.record("f")?.post)
        #expect(post.place == SourceLine(file: "u.c", line: 4))
        #expect(post.inlined == ["middle (called at u.c:13)", "deep (called at u.c:9)"])
    }

    @Test func inlineFunctionOfAHeader() async throws {
        let header = "extern void g(int);\nstatic inline void h(int x)\n{\n    g(x + %);\n}\n"
        let text = "#include \"u.h\"\nvoid f(int x)\n{\n    h(x);\n    g(1);\n}\n"
        let fixture = try await DiffFixture(
            text, text,
            headers: ["u.h": (header.replacing("%", with: "5"), header.replacing("%", with: "6"))])
        let reason = try #require(fixture.record("f")?.reasons.first)
        #expect(reason.kind == .header && reason.callees == ["h"])
        #expect(reason.place == SourceLine(file: "u.h", line: 4))
    }

    @Test func macroOfAHeader() async throws {
        let header = "extern void g(int);\n#define BOTH(x) do { \\\n    g(x); \\\n    g(%); } while (0)\n"
        let text = "#include \"u.h\"\nvoid f(int x)\n{\n    BOTH(x);\n    g(1);\n}\n"
        let fixture = try await DiffFixture(
            text, text,
            headers: ["u.h": (header.replacing("%", with: "5"), header.replacing("%", with: "6"))])
        let reason = try #require(fixture.record("f")?.reasons.first)
        #expect(reason.kind == .macro && reason.text.contains("'BOTH'"))
        #expect(reason.place == SourceLine(file: "u.h", line: 4))
    }

    @Test("the compiler makes a clone, and its callers use it")
    func clone() async throws {
        let text = """
            extern void g(int);
            static __attribute__((noinline)) int h(int *p, int x)
            {
                int v = *p;
                g(v + x);
                g(v);
                return %;
            }
            int f(int *p)
            {
                return h(p, 1) + h(p, 2);
            }

            """
        let fixture = try await DiffFixture(
            text.replacing("%", with: "*p"), text.replacing("%", with: "0"), flags: ["-ftoplevel-reorder"])
        let clone = try #require(fixture.difference.records.first { $0.function.hasPrefix("h.") })
        #expect(clone.kind == .new && kinds(clone) == [.clone])
        #expect(fixture.record("h")?.kind == .removed)
        #expect(kinds(fixture.record("h")) == [.clone])
        let caller = try #require(fixture.record("f"))
        #expect(caller.kind == .changed)
        #expect(kinds(caller)?.contains(.edited) == false)
    }

    @Test func stringAndConstant() async throws {
        let text = """
            extern void g(const char *);
            static const char *const name = "%";
            static const int table[] = { 1, 2, %, 4 };
            void f(void)
            {
                g(name);
                g("x");
            }
            int h(int x)
            {
                return table[x & 3];
            }

            """
        let fixture = try await DiffFixture(text.replacing("%", with: "5"), text.replacing("%", with: "6"))
        let string = try #require(fixture.record("f")?.reasons.first)
        #expect(string.kind == .data && string.text == "the string \"5\" becomes \"6\"")
        let constant = try #require(fixture.record("h")?.reasons.first)
        #expect(constant.kind == .data && constant.text.contains("table"))
    }

    @Test func layout() async throws {
        let text = """
            struct s { int a; % int b; };
            int f(struct s *p)
            {
                return p->b;
            }

            """
        let fixture = try await DiffFixture(
            text.replacing("%", with: ""), text.replacing("%", with: "int n;"))
        let reason = try #require(fixture.record("f")?.reasons.first)
        #expect(reason.kind == .layout)
        #expect(reason.text == "'b' of 'struct s' moves from offset 4 to offset 8")
    }

    @Test func newAndRemoved() async throws {
        let fixture = try await DiffFixture(
            "extern void g(int);\nvoid old(void)\n{\n    g(1);\n    g(2);\n}\n",
            "extern void g(int);\nvoid fresh(void)\n{\n    g(3);\n    g(4);\n}\n")
        #expect(fixture.record("fresh")?.kind == .new)
        #expect(fixture.record("fresh")?.post?.declared == SourceLine(file: "u.c", line: 2))
        #expect(fixture.record("old")?.kind == .removed)
    }

    @Test("records are the same when they are read back, and say nothing of this machine")
    func stored() async throws {
        let text = "extern void g(const char *);\nvoid f(void)\n{\n    g(\"a\\n\\\"%\");\n    g(\"x\");\n}\n"
        let fixture = try await DiffFixture(text.replacing("%", with: "5"), text.replacing("%", with: "6"))
        let lines = fixture.difference.records.map { $0.json.text + "\n" }.joined()
        #expect(!lines.isEmpty && !lines.contains("/tmp"))
        #expect(try ChangeRecord.read(lines) == fixture.difference.records)
        let newer = lines.replacing("\"v\":1,", with: "\"v\":2,")
        #expect(newer != lines)
        #expect(throws: Failure.self) { try ChangeRecord.read(newer) }
        #expect(throws: Failure.self) { try ChangeRecord.read("{\"v\":1}") }
        #expect(throws: Failure.self) { try ChangeRecord.read("[") }
    }

    @Test func shownSideBySide() async throws {
        let text = "extern void g(int);\nvoid f(int x)\n{\n    g(x);\n    g(%);\n}\n"
        let (pre, post) = (text.replacing("%", with: "5"), text.replacing("%", with: "6"))
        let fixture = try await DiffFixture(pre, post)
        let record = try #require(fixture.record("f"))
        let lines = try record.description(
            pre: SourceText { $0 == "u.c" ? Array(pre.utf8) : nil },
            post: SourceText { $0 == "u.c" ? Array(post.utf8) : nil })
        #expect(lines.contains("    before u.c:5: g(5);"))
        #expect(lines.contains("    after  u.c:5: g(6);"))
        let row = try #require(lines.first { $0.hasPrefix("    > ") })
        #expect(row.contains("$0x5,%edi") && row.contains("$0x6,%edi") && row.contains(" | "))
    }

    @Test func jsonIsReadStrictly() throws {
        let text = "{\"a\":[1,-2,\"x\\u0001\\\\\"],\"b\":null,\"c\":true}"
        #expect(try JSON(parsing: " " + text + "\n").text == text)
        for bad in [
            "", "{", "{1:2}", "[1,]", "1 2", "\"a", "{\"a\" 1}", "tru", "1.5", "\"\u{1}\"", "\"\\x\"",
        ] {
            #expect(throws: Failure.self, "\(bad)") { try JSON(parsing: bad) }
        }
        let deep = String(repeating: "[", count: 100_000)
        #expect(throws: Failure.self) { try JSON(parsing: deep) }
    }

    @Test func whereAFunctionEnds() {
        let text = """
            int f(int x)
            {
                if (x) { /* } */
            #ifdef A
                if (x) {
            #endif
                    return '}';
                }
            }
            int g(void) { return "{"[0]; }
            MAKE(h);
            int i;
            """
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { String($0) }
        #expect(FunctionText.range(lines, from: 1) == 1...9)
        #expect(FunctionText.range(lines, from: 10) == 10...10)
        #expect(FunctionText.range(lines, from: 11) == 11...11)
        #expect(FunctionText.range(lines, from: 40) == nil)
        #expect(FunctionText.members(["p->a.b[3].c > d; e -> f"]) == ["a", "b", "c"])
    }
}
