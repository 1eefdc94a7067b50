// Differencing: what counts as a change, which object of pre is which of post, what is shipped, what is remarked.

import Testing

@testable import Core

@Suite struct DiffTests {
    @Test func equalCodeIsNoChange() async throws {
        let text = "extern void g(const char *); static int n; int f(int x) { g(\"one\"); return n += x; }"
        let fixture = try await DiffFixture(text, text + "\n/* more */\n")
        #expect(fixture.difference.isEmpty)
        #expect(fixture.difference.findings.isEmpty)
    }

    @Test func aStringsContentCountsAndItsPlaceDoesNot() async throws {
        let text =
            "extern void g(const char *); void e(void) { %g(\"beta\"); } void f(void) { g(\"alpha\"); g(\"gamma\"); }"
        let other = try await DiffFixture(
            text.replacing("%", with: ""), text.replacing("%", with: "").replacing("gamma", with: "delta"))
        #expect(other.changed == ["f"])
        // A string before the others moves them all.
        let moved = try await DiffFixture(
            text.replacing("%", with: ""), text.replacing("%", with: "g(\"aaa\"); "))
        #expect(moved.changed == ["e"])
    }

    @Test("another member of a variable of another object")
    func theAddendOfAnExternalReferenceCounts() async throws {
        let text = "extern struct { int a, b; } e; int f(void) { return e.%; } int g(void) { return e.a; }"
        let fixture = try await DiffFixture(text.replacing("%", with: "a"), text.replacing("%", with: "b"))
        #expect(fixture.changed == ["f"])
    }

    @Test func aCalleeThatIsReplacedDoesNotChangeItsCaller() async throws {
        let text =
            "extern void g(int); __attribute__((noinline)) void e(int x) { g(x); g(%d); } void f(void) { e(1); e(2); e(3); }"
        let fixture = try await DiffFixture(text.replacing("%d", with: "5"), text.replacing("%d", with: "6"))
        #expect(fixture.changed == ["e"])
    }

    @Test func newCodeRefersToReplacedFunctionsFromOutside() async throws {
        let text =
            "extern void g(int); __attribute__((noinline)) void e(int x) { g(x); g(%d); } void f(void) { e(%d); e(2); e(3); }"
        let fixture = try await DiffFixture(text.replacing("%d", with: "5"), text.replacing("%d", with: "6"))
        #expect(fixture.replaced == ["e", "f"])
        let shipment = try #require(fixture.difference.shipment)
        #expect(shipment.references.keys.contains("e"))
        let shipped = shipment.object
        let calls = shipped.sections.flatMap(\.relocations).filter { shipped.symbols[$0.symbol].name == "e" }
        #expect(calls.count == 3 && calls.allSatisfy { shipped.symbols[$0.symbol].isUndefined })
    }

    @Test func newFunctionsAndDataAreShippedAndBoundInside() async throws {
        let fixture = try await DiffFixture(
            "extern void g(int); void f(int x) { g(x); g(1); }",
            """
            extern void g(int); static int count;
            __attribute__((noinline)) static void h(int x) { g(++count); g(x); g(2); }
            void f(int x) { g(x); h(x); h(x + 1); }
            """)
        #expect(fixture.changed == ["f", "h"])
        #expect(fixture.replaced == ["f"])
        let shipment = try #require(fixture.difference.shipment)
        #expect(shipment.references.keys.sorted() == ["g"])
        #expect(shipment.object.symbols.contains { $0.name == "count" && $0.isDefinedInSection })
    }

    @Test func aNewFunctionThatNothingCallsChangesNothing() async throws {
        let before = "void b(void); void a(void) { b(); }"
        let unused = try await DiffFixture(before, before + " int renamed(void) { return 1; }").difference
        #expect(!unused.isEmpty && !unused.changesKernel)
        let used = try await DiffFixture(before, "int c(void) { return 1; } void a(void) { c(); }").difference
        #expect(used.changesKernel)
    }

    @Test func aConstantThatNoCodeRefersToIsCopied() async throws {
        let text = """
            static const char __func__1[] = "f"; static const char __func__2[] = "g"; static const char tag[] = "t";
            struct entry { const char *name, *tag; };
            static struct entry entry __attribute__((used)) = { __func__1, tag };
            int g(int i) { return __func__2[i]; } void say(const char *); void act(void);

            """
        let difference = try await DiffFixture(
            text + "int f(int x) { act(); return x; }",
            text + "int f(int x) { say(__func__1); say(__func__2); say(tag); return x; }"
        ).difference
        let shipment = try #require(difference.shipment)
        #expect(shipment.references.keys.sorted() == ["__func__2", "say", "tag"])
        #expect(shipment.object.symbols.contains { $0.name == "__func__1" && $0.isDefinedInSection })
        #expect(difference.findings.filter { $0.severity != .note }.isEmpty, "\(difference.findings)")
    }

    /// What objtool cannot see of a callee that is not shipped.
    @Test func callsThatNeverReturnAreToldToObjtool() async throws {
        let others = """
            int counter;
            static __attribute__((noinline)) void stop(int x) { counter = x; __builtin_trap(); }
            static __attribute__((noinline)) void go_on(int x) { counter = x; }

            """
        let caller = "int f(int x) { go_on(x); if (x > 1) stop(x); return counter; }"
        let fixture = try await DiffFixture(others + caller, others + caller.replacing("> 1", with: "> 2"))
        let object = try #require(fixture.difference.shipment).object
        let table = try #require(object.section(named: ".discard.unreachable"))
        let entries = object.sections[table].relocations
        #expect(object.sections[table].contents.count == 4 && entries.count == 1)
        let code = object.sections[object.symbols[entries[0].symbol].section]
        let call = try #require(code.relocations.first { $0.offset == Int(entries[0].addend) - 4 })
        #expect(object.symbols[call.symbol].name == "stop")
    }

    @Test func whatMovesIsToldWithItsOldPlace() async throws {
        let body = "int f(void) { return 1; }"
        let user = "int f(void); int g(void) { return f(); }"
        let gone = try await DiffFixture(body + user, user).difference
        let new = try await DiffFixture("int h(void) { return 2; }", body + "int h(void) { return 2; }")
            .difference
        let none = KernelSymbols([])
        #expect(ExistingNames.findings([new], none).isEmpty)
        let moved = ExistingNames.findings([gone, new], none)
        #expect(moved.map(\.code) == ["exists-elsewhere"] && moved[0].symbol == "f" && moved[0].line == 1)
        for (kind, count) in [("T", 1), ("W", 1), ("t", 0)] {
            let symbols = KernelSymbols([
                KernelSymbol(address: 0x1000, kind: UInt8(ascii: kind.unicodeScalars.first!), name: "f")
            ])
            #expect(ExistingNames.findings([new], symbols).count == count, "\(kind)")
        }
    }

    @Test func existingDataIsReferredTo() async throws {
        let text = "extern void g(int); static int count; void f(int x) { count += x; g(count); g(%d); }"
        let fixture = try await DiffFixture(text.replacing("%d", with: "5"), text.replacing("%d", with: "6"))
        let shipment = try #require(fixture.difference.shipment)
        #expect(shipment.references.keys.sorted() == ["count", "g"])
        let pre = try #require(fixture.difference.preSymbols["count"])
        #expect(fixture.difference.preObject.symbols[pre].name == "count")
    }

    @Test func jumpsToTheColdPartGoBySection() async throws {
        let text = """
            extern void g(int); __attribute__((cold)) extern void bad(int);
            int f(int x) { if (__builtin_expect(x < 0, 0)) { bad(%d); bad(x); bad(2); return -1; } g(x); g(1); return 0; }
            """
        let fixture = try await DiffFixture(
            text.replacing("%d", with: "5"), text.replacing("%d", with: "6"),
            flags: ["-freorder-blocks-and-partition"])
        #expect(fixture.changed == ["f", "f.cold"])
        let part = try #require(fixture.difference.functions.first { $0.name == "f.cold" })
        #expect(part.partOf == "f")
        let shipped = try #require(fixture.difference.shipment?.object)
        let named = shipped.sections.flatMap(\.relocations).filter {
            shipped.symbols[$0.symbol].name.hasPrefix("f")
        }
        #expect(named.isEmpty)
    }

    @Test func numberedStaticsAreToldApartByTheirUsers() async throws {
        let text = """
            extern void g(int *); %
            void a(void) { static int n; g(&n); n++; } void b(void) { static int n; g(&n); n += 2; }
            """
        let fixture = try await DiffFixture(
            text.replacing("%", with: ""),
            text.replacing("%", with: "void z(void) { static int n; g(&n); n += 3; }"))
        #expect(fixture.changed == ["z"])
        #expect(fixture.codes.isEmpty)
    }

    @Test func equalStaticsOfOneFunctionAreToldApartByWhatFollows() async throws {
        func text(_ middle: String) -> String {
            """
            extern int lim(void *); extern void p(const char *);
            #define say(t) do { static struct { int a, b; } state = { 5, 10 }; if (lim(&state)) p(t); } while (0)
            void f(int x) { say("first"); \(middle) say("last"); say("end"); }
            """
        }
        let fixture = try await DiffFixture(text(""), text("say(\"middle\");"))
        #expect(fixture.codes.isEmpty)
        let (pre, post) = try fixture.spans()
        let correlation = Correlation(pre: pre, post: post)
        let states = post.spans.indices.filter { post.spans[$0].name.hasPrefix("state") }
        #expect(states.count == 4)
        #expect(states.filter { correlation.preOfPost[$0] != nil }.count == 3)
        #expect(correlation.ambiguous.isEmpty)
    }

    @Test func changedInitialValueIsAFinding() async throws {
        let text = "extern void g(int); static int count = %d; void f(int x) { count += x; g(count); }"
        let fixture = try await DiffFixture(text.replacing("%d", with: "5"), text.replacing("%d", with: "6"))
        #expect(fixture.codes == ["data-changed"])
    }

    @Test func changedConstantOfReplacedFunctionsIsCopied() async throws {
        let text = "static const int t[] = { 1, 2, %d, 4 }; int f(int x) { return t[x & 3]; }"
        let fixture = try await DiffFixture(text.replacing("%d", with: "5"), text.replacing("%d", with: "6"))
        #expect(fixture.codes.isEmpty)
        #expect(fixture.changed == ["f"])
        #expect(
            fixture.difference.shipment?.object.symbols.contains { $0.name == "t" && $0.isDefinedInSection }
                == true)
    }

    @Test func changedInitCodeIsAFinding() async throws {
        let text =
            "extern void g(int); __attribute__((section(\".init.text\"))) void f(int x) { g(x); g(%d); }"
        let fixture = try await DiffFixture(text.replacing("%d", with: "5"), text.replacing("%d", with: "6"))
        #expect(fixture.codes == ["init-changed"])
        #expect(fixture.difference.isEmpty)
    }

    @Test func unknownSectionsAreRefused() async throws {
        let text = "__attribute__((section(\"__unheard_of\"))) int x = 1;"
        let failure = await #expect(throws: Failure.self) { try await DiffFixture(text, text) }
        #expect(failure?.finding == "unknown-section")
    }

    @Test func aUnitThatCannotBeComparedIsAFinding() async throws {
        let head =
            "extern void g(int); __attribute__((section(\".init.text\"), noinline)) static int i(int x) { return x + 4; } "
            + "__attribute__((section(\".init.text\"))) void s(void) { g(i(1)); } "
        let failure = await #expect(throws: Failure.self) {
            try await DiffFixture(
                head + "void f(int x) { g(x); g(1); g(2); }", head + "void f(int x) { g(x); g(1); g(i(x)); }")
        }
        let finding = try #require(failure.flatMap { Finding($0, file: "u.c") })
        #expect(finding.code == "init-reference" && finding.severity == .error && !finding.canBeForced)
        // What says nothing about the change stays a failure.
        #expect(Finding(Failure("no space"), file: "u.c") == nil)
    }

    @Test func findingsAreInTheOrderOfFilesAndLines() {
        func finding(_ file: String, _ line: Int?) -> Finding {
            Finding("ambiguous", .error, file: file, line: line, "m", advice: "a")
        }
        let sorted = Finding.sorted([finding("b", 2), finding("a", 9), finding("b", nil), finding("a", 3)])
        #expect(sorted.map { "\($0.file)\($0.line ?? 0)" } == ["a3", "a9", "b0", "b2"])
    }

    @Test func functionsWithoutRoomForARedirect() async throws {
        let tiny = try await DiffFixture(
            "int f(void) { return 0; }", "extern int g(void); int f(void) { return g() + g(); }")
        #expect(tiny.codes == ["no-room"])
        let large = "extern void g(int); %void f(int x) { g(x); g(%d); }"
        let fits = try await DiffFixture(
            large.replacing("%d", with: "5").replacing("%", with: ""),
            large.replacing("%d", with: "6").replacing("%", with: ""))
        #expect(fits.codes.isEmpty)
    }

    @Test func entryCodeIsRefused() async throws {
        let text =
            "extern void g(int); __attribute__((section(\".entry.text\"))) void f(int x) { g(x); g(%d); }"
        let fixture = try await DiffFixture(text.replacing("%d", with: "5"), text.replacing("%d", with: "6"))
        #expect(fixture.codes == ["entry-code"])
    }

    @Test func aJumpLabelAtTheBeginningLeavesNoRoom() async throws {
        let text = """
            extern void g(int); extern long key;
            void f(int x) {
              asm goto("1: .byte 0x0f,0x1f,0x44,0,0\\n.pushsection __jump_table,\\"aw\\"\\n.balign 8\\n"
                ".long 1b - ., %l[yes] - .\\n.quad key - .\\n.popsection" :::: yes);
              g(%d); return;
            yes: g(x); g(3);
            }
            """
        let fixture = try await DiffFixture(text.replacing("%d", with: "5"), text.replacing("%d", with: "6"))
        // The site is in the first bytes: the kernel would find a redirect there and stop.
        #expect(fixture.codes == ["no-room"])
    }

    @Test func theOrderOfTablesDoesNotCount() async throws {
        func site(_ table: String, _ size: Int) -> String {
            "asm volatile(\"1: nop; nop\\n.pushsection \(table),\\\"a\\\"\\n.long 1b - .\\n.skip \(size - 4)\\n.popsection\");"
        }
        let both =
            "extern void g(int); % void f(int x) { g(x); \(site("__ex_table", 12)) \(site("__bug_table", 12)) g(1); }"
        let fixture = try await DiffFixture(
            both.replacing("%", with: "void e(int x) { g(x); g(2); }"),
            both.replacing("%", with: "void e(int x) { g(x); \(site("__bug_table", 12)) g(2); }"))
        #expect(fixture.changed == ["e"])
    }

    @Test func registrationTablesAreReviewed() async throws {
        let text =
            "static int f(void) { return 1; } __attribute__((section(\".initcall6.init\"), used)) static int (*p)(void) = f;"
        let fixture = try await DiffFixture("int z = 1;", "int z = 1; " + text)
        #expect(fixture.codes.contains("registration-changed"))
    }

    @Test func canonicalNames() {
        #expect(canonicalName("count.12") == "count.#")
        #expect(canonicalName("find.isra.0.cold") == canonicalName("find.isra.3.cold"))
        #expect(canonicalName("find.isra.0") != canonicalName("find.constprop.0"))
        #expect(canonicalName("__UNIQUE_ID_ddebug682.39") == canonicalName("__UNIQUE_ID_ddebug1.4"))
        #expect(canonicalName("plain2") == "plain2")
    }
}
