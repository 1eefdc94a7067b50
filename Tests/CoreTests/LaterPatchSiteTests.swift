// Patch sites as kernels since 6.6 have them: jumps that were shortened are filled with breakpoints, calls through pv_ops
// are alternatives of their own kind, and instructions hold values that the kernel computes when it boots.

import Testing

@testable import Core

@Suite struct LaterPatchSiteTests {
    private static let text: UInt64 = 0xffff_ffff_8100_0000
    private static let elsewhere: UInt64 = 0xffff_ffff_8200_0000

    private static func pointer(_ value: UInt64) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(littleEndian: value)
        return bytes
    }

    @Test func shortenedJumps() async throws {
        let near = Self.text + 64
        let fixture = try await MatchFixture(
            """
            void f(void) { asm volatile("661: .skip 5, 0x90\\n662:\\n.pushsection .altinstructions,\\"a\\"\\n"
              ".long 661b-.\\n.long 663f-.\\n.word 1\\n.byte 662b-661b\\n.byte 664f-663f\\n.popsection\\n"
              ".pushsection .altinstr_replacement,\\"ax\\"\\n663: jmp near_\\n664: .popsection"); }
            """, externals: ["near_": near])
        let f = try fixture.address("f")
        try #require(Array(fixture.bytes("f").prefix(5)) == [0x90, 0x90, 0x90, 0x90, 0x90])
        func jump(_ target: UInt64, _ rest: [UInt8]) -> [UInt8] {
            [0xeb, UInt8(truncatingIfNeeded: target &- (f + 2))] + rest
        }
        let filled = jump(near, [0xcc, 0xcc, 0xcc])
        #expect(try fixture.accepts(filled, at: f))
        #expect(try fixture.toleratedFlips(of: filled, at: f) == [])
        #expect(try fixture.accepts(jump(near, [0x0f, 0x1f, 0x00]), at: f))
        #expect(try fixture.toleratedFlips(of: jump(near, [0x0f, 0x1f, 0x00]), at: f) == [])
        let long = MatchFixture.branch([0xe9], at: f, to: near)
        #expect(try fixture.accepts(long, at: f))
        // Neither both at once, nor another target, nor before boot.
        #expect(try !fixture.accepts(jump(near, [0xcc, 0xcc, 0x90]), at: f))
        #expect(try !fixture.accepts(jump(near, [0x90, 0xcc, 0xcc]), at: f))
        #expect(try !fixture.accepts(jump(near + 1, [0xcc, 0xcc, 0xcc]), at: f))
        #expect(try !fixture.accepts(filled, at: f, isImage: true))
        // What is left over is filled with breakpoints only behind a jump.
        #expect(try !fixture.accepts([0xcc, 0xcc, 0xcc, 0xcc, 0xcc], at: f))
    }

    /// A call through `pv_ops`, as `PVOP_ALT_VCALLEE0` of asm/paravirt_types.h makes it: an entry for the direct call, and one
    /// for the instruction where there is no hypervisor.
    private static func call(through pointer: String, _ alternative: String = "") -> String {
        func entry(_ feature: String, _ from: String, _ to: String) -> String {
            """
            ".long 771b-.\\n.long \(from)-.\\n.long \(feature)\\n.byte 772b-771b\\n.byte \(to)-\(from)\\n"

            """
        }
        return """
            void f(void) { asm volatile("771: call *\(pointer)+16(%%rip)\\n772:\\n.pushsection .altinstructions,\\"a\\"\\n"
            \(entry("0x20015", "773f", "774f"))\(alternative.isEmpty ? "" : entry("0x10088", "774f", "775f"))
              ".popsection\\n.pushsection .altinstr_replacement,\\"ax\\"\\n"
              "773: call BUG_func\\n774: \(alternative)\\n775:\\n.popsection" :); }
            """
    }

    @Test(arguments: ["", "cli"]) func directCallsOfOperations(alternative: String) async throws {
        let (operations, target): (UInt64, UInt64) = (0xffff_ffff_8300_0000, 0xffff_ffff_8200_7000)
        let (nothing, bug): (UInt64, UInt64) = (0xffff_ffff_8200_8000, 0xffff_ffff_8200_9000)
        let fixture = try await MatchFixture(
            Self.call(through: "pv_ops", alternative),
            externals: ["pv_ops": operations, "nop_func": nothing, "BUG_func": bug])
        let tables = [".altinstructions": 14]
        let f = try fixture.address("f")
        func accepts(_ bytes: [UInt8], isImage: Bool = false) throws -> Bool {
            let old = try fixture.memory.read(at: f, count: bytes.count)
            defer { fixture.memory.write(old, at: f) }
            fixture.memory.write(bytes, at: f)
            return try fixture.match(isImage: isImage, tables: tables).failures.isEmpty
        }
        /// Bits whose change is not noticed.
        func tolerated(_ bytes: [UInt8]) throws -> [Int] {
            try (0..<bytes.count * 8).filter { bit in
                var flipped = bytes
                flipped[bit / 8] ^= 1 << UInt8(bit % 8)
                return try accepts(flipped)
            }
        }
        let original = try fixture.memory.read(at: f, count: 6)
        fixture.memory.pieces[operations] = [UInt8](repeating: 0, count: 64)
        let direct = MatchFixture.branch([0xe8], at: f, to: target) + [0x90]
        let trap = MatchFixture.branch([0xe8], at: f, to: bug) + [0x90]
        let nops: [UInt8] = [0x66, 0x0f, 0x1f, 0x44, 0, 0]
        for (value, good) in [(target, direct), (nothing, nops), (0, trap)] {
            fixture.memory.write(Self.pointer(value), at: operations + 16)
            for bytes in [direct, nops, trap] { #expect(try accepts(bytes) == (bytes == good)) }
            #expect(try tolerated(good) == [])
            #expect(try accepts(original) && accepts(original, isImage: true))
            #expect(try !accepts(good, isImage: true))
            let plain: [UInt8] = [0xfa, 0x0f, 0x1f, 0x44, 0, 0]
            #expect(try accepts(plain) == !alternative.isEmpty)
        }
    }

    @Test func aDirectCallThroughAnythingElseIsNotUnderstood() async throws {
        let fixture = try await MatchFixture(
            Self.call(through: "other_ops"),
            externals: ["other_ops": Self.elsewhere, "BUG_func": Self.elsewhere + 64])
        let failure = try #require(throws: Failure.self) {
            try fixture.match(tables: [".altinstructions": 14])
        }
        #expect(failure.message.contains("the call at 0x0 is not understood"))
    }

    static let constants = """
        unsigned long f(void) {
          unsigned long x;
          asm("mov %1,%0\\n1:\\n.pushsection runtime_ptr_table_,\\"a\\"\\n.long 1b - 8 - .\\n.popsection"
              : "=r" (x) : "i" (0x0123456789abcdeful));
          return x; }
        unsigned g(unsigned x) {
          asm("shrl $12,%k0\\n1:\\n.pushsection runtime_shift_bits_,\\"a\\"\\n.long 1b - 1 - .\\n.popsection" : "+r" (x));
          return x; }
        """

    @Test func runtimeConstants() async throws {
        let (table, bits): (UInt64, UInt64) = (0xffff_ffff_8300_0000, 0xffff_ffff_8300_0100)
        let fixture = try await MatchFixture(
            Self.constants, externals: ["table_": table, "bits_": bits])
        let place: UInt64 = 0xffff_8881_0023_4000
        fixture.memory.pieces[table] = Self.pointer(place)
        // A variable of four bytes, of which the instruction takes one.
        fixture.memory.pieces[bits] = [23, 0, 0, 0]
        let (f, g) = try (fixture.address("f"), fixture.address("g"))
        let code = try (fixture.bytes("f"), fixture.bytes("g"))
        let move = Array(code.0.prefix(2)) + Self.pointer(place)
        let shift = try #require(code.1.firstIndex(of: 12))
        #expect(try fixture.match(isImage: true).failures.isEmpty)
        // Neither is there before the other has been written, too.
        fixture.memory.write(move, at: f)
        #expect(try fixture.match().failures.map(\.function) == ["g"])
        fixture.memory.write([23], at: g + UInt64(shift))
        #expect(try fixture.match().failures.map(\.description) == [])
        #expect(try fixture.match(isImage: true).failures.count == 2)
        #expect(try fixture.toleratedFlips(of: move, at: f) == [])
        let whole = try fixture.memory.read(at: g, count: code.1.count)
        #expect(try fixture.toleratedFlips(of: whole, at: g) == [])
        // The value that the variable has now decides, and it must be readable.
        fixture.memory.write(Self.pointer(place + 64), at: table)
        #expect(try fixture.match().failures.map(\.function) == ["f"])
        fixture.memory.pieces[bits] = nil
        #expect(try fixture.match().failures.count == 2)
        for function in try fixture.match(isImage: true).functions[0] {
            #expect(function.mask.allSatisfy { $0 == 0xff })
        }
    }

    @Test func tablesOfRuntimeConstantsThatAreNotUnderstood() async throws {
        for (old, new) in [
            ("runtime_ptr_table_", "runtime_mask_table"), ("1b - 8 - .", "1b - 9 - ."),
            ("1b - 8 - .", "1b - 10 - ."), ("1b - 1 - .", "1b - 2 - ."),
        ] {
            let fixture = try await MatchFixture(Self.constants.replacing(old, with: new))
            #expect(throws: Failure.self) { try fixture.match() }
        }
    }
}
