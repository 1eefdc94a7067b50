// Static variables of functions, whose names the compiler numbers: which one of pre is which of post. One that takes over
// the state of another by mistake is a wrong update that nothing notices, so what is not certain is a finding.

import Testing

@testable import Core

@Suite struct StaticLocalTests {
    private static let head = "extern void say(int); extern void keep(int *);\n"

    private func fixture(_ pre: String, _ post: String, flags: [String] = []) async throws -> DiffFixture {
        try await DiffFixture(Self.head + pre, Self.head + post, flags: flags)
    }

    /// Names of the kernel's own variables that the new code uses, without the compiler's numbers.
    private func kept(_ fixture: DiffFixture) -> [String] {
        (fixture.difference.shipment?.references.keys.map(canonicalName) ?? []).filter { $0.hasSuffix(".#") }
            .sorted()
    }

    /// Names of variables that the update brings.
    private func brought(_ fixture: DiffFixture) -> [String] {
        guard let object = fixture.difference.shipment?.object else { return [] }
        return object.symbols.filter {
            $0.isDefinedInSection && !$0.isSectionSymbol && !object.sections[$0.section].isExecutable
                && !$0.name.hasPrefix(".")
        }.map { canonicalName($0.name) }.sorted()
    }

    private func finding(_ fixture: DiffFixture) -> Finding? {
        fixture.difference.findings.first { $0.code == "ambiguous" }
    }

    @Test("two variables of different functions are not one because each is the only one of its name")
    func anotherFunctionsVariable() async throws {
        let fixture = try await fixture(
            "void a(int x) { static int n; say(n += x); }\nvoid b(int x) { say(x); say(x + 1); }",
            "void a(int x) { say(x); say(x + 2); }\nvoid b(int x) { static int n; say(n += x); say(x); }")
        #expect(fixture.codes == ["ambiguous"])
        #expect(kept(fixture).isEmpty && brought(fixture) == ["n.#"])
        let finding = try #require(self.finding(fixture))
        #expect(canonicalName(finding.symbol) == "n.#" && finding.line == 3, "\(finding)")
        #expect(finding.message.contains("a()") && finding.message.contains("b()"), "\(finding)")
        #expect(finding.advice.contains("another name"), "\(finding)")
    }

    @Test("the names alone would take one for the other")
    func namesAlone() async throws {
        let fixture = try await fixture(
            "void a(int x) { static int n; say(n += x); }\nvoid b(int x) { say(x); say(x + 1); }",
            "void a(int x) { say(x); say(x + 2); }\nvoid b(int x) { static int n; say(n += x); say(x); }")
        let (pre, post) = try fixture.spans()
        let names = post.spans.indices.filter { canonicalName(post.spans[$0].name) == "n.#" }
        #expect(names.count == 1)
        #expect(Correlation(pre: pre, post: post).preOfPost[names[0]] != nil)
    }

    @Test("also beside others of the name, and with another value")
    func anotherFunctionsVariableAmongOthers() async throws {
        func text(_ a: String, _ b: String, _ value: Int) -> String {
            """
            void a(int x) { \(a) say(x); say(x + 2); }
            void b(int x) { \(b) say(x); say(x + 1); }
            void c(int x) { static int n; say(n += x); say(\(value)); }
            """
        }
        for initial in ["", "= 7"] {
            let fixture = try await fixture(
                text("static int n; say(n += x);", "", 1),
                text("", "static int n \(initial); say(n += x);", 2))
            #expect(fixture.codes == ["ambiguous"])
            // c keeps its own.
            #expect(kept(fixture) == ["n.#"] && brought(fixture) == ["n.#"])
        }
    }

    @Test func aVariableThatIsOnlyAddedOrOnlyRemoved() async throws {
        let (with, without) = ("static int n; say(n += x);", "")
        func text(_ a: String, _ b: String) -> String {
            "void a(int x) { \(a) say(x); say(x + 2); }\nvoid b(int x) { \(b) say(x); say(x + 1); }"
        }
        let added = try await fixture(text(with, without), text(with, with))
        #expect(added.codes.isEmpty && added.changed == ["b"])
        #expect(kept(added).isEmpty && brought(added) == ["n.#"])
        let removed = try await fixture(text(with, with), text(with, without))
        #expect(removed.codes.isEmpty && removed.changed == ["b"])
        #expect(removed.difference.findings.map(\.code) == ["data-removed"])
    }

    @Test("a function that gets another name keeps its variable")
    func renamedFunction() async throws {
        func text(_ name: String, _ more: String = "") -> String {
            """
            static __attribute__((noinline)) void \(name)(int x) { static int n; if (x > 9) \(name)(x / 2 - n); say(n += x); \(more) }
            void f(int x) { \(name)(x); \(name)(x + 1); }
            """
        }
        let same = try await fixture(text("before"), text("after"))
        #expect(same.codes.isEmpty)
        #expect(kept(same) == ["n.#"] && brought(same).isEmpty)
        // With other code, too, it may be any function.
        let other = try await fixture(text("before"), text("after", "say(5);"))
        #expect(other.codes == ["ambiguous"])
        #expect(brought(other) == ["n.#"])
    }

    @Test("code that goes into a function of its own with its variable, and stays what it was")
    func sameCode() async throws {
        let body = "static int n; say(n += x); keep(&n);"
        let plain = "void f(int x) { say(x); \(body) }"
        func moved(_ value: String) -> String {
            "static inline void help(int x) { \(body) }\nvoid f(int x) { say(\(value)); help(x); }"
        }
        #expect(try await fixture(plain, moved("x")).difference.isEmpty)
        // Where f does something else as well, only its author knows.
        let changed = try await fixture(plain, moved("x + 3"))
        #expect(changed.codes == ["ambiguous"])
        let finding = try #require(self.finding(changed))
        #expect(finding.message.contains("f()") && finding.message.contains("help()"), "\(finding)")
    }

    @Test("a variable stays its function's, wherever the compiler puts that function's code")
    func inlinedCallee() async throws {
        func text(_ inlining: String, _ value: Int) -> String {
            """
            static \(inlining) void help(int x) { static int n; say(n += x); keep(&n); say(\(value)); }
            void f(int x) { help(x); say(1); }
            void g(int x) { help(x + 1); say(2); }
            """
        }
        let inline = "inline __attribute__((always_inline))"
        for (before, after) in [
            (inline, "__attribute__((noinline))"), ("__attribute__((noinline))", inline), (inline, inline),
        ] {
            let fixture = try await fixture(text(before, 5), text(after, 6))
            #expect(fixture.codes.isEmpty)
            #expect(kept(fixture) == ["n.#"] && brought(fixture).isEmpty)
        }
    }

    @Test("variables of callees that are inlined into one function are their callees'")
    func twoInlinedCallees() async throws {
        func text(_ first: String, _ second: String) -> String {
            """
            static inline void one(int x) { \(first) say(x); }
            static inline void two(int x) { \(second) say(x + 1); }
            void f(int x) { one(x); two(x); say(3); }
            """
        }
        let with = "static int n; say(n += x);"
        #expect(try await fixture(text(with, ""), text("", with)).codes == ["ambiguous"])
        let both = try await fixture(text(with, with), text(with + "say(4);", with))
        #expect(both.codes.isEmpty && kept(both) == ["n.#", "n.#"])
    }

    @Test("two of one name in one function, of which one goes")
    func nothingTells() async throws {
        let fixture = try await fixture(
            "void f(int x) { { static int n; keep(&n); } { static int n; keep(&n); } }",
            "void f(int x) { { static int n; say(x); keep(&n); } say(1); }")
        #expect(fixture.codes == ["ambiguous"])
    }

    @Test("a variable of the file that becomes one of a function, and the other way round")
    func fileScope() async throws {
        let file = "static int n;\nvoid f(int x) { say(n += x);"
        let local = "void f(int x) { static int n; say(n += x);"
        for (pre, post) in [(file, local), (local, file)] {
            #expect(try await fixture(pre + "}", post + "}").difference.isEmpty)
            let changed = try await fixture(pre + "}", post + "say(x); }")
            #expect(changed.codes == ["ambiguous"])
            #expect(finding(changed)?.message.contains("f()") == true)
        }
    }

    @Test("lock classes and debug messages of another function are new ones, without a word")
    func specials() async throws {
        for name in ["__key", "descriptor", "__already_done", "_rs"] {
            let object = "static struct { int a, b; } \(name); keep(&\(name).a);"
            let fixture = try await fixture(
                "void a(int x) { \(object) say(x); }\nvoid b(int x) { say(x); say(x + 1); }",
                "void a(int x) { say(x); say(x + 2); }\nvoid b(int x) { \(object) say(x); say(x + 1); }")
            #expect(fixture.difference.findings.isEmpty)
            #expect(kept(fixture).isEmpty && brought(fixture) == [name + ".#"])
        }
    }

    @Test func aConstantOfAnotherFunctionHasNoState() async throws {
        func text(_ a: String, _ b: String) -> String {
            "void a(int x) { \(a) say(x); say(x + 2); }\nvoid b(int x) { \(b) say(x); say(x + 1); }"
        }
        func table(_ last: Int) -> String { "static const int t[] = { 1, 5, 2, \(last) }; say(t[x & 3]);" }
        let same = try await fixture(text(table(9), ""), text("", table(9)))
        #expect(same.difference.findings.isEmpty && kept(same) == ["t.#"] && brought(same).isEmpty)
        let other = try await fixture(text(table(9), ""), text("", table(8)))
        #expect(other.codes.isEmpty && kept(other).isEmpty && brought(other) == ["t.#"])
    }
}
