// What an update must not be able to do: stop the program with malformed numbers, make the kernel's loader write to
// protected memory, leave addresses of its code behind and be unloaded, or take another symbol of the same name.

import Testing

@testable import Core

@Suite struct SafetyTests {
    // MARK: - Malformed objects

    private static let simple = "extern int g(int); int f(int x) { return g(x) + 1; }"

    private static func header(_ bytes: [UInt8], type: UInt32) throws -> Int {
        let table = Int(try #require(bytes.load(UInt64.self, at: 40)))
        let count = Int(try #require(bytes.load(UInt16.self, at: 60)))
        return try #require(
            (0..<count).map { table + $0 * 64 }.first { bytes.load(UInt32.self, at: $0 + 4) == type })
    }

    @Test func anEnormousRelocationOffsetIsRefused() async throws {
        var bytes = try ELFWriter.write(try await MatchFixture.compile(Self.simple, flags: []))
        let rela = try Self.header(bytes, type: SectionType.rela)
        let start = Int(try #require(bytes.load(UInt64.self, at: rela + 24)))
        bytes.store(UInt64.max, at: start)
        #expect(throws: Failure.self) { try ObjectFile(bytes, name: "u.o") }
    }

    @Test func aNullSectionHasNoContent() async throws {
        let source = "char table[88] __attribute__((section(\".ksplice.table\"))) = {1};" + Self.simple
        var bytes = try ELFWriter.write(try await MatchFixture.compile(source, flags: []))
        let name = try #require(
            try ELFEditor(bytes, name: "u.ko").headers.first { $0.name == ".ksplice.table" })
        bytes.store(SectionType.null, at: name.place + 4)
        bytes.store(UInt64(1) << 40, at: name.place + 24)
        let editor = try ELFEditor(bytes, name: "u.ko")
        #expect(editor.contents(try editor.section(".ksplice.table")).isEmpty)
        var module = try ModuleResolver(bytes, name: "u.ko")
        #expect(throws: Failure.self) {
            try module.fillTables(
                functions: [], parts: [], id: String(repeating: "0", count: 64),
                update: String(repeating: "0", count: 64))
        }
    }

    /// Two ranges of memory that end and begin within the same 64 KiB.
    @Test func rangesThatMeetInOneWindowAreToldApart() throws {
        let folder = try Files.temporaryDirectory()
        defer { do { try Files.remove(folder) } catch {} }
        let base: UInt64 = 0xffff_8880_0001_0000
        let pieces: [(address: UInt64, byte: UInt8)] = [(base, 0xaa), (base + 0x8000, 0xbb)]
        var core = [UInt8](repeating: 0, count: 0x3000)
        core.replaceSubrange(0..<8, with: [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0])
        core.store(UInt64(64), at: 32)
        core.store(UInt16(56), at: 54)
        core.store(UInt16(pieces.count), at: 56)
        for (index, piece) in pieces.enumerated() {
            let place = 64 + index * 56
            core.store(UInt32(1), at: place)
            core.store(UInt64(0x1000 * (index + 1)), at: place + 8)
            core.store(piece.address, at: place + 16)
            core.store(UInt64(0x1000), at: place + 40)
            core.replaceSubrange(
                0x1000 * (index + 1)..<0x1000 * (index + 2),
                with: [UInt8](repeating: piece.byte, count: 0x1000))
        }
        try Files.write(core, to: folder + "/core")
        let memory = try #require(try KcoreMemory.open(folder + "/core"))
        for piece in pieces + pieces.reversed() {
            #expect(
                try memory.read(at: piece.address + 0x800, count: 16)
                    == [UInt8](repeating: piece.byte, count: 16))
        }
    }

    // MARK: - Keys

    /// A jump label as asm/jump_label.h makes it.
    private static let jumpLabel = """
        extern char key; extern int g(int);
        int f(int x) {
            asm goto("1: .byte 0x0f,0x1f,0x44,0,0\\n.pushsection __jump_table,\\"aw\\"\\n.balign 8\\n.long 1b - ., %l[on] - .\\n"
                ".quad %c0 - .\\n.popsection" :: "i"(&key) :: on);
            return x;
            on: return g(x);
        }
        """

    @Test func aJumpLabelOfAProtectedKeyIsRefused() async throws {
        let bytes = try ELFWriter.write(try await MatchFixture.compile(Self.jumpLabel, flags: []))
        let readOnly: Range<UInt64> = 0xffff_ffff_8200_0000..<0xffff_ffff_8280_0000
        for (address, isRefused) in [(UInt64(0xffff_ffff_8210_0000), true), (0xffff_ffff_8290_0000, false)] {
            var module = try ModuleResolver(bytes, name: "u.ko")
            let resolve = {
                try module.resolve(readOnly: readOnly) { $0 == "key" ? address : 0xffff_ffff_8100_0000 }
            }
            if isRefused { #expect(throws: Failure.self) { try resolve() } } else { try resolve() }
        }
    }

    // MARK: - Addresses that outlive undo

    private static func difference(_ pre: String, _ post: String) async throws -> UnitDifference {
        let folder = try Files.temporaryDirectory()
        defer { do { try Files.remove(folder) } catch {} }
        for (name, text) in [("pre", pre), ("post", post)] {
            try Files.write(text, to: "\(folder)/\(name).c")
            try await Command(
                [
                    "gcc", "-O2", "-g", "-fno-pic", "-mcmodel=kernel", "-mno-red-zone",
                    "-fno-asynchronous-unwind-tables",
                    "-fcf-protection=none", "-fno-stack-protector", "-ffunction-sections", "-fdata-sections",
                    "-c", "-o",
                    "\(folder)/\(name).o", "\(folder)/\(name).c",
                ]
            ).check()
        }
        return try UnitDifference.compare(
            path: "u.c", module: nil, prePath: folder + "/pre.o", postPath: folder + "/post.o", tables: [:],
            source: SourceChange())
    }

    private static let before =
        "extern void g(int); extern void later(void (*)(int)); void f(int x) { g(x); g(1); }"

    @Test func passingOnANewFunctionMakesAnUpdateResident() async throws {
        let new =
            "extern void g(int); extern void later(void (*)(int));"
            + "__attribute__((noinline)) static void h(int x) { g(x); g(2); g(x + 3); }"
        let calls = try await Self.difference(Self.before, new + "void f(int x) { g(x); h(x); h(x + 1); }")
        #expect(try #require(calls.shipment).keepsAddresses == false)
        let passes = try await Self.difference(Self.before, new + "void f(int x) { g(x); later(h); }")
        #expect(try #require(passes.shipment).keepsAddresses)
    }

    @Test func onlyBranchesHaveTargets() {
        func isTarget(_ code: [UInt8], _ offset: Int, _ type: UInt32) -> Bool {
            X86Branch.isTarget(of: Relocation(offset: offset, type: type, symbol: 1, addend: -4), in: code)
        }
        #expect(isTarget([0xe8, 0, 0, 0, 0], 1, 4))
        #expect(isTarget([0xe9, 0, 0, 0, 0], 1, 2))
        #expect(isTarget([0x0f, 0x84, 0, 0, 0, 0], 2, 4))
        // lea sym(%rip),%rdi
        #expect(!isTarget([0x48, 0x8d, 0x3d, 0, 0, 0, 0], 3, 2))
        // sub $sym,%rax: the ModRM byte is 0xe8.
        #expect(!isTarget([0x48, 0x81, 0xe8, 0, 0, 0, 0], 3, 11))
        #expect(!isTarget([], 4, 4))
    }

    // MARK: - Names

    @Test func whatAUnitDefinesIsNotTakenFromElsewhere() async throws {
        let fixture = try await MatchFixture(
            "extern int g(int); static int state; int f(int x) { return state += g(x); }",
            externals: ["g": 0xffff_ffff_8180_0000])
        // Of a module whose variables kallsyms does not list; the kernel image has a variable of that name.
        let unit = MatchUnit(path: "u.c", module: "m", object: fixture.object)
        let own = try #require(fixture.object.symbols.firstIndex { $0.name == "state" })
        func result(_ kind: Character) -> MatchResult {
            MatchResult(
                functions: [[]], values: [[:]], failures: [], notPresent: [], statistics: .init(),
                units: [unit],
                symbols: KernelSymbols([
                    .init(address: 0xffff_ffff_8290_0000, kind: kind.asciiValue!, name: "state")
                ]))
        }
        #expect(throws: Failure.self) { try result("D").resolve("state", unit: 0, symbolIndex: own) }
        #expect(try result("D").resolve("state", unit: 0).address == 0xffff_ffff_8290_0000)
        // A static variable of another object of the image.
        #expect(throws: Failure.self) { try result("d").resolve("state", unit: 0) }
    }

    @Test("an object is looked for under its name in pre, not under that of its counterpart in post")
    func whatAUnitDefinesHasItsNameInPre() async throws {
        let fixture = try await MatchFixture(
            "extern int g(int); static int state; int f(int x) { return state += g(x); }",
            externals: ["g": 0xffff_ffff_8180_0000])
        let own = try #require(fixture.object.symbols.firstIndex { $0.name == "state" })
        let result = MatchResult(
            functions: [[]], values: [[:]], failures: [], notPresent: [], statistics: .init(),
            units: [MatchUnit(path: "u.c", module: nil, object: fixture.object)],
            symbols: KernelSymbols([
                .init(address: 0xffff_ffff_8290_0000, kind: UInt8(ascii: "d"), name: "state"),
                .init(address: 0xffff_ffff_8290_0100, kind: UInt8(ascii: "d"), name: "state.3"),
            ]))
        #expect(
            try result.resolve("state.3", unit: 0, symbolIndex: own).address == 0xffff_ffff_8290_0000)
        #expect(result.knows("state.9", unit: 0, symbolIndex: own))
        #expect(!result.knows("state.9", unit: 0))
    }
}
