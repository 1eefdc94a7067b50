// One unit prepared for comparison: its patch sites, what each relocation really refers to, and where the
// instructions around a field end.

final class UnitCode {
    let index: Int
    let unit: MatchUnit
    let sites: PatchSites
    let space: MatchSpace
    private var variantCache: [Int: [PatchVariant]] = [:]
    private var boundaryCache: [Int: [Int]] = [:]

    var object: ObjectFile { unit.object }

    init(index: Int, unit: MatchUnit, sites: PatchSites, space: MatchSpace) {
        self.index = index
        self.unit = unit
        self.sites = sites
        self.space = space
    }

    /// What a relocation's symbol turns out to be.
    enum Referent {
        /// A symbol: its value is the relocation's symbol value plus `shift`. A named constant has its place too.
        case symbol(key: Int, shift: Int64, constant: CodeRange?)
        /// A place inside code, behind a function's entry.
        case inside(section: Int, offset: Int, key: Int, delta: Int)
        /// Unnamed bytes of a read-only section, which stand at the relocation's symbol value plus `shift`.
        case content(section: Int, offset: Int, shift: Int)
        /// A place in a section that has no symbol.
        case unnamed
    }

    func variants(_ site: PatchSite, section: Int, _ environment: PatchEnvironment) -> [PatchVariant] {
        let id = section << 40 | site.offset
        if let cached = variantCache[id] { return cached }
        let made = site.variants(in: object, section: section, environment)
        variantCache[id] = made
        return made
    }

    /// Resolves a relocation of a section; section symbols are replaced by what lies at the offset that is meant.
    func referent(_ relocation: Relocation, section: Int) -> Referent {
        let symbol = object.symbols[relocation.symbol]
        guard symbol.isSectionSymbol, symbol.isDefinedInSection else {
            let key = space.keyOfSymbol[index][relocation.symbol]
            guard key >= 0 else { return .unnamed }
            // The compiler's label of a constant (`.LC4`), which a module's kallsyms has: an update has its own.
            if symbol.isDefinedInSection, symbol.name.hasPrefix(".L"),
                object.sections[symbol.section].flags & SectionFlags.merge != 0
            {
                return .content(
                    section: symbol.section, offset: Int(truncatingIfNeeded: symbol.value), shift: 0)
            }
            let range =
                symbol.isDefinedInSection && !symbol.isWeak
                ? constant(
                    symbol.section, Int(truncatingIfNeeded: symbol.value),
                    Int(truncatingIfNeeded: symbol.size))
                : nil
            return .symbol(key: key, shift: 0, constant: range)
        }
        let target = object.sections[symbol.section]
        let list = space.places[index][symbol.section]
        let isConstant = isConstant(symbol.section)
        if list.count == 1, list[0].offset == 0, !target.isExecutable, list[0].size >= target.size {
            return .symbol(key: list[0].key, shift: 0, constant: constant(symbol.section, 0, list[0].size))
        }
        let bias = X86Relocation.of(relocation.type)?.isRelative == true ? fieldEnd(relocation, section) : 0
        let offset = Int(truncatingIfNeeded: relocation.addend) &+ bias
        if target.isMergeableStrings || (target.flags & SectionFlags.merge != 0) {
            return .content(section: symbol.section, offset: offset, shift: offset)
        }
        return place(symbol.section, offset, isConstant: isConstant)
    }

    /// What stands at an offset of a section.
    func place(_ section: Int, _ offset: Int, isConstant: Bool = false) -> Referent {
        guard let place = space.place(index, section, offset) else {
            return isConstant ? .content(section: section, offset: offset, shift: offset) : .unnamed
        }
        let delta = offset - place.offset
        if object.sections[section].isExecutable && delta != 0 {
            return .inside(section: section, offset: place.offset, key: place.key, delta: delta)
        }
        if isConstant && place.size > 0 && delta >= place.size {
            return .content(section: section, offset: offset, shift: offset)
        }
        return .symbol(
            key: place.key, shift: Int64(place.offset), constant: constant(section, place.offset, place.size))
    }

    private func isConstant(_ section: Int) -> Bool {
        object.sections[section].name.hasPrefix(".rodata") && !object.sections[section].isWritable
    }

    private func constant(_ section: Int, _ offset: Int, _ size: Int) -> CodeRange? {
        guard isConstant(section), size > 0, offset >= 0,
            offset + size <= object.sections[section].contents.count
        else { return nil }
        return CodeRange(section: section, offset: offset, length: size)
    }

    /// From a relative field's first byte to the end of its instruction: a relocation counts from the field, the
    /// processor from the next instruction, and an immediate operand may stand between. In data it is 0.
    private func fieldEnd(_ relocation: Relocation, _ section: Int) -> Int {
        let code = object.sections[section]
        guard code.isExecutable || code.name == ".altinstr_replacement" else { return 0 }
        if X86Relocation.isPLT32(relocation.type) { return 4 }
        for (back, first) in [(1, 0xe8 as UInt8), (1, 0xe9), (2, 0x0f)] where relocation.offset >= back {
            guard code.contents[relocation.offset - back] == first else { continue }
            if back == 1 || code.contents[relocation.offset - 1] & 0xf0 == 0x80 { return 4 }
        }
        let end = boundaries(section, around: relocation.offset).first { $0 > relocation.offset }
        return (end ?? relocation.offset + 4) - relocation.offset
    }

    /// The starts of the instructions of the function around an offset, and its end.
    func boundaries(_ section: Int, around offset: Int) -> [Int] {
        let contents = object.sections[section].contents
        let start = space.place(index, section, offset)?.offset ?? 0
        let id = section << 40 | start
        if let cached = boundaryCache[id] { return cached }
        let end = space.places[index][section].first { $0.offset > start }?.offset ?? contents.count
        let stop = min(end, contents.count)
        let found =
            start < stop
            ? X86Instruction.boundaries(of: contents, in: start..<stop, is64Bit: object.is64Bit) : []
        boundaryCache[id] = found
        return found
    }
}
