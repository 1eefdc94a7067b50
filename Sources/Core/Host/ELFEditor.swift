// Edits an ELF64 file in place: what is not touched stays as it is, byte for byte, so that a module that a build
// system made (and its relocations, notes and ORC data) goes to the kernel unchanged but for what was decided here.
// New content that is larger than the old is appended at the end of the file, and the section's header led there.

/// A relocatable ELF64 file under edit.
struct ELFEditor {
    struct Header {
        /// Of the section header in the file.
        let place: Int
        let name: String
        var type: UInt32
        let flags: UInt64
        var offset: Int
        var size: Int
        let link: Int
        let info: Int
    }

    struct RawSymbol {
        /// Of the entry in the file.
        let place: Int
        let name: String
        let binding: UInt8
        let section: Int
        let value: UInt64
    }

    private(set) var bytes: [UInt8]
    private(set) var headers: [Header] = []
    let name: String

    /// Fails on anything but a relocatable ELF64 file for x86-64 whose tables lie inside the file.
    init(_ bytes: [UInt8], name: String) throws {
        self.bytes = bytes
        self.name = name
        guard bytes.load(UInt32.self, at: 0) == 0x464c_457f, bytes.count >= 64, bytes[4] == 2, bytes[5] == 1,
            bytes.load(UInt16.self, at: 16) == 1, bytes.load(UInt16.self, at: 18) == 62
        else { throw Self.malformed(name, "not a relocatable object for x86-64") }
        let table = Int(truncatingIfNeeded: bytes.load(UInt64.self, at: 40) ?? 0)
        let count = Int(bytes.load(UInt16.self, at: 60) ?? 0)
        let names = Int(bytes.load(UInt16.self, at: 62) ?? 0)
        guard bytes.load(UInt16.self, at: 58) == 64, table >= 64, table <= bytes.count - count * 64,
            names < count
        else { throw Self.malformed(name, "its section headers lie outside") }
        func word(_ index: Int, _ offset: Int) -> Int {
            Int(truncatingIfNeeded: bytes.load(UInt64.self, at: table + index * 64 + offset) ?? 0)
        }
        let strings = word(names, 24)
        for index in 0..<count {
            let place = table + index * 64
            let label = strings &+ Int(bytes.load(UInt32.self, at: place) ?? 0)
            let type = bytes.load(UInt32.self, at: place + 4) ?? 0
            // A null section has no content, whatever its header says.
            let (offset, size) = type == SectionType.null ? (0, 0) : (word(index, 24), word(index, 32))
            guard let text = bytes.string(at: label), offset >= 0, size >= 0, size <= 1 << 30,
                type == SectionType.noBits || offset <= bytes.count && size <= bytes.count - offset
            else { throw Self.malformed(name, "section \(index) lies outside") }
            headers.append(
                Header(
                    place: place, name: text, type: type, flags: bytes.load(UInt64.self, at: place + 8) ?? 0,
                    offset: offset, size: size, link: Int(bytes.load(UInt32.self, at: place + 40) ?? 0),
                    info: Int(bytes.load(UInt32.self, at: place + 44) ?? 0)))
        }
    }

    private static func malformed(_ name: String, _ what: String) -> Failure {
        Failure("malformed module '\(name)': \(what)", status: .verificationRefused)
    }

    func malformed(_ what: String) -> Failure { Self.malformed(name, what) }

    /// The index of the only section of a name. Fails where there is none or several.
    func section(_ wanted: String) throws -> Int {
        let found = headers.indices.filter { headers[$0].name == wanted }
        guard found.count == 1 else {
            throw malformed(
                found.isEmpty ? "it has no section \(wanted)" : "it has several sections \(wanted)")
        }
        return found[0]
    }

    func contents(_ section: Int) -> [UInt8] {
        let header = headers[section]
        if header.type == SectionType.noBits { return [UInt8](repeating: 0, count: header.size) }
        return Array(bytes[header.offset..<header.offset + header.size])
    }

    /// Gives a section new content, in place where it fits, else at the end of the file.
    mutating func replaceContents(_ section: Int, with new: [UInt8]) {
        var header = headers[section]
        if header.type != SectionType.noBits && new.count <= header.size {
            bytes.replaceSubrange(header.offset..<header.offset + new.count, with: new)
        } else {
            bytes += [UInt8](repeating: 0, count: (64 - bytes.count % 64) % 64)
            header.offset = bytes.count
            header.type = SectionType.progBits
            bytes += new
        }
        header.size = new.count
        bytes.store(header.type, at: header.place + 4)
        bytes.store(UInt64(header.offset), at: header.place + 24)
        bytes.store(UInt64(header.size), at: header.place + 32)
        headers[section] = header
    }

    /// Takes entries of equal size out of a table, with their relocations; those behind them move up.
    mutating func removeEntries(_ removed: Set<Int>, of section: Int, size: Int) throws {
        let old = contents(section)
        var kept: [UInt8] = []
        var moved: [Int: Int] = [:]
        for entry in 0..<old.count / size where !removed.contains(entry) {
            moved[entry] = kept.count / size
            kept += old[entry * size..<(entry + 1) * size]
        }
        for table in headers.indices
        where headers[table].type == SectionType.rela && headers[table].info == section {
            let records = contents(table)
            var left: [UInt8] = []
            for start in stride(from: 0, to: records.count / 24 * 24, by: 24) {
                guard let offset = records.load(UInt64.self, at: start), offset < UInt64(old.count) else {
                    throw malformed("a relocation lies outside")
                }
                guard let place = moved[Int(offset) / size] else { continue }
                var record = Array(records[start..<start + 24])
                record.store(UInt64(place * size + Int(offset) % size), at: 0)
                left += record
            }
            replaceContents(table, with: left)
        }
        replaceContents(section, with: kept)
    }

    /// The symbol table, in file order.
    func symbols() throws -> [RawSymbol] {
        guard let table = headers.first(where: { $0.type == SectionType.symbolTable }),
            headers.indices.contains(table.link)
        else { throw malformed("it has no symbol table") }
        let strings = headers[table.link].offset
        return try stride(from: table.offset, to: table.offset + table.size / 24 * 24, by: 24).map { place in
            guard let label = bytes.load(UInt32.self, at: place),
                let text = bytes.string(at: strings &+ Int(label)),
                let section = bytes.load(UInt16.self, at: place + 6),
                let value = bytes.load(UInt64.self, at: place + 8)
            else { throw malformed("its symbol table lies outside") }
            return RawSymbol(
                place: place, name: text, binding: bytes[place + 4] >> 4, section: Int(section), value: value)
        }
    }

    /// Makes an undefined symbol an absolute one without a name.
    mutating func makeAbsolute(_ symbol: RawSymbol, value: UInt64) {
        bytes.store(UInt32(0), at: symbol.place)
        bytes.store(UInt16(SectionIndex.absolute), at: symbol.place + 6)
        bytes.store(value, at: symbol.place + 8)
    }

    /// The relocations of the sections that are loaded, with the index of their section.
    func relocations() throws -> [(section: Int, relocation: Relocation)] {
        var found: [(section: Int, relocation: Relocation)] = []
        for header in headers where header.type == SectionType.rela {
            guard headers.indices.contains(header.info) else { throw malformed("relocations of no section") }
            guard headers[header.info].flags & SectionFlags.alloc != 0 else { continue }
            for place in stride(from: header.offset, to: header.offset + header.size / 24 * 24, by: 24) {
                guard let offset = bytes.load(UInt64.self, at: place),
                    let info = bytes.load(UInt64.self, at: place + 8),
                    let addend = bytes.load(Int64.self, at: place + 16),
                    offset < UInt64(headers[header.info].size)
                else { throw malformed("a relocation lies outside") }
                found.append(
                    (
                        header.info,
                        Relocation(
                            offset: Int(offset), type: UInt32(truncatingIfNeeded: info),
                            symbol: Int(info >> 32),
                            addend: addend)
                    ))
            }
        }
        return found
    }
}
