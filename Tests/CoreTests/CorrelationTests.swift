// Which object of pre is which of post, in the cases that kernels are full of: numbered statics that come, go and move,
// objects whose state does not matter, pieces of code without names.

import Testing

@testable import Core

@Suite struct CorrelationTests {
    /// Names of post spans with the pre spans that they are taken for, `-` for none; numbered names only.
    private func pairs(_ fixture: DiffFixture, _ prefix: String) throws -> [String] {
        let (pre, post) = try fixture.spans()
        let correlation = Correlation(pre: pre, post: post)
        return post.spans.indices.filter { post.spans[$0].name.hasPrefix(prefix) }.map { index in
            "\(post.spans[index].name)=\(correlation.preOfPost[index].map { pre.spans[$0].name } ?? "-")"
        }.sorted()
    }

    @Test func anotherRateLimitIsANewOne() async throws {
        func text(_ interval: Int, _ call: String) -> String {
            """
            extern int limit(void *); extern void say(const char *);
            void f(int x) { static struct { int a, b; } _rs = { \(interval), 10 }; if (limit(&_rs)) say("\(call)"); say("x"); }
            """
        }
        let other = try await DiffFixture(text(5, "old"), text(2, "new"))
        #expect(other.codes == [])
        #expect(try pairs(other, "_rs").allSatisfy { $0.hasSuffix("=-") })
        let same = try await DiffFixture(text(5, "old"), text(5, "new"))
        #expect(try pairs(same, "_rs").allSatisfy { !$0.hasSuffix("=-") })
    }

    @Test func aVariableWithAnotherInitialValueIsNot() async throws {
        func text(_ value: Int) -> String {
            "extern void say(int); void f(int x) { static int count = \(value); say(count += x); }"
        }
        #expect(try await DiffFixture(text(5), text(6)).codes == ["data-changed"])
    }

    /// What `_static_cpu_has` of arch/x86/include/asm/cpufeature.h expands to, as far as sections go.
    private static func has(_ bit: Int) -> String {
        """
        asm goto("1: jmp 6f\\n.section .altinstr_aux,\\"ax\\"\\n6: testb $\(bit),flags\\njnz %l[yes]\\njmp %l[no]\\n.previous\\n" : : : : yes, no);
        """
    }

    private static func user(_ name: String, _ bit: Int, _ more: String = "") -> String {
        "int \(name)(int x) { \(more) \(has(bit)) yes: return x + \(bit); no: say(x); return 0; }"
    }

    @Test func piecesWithoutNamesAreComparedOneByOne() async throws {
        let head = "extern char flags[]; extern void say(int);"
        let pre = [head, Self.user("a", 1), Self.user("b", 2), Self.user("c", 3)].joined(separator: "\n")
        let post = [
            head, Self.user("new", 7), Self.user("a", 1), Self.user("b", 2, "say(4);"), Self.user("c", 3),
        ]
        .joined(separator: "\n")
        let fixture = try await DiffFixture(pre, post)
        // The piece of `new` in front moves all others, and only b has changed.
        #expect(fixture.changed == ["b", "new"])
        let shipped = try #require(fixture.difference.shipment?.object)
        let auxiliary = try #require(shipped.section(named: TableSections.auxiliaryCode))
        // Two pieces of a test, a conditional jump and a jump, each with three references.
        #expect(shipped.sections[auxiliary].relocations.count == 6)
        // Jumps back lead into the new code, never into the old function's.
        let back = shipped.sections[auxiliary].relocations.filter {
            shipped.symbols[$0.symbol].name != "flags"
        }
        #expect(back.count == 4)
        for relocation in back {
            let target = shipped.symbols[relocation.symbol]
            #expect(target.isDefinedInSection, "\(target.name)")
            #expect(target.isDefinedInSection && shipped.sections[target.section].isExecutable)
        }
    }

    @Test func exitCodeOfAModuleIsAWarning() async throws {
        func text(_ value: Int, _ other: Int) -> String {
            """
            extern void say(int);
            __attribute__((section(".exit.text"))) void cleanup(void) { say(\(value)); }
            void f(void) { say(\(other)); }
            """
        }
        let fixture = try await DiffFixture(text(1, 1), text(2, 2), module: "m")
        #expect(fixture.difference.findings.map(\.code) == ["exit-changed"])
        #expect(fixture.codes == [])
        #expect(fixture.changed == ["f"])
        #expect(try await DiffFixture(text(1, 1), text(2, 2)).difference.findings.isEmpty)
    }

    @Test func namesThatEndInACounterAreTheSame() async throws {
        func text(_ counter: Int, _ value: Int) -> String {
            """
            asm(".pushsection .BTF_ids,\\"a\\"\\n.local ids\\nids:\\n.local __BTF_ID__struct__file__\(counter)\\n"
                "__BTF_ID__struct__file__\(counter): .zero 4\\n.popsection");
            extern const unsigned ids[]; extern void say(int);
            const struct ops { const unsigned *id; } ops = { ids };
            void f(void) { say(\(value)); }
            """
        }
        let fixture = try await DiffFixture(text(14981, 1), text(15032, 2))
        #expect(fixture.codes == [])
        #expect(fixture.changed == ["f"])
    }

    @Test("ids of one function in two sets are the same objects, whatever their counters")
    func equalIdsWithoutUsers() async throws {
        func text(_ counters: (Int, Int), _ value: Int) -> String {
            func id(_ set: String, _ counter: Int) -> String {
                "\\n.local \(set)\\n\(set): .local __BTF_ID__func__hook__\(counter)\\n__BTF_ID__func__hook__\(counter): .zero 4"
            }
            return """
                asm(".pushsection .BTF_ids,\\"a\\"\(id("one", counters.0))\(id("two", counters.1))\\n.popsection");
                extern const unsigned one[], two[]; extern void say(int);
                const struct ops { const unsigned *first, *second; } ops = { one, two };
                void f(void) { say(\(value)); }
                """
        }
        let fixture = try await DiffFixture(text((101, 102), 1), text((107, 109), 2))
        #expect(fixture.codes == [])
        #expect(fixture.changed == ["f"])
    }

    @Test func anAliasThatComesIsNoOtherFunction() async throws {
        func text(_ alias: String, _ value: Int) -> String {
            "extern void say(int); void handle(int x) { say(x); say(\(value)); } \(alias)"
        }
        let alias = "void before(int) __attribute__((alias(\"handle\")));"
        let same = try await DiffFixture(text("", 1), text(alias, 1))
        #expect(same.changed == [])
        let changed = try await DiffFixture(text(alias, 1), text("", 2))
        #expect(changed.replaced.count == 1 && changed.changed.count == 1)
    }

    @Test func aFunctionThatBecomesLocalIsTheSame() async throws {
        func text(_ storage: String, _ value: Int) -> String {
            """
            extern void say(int); \(storage) __attribute__((noinline)) void help(int x) { say(x); say(\(value)); }
            void f(int x) { help(x); help(x + 1); }
            """
        }
        let fixture = try await DiffFixture(text("", 1), text("static", 2))
        #expect(fixture.changed == fixture.replaced && fixture.replaced.contains("help"))
    }

    @Test("clones of one function that the compiler numbers anew")
    func renumberedClones() async throws {
        func text(_ more: String, _ value: Int) -> String {
            """
            extern void say(int);
            static __attribute__((noinline)) void cl(int x, int y) {
              say(x); if (y == 1) say(x * \(value)); else { say(x + y); say(x - y); } say(y);
            }
            void a(int x) { cl(x, 1); cl(x + 1, 1); }
            void b(int x) { cl(x, 2); cl(x + 1, 2); }
            \(more)
            """
        }
        let flags = ["-fipa-cp-clone", "--param=ipa-cp-eval-threshold=1"]
        let caller = "void z(int x) { cl(x, 9); cl(x + 4, 9); }"
        let fixture = try await DiffFixture(text("", 3), text(caller, 5), flags: flags)
        #expect(
            try pairs(fixture, "cl.constprop") == [
                "cl.constprop.0=-", "cl.constprop.1=cl.constprop.0", "cl.constprop.2=cl.constprop.1",
            ])
        // That for y == 1, which is the only one that the number is in, and the new one; cl itself has it, too.
        #expect(fixture.changed == ["cl", "cl.constprop.0", "cl.constprop.2", "z"])
        let first = try await DiffFixture(text(caller, 3), text("", 5), flags: flags)
        #expect(first.codes.isEmpty && first.changed == ["cl", "cl.constprop.1"])
    }

    @Test("the part of a function that the compiler did not inline")
    func partialInlining() async throws {
        func text(_ value: Int) -> String {
            """
            extern void say(int); extern void keep(int *);
            static void part(int x) {
              if (x) { static int q; say(q++); say(q); keep(&q); say(3); say(4); say(5); say(6); say(\(value)); }
            }
            void a(int x) { part(x); say(x); part(x + 1); }
            void b(int x) { part(x + 1); }
            """
        }
        let fixture = try await DiffFixture(text(7), text(8))
        #expect(fixture.codes.isEmpty)
        #expect(try pairs(fixture, "part.part") == ["part.part.0=part.part.0"])
        #expect(fixture.replaced.contains("part.part.0") && fixture.replaced == fixture.changed)
        #expect(!fixture.changed.contains("a") && !fixture.changed.contains("b"))
        let references = fixture.difference.shipment?.references.keys.sorted() ?? []
        #expect(references.contains { $0.hasPrefix("q.") })
    }

    @Test func weakFunctions() async throws {
        func text(_ attribute: String, _ value: Int) -> String {
            "extern void say(int); \(attribute) void f(int x) { say(x); say(\(value)); } void g(int x) { f(x); f(x + 1); }"
        }
        let weak = "__attribute__((weak))"
        #expect(try await DiffFixture(text(weak, 1), text(weak, 2)).changed == ["f"])
        #expect(try await DiffFixture(text(weak, 1), text("__attribute__((noinline))", 1)).difference.isEmpty)
    }

    @Test("constants without names, which code refers to by their place in a section of equals")
    func namelessConstants() async throws {
        func text(_ first: String, _ second: String, _ last: Int) -> String {
            """
            typedef int v4 __attribute__((vector_size(16))); extern void take(v4 *);
            \(first) void f(v4 *x) { *x ^= (v4){ 1, 2, 3, 4 }; take(x); } \(second)
            void g(v4 *x) { *x ^= (v4){ 5, 6, 7, \(last) }; take(x); }
            """
        }
        let more = "void e(v4 *x) { *x ^= (v4){ 0, 0, 9, 9 }; take(x); }"
        let before = try await DiffFixture(text("", "", 8), text(more, "", 8))
        #expect(before.postObject.section(named: ".rodata.cst16") != nil)
        #expect(before.changed == ["e"])
        #expect(try await DiffFixture(text("", "", 8), text("", more, 8)).changed == ["e"])
        #expect(try await DiffFixture(text("", "", 8), text("", "", 9)).changed == ["g"])
    }
}
