// Differences that are not code of the running kernel: each kind has its finding.

import Testing

@testable import Core

@Suite struct DataReviewTests {
    private static let head = "extern void say(int); extern void keep(void *);\n"

    private func fixture(_ pre: String, _ post: String, module: String? = nil) async throws -> DiffFixture {
        try await DiffFixture(Self.head + pre, Self.head + post, module: module)
    }

    private func found(_ fixture: DiffFixture) -> [String] {
        fixture.difference.findings.map { "\($0.severity.rawValue) \($0.code) \($0.symbol)" }.sorted()
    }

    @Test func perCPUVariables() async throws {
        func text(_ value: String) -> String {
            """
            __attribute__((section(".data..percpu"))) int counter\(value);
            void f(int x) { say(counter += x); }
            """
        }
        #expect(try await found(fixture(text(" = 1"), text(" = 2"))) == ["error percpu-changed counter"])
        #expect(
            try await found(fixture(text("[2]").replacing("counter +=", with: "*counter +="), text(" = 2")))
                == ["error percpu-changed counter"])
        #expect(try await found(fixture(text(" = 1"), text(" = 1") + "\nvoid g(int x) { say(x); }")).isEmpty)
    }

    @Test func aVariableThatIsGoneIsNoted() async throws {
        let fixture = try await fixture(
            "static int old; void f(int x) { say(old += x); say(x); }", "void f(int x) { say(x); say(x); }")
        #expect(found(fixture) == ["note data-removed old"])
        #expect(fixture.difference.findings.first?.line == 2)
        // A constant keeps no state.
        let constant = try await self.fixture(
            "static const int old[] = { 1, 2, 3 }; void f(int x) { say(old[x]); say(x); }",
            "void f(int x) { say(x); say(x); }")
        #expect(found(constant).isEmpty)
    }

    @Test("what runs or is read at boot or at load only: changed, and new")
    func initialisation() async throws {
        let initial = "__attribute__((section(\".init.text\"), noinline))"
        let data = "__attribute__((section(\".init.data\")))"
        let user = "void f(int x) { say(x); say(x + 1); }"
        #expect(
            try await found(fixture(user, user + "\n\(initial) void setup(int x) { say(x); }")) == [
                "error init-changed setup"
            ])
        func table(_ value: Int) -> String {
            "\(data) int limits[] = { 1, \(value) };\n\(initial) void setup(int x) { say(limits[x]); }"
        }
        #expect(try await found(fixture(table(2), table(2))).isEmpty)
        #expect(try await found(fixture(table(2), table(3))) == ["error init-changed limits"])
        let parts = ("\(initial) static void helper(int x) { say(x); say(3); }", "helper(x); helper(x + 1);")
        #expect(
            try await found(
                fixture(
                    "\(initial) void setup(int x) { say(x); }",
                    "\(parts.0)\n\(initial) void setup(int x) { \(parts.1) }"))
                == ["error init-changed helper", "error init-changed setup"])
    }

    /// As `module_param()` makes them (include/linux/moduleparam.h).
    @Test func parameters() async throws {
        func text(_ names: [String]) -> String {
            "struct parameter { const char *name; int *value; };\n"
                + names.map {
                    """
                    static int \($0); static const char name_\($0)[] = "\($0)";
                    __attribute__((section("__param"), used)) static const struct parameter __param_\($0) = { name_\($0), &\($0) };

                    """
                }.joined() + "void f(int x) { say(\(names.joined(separator: " + ")) + x); }"
        }
        for (pre, post) in [(["a"], ["a", "b"]), (["a", "b"], ["a"]), (["a"], ["b"])] {
            let fixture = try await fixture(text(pre), text(post), module: "m")
            #expect(fixture.codes.contains("registration-changed"))
            #expect(
                fixture.difference.findings.first { $0.code == "registration-changed" }?.message.contains(
                    "'__param'") == true)
        }
        #expect(try await fixture(text(["a"]), text(["a"]) + "\nvoid g(void) { say(1); }").codes.isEmpty)
    }

    @Test("new code that uses data without a name")
    func namelessReference() async throws {
        // What an alternative puts in refers to it.
        func text(_ value: Int) -> String {
            """
            asm(".pushsection .data\\n.balign 8\\n.Lthing: .quad 5\\n.popsection");
            void f(int x) {
              asm volatile("1: .skip 7, 0x90\\n.pushsection .altinstructions,\\"a\\"\\n.long 1b - .\\n.long 2f - .\\n.word 3\\n.byte 7, 7\\n"
                ".popsection\\n.pushsection .altinstr_replacement,\\"ax\\"\\n2: mov .Lthing(%%rip), %%rax\\n.popsection" ::: "rax");
              say(x); say(\(value));
            }
            """
        }
        let failure = await #expect(throws: Failure.self) { try await self.fixture(text(1), text(2)) }
        #expect(failure?.finding == "nameless-reference", "\(failure?.message ?? "")")
        let finding = try #require(failure.flatMap { Finding($0, file: "u.c") })
        #expect(!finding.canBeForced)
    }
}
