// Writing a relocatable ELF64 object. The layout is fixed and simple, so that equal values give equal bytes:
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

    /// The bytes of an object. 64-bit only: 32-bit kernels' objects are written by the binutils.
    public static func write(_ object: ObjectFile) throws -> [UInt8] {
        guard object.is64Bit else { throw Failure("cannot write a 32-bit object") }
        var writer = ELFWriter(object: object)
        return writer.run()
    }

    private init(object: ObjectFile) { self.object = object }

    private mutating func run() -> [UInt8] {
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

        bytes = [UInt8](repeating: 0, count: 64)
        headers = [Header()]
        for index in kept.dropFirst() { appendSection(object.sections[index]) }
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

    private mutating func appendSection(_ section: Section) {
        align(Int(section.alignment))
        headers.append(
            Header(
                name: sectionNames.add(section.name), type: section.type, flags: section.flags,
                offset: bytes.count,
                size: section.size, alignment: section.alignment, entrySize: section.entrySize))
        bytes += section.contents
    }

    private mutating func appendRelocations(
        _ section: Section, target: Int, symbolTable: Int, _ symbolMap: [Int]
    ) {
        align(8)
        headers.append(
            Header(
                name: sectionNames.add(".rela" + section.name), type: SectionType.rela,
                flags: SectionFlags.infoLink,
                offset: bytes.count, size: section.relocations.count * 24, link: UInt32(symbolTable),
                info: UInt32(target), alignment: 8, entrySize: 24))
        for relocation in section.relocations {
            bytes.append(littleEndian: UInt64(relocation.offset))
            bytes.append(littleEndian: UInt64(symbolMap[relocation.symbol]) << 32 | UInt64(relocation.type))
            bytes.append(littleEndian: relocation.addend)
        }
    }

    private mutating func appendSymbols(_ order: [Int], _ localCount: Int, _ sectionMap: [Int: Int]) {
        var names = StringTable()
        align(8)
        let start = bytes.count
        for index in order {
            let symbol = object.symbols[index]
            let section = symbol.isDefinedInSection ? sectionMap[symbol.section]! : symbol.section
            bytes.append(littleEndian: UInt32(symbol.isSectionSymbol ? 0 : names.add(symbol.name)))
            bytes.append(symbol.binding << 4 | symbol.type)
            bytes.append(symbol.other)
            bytes.append(littleEndian: UInt16(section))
            bytes.append(littleEndian: symbol.value)
            bytes.append(littleEndian: symbol.size)
        }
        headers.append(
            Header(
                name: sectionNames.add(".symtab"), type: SectionType.symbolTable, offset: start,
                size: bytes.count - start, link: UInt32(headers.count + 1), info: UInt32(localCount),
                alignment: 8,
                entrySize: 24))
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
        align(8)
        let table = bytes.count
        for header in headers {
            bytes.append(littleEndian: UInt32(header.name))
            bytes.append(littleEndian: header.type)
            bytes.append(littleEndian: header.flags)
            bytes.append(littleEndian: header.address)
            bytes.append(littleEndian: UInt64(header.offset))
            bytes.append(littleEndian: UInt64(header.size))
            bytes.append(littleEndian: header.link)
            bytes.append(littleEndian: header.info)
            bytes.append(littleEndian: header.alignment)
            bytes.append(littleEndian: header.entrySize)
        }
        var head: [UInt8] = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1] + [UInt8](repeating: 0, count: 9)
        head.append(littleEndian: object.type)
        head.append(littleEndian: object.machine)
        head.append(littleEndian: UInt32(1))
        head.append(littleEndian: UInt64(0))
        head.append(littleEndian: UInt64(0))
        head.append(littleEndian: UInt64(table))
        head.append(littleEndian: UInt32(0))
        for value in [64, 0, 0, 64, headers.count, headers.count - 1] {
            head.append(littleEndian: UInt16(value))
        }
        bytes.replaceSubrange(0..<64, with: head)
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
