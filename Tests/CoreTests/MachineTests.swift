import Testing

@testable import Core

@Suite struct MachineTests {
    @Test func relocationArithmeticIsItsOwnInverse() throws {
        let place: UInt64 = 0xffff_ffff_c010_0000
        let symbol: UInt64 = 0xffff_ffff_8123_4567
        for kind in X86Relocation.all
        where kind.width >= 4 && kind.type != X86Relocation.absolute32.type && !kind.isInPlace {
            var bytes = [UInt8](repeating: 0xaa, count: 12)
            try kind.apply(to: &bytes, at: 2, symbol: symbol, addend: -4, place: place + 2)
            let field = try #require(kind.field(in: bytes, at: 2))
            #expect(kind.symbolValue(field: field, addend: -4, place: place + 2) == symbol, "\(kind.name)")
            #expect(bytes[1] == 0xaa && bytes[2 + kind.width] == 0xaa)
        }
        #expect(X86Relocation.of(9) == nil)
        #expect(X86Relocation.pc32.field(in: [1, 2, 3], at: 0) == nil)
    }

    @Test func overflowIsSeenAtBothEnds() {
        func fits(_ kind: X86Relocation, _ symbol: UInt64, _ place: UInt64 = 0) -> Bool {
            kind.fieldValue(symbol: symbol, addend: 0, place: place) != nil
        }
        #expect(
            fits(.absolute32Signed, 0xffff_ffff_8000_0000) && !fits(.absolute32Signed, 0xffff_ffff_7fff_ffff))
        #expect(fits(.absolute32Signed, 0x7fff_ffff) && !fits(.absolute32Signed, 0x8000_0000))
        #expect(fits(.absolute32, 0xffff_ffff) && !fits(.absolute32, 0x1_0000_0000))
        #expect(fits(.pc32, 0x7fff_ffff, 0) && !fits(.pc32, 0x8000_0000, 0))
        #expect(fits(.pc32, 0, 0x8000_0000) && !fits(.pc32, 0, 0x8000_0001))
        var bytes = [UInt8](repeating: 0, count: 4)
        #expect(throws: Failure.self) {
            try X86Relocation.pc32.apply(to: &bytes, at: 0, symbol: 0x8000_0000, addend: 0, place: 0)
        }
        #expect(throws: Failure.self) {
            try X86Relocation.pc32.apply(to: &bytes, at: 1, symbol: 0, addend: 0, place: 0)
        }
    }

    @Test func nopsAreATable() {
        for nop in X86Nops.bits64.kernel.dropFirst() {
            #expect(X86Nops.bits64.length(in: nop, at: 0) == nop.count)
        }
        // What the assembler fills gaps with.
        let long: [UInt8] = [0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0]
        #expect(X86Nops.bits64.length(in: long, at: 0) == 11)
        #expect(X86Nops.bits64.fill(0..<14, of: long + [0x0f, 0x1f, 0x00]))
        #expect(!X86Nops.bits64.fill(0..<13, of: long + [0x0f, 0x1f, 0x00]))
        // pause, another operand, a store through the same bytes, ud2, a truncated nop.
        for other in [[0xf3, 0x90], [0x0f, 0x1f, 0x01], [0x0f, 0x11, 0x00], [0x0f, 0x0b], [0x0f, 0x1f]]
            as [[UInt8]]
        {
            #expect(X86Nops.bits64.length(in: other, at: 0) == nil)
        }
        // One flipped bit never leaves a nop of the same length, but for those of the two that differ in one bit.
        for nop in X86Nops.bits64.kernel.dropFirst() {
            for bit in 0..<nop.count * 8 {
                var flipped = nop
                flipped[bit / 8] ^= 1 << UInt8(bit % 8)
                #expect(X86Nops.bits64.length(in: flipped, at: 0) != nop.count, "\(nop) bit \(bit)")
            }
        }
    }

    @Test func instructionsAndBranchesAreDecoded() throws {
        let call = try #require(X86Instruction([0xe8, 0, 0, 0, 0], at: 0, address: 0x1000, is64Bit: true))
        #expect(call.length == 5 && call.text.contains("call") && call.text.contains("1005"))
        #expect(X86Instruction([0xe8, 0, 0], at: 0, is64Bit: true) == nil)
        #expect(X86Instruction([], at: 0, is64Bit: true) == nil)
        #expect(X86Branch([0xeb, 0xfe], at: 0)?.displacement == -2)
        #expect(X86Branch([0x2e, 0xe8, 4, 0, 0, 0], at: 0)?.displacementOffset == 2)
        let conditional = try #require(X86Branch([0x0f, 0x85, 1, 0, 0, 0], at: 0))
        #expect(conditional.kind == .conditional(5) && conditional.length == 6)
        #expect(X86Branch([0x0f, 0x1f, 0], at: 0) == nil && X86Branch([0xe9, 0], at: 0) == nil)
        #expect(
            X86Instruction.boundaries(of: [0x90, 0xe8, 0, 0, 0, 0, 0xc3], in: 0..<7, is64Bit: true) == [
                0, 1, 6, 7,
            ])
    }

    @Test func sitesThatOverlapAreRefused() async throws {
        let source = """
            void f(void) { asm volatile("1: call __SCT__x\\nnop\\nnop\\nnop\\n.pushsection .smp_locks,\\"a\\"\\n.popsection\\n"
              ".pushsection .parainstructions,\\"a\\"\\n.balign 8\\n.quad 1b+2\\n.byte 0\\n.byte 6\\n.balign 8\\n.popsection"); }
            """
        let object = try await MatchFixture.compile(source, flags: [])
        #expect(throws: Failure.self) { try PatchSites(of: object, tables: MatchFixture.tables) }
    }
}
