// Each kind of patch site: what the kernel may write there is accepted, and nothing that differs from it by one bit.

import Testing

@testable import Core

@Suite struct PatchSiteTests {
    static let text: UInt64 = 0xffff_ffff_8100_0000
    static let thunk: UInt64 = 0xffff_ffff_8200_0000

    @Test func fentrySites() async throws {
        let caller: UInt64 = 0xffff_ffff_8200_1000
        let fixture = try await MatchFixture(
            "int f(int x) { return x + 1; }", flags: ["-pg", "-mfentry", "-mrecord-mcount"],
            externals: ["__fentry__": Self.thunk, "ftrace_caller": caller])
        let f = try fixture.address("f")
        let nop: [UInt8] = [0x0f, 0x1f, 0x44, 0, 0]
        #expect(try fixture.accepts(nop, at: f))
        #expect(try fixture.toleratedFlips(of: nop, at: f) == [])
        let traced = MatchFixture.branch([0xe8], at: f, to: caller)
        #expect(try fixture.accepts(traced, at: f))
        #expect(try fixture.toleratedFlips(of: traced, at: f) == [])
        fixture.listed.append(
            .init(address: 0xffff_ffff_c000_1000, kind: 0x74, name: "bpf_trampoline_1", module: "bpf"))
        let bpf = MatchFixture.branch([0xe8], at: f, to: 0xffff_ffff_c000_1000)
        #expect(try fixture.accepts(bpf, at: f))
        fixture.memory.write(bpf, at: f)
        let function = try #require(try fixture.match().functions[0].first)
        #expect(function.isTraced && function.hasFentry && function.entrySite == 5)
        #expect(function.mask.prefix(6) == [0, 0, 0, 0, 0, 0xff])
    }

    @Test func returnThunks() async throws {
        let other: UInt64 = 0xffff_ffff_8200_2000
        let fixture = try await MatchFixture(
            "int f(int x) { return x + 1; }", flags: ["-mfunction-return=thunk-extern"],
            externals: ["__x86_return_thunk": Self.thunk, "srso_return_thunk": other])
        let end = try fixture.address("f") + UInt64(fixture.bytes("f").count)
        let site = end - 5
        for variant in [[0xc3, 0xcc, 0xcc, 0xcc, 0xcc], MatchFixture.branch([0xe9], at: site, to: other)]
            as [[UInt8]]
        {
            #expect(try fixture.accepts(variant, at: site))
            #expect(try !fixture.accepts(variant, at: site, isImage: true))
            #expect(try fixture.toleratedFlips(of: variant, at: site) == [])
        }
        #expect(try !fixture.accepts(MatchFixture.branch([0xe9], at: site, to: other + 1), at: site))
    }

    @Test func retpolines() async throws {
        let flags = [
            "-mindirect-branch=thunk-extern", "-mindirect-branch-register", "-mindirect-branch-cs-prefix",
        ]
        let fixture = try await MatchFixture(
            """
            int f(void) { register int (*g)(void) asm("rax"); asm volatile("" : "=r"(g));
              return g() + 1; }
            """, flags: flags, externals: ["__x86_indirect_thunk_rax": Self.thunk])
        let section = fixture.object.sections[fixture.object.symbols.first { $0.name == "f" }!.section]
        let field = try #require(section.relocations.first)
        let site = try fixture.address("f") + UInt64(field.offset - 1)
        let plain: [UInt8] = [0xff, 0xd0, 0x0f, 0x1f, 0x00]
        let fenced: [UInt8] = [0x0f, 0xae, 0xe8, 0xff, 0xd0]
        for variant in [plain, fenced] {
            #expect(try fixture.accepts(variant, at: site))
            #expect(try fixture.toleratedFlips(of: variant, at: site) == [])
        }
        // Nops of the same length are the same; another register or a jump is not.
        #expect(try fixture.accepts([0xff, 0xd0, 0x90, 0x90, 0x90], at: site))
        #expect(try !fixture.accepts([0xff, 0xe0, 0xcc, 0x66, 0x90], at: site))
        // A thunk that the kernel made: in the upper half of a cache line, and through this register.
        let page: UInt64 = 0xffff_ffff_c004_0000
        fixture.memory.pieces[page] = [UInt8](repeating: 0xcc, count: 128)
        fixture.memory.write([0xff, 0xe0, 0xcc], at: page + 32)
        fixture.memory.write([0xff, 0xe0, 0xcc], at: page + 64)
        fixture.memory.write([0xff, 0xe1, 0xcc], at: page + 96)
        #expect(try fixture.accepts(MatchFixture.branch([0xe8], at: site, to: page + 32), at: site))
        #expect(try !fixture.accepts(MatchFixture.branch([0xe8], at: site, to: page + 64), at: site))
        #expect(try !fixture.accepts(MatchFixture.branch([0xe8], at: site, to: page + 96), at: site))
    }

    @Test func smpLocks() async throws {
        let fixture = try await MatchFixture(
            """
            void f(int *p) { asm volatile(".pushsection .smp_locks,\\"a\\"\\n.balign 4\\n.long 671f-.\\n.popsection\\n"
              "671: lock; incl %0" : "+m"(*p)); }
            """)
        let f = try fixture.address("f")
        #expect(try fixture.bytes("f")[0] == 0xf0)
        #expect(try fixture.accepts([0x3e], at: f))
        #expect(try !fixture.accepts([0x3e], at: f, isImage: true))
        #expect(try fixture.toleratedFlips(of: [0xf0], at: f) == [])
        #expect(try fixture.toleratedFlips(of: [0x3e], at: f) == [])
        #expect(try fixture.match().functions[0][0].mask.prefix(2) == [0, 0xff])
    }

    @Test func jumpLabels() async throws {
        let fixture = try await MatchFixture(
            """
            extern long key;
            int f(int x) { asm goto("1: jmp %l[yes]\\n.pushsection __jump_table,\\"aw\\"\\n.balign 8\\n"
              ".long 1b-.\\n.long %l[yes]-.\\n.quad key-.\\n.popsection" : : : : yes);
              return x + 1; yes: return x * 9; }
            """, externals: ["key": 0xffff_ffff_8300_0000])
        let f = try fixture.address("f")
        let original = Array(try fixture.bytes("f").prefix(2))
        #expect(original[0] == 0xeb)
        #expect(try fixture.accepts([0x66, 0x90], at: f))
        #expect(try fixture.accepts([0x66, 0x90], at: f, isImage: true))
        #expect(try fixture.toleratedFlips(of: original, at: f) == [])
        #expect(try fixture.toleratedFlips(of: [0x66, 0x90], at: f) == [])
        #expect(try !fixture.accepts([0x90, 0x90], at: f))
    }

    @Test func staticCalls() async throws {
        let (key, target): (UInt64, UInt64) = (0xffff_ffff_8300_0000, 0xffff_ffff_8200_4000)
        let zero: UInt64 = 0xffff_ffff_8200_5000
        let fixture = try await MatchFixture(
            "extern int __SCT__x(int); int f(int x) { return __SCT__x(x) + 1; }",
            externals: ["__SCT__x": Self.thunk, "__static_call_return0": zero, "__SCK__x": key])
        fixture.memory.pieces[key] = [UInt8](repeating: 0, count: 16)
        let section = fixture.object.sections[fixture.object.symbols.first { $0.name == "f" }!.section]
        let site = try fixture.address("f") + UInt64(try #require(section.relocations.first).offset - 1)
        let nop: [UInt8] = [0x0f, 0x1f, 0x44, 0, 0]
        let direct = MatchFixture.branch([0xe8], at: site, to: target)
        let xor: [UInt8] = [0x2e, 0x2e, 0x2e, 0x31, 0xc0]
        func setKey(_ value: UInt64) {
            var bytes: [UInt8] = []
            bytes.append(littleEndian: value)
            fixture.memory.write(bytes, at: key)
        }
        for (value, good, bad) in [(0, nop, direct), (target, direct, nop), (zero, xor, nop)] {
            setKey(value)
            #expect(try fixture.accepts(good, at: site))
            #expect(try !fixture.accepts(bad, at: site))
            #expect(try fixture.toleratedFlips(of: good, at: site) == [])
        }
    }

    static let alternative = """
        extern void near_(void);
        void f(void) { asm volatile("661: call near_\\n662: .skip 3, 0x90\\n663:\\n"
          ".pushsection .altinstructions,\\"a\\"\\n.long 661b-.\\n.long 664f-.\\n.word 1\\n.byte 663b-661b\\n.byte 665f-664f\\n"
          ".long 661b-.\\n.long 665f-.\\n.word 2\\n.byte 663b-661b\\n.byte 666f-665f\\n.popsection\\n"
          ".pushsection .altinstr_replacement,\\"ax\\"\\n664: call other_\\n665: stac\\n666: .popsection"); }
        """

    @Test func alternatives() async throws {
        let other: UInt64 = 0xffff_ffff_8200_6000
        let fixture = try await MatchFixture(
            Self.alternative, externals: ["near_": Self.thunk, "other_": other])
        let f = try fixture.address("f")
        let call = MatchFixture.branch([0xe8], at: f, to: other) + [0x0f, 0x1f, 0x00]
        let stac: [UInt8] = [0x0f, 0x01, 0xcb] + [0x0f, 0x1f, 0x44, 0, 0]
        let original = MatchFixture.branch([0xe8], at: f, to: Self.thunk) + [0x0f, 0x1f, 0x00]
        for variant in [call, stac, original] {
            #expect(try fixture.accepts(variant, at: f))
            #expect(try fixture.toleratedFlips(of: variant, at: f) == [])
        }
        #expect(try !fixture.accepts(call, at: f, isImage: true))
        #expect(
            try !fixture.accepts(
                MatchFixture.branch([0xe8], at: f, to: other + 8) + [0x0f, 0x1f, 0x00], at: f))
        #expect(throws: Failure.self) { try fixture.match(tables: [".altinstructions": 11]) }
        #expect(throws: Failure.self) { try fixture.match(tables: [:]) }
    }

    @Test func paravirtualCalls() async throws {
        let (operations, target): (UInt64, UInt64) = (0xffff_ffff_8300_0000, 0xffff_ffff_8200_7000)
        let nothing: UInt64 = 0xffff_ffff_8200_8000
        let fixture = try await MatchFixture(
            """
            void f(void) { asm volatile("771: call *pv_ops+16(%%rip)\\n772:\\n.pushsection .parainstructions,\\"a\\"\\n"
              ".balign 8\\n.quad 771b\\n.byte 2\\n.byte 772b-771b\\n.balign 8\\n.popsection" :); }
            """, externals: ["pv_ops": operations, "_paravirt_nop": nothing])
        let f = try fixture.address("f")
        fixture.memory.pieces[operations] = [UInt8](repeating: 0, count: 64)
        func operation(_ value: UInt64) {
            var bytes: [UInt8] = []
            bytes.append(littleEndian: value)
            fixture.memory.write(bytes, at: operations + 16)
        }
        let direct = MatchFixture.branch([0xe8], at: f, to: target) + [0x90]
        let nops: [UInt8] = [0x66, 0x0f, 0x1f, 0x44, 0, 0]
        operation(target)
        #expect(try fixture.accepts(direct, at: f))
        #expect(try fixture.toleratedFlips(of: direct, at: f) == [])
        #expect(try !fixture.accepts(nops, at: f))
        operation(nothing)
        #expect(try fixture.accepts(nops, at: f))
        #expect(try !fixture.accepts(direct, at: f))
        #expect(try !fixture.accepts(nops, at: f, isImage: true))
        // Longer prefix chains are nops too; nothing else is.
        #expect(try fixture.toleratedFlips(of: nops, at: f) == [])
    }

    @Test func sealedEndbr() async throws {
        let fixture = try await MatchFixture(
            "int f(int x) { return x + 1; }", flags: ["-fcf-protection=branch"])
        let f = try fixture.address("f")
        #expect(try Array(fixture.bytes("f").prefix(4)) == [0xf3, 0x0f, 0x1e, 0xfa])
        let sealed: [UInt8] = [0x66, 0x0f, 0x1f, 0x00]
        #expect(try fixture.accepts(sealed, at: f))
        #expect(try fixture.toleratedFlips(of: sealed, at: f) == [])
        #expect(try fixture.match().functions[0].first?.entrySite == 4)
    }

    @Test func trampolines() async throws {
        let key: UInt64 = 0xffff_ffff_8300_0000
        let fixture = try await MatchFixture(
            """
            asm(".pushsection .static_call.text,\\"ax\\"\\n.globl __SCT__x\\n__SCT__x: .byte 0xe9; .long target-(.+4)\\n"
                ".byte 0x0f,0xb9,0xcc\\n.type __SCT__x,@function\\n.size __SCT__x,.-__SCT__x\\n.popsection");
            """, externals: ["target": Self.thunk, "__SCK__x": key])
        fixture.memory.pieces[key] = [UInt8](repeating: 0, count: 8)
        let site = try fixture.address("__SCT__x")
        let stop: [UInt8] = [0xc3, 0xcc, 0xcc, 0xcc, 0xcc]
        #expect(try fixture.accepts(stop, at: site))
        #expect(try fixture.toleratedFlips(of: stop, at: site) == [])
    }
}
