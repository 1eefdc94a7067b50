// Objects, code and modules of 32-bit x86, where addends stand in the fields and addresses have 32 bits.

import Testing

@testable import Core

@Suite struct ThirtyTwoBitObjectTests {
    private static let source = """
        extern int hidden(int); extern int far[8];
        static int own[8] = { 1, 2, 3 };
        int *second(void) { return &own[2]; }
        unsigned long physical(void) { return (unsigned long)&far[1] - 0xc0000000UL; }
        int calls(int x) { return hidden(x) + 5; }
        """

    private func object() async throws -> ObjectFile {
        try await MatchFixture.compile(Self.source, flags: [], is64Bit: false)
    }

    @Test func addendsAreTakenOutOfTheirFieldsAndPutBack() async throws {
        let object = try await object()
        let section = try #require(object.section(named: ".text.second"))
        let relocation = try #require(object.sections[section].relocations.first)
        #expect(relocation.type == X86Relocation.i386Absolute32.type && relocation.addend == 8)
        #expect(object.sections[section].contents.load(UInt32.self, at: relocation.offset) == 0)
        let calls = try #require(object.section(named: ".text.calls"))
        let call = try #require(object.sections[calls].relocations.first)
        #expect(X86Relocation.isPC32(call.type) && call.addend == -4)
        // In the file they stand where the linker looks for them.
        let file = try ELFWriter.write(object)
        let editor = try ELFEditor(file, name: "u.o")
        let content = editor.contents(try editor.section(".text.second"))
        #expect(content.load(UInt32.self, at: relocation.offset) == 8)
        #expect(try editor.relocations().contains { $0.relocation.addend == 8 })
    }

    @Test func anAddendThatDoesNotFitIsRefused() async throws {
        var object = try await object()
        let section = try #require(object.section(named: ".text.second"))
        object.sections[section].relocations[0].addend = 1 << 40
        #expect(throws: Failure.self) { try ELFWriter.write(object) }
    }

    @Test func arithmeticWrapsAtFourGigabytes() throws {
        let kind = X86Relocation.i386Absolute32
        // &far[1] - PAGE_OFFSET of a symbol at 0xc1234560.
        let addend = Int64(4) - 0xc000_0000
        var bytes = [UInt8](repeating: 0, count: 4)
        try kind.apply(to: &bytes, at: 0, symbol: 0xc123_4560, addend: addend, place: 0)
        #expect(bytes.load(UInt32.self, at: 0) == 0x0123_4564)
        let field = try #require(kind.field(in: bytes, at: 0))
        #expect(kind.symbolValue(field: field, addend: addend, place: 0) == 0xc123_4560)
        // A module reaches all of the kernel, and the other way round.
        let call = X86Relocation.i386PLT32
        for (symbol, place) in [(0xc100_0000, 0xffff_f000), (0xffff_f000, 0x1000)] as [(UInt64, UInt64)] {
            try call.apply(to: &bytes, at: 0, symbol: symbol, addend: -4, place: place)
            let field = try #require(call.field(in: bytes, at: 0))
            #expect(call.symbolValue(field: field, addend: -4, place: place) == symbol)
        }
        #expect(throws: Failure.self) {
            try call.apply(to: &bytes, at: 0, symbol: 1 << 32, addend: 0, place: 0)
        }
        #expect(X86Relocation.of(InPlaceAddends.mark | 10) == nil, "R_386_GOTPC is not of kernels")
    }

    @Test func codeIsMatchedAndItsSymbolsLearned() async throws {
        let fixture = try await MatchFixture(
            Self.source, base: 0xc100_0000, externals: ["hidden": 0xf800_1000, "far": 0xc1f0_0000],
            is64Bit: false)
        fixture.listed.removeAll { $0.name == "far" }
        let result = try fixture.match(tables: [:])
        #expect(result.failures.isEmpty && result.statistics.functions == 3)
        let far = try #require(fixture.object.symbols.firstIndex { $0.name == "far" })
        #expect(result.values[0][far] == 0xc1f0_0000)
        // Not one bit outside of the fields may differ.
        let address = try fixture.address("physical")
        let bytes = try fixture.bytes("physical")
        let section = try #require(fixture.object.section(named: ".text.physical"))
        let field = try #require(fixture.object.sections[section].relocations.first).offset
        let tolerated = try fixture.toleratedFlips(of: bytes, at: address)
        #expect(tolerated.allSatisfy { (field * 8..<field * 8 + 32).contains($0) }, "\(tolerated)")
    }

    @Test func aModuleIsResolved() async throws {
        let object = try await MatchFixture.compile(
            ModuleResolverTests.source, flags: [], is64Bit: false)
        var module = try ModuleResolver(ELFWriter.write(object), name: "u.ko")
        #expect(module.architecture == .i686)
        try module.resolve { ["hidden": 0xc112_3456, "data": 0xc298_7654][$0] }
        try module.setVersions(["module_layout": 0x1234, "exported": 0x89ab_cdef])
        let made = try ObjectFile(module.bytes, name: "u.ko")
        let absolute = made.symbols.filter {
            $0.section == SectionIndex.absolute && $0.type != SymbolType.file
        }
        #expect(Set(absolute.map(\.value)) == [0xc112_3456, 0xc298_7654])
        let versions = made.sections[try #require(made.section(named: "__versions"))].contents
        #expect(versions.count == 128 && versions.load(UInt32.self, at: 64) == 0x89ab_cdef)
        #expect(versions.string(at: 4) == "module_layout" && versions.string(at: 68) == "exported")
        #expect(try module.versions() == ["module_layout": 0x1234, "exported": 0x89ab_cdef])
    }

    @Test func nopsAreThoseOf32Bits() {
        let nops = X86Nops.bits32
        for nop in nops.kernel.dropFirst() { #expect(nops.length(in: nop, at: 0) == nop.count) }
        // What the assembler fills gaps with; then another register, another operand, the nops of 64 bits, and a part of one.
        #expect(nops.fill(0..<9, of: [0x2e, 0x8d, 0xb4, 0x26, 0, 0, 0, 0, 0x90]))
        for other in [
            [0x8d, 0x77, 0x00], [0x8d, 0x76, 0x01], [0x0f, 0x1f, 0x00], [0x66, 0x66, 0x90],
            [0x8d, 0xb6, 0, 0],
            [0x89, 0xf7],
        ] as [[UInt8]] {
            #expect(nops.length(in: other, at: 0) == nil, "\(other)")
        }
        #expect(X86Nops.bits64.length(in: [0x89, 0xf6], at: 0) == nil)
    }

    @Test func symbolsThatTheKernelDoesNotListAreCompleted() throws {
        func symbol(_ name: String, _ address: UInt64) -> KernelSymbol {
            KernelSymbol(address: address, kind: UInt8(ascii: "T"), name: name)
        }
        let linked = KernelSymbols([symbol("_stext", 0xc100_0000), symbol("text_mutex", 0xc1d0_0040)])
        // The kernel is lower than it was linked for.
        let running = KernelSymbols([symbol("_stext", 0xc0f0_0000), symbol("f", 0xc0f0_0100)])
        let completed = try running.completed(by: linked)
        #expect(completed.unique("text_mutex") == 0xc1c0_0040 && completed.unique("f") == 0xc0f0_0100)
        let other = KernelSymbols([symbol("_stext", 0xc0f0_0000), symbol("text_mutex", 0xc1c0_0080)])
        let failure = try #require(throws: Failure.self) { try other.completed(by: linked) }
        #expect(failure.status == .wrongKernel)
        #expect(throws: Failure.self) { try KernelSymbols([symbol("f", 1)]).completed(by: linked) }
    }
}
