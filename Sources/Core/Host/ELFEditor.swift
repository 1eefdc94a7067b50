// Edits an object file in place: what is not touched stays as it is, byte for byte, so that a module that a build
// system made (and its relocations, notes and ORC data) goes to the kernel unchanged but for what was decided here.
// New content that is larger than the old is appended at the end of the file, and the section's header led there.

/// A relocatable file for x86 under edit.
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
    let architecture: X86Architecture
    private let form: ELFForm

    /// Fails on anything but a relocatable file for x86 whose tables lie inside the file.
    init(_ bytes: [UInt8], name: String) throws {
        self.bytes = bytes
        self.name = name
        guard bytes.load(UInt32.self, at: 0) == 0x464c_457f, bytes.count >= 64, bytes[5] == 1,
            bytes.load(UInt16.self, at: 16) == 1, let machine = bytes.load(UInt16.self, at: 18),
            let architecture = X86Architecture(machine: machine),
            bytes[4] == (architecture.is64Bit ? 2 : 1)
        else { throw Self.malformed(name, "not a relocatable object for x86") }
        self.architecture = architecture
        let form = ELFForm(is64Bit: architecture.is64Bit)
        self.form = form
        let table = Int(truncatingIfNeeded: form.word(bytes, at: form.sectionTable) ?? 0)
        let count = Int(bytes.load(UInt16.self, at: form.sectionCount) ?? 0)
        let names = Int(bytes.load(UInt16.self, at: form.sectionNames) ?? 0)
        guard bytes.load(UInt16.self, at: form.sectionSize) == UInt16(form.section), table >= form.header,
            table <= bytes.count - count * form.section, names < count
        else { throw Self.malformed(name, "its section headers lie outside") }
        func word(_ index: Int, _ offset: Int) -> Int {
            Int(truncatingIfNeeded: form.word(bytes, at: table + index * form.section + offset) ?? 0)
        }
        let strings = word(names, form.offset)
        for index in 0..<count {
            let place = table + index * form.section
            let label = strings &+ Int(bytes.load(UInt32.self, at: place) ?? 0)
            let type = bytes.load(UInt32.self, at: place + 4) ?? 0
            // A null section has no content, whatever its header says.
            let (offset, size) =
                type == SectionType.null ? (0, 0) : (word(index, form.offset), word(index, form.size))
            guard let text = bytes.string(at: label), offset >= 0, size >= 0, size <= 1 << 30,
                type == SectionType.noBits || offset <= bytes.count && size <= bytes.count - offset
            else { throw Self.malformed(name, "section \(index) lies outside") }
            headers.append(
                Header(
                    place: place, name: text, type: type,
                    flags: form.word(bytes, at: place + form.flags) ?? 0,
                    offset: offset, size: size,
                    link: Int(bytes.load(UInt32.self, at: place + form.link) ?? 0),
                    info: Int(bytes.load(UInt32.self, at: place + form.info) ?? 0)))
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
        form.store(UInt64(header.offset), to: &bytes, at: header.place + form.offset)
        form.store(UInt64(header.size), to: &bytes, at: header.place + form.size)
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
        where headers[table].type == relocationType && headers[table].info == section {
            let records = contents(table)
            var left: [UInt8] = []
            for start in starts(of: form.relocation, in: 0..<records.count) {
                guard let offset = form.word(records, at: start), offset < UInt64(old.count) else {
                    throw malformed("a relocation lies outside")
                }
                guard let place = moved[Int(offset) / size] else { continue }
                var record = Array(records[start..<start + form.relocation])
                form.store(UInt64(place * size + Int(offset) % size), to: &record, at: 0)
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
        let places = starts(of: form.symbol, in: table.offset..<table.offset + table.size)
        return try places.map { place in
            guard let label = bytes.load(UInt32.self, at: place),
                let text = bytes.string(at: strings &+ Int(label)),
                let section = bytes.load(UInt16.self, at: place + form.symbolSection),
                let value = form.word(bytes, at: place + form.symbolValue)
            else { throw malformed("its symbol table lies outside") }
            return RawSymbol(
                place: place, name: text, binding: bytes[place + form.symbolInfo] >> 4,
                section: Int(section), value: value)
        }
    }

    /// Makes an undefined symbol an absolute one without a name.
    mutating func makeAbsolute(_ symbol: RawSymbol, value: UInt64) {
        bytes.store(UInt32(0), at: symbol.place)
        bytes.store(UInt16(SectionIndex.absolute), at: symbol.place + form.symbolSection)
        form.store(value, to: &bytes, at: symbol.place + form.symbolValue)
    }

    /// The relocations of the sections that are loaded, with the index of their section.
    func relocations() throws -> [(section: Int, relocation: Relocation)] {
        var found: [(section: Int, relocation: Relocation)] = []
        for header in headers where header.type == relocationType {
            guard headers.indices.contains(header.info) else { throw malformed("relocations of no section") }
            let target = headers[header.info]
            guard target.flags & SectionFlags.alloc != 0 else { continue }
            for place in starts(of: form.relocation, in: header.offset..<header.offset + header.size) {
                guard let offset = form.word(bytes, at: place),
                    let info = form.word(bytes, at: place + form.word), offset < UInt64(target.size)
                else { throw malformed("a relocation lies outside") }
                let (symbol, type) = form.parts(ofInformation: info, machine: architecture.machine)
                let addend =
                    form.isRela
                    ? bytes.load(Int64.self, at: place + 2 * form.word)
                    : target.type == SectionType.noBits
                        ? 0 : InPlaceAddends.read(bytes, at: target.offset + Int(offset), type: type)
                guard let addend else {
                    throw malformed("relocation type \(InPlaceAddends.rawType(type)) is not understood")
                }
                found.append(
                    (
                        header.info,
                        Relocation(offset: Int(offset), type: type, symbol: symbol, addend: addend)
                    ))
            }
        }
        return found
    }

    private var relocationType: UInt32 { form.isRela ? SectionType.rela : SectionType.rel }

    /// Where the entries of a table begin; what is left of an incomplete one does not count.
    private func starts(of size: Int, in range: Range<Int>) -> StrideTo<Int> {
        stride(from: range.lowerBound, to: range.lowerBound + range.count / size * size, by: size)
    }
}
