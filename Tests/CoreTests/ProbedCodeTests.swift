// Functions with kprobes in them: passed over where the kernel lists the probe and the function stays, and in no other case.

import Testing

@testable import Core

@Suite struct ProbedCodeTests {
    static let source = """
        extern int other(const char *text, int x);
        int shared;
        int probed(int (*call)(int), int x) {
            return other("fifteen letters", x + 77) * shared + call(x * 11 + 5) + shared;
        }
        int last(int x) { return x * 17 + 9; }
        """
    private static let externals: [String: UInt64] = [
        "other": 0xffff_ffff_8200_0000, "__x86_return_thunk": 0xffff_ffff_8200_1000,
        "__x86_indirect_thunk_rbx": 0xffff_ffff_8200_2000, "__x86_indirect_thunk_rbp": 0xffff_ffff_8200_2040,
        "__x86_indirect_thunk_r12": 0xffff_ffff_8200_2080, "__x86_indirect_thunk_rax": 0xffff_ffff_8200_20c0,
    ]
    private static let slots: UInt64 = 0xffff_ffff_c010_0000

    let fixture: MatchFixture
    let start: UInt64
    let original: [UInt8]
    /// Where instructions begin.
    let begins: [Int]

    init() async throws {
        fixture = try await MatchFixture(
            Self.source, flags: ["-mfunction-return=thunk-extern", "-mindirect-branch=thunk-extern"],
            externals: Self.externals)
        fixture.listed.append(
            .init(
                address: Self.slots, kind: UInt8(ascii: "t"), name: "kprobe_optinsn_page",
                module: "__builtin__kprobes"))
        start = try fixture.address("probed")
        original = try fixture.bytes("probed")
        begins = X86Instruction.boundaries(of: original, in: 0..<original.count, is64Bit: true).filter {
            [count = original.count] in $0 < count
        }
    }

    private func probe(_ offset: Int, isOptimised: Bool = true) -> KernelProbe {
        KernelProbe(
            address: start + UInt64(offset), symbol: "probed", offset: UInt64(offset), kind: "k",
            isDisabled: false, isOnFentry: false, isOptimised: isOptimised)
    }

    private func match(_ probes: [Int]?, required: Set<Int> = []) throws -> MatchResult {
        var matcher = try Matcher(
            units: [MatchUnit(path: "u.c", module: nil, object: fixture.object, required: required)],
            tables: MatchFixture.tables, memory: fixture.memory, symbols: KernelSymbols(fixture.listed),
            isImage: false, evidence: .init(probes: probes?.map { probe($0) }))
        return matcher.match()
    }

    /// Writes over the function from an offset, for as long as `body` runs.
    private func with<R>(_ bytes: [UInt8], at offset: Int, _ body: () throws -> R) rethrows -> R {
        fixture.memory.write(bytes, at: start + UInt64(offset))
        defer { fixture.memory.write(original, at: start) }
        return try body()
    }

    private func isThere(_ result: MatchResult) -> Bool {
        result.functions[0].contains { $0.name == "probed" }
    }

    /// Changes each byte of the function but some, one at a time; two of its bits; gives the offsets that nobody noticed.
    private func unnoticed(besides covered: Range<Int>, _ probes: [Int]) throws -> [Int] {
        try original.indices.filter { offset in
            guard !covered.contains(offset) else { return false }
            let place = start + UInt64(offset)
            let old = try fixture.memory.read(at: place, count: 1)
            defer { fixture.memory.write(old, at: place) }
            return try [0, 7].contains { bit in
                fixture.memory.write([old[0] ^ 1 << bit], at: place)
                return try isThere(match(probes))
            }
        }
    }

    @Test func aBreakpointOfTheKernelsListIsPassedOver() throws {
        #expect(begins.count > 15)
        for offset in begins {
            try with([0xcc], at: offset) {
                let result = try match([offset])
                let function = try #require(result.functions[0].first { $0.name == "probed" })
                #expect(function.isProbed && function.mask[offset] == 0 && function.bytes[offset] == 0xcc)
                #expect(result.failures.isEmpty)
                #expect(try unnoticed(besides: offset..<offset + 1, [offset]) == [])
            }
        }
        #expect(try match(begins).functions[0].allSatisfy { !$0.isProbed })
    }

    @Test func aBreakpointThatIsNotListedThereIsDifferentCode() throws {
        let offset = begins[3]
        try with([0xcc], at: offset) {
            let unknown = try #require(try match(nil).failures.first)
            #expect(unknown.cause == .kprobe && unknown.hints.contains { $0.contains("debugfs") })
            for listed in [[], [begins[2], begins[4]]] {
                let result = try match(listed)
                #expect(result.failures.map(\.cause) == [.differentCode])
                #expect(result.failures[0].explanation.contains("no kprobe"), "\(result.failures[0])")
            }
        }
    }

    @Test func aProbeThatIsOffOrStandsInsideAnInstructionCoversNothing() throws {
        let offset = begins[3]
        func isAccepted(_ bytes: [UInt8], _ place: Int, _ change: (inout KernelProbe) -> Void) throws -> Bool
        {
            var probe = probe(place)
            change(&probe)
            return try with(bytes, at: place) {
                var matcher = try Matcher(
                    units: [MatchUnit(path: "u.c", module: nil, object: fixture.object)],
                    tables: MatchFixture.tables, memory: fixture.memory,
                    symbols: KernelSymbols(fixture.listed),
                    isImage: false, evidence: .init(probes: [probe]))
                return isThere(matcher.match())
            }
        }
        let isOn = try isAccepted([0xcc], offset) { _ in }
        #expect(isOn)
        for change in [
            { $0.isDisabled = true }, { $0.isGone = true }, { $0.address = 0 },
        ] as [(inout KernelProbe) -> Void] {
            let isAccepted = try isAccepted([0xcc], offset, change)
            #expect(!isAccepted)
        }
        let inside = try #require(original.indices.first { !begins.contains($0) })
        let isInside = try isAccepted([0xcc], inside) { _ in }
        #expect(!isInside)
        let jump = MatchFixture.branch([0xe9], at: start + UInt64(offset), to: Self.slots + 0x80)
        let isJump = try isAccepted(jump, offset) { _ in }
        let isOther = try isAccepted(jump, offset) { $0.isOptimised = false }
        #expect(isJump && !isOther)
    }

    @Test func whereTwoPlacesMayBeTheFunctionNeitherIsTaken() throws {
        // Of two functions of the name, one has a probe on its first byte, the other a live patch's jump or the like: whichever is
        // the true one, the other's first byte is not seen.
        let other: UInt64 = 0xffff_ffff_8300_0000
        let last = try fixture.address("last")
        fixture.memory.pieces[other] = try fixture.bytes("last") + [UInt8](repeating: 0x90, count: 64)
        fixture.listed.append(.init(address: other, kind: UInt8(ascii: "t"), name: "last"))
        fixture.memory.write([0xcc], at: other)
        fixture.memory.pieces[last] = nil
        let probe = KernelProbe(
            address: other, symbol: "last", offset: 0, kind: "k", isDisabled: false, isOnFentry: false)
        var matcher = try Matcher(
            units: [MatchUnit(path: "u.c", module: nil, object: fixture.object)],
            tables: MatchFixture.tables, memory: fixture.memory, symbols: KernelSymbols(fixture.listed),
            isImage: false, evidence: .init(probes: [probe]))
        let result = matcher.match()
        #expect(!result.functions[0].contains { $0.name == "last" })
    }

    @Test func nothingIsPassedOverInWhatIsReplaced() throws {
        let index = try #require(fixture.object.symbols.firstIndex { $0.name == "probed" })
        let other = try #require(fixture.object.symbols.firstIndex { $0.name == "last" })
        for offset in begins {
            try with([0xcc], at: offset) {
                #expect(try isThere(match([offset], required: [other])))
                let result = try match([offset], required: [index])
                #expect(result.failures.map(\.cause) == [.kprobe] && !isThere(result))
                #expect(result.failures[0].explanation == "a kprobe stands here")
            }
        }
    }

    @Test func anOptimisedProbeHidesFiveBytesAndNoMore() throws {
        var passed = 0
        var refused: [String] = []
        for offset in begins where offset + 5 <= original.count {
            let jump = MatchFixture.branch([0xe9], at: start + UInt64(offset), to: Self.slots + 0x80)
            try with(jump, at: offset) {
                let result = try match([offset])
                if isThere(result) {
                    passed += 1
                    let function = try #require(result.functions[0].first { $0.name == "probed" })
                    #expect(function.isProbed && function.mask[offset..<offset + 5].allSatisfy { $0 == 0 })
                    #expect(try unnoticed(besides: offset..<offset + 5, [offset]) == [])
                } else {
                    #expect(result.failures.map(\.cause) == [.kprobe])
                    refused.append(result.failures[0].explanation)
                }
                #expect(try !isThere(match([])))
                #expect(try !isThere(match(nil)))
            }
            // To somewhere else.
            let other = MatchFixture.branch([0xe9], at: start + UInt64(offset), to: 0xffff_ffff_8200_0000)
            let isAccepted = try with(other, at: offset) { try isThere(match([offset])) }
            #expect(!isAccepted)
        }
        #expect(passed > 10)
        // A part of the reference to a string, which no name tells of.
        #expect(refused.allSatisfy { $0.contains("covers a part of") }, "\(refused)")
        #expect(refused.count <= 4)
    }
}
