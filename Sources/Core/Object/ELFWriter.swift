// Writing a relocatable object, ELF64 for x86-64 and ELF32 for 32-bit x86. The layout is fixed and simple, so that equal values give equal bytes:
// header, section contents in order, relocation sections, symbol table, string tables, section headers.
// Local symbols come first, as the format demands; `write` renumbers accordingly.

/// Builds the bytes of an `ET_REL` file.
public struct ELFWriter {
    private var object: ObjectFile
    private var bytes: [UInt8] = []
    private var headers: [Header] = []
    private var sectionNames = StringTable()

    private struct Header {
        var name = 0, type: UInt32 = 0, flags: UInt64 = 0, address: UInt64 = 0, offset = 0, size = 0
        var link: UInt32 = 0, info: UInt32 = 0, alignment: UInt64 = 0, entrySize: UInt64 = 0
    }

    /// Sizes of the class's structures, in bytes.
    private let form: ELFForm

    /// The bytes of an object. Fails where an addend does not fit into its field.
    public static func write(_ object: ObjectFile) throws -> [UInt8] {
        var writer = ELFWriter(object: object)
        return try writer.run()
    }

    private init(object: ObjectFile) {
        self.object = object
        form = ELFForm(is64Bit: object.is64Bit)
    }

    private mutating func run() throws -> [UInt8] {
        // Sections of type null keep no place in the file; all indices are mapped.
        var sectionMap = [Int: Int]()
        var kept: [Int] = []
        for (index, section) in object.sections.enumerated()
        where index == 0 || section.type != SectionType.null {
            sectionMap[index] = kept.count
            kept.append(index)
        }
        let order =
            [0] + object.symbols.indices.dropFirst().filter { object.symbols[$0].isLocal }
            + object.symbols.indices.dropFirst().filter { !object.symbols[$0].isLocal }
        var symbolMap = [Int](repeating: 0, count: object.symbols.count)
        for (position, index) in order.enumerated() { symbolMap[index] = position }
        let localCount = order.prefix { $0 == 0 || object.symbols[$0].isLocal }.count

        bytes = [UInt8](repeating: 0, count: form.header)
        headers = [Header()]
        for index in kept.dropFirst() { try appendSection(object.sections[index]) }
        let relocated = kept.dropFirst().filter { !object.sections[$0].relocations.isEmpty }
        let symbolTableIndex = kept.count + relocated.count
        for index in relocated {
            appendRelocations(
                object.sections[index], target: sectionMap[index]!, symbolTable: symbolTableIndex, symbolMap)
        }
        appendSymbols(order, localCount, sectionMap)
        finish()
        return bytes
    }

    private mutating func align(_ alignment: Int) {
        let rest = bytes.count % max(alignment, 1)
        if rest != 0 { bytes += [UInt8](repeating: 0, count: alignment - rest) }
    }

    private mutating func appendSection(_ section: Section) throws {
        align(Int(section.alignment))
        headers.append(
            Header(
                name: sectionNames.add(section.name), type: section.type, flags: section.flags,
                offset: bytes.count,
                size: section.size, alignment: section.alignment, entrySize: section.entrySize))
        bytes += try form.isRela ? section.contents : withAddends(section)
    }

    /// The content of a section with the addends in their fields.
    private func withAddends(_ section: Section) throws -> [UInt8] {
        var contents = section.contents
        for relocation in section.relocations
        where !InPlaceAddends.write(
            relocation.addend, to: &contents, at: relocation.offset, type: relocation.type)
        {
            throw Failure(
                "the addend \(relocation.addend) of a relocation of type \(InPlaceAddends.rawType(relocation.type)) in "
                    + "\(section.name) does not fit into its field")
        }
        return contents
    }

    /// A number that is as wide as an address.
    private mutating func append(word value: UInt64) {
        if form.word == 8 {
            bytes.append(littleEndian: value)
        } else {
            bytes.append(littleEndian: UInt32(truncatingIfNeeded: value))
        }
    }

    private mutating func appendRelocations(
        _ section: Section, target: Int, symbolTable: Int, _ symbolMap: [Int]
    ) {
        align(form.word)
        headers.append(
            Header(
                name: sectionNames.add((form.isRela ? ".rela" : ".rel") + section.name),
                type: form.isRela ? SectionType.rela : SectionType.rel,
                flags: SectionFlags.infoLink,
                offset: bytes.count, size: section.relocations.count * form.relocation,
                link: UInt32(symbolTable),
                info: UInt32(target), alignment: UInt64(form.word), entrySize: UInt64(form.relocation)))
        for relocation in section.relocations {
            append(word: UInt64(relocation.offset))
            append(
                word: form.information(symbol: symbolMap[relocation.symbol], type: relocation.type))
            if form.isRela { bytes.append(littleEndian: relocation.addend) }
        }
    }

    private mutating func appendSymbols(_ order: [Int], _ localCount: Int, _ sectionMap: [Int: Int]) {
        var names = StringTable()
        align(form.word)
        let start = bytes.count
        for index in order {
            let symbol = object.symbols[index]
            let section = symbol.isDefinedInSection ? sectionMap[symbol.section]! : symbol.section
            bytes.append(littleEndian: UInt32(symbol.isSectionSymbol ? 0 : names.add(symbol.name)))
            if form.word == 4 {
                append(word: symbol.value)
                append(word: symbol.size)
            }
            bytes.append(symbol.binding << 4 | symbol.type)
            bytes.append(symbol.other)
            bytes.append(littleEndian: UInt16(section))
            if form.word == 8 {
                append(word: symbol.value)
                append(word: symbol.size)
            }
        }
        headers.append(
            Header(
                name: sectionNames.add(".symtab"), type: SectionType.symbolTable, offset: start,
                size: bytes.count - start, link: UInt32(headers.count + 1), info: UInt32(localCount),
                alignment: UInt64(form.word),
                entrySize: UInt64(form.symbol)))
        headers.append(
            Header(
                name: sectionNames.add(".strtab"), type: SectionType.stringTable, offset: bytes.count,
                size: names.bytes.count, alignment: 1))
        bytes += names.bytes
    }

    private mutating func finish() {
        let label = sectionNames.add(".shstrtab")
        headers.append(
            Header(
                name: label, type: SectionType.stringTable, offset: bytes.count,
                size: sectionNames.bytes.count,
                alignment: 1))
        bytes += sectionNames.bytes
        align(form.word)
        let table = bytes.count
        for header in headers {
            bytes.append(littleEndian: UInt32(header.name))
            bytes.append(littleEndian: header.type)
            append(word: header.flags)
            append(word: header.address)
            append(word: UInt64(header.offset))
            append(word: UInt64(header.size))
            bytes.append(littleEndian: header.link)
            bytes.append(littleEndian: header.info)
            append(word: header.alignment)
            append(word: header.entrySize)
        }
        let contents = bytes
        bytes =
            [0x7f, 0x45, 0x4c, 0x46, form.word == 8 ? 2 : 1, 1, 1] + [UInt8](repeating: 0, count: 9)
        bytes.append(littleEndian: object.type)
        bytes.append(littleEndian: object.machine)
        bytes.append(littleEndian: UInt32(1))
        for place in [0, 0, table] { append(word: UInt64(place)) }
        bytes.append(littleEndian: UInt32(0))
        for value in [form.header, 0, 0, form.section, headers.count, headers.count - 1] {
            bytes.append(littleEndian: UInt16(value))
        }
        bytes += contents[form.header...]
    }
}

/// A string table in which equal strings share a place.
struct StringTable {
    private(set) var bytes: [UInt8] = [0]
    private var places: [String: Int] = ["": 0]

    mutating func add(_ text: String) -> Int {
        if let place = places[text] { return place }
        let place = bytes.count
        bytes += Array(text.utf8) + [0]
        places[text] = place
        return place
    }
}
