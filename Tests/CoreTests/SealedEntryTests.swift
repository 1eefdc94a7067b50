// Addresses of existing functions in new code, and the entries that a kernel with IBT has sealed.

import Testing

@testable import Core

@Suite struct SealedEntryTests {
    private let head = """
        extern void arm(void (*)(void)); extern void g(int); extern void far(void);
        struct ops { void (*f)(void); }; extern void use(const struct ops *);
        void old(void) { g(7); g(8); } static __attribute__((noinline)) void inner(int x) { g(x); g(9); }

        """

    private func taken(_ pre: String, _ post: String) async throws -> [String] {
        try await DiffFixture(head + pre, head + post).difference.newlyTaken
    }

    @Test func addressesThatTheOldCodeDidNotTake() async throws {
        let before = "void f(int x) { g(1); g(2); inner(x); inner(x + 1); old(); }"
        #expect(try await taken(before, before.replacing("old();", with: "arm(old);")) == ["old"])
        #expect(try await taken(before, before.replacing("old();", with: "arm(far);")) == ["far"])
        #expect(
            try await taken(
                before,
                "static const struct ops o = { old };\n" + before.replacing("old();", with: "use(&o);"))
                == ["old"])
        // A replaced function, too: its address is that of the old entry.
        let replaced = try await DiffFixture(
            head + before,
            head.replacing("g(8)", with: "g(6)") + before.replacing("old();", with: "arm(old);"))
        #expect(replaced.replaced == ["f", "old"] && replaced.difference.newlyTaken == ["old"])
    }

    @Test func callsAndNewFunctionsAndWhatWasTakenBefore() async throws {
        let before = "void f(int x) { g(1); inner(x); inner(x + 1); }"
        #expect(try await taken(before, before.replacing("g(1)", with: "old(); far(); g(2)")).isEmpty)
        #expect(
            try await taken(
                before,
                "static void late(void) { g(5); g(4); }\n" + before.replacing("g(1)", with: "arm(late)")
            ).isEmpty)
        let armed = "void f(int x) { arm(old); arm(far); g(1); }"
        #expect(try await taken(armed, armed.replacing("g(1)", with: "g(2)")).isEmpty)
    }

    private final class Memory: KernelMemory {
        func read(at address: UInt64, count: Int) throws -> [UInt8] {
            Array((address % 2 == 0 ? SealedEntries.endbr : [0x55, 0x48, 0x89, 0xe5]).prefix(count))
        }
    }

    @Test func tablesOfImages() throws {
        let start: UInt64 = 0xffff_ffff_8100_0100
        let table: [UInt8] = [0xf0, 0xff, 0xff, 0xff, 0x10, 0, 0, 0, 1]
        let places = SealedEntries.addresses(table, at: start)
        #expect(places == [start - 16, start + 20])
        #expect(SealedEntries.addresses([1, 2], at: start).isEmpty)
        let sealed = SealedEntries(places)
        func isSealed(_ address: UInt64) throws -> Bool {
            try sealed.isSealed(ResolvedSymbol(address: address, module: nil), "f", memory: Memory())
        }
        #expect(try isSealed(start - 16) && isSealed(start + 20))
        #expect(try !isSealed(start - 14))
        // Without an endbr64.
        #expect(try isSealed(start - 15))
        // A kernel that seals nothing.
        #expect(
            try !SealedEntries().isSealed(ResolvedSymbol(address: 1, module: nil), "f", memory: Memory()))
    }

    @Test func tablesOfModules() async throws {
        let folder = try Files.temporaryDirectory()
        defer { do { try Files.remove(folder) } catch { Issue.record("\(error)") } }
        try Files.write(
            """
            int a(int x) { return x + 1; } int b(int x) { return x + 2; } int c(int x) { return x + 3; }
            asm(".pushsection .ibt_endbr_seal,\\"a\\"\\n.long b - .\\n.long c - .\\n.popsection\\n");
            """, to: folder + "/m.c")
        try await Command(["gcc", "-O2", "-c", "-o", folder + "/m.o", folder + "/m.c"]).check()
        var sealed = SealedEntries([])
        sealed.add(try ObjectFile(path: folder + "/m.o"), named: "m")
        for (name, module, isSealed) in [
            ("a", "m", false), ("b", "m", true), ("c", "m", true), ("b", "other", false),
        ] {
            let symbol = ResolvedSymbol(address: 2, module: module)
            #expect(try sealed.isSealed(symbol, name, memory: Memory()) == isSealed, "\(name) of \(module)")
        }
        let finding = SealedEntries.finding("u.c", "b")
        #expect(finding.code == "sealed-entry" && finding.canBeForced)
    }
}
