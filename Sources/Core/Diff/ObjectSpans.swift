// An object divided into spans, the units of comparison: functions, data objects, stretches without a name.
// Compiled with one section for each function and object, most sections hold one span; the others (strings,
// `.init.text`, `.data..read_mostly`, ...) are divided by their symbols.

/// A stretch of one section that is compared and shipped as one piece.
struct ObjectSpan: Sendable {
    var section: Int
    var range: Range<Int>
    /// Names of symbols at its start, global ones first; empty for a stretch without a name.
    var names: [String]
    /// The symbol of the first name; 0 for none.
    var symbol: Int
    var role: SectionRole
    var isFunction: Bool
    /// Whether any of its names is visible to other objects.
    var isGlobal: Bool
    var isWeak: Bool

    var name: String { names.first ?? "" }
}

/// What a relocation refers to.
enum Target: Equatable {
    /// A symbol of another object.
    case external(String)
    /// Offset in bytes from the span's start, as the addend has it (for a PC-relative field in code that is the
    /// place less the distance from the field to the end of its instruction).
    case span(Int, Int64)
    /// A string or constant: section and true offset.
    case content(Int, Int)
    case absolute(UInt64)
}

/// One entry of a table section.
struct TableEntry {
    var section: Int
    var range: Range<Int>
    /// Where in its owner it points, in bytes from the span's start.
    var offset: Int64
}

final class ObjectSpans {
    let object: ObjectFile
    /// For messages.
    let path: String
    private(set) var spans: [ObjectSpan] = []
    /// The spans of each section, in order.
    private(set) var bySection: [[Int]]
    private(set) var roles: [SectionRole] = []
    /// The entries that describe each code span, by span.
    private(set) var entries: [Int: [TableEntry]] = [:]
    /// The span of each symbol; nil for undefined and absolute ones.
    private(set) var spanOfSymbol: [Int?]
    private var boundaries: [Int: [Int]] = [:]
    let tables: [String: Int]

    init(_ object: ObjectFile, path: String, tables: [String: Int]) throws {
        self.object = object
        self.path = path
        self.tables = tables
        bySection = Array(repeating: [], count: object.sections.count)
        spanOfSymbol = Array(repeating: nil, count: object.symbols.count)
        var symbolsOf = Array(repeating: [Int](), count: object.sections.count)
        for (index, symbol) in object.symbols.enumerated()
        where symbol.isDefinedInSection && !symbol.isSectionSymbol && symbol.type != SymbolType.file {
            symbolsOf[symbol.section].append(index)
        }
        let pieces = Self.piecesOfAuxiliaryCode(object)
        for (index, section) in object.sections.enumerated() {
            let role = try TableSections.role(of: section, object: path)
            roles.append(role)
            if role != .ignored && role != .codeTable && role != .objtoolTable {
                divide(index, role, symbolsOf[index], pieces[index] ?? [])
            }
        }
        for (index, symbol) in object.symbols.enumerated()
        where symbol.isDefinedInSection && !symbol.isSectionSymbol {
            spanOfSymbol[index] = span(at: Int(symbol.value), section: symbol.section)
        }
        for index in object.sections.indices where roles[index] == .codeTable || roles[index] == .objtoolTable
        {
            try readTable(index)
        }
    }

    /// Where the pieces of code begin that stand in `.altinstr_aux`, by section: code that a function jumps to until an
    /// alternative has been applied (`_static_cpu_has` of arch/x86/include/asm/cpufeature.h). They have no symbols; the
    /// jumps to them, whose last four bytes are the field, tell.
    private static func piecesOfAuxiliaryCode(_ object: ObjectFile) -> [Int: Set<Int>] {
        var pieces: [Int: Set<Int>] = [:]
        for section in object.sections where section.isExecutable {
            for relocation in section.relocations {
                let symbol = object.symbols[relocation.symbol]
                guard symbol.isSectionSymbol, symbol.isDefinedInSection,
                    object.sections[symbol.section].name == TableSections.auxiliaryCode
                else { continue }
                pieces[symbol.section, default: [0]].insert(Int(symbol.value) + Int(relocation.addend) + 4)
            }
        }
        return pieces
    }

    private func divide(_ index: Int, _ role: SectionRole, _ symbols: [Int], _ pieces: Set<Int>) {
        let section = object.sections[index]
        guard section.size > 0 || !symbols.isEmpty else { return }
        func add(_ range: Range<Int>, _ names: [Int]) {
            let sorted = names.sorted { a, b in
                let (x, y) = (object.symbols[a], object.symbols[b])
                if x.isLocal != y.isLocal { return !x.isLocal }
                return x.name < y.name
            }
            bySection[index].append(spans.count)
            spans.append(
                ObjectSpan(
                    section: index, range: range, names: sorted.map { object.symbols[$0].name },
                    symbol: sorted.first ?? 0,
                    role: role,
                    isFunction: section.isExecutable
                        && (role == .code || role == .initCode || role == .exitCode),
                    isGlobal: names.contains { !object.symbols[$0].isLocal },
                    isWeak: names.contains { object.symbols[$0].isWeak }))
        }
        // Strings, constants and replacement code are found by offset, not by name.
        if role == .strings || role == .constants || role == .replacementCode {
            add(0..<section.size, [])
            return
        }
        if !pieces.isEmpty {
            let cuts = pieces.filter { $0 >= 0 && $0 < section.size }.sorted() + [section.size]
            for (start, end) in zip(cuts, cuts.dropFirst()) { add(start..<end, []) }
            return
        }
        let starts = Dictionary(grouping: symbols) { Int(object.symbols[$0].value) }
        let offsets = starts.keys.filter { $0 < section.size || section.size == 0 }.sorted()
        if let first = offsets.first {
            if first > 0 { add(0..<first, []) }
        } else {
            add(0..<section.size, [])
        }
        for (position, start) in offsets.enumerated() {
            let next = position + 1 < offsets.count ? offsets[position + 1] : section.size
            let size = starts[start]!.map { Int(object.symbols[$0].size) }.max() ?? 0
            // What follows a sized object up to the next one is padding in code and data, but may be a nameless
            // object in read-only data.
            let end =
                size == 0 || next - start - size < 64 && !mayHoldNameless(section)
                ? next : min(next, start + size)
            add(start..<end, starts[start]!)
            if end < next { add(end..<next, []) }
        }
    }

    private func mayHoldNameless(_ section: Section) -> Bool {
        !section.isExecutable && section.name == ".rodata"
    }

    /// Where a span starts, in the object's debug information.
    func address(_ span: Int, in debug: DebugInformation) -> UInt64 {
        debug.address(section: spans[span].section, offset: spans[span].range.lowerBound)
    }

    /// The span that covers an offset of a section.
    func span(at offset: Int, section: Int) -> Int? {
        let list = bySection[section]
        var low = 0
        var high = list.count
        while low < high {
            let middle = (low + high) / 2
            if spans[list[middle]].range.lowerBound <= offset { low = middle + 1 } else { high = middle }
        }
        return low > 0 ? list[low - 1] : nil
    }

    // MARK: - References

    func relocations(of span: ObjectSpan) -> ArraySlice<Relocation> {
        object.sections[span.section].relocations(in: span.range)
    }

    func bytes(of span: ObjectSpan) -> ArraySlice<UInt8> {
        let section = object.sections[span.section]
        return section.hasContents ? section.contents[span.range] : []
    }

    /// What a relocation of a section refers to.
    func target(of relocation: Relocation, in section: Int) -> Target {
        let symbol = object.symbols[relocation.symbol]
        if symbol.isUndefined { return .external(symbol.name) }
        guard symbol.isDefinedInSection else { return .absolute(symbol.value) }
        let role = roles[symbol.section]
        if role == .strings || role == .constants || role == .replacementCode {
            return .content(
                symbol.section, Int(symbol.value) + Int(relocation.addend) + correction(relocation, section))
        }
        if !symbol.isSectionSymbol, let span = spanOfSymbol[relocation.symbol] {
            return .span(span, Int64(symbol.value) - Int64(spans[span].range.lowerBound) + relocation.addend)
        }
        let list = bySection[symbol.section]
        let raw = Int64(symbol.value) + relocation.addend
        if list.count == 1 { return .span(list[0], raw - Int64(spans[list[0]].range.lowerBound)) }
        let place = Int(raw) + correction(relocation, section)
        guard let span = span(at: place, section: symbol.section) else {
            return .absolute(UInt64(bitPattern: raw))
        }
        return .span(span, raw - Int64(spans[span].range.lowerBound))
    }

    /// For a PC-relative field inside an instruction: the distance from the field to the instruction's end, which the
    /// addend has subtracted. 0 for all other fields.
    func correction(_ relocation: Relocation, _ section: Int) -> Int {
        guard object.sections[section].isExecutable,
            X86Relocation.isPC32(relocation.type)
        else { return 0 }
        guard let span = span(at: relocation.offset, section: section) else { return 4 }
        let starts = instructionStarts(span)
        let offset = relocation.offset
        guard let next = starts.first(where: { $0 > offset }) else { return 4 }
        return next - offset
    }

    /// Offsets in the section of the first bytes behind each instruction of a code span.
    private func instructionStarts(_ index: Int) -> [Int] {
        if let known = boundaries[index] { return known }
        let span = spans[index]
        let bytes = Array(bytes(of: span))
        var starts: [Int] = []
        var offset = 0
        while offset < bytes.count {
            offset += max(1, instructionLength(bytes, at: offset, is64Bit: object.is64Bit))
            starts.append(span.range.lowerBound + offset)
        }
        boundaries[index] = starts
        return starts
    }

    /// The bytes that a content target stands for, up to and with the zero byte of a string.
    func content(section index: Int, offset: Int) -> [UInt8] {
        let section = object.sections[index]
        guard offset >= 0, offset < section.contents.count else { return [] }
        if roles[index] == .strings {
            let end = section.contents[offset...].firstIndex(of: 0) ?? section.contents.count - 1
            return Array(section.contents[offset...end])
        }
        let size = max(1, Int(section.entrySize))
        let start = offset - offset % size
        return Array(section.contents[start..<min(start + size, section.contents.count)])
    }

    // MARK: - Tables

    /// Divides a table into entries and gives each to the code that its first field refers to.
    private func readTable(_ index: Int) throws {
        let section = object.sections[index]
        var ranges: [Range<Int>] = []
        if let size = TableSections.entrySize(section.name, tables), roles[index] == .codeTable {
            var start = 0
            while start < section.size {
                // The last entry's padding may be missing (.parainstructions).
                ranges.append(start..<min(start + size, section.size))
                start += size
            }
        } else if roles[index] == .objtoolTable || section.name == "__patchable_function_entries"
            || section.name == ".kcfi_traps"
        {
            // One relocation an entry, at its start.
            let starts = section.relocations.map(\.offset)
            for (position, start) in starts.enumerated() {
                ranges.append(start..<(position + 1 < starts.count ? starts[position + 1] : section.size))
            }
        } else if section.size > 0 {
            throw Failure("the size of the entries of '\(section.name)' is not known (object '\(path)')")
        }
        for range in ranges {
            guard let owner = section.relocations(in: range).first, owner.offset == range.lowerBound else {
                throw Failure("table '\(section.name)' of object '\(path)' has an entry without an owner")
            }
            let symbol = object.symbols[owner.symbol]
            guard symbol.isDefinedInSection else { continue }
            let place = Int(symbol.value) + Int(owner.addend)
            guard let span = span(at: place, section: symbol.section) else { continue }
            entries[span, default: []].append(
                TableEntry(
                    section: index, range: range, offset: Int64(place) - Int64(spans[span].range.lowerBound)))
        }
    }
}
