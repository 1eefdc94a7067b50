// Pre objects come with updates, from elsewhere. Matching computes with their offsets and addends in many places;
// one check at the start that all of them lie in sane bounds replaces a check at each.

extension ObjectFile {
    /// Most that an addend may be, in either direction: far more than any kernel object needs.
    private static let addendLimit: UInt64 = 1 << 40

    /// Fails where a symbol or a relocation lies outside of its section, or a number is absurd.
    func checkBounds() throws {
        for section in sections {
            guard section.size <= 1 << 40, section.entrySize <= 1 << 30,
                !section.hasContents || section.contents.count == section.size
            else { throw Failure("section \(section.name) has an impossible size") }
            for relocation in section.relocations {
                guard relocation.offset >= 0, relocation.offset < section.contents.count,
                    symbols.indices.contains(relocation.symbol),
                    relocation.addend.magnitude <= Self.addendLimit
                else { throw Failure("a relocation of section \(section.name) is out of bounds") }
            }
        }
        for symbol in symbols where symbol.isDefinedInSection {
            guard sections.indices.contains(symbol.section),
                symbol.value <= UInt64(sections[symbol.section].size),
                symbol.size <= UInt64(sections[symbol.section].size) - symbol.value
            else { throw Failure("symbol '\(symbol.name)' lies outside of its section") }
        }
    }
}
