// Assembly files: whether the assembler makes the same of them, and if not, which entry points differ. Code is not
// divided as a compiler divides it, so nothing of it is shipped; but most changes of such files, and nearly all of the
// headers that they include, change nothing at all.

enum AssemblyComparison {
    /// A stretch of a section from one named place to the next.
    private struct Piece: Equatable {
        var bytes: [UInt8]
        var size: Int
        var references: [Reference]
    }

    private struct Reference: Equatable {
        var offset: Int
        var type: UInt32
        var target: String
        var addend: Int64
    }

    private struct Place: Hashable {
        var section: String
        var name: String
    }

    /// The names of what differs, sorted: global entry points, or sections where there is none. Empty for objects that
    /// are the same but for debug information.
    static func differences(pre: ObjectFile, post: ObjectFile) -> [String] {
        let (a, b) = (pieces(pre), pieces(post))
        let places = Set(a.keys).union(b.keys).filter { a[$0] != b[$0] }
        var names = Set(places.map { $0.name.isEmpty ? $0.section : $0.name })
        let (old, new) = (globals(pre), globals(post))
        names.formUnion(old.symmetricDifference(new))
        return names.sorted()
    }

    private static func globals(_ object: ObjectFile) -> Set<String> {
        Set(object.symbols.filter { !$0.isLocal && $0.isDefinedInSection }.map(\.name))
    }

    private static func pieces(_ object: ObjectFile) -> [Place: Piece] {
        var result: [Place: Piece] = [:]
        for (index, section) in object.sections.enumerated()
        where section.isAllocated && section.type != SectionType.null && section.size > 0 {
            let starts = starts(object, index)
            for (position, start) in starts.enumerated() {
                let end = position + 1 < starts.count ? starts[position + 1].offset : section.size
                guard start.offset < end else { continue }
                let range = start.offset..<end
                var place = Place(section: section.name, name: start.name)
                // Two places of one name: what they hold is compared in order.
                while result[place] != nil { place.name += "'" }
                result[place] = Piece(
                    bytes: section.hasContents ? Array(section.contents[range]) : [], size: range.count,
                    references: section.relocations(in: range).map { relocation in
                        reference(relocation, object, start.offset)
                    })
            }
        }
        return result
    }

    /// Where global names stand in a section, its beginning included, by offset.
    private static func starts(_ object: ObjectFile, _ section: Int) -> [(offset: Int, name: String)] {
        let named = object.symbols.filter { $0.section == section && !$0.isLocal && !$0.name.isEmpty }
        let byOffset = Dictionary(grouping: named) { Int($0.value) }.mapValues { $0.map(\.name).sorted()[0] }
        var starts = byOffset.map { (offset: $0.key, name: $0.value) }.sorted { $0.offset < $1.offset }
        if starts.first?.offset != 0 { starts.insert((0, ""), at: 0) }
        return starts
    }

    private static func reference(_ relocation: Relocation, _ object: ObjectFile, _ base: Int) -> Reference {
        let symbol = object.symbols[relocation.symbol]
        let offset = relocation.offset - base
        guard symbol.isDefinedInSection, symbol.isLocal else {
            return Reference(
                offset: offset, type: relocation.type, target: symbol.name, addend: relocation.addend)
        }
        // A local place is known by the entry point before it, so that code which moves does not count.
        let place = Int64(symbol.value) + relocation.addend
        let owner = starts(object, symbol.section).last { Int64($0.offset) <= max(0, place) }
        return Reference(
            offset: offset, type: relocation.type,
            target: object.sections[symbol.section].name + ":" + (owner?.name ?? ""),
            addend: place - Int64(owner?.offset ?? 0))
    }
}
