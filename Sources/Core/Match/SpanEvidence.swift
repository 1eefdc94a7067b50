// What comparing one function with one address brings to light, and the test of each piece against what is known.

/// A value that a reference gives for a symbol.
struct Fact {
    var key: Int
    var value: UInt64
}

/// A reference into the body of another function, checked when that function's layout in memory is known.
struct InsideFact {
    var unit: Int
    var key: Int
    /// From the entry of the pre function.
    var delta: Int
    var address: UInt64
    /// Offset of the reference from the start of the function that makes it.
    var offset: Int
}

/// What an optimised probe leaves visible of a reference: checked when all is learned.
struct CoveredFact {
    var key: Int
    /// The symbol's value for which the field would hold 0.
    var zero: UInt64
    /// Bytes of the field, by their place in it.
    var visible: [(place: Int, byte: UInt8)]
    /// Offset of the field from the start of the function.
    var offset: Int

    func agrees(_ value: UInt64) -> Bool {
        let field = value &- zero
        return visible.allSatisfy { $0.byte == UInt8(truncatingIfNeeded: field >> (8 * UInt64($0.place))) }
    }
}

/// Pre and run agree.
struct SpanMatch {
    var facts: [Fact] = []
    var inside: [InsideFact] = []
    var covered: [CoveredFact] = []
    var run: [UInt8] = []
    var mask: [UInt8] = []
    var isTraced = false
    /// Whether probes cover some of it.
    var isProbed = false
    /// Offsets in memory by offsets in the pre function, where they differ.
    var map: [Int: Int]?
}

/// Pre and run disagree.
struct Mismatch: Error {
    /// From the starts of the pre function and of the run function.
    var offset: Int
    var runOffset: Int
    var cause: MatchFailure.Cause
    var explanation: String
}

/// What is known of the running kernel while matching goes on.
final class MatchState {
    let memory: any KernelMemory
    let symbols: KernelSymbols
    let space: MatchSpace
    let environment: PatchEnvironment
    let evidence: MatchEvidence
    private(set) var learned: [Int: UInt64] = [:]
    private(set) var origin: [Int: String] = [:]
    private var sameContent: Set<[UInt64]> = []

    init(
        memory: any KernelMemory, symbols: KernelSymbols, space: MatchSpace, environment: PatchEnvironment,
        evidence: MatchEvidence
    ) {
        self.memory = memory
        self.evidence = evidence
        self.symbols = symbols
        self.space = space
        self.environment = environment
    }

    /// Why a value cannot be that of a key; nil where nothing speaks against it.
    func objection(_ key: Int, _ value: UInt64) -> String? {
        if let known = learned[key] {
            if known == value { return nil }
            return
                "'\(space.title(key))' would be \(symbols.describe(value)) here, but is \(symbols.describe(known))"
                + (origin[key].map { " in \($0)" } ?? "")
        }
        guard let allowed = space.allowed(key), !allowed.contains(value) else { return nil }
        return "'\(space.title(key))' would be at \(symbols.describe(value)), but kallsyms has it at "
            + allowed.prefix(4).map { hex($0) }.joined(separator: ", ")
    }

    /// Takes over what a matched function proves.
    func learn(_ facts: [Fact], from function: String) {
        for fact in facts where learned[fact.key] == nil {
            learned[fact.key] = fact.value
            origin[fact.key] = function
        }
    }

    /// Whether memory holds a unit's unnamed constant; nil where it does, else the reason.
    func contentObjection(_ code: UnitCode, _ section: Int, _ offset: Int, at address: UInt64) -> String? {
        let source = code.object.sections[section]
        guard offset >= 0, offset < source.contents.count else {
            return "a constant outside of \(source.name)"
        }
        let end: Int
        if source.isMergeableStrings {
            // Characters wider than a byte end with as many zeros; to compare up to the first zero byte is enough
            // only for narrow ones.
            let width = min(max(Int(source.entrySize), 1), 64)
            var place = offset
            while place + width <= source.contents.count,
                source.contents[place..<place + width].contains(where: { $0 != 0 })
            { place += width }
            end = min(place + width, source.contents.count)
        } else if source.flags & SectionFlags.merge != 0, source.entrySize > 0 {
            end = min(offset + Int(source.entrySize), source.contents.count)
        } else {
            end =
                code.space.places[code.index][section].first { $0.offset > offset }?.offset
                ?? source.contents.count
        }
        return contentObjection(code, section, offset..<min(end, source.contents.count), at: address)
    }

    /// Compares a range of a constant section with memory, without its relocated fields.
    func contentObjection(_ code: UnitCode, _ section: Int, _ range: Range<Int>, at address: UInt64)
        -> String?
    {
        let id = [UInt64(code.index), UInt64(section), UInt64(range.lowerBound), address]
        if sameContent.contains(id) { return nil }
        let source = code.object.sections[section]
        let run: [UInt8]
        do { run = try memory.read(at: address, count: range.count) } catch {
            return "the constant at \(hex(address)) cannot be read: \(error)"
        }
        var holes = Set<Int>()
        for relocation in source.relocations(in: range) {
            let start = relocation.offset - range.lowerBound
            for byte in start..<start + (X86Relocation.of(relocation.type)?.width ?? 8) { holes.insert(byte) }
        }
        for (index, byte) in source.contents[range].enumerated()
        where run[index] != byte && !holes.contains(index) {
            return "the constant at \(symbols.describe(address)) differs from \(source.name) at byte \(index)"
        }
        sameContent.insert(id)
        return nil
    }
}
