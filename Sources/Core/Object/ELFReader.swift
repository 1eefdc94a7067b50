// Reading ELF through libelf, which checks the file's structure; what it leaves unchecked (relocations that point
// outside their section, symbols without a name) is checked here, so that the layers above may index freely.

import CShims
import Glibc

extension ObjectFile {
    /// Reads an object from its bytes. `name` appears in failures.
    public init(_ bytes: [UInt8], name: String) throws {
        guard elf_version(UInt32(EV_CURRENT)) != EV_NONE else { throw Failure("libelf is out of date") }
        var bytes = bytes
        self = try bytes.withUnsafeMutableBytes { buffer in
            let start = buffer.baseAddress?.assumingMemoryBound(to: CChar.self)
            guard let elf = elf_memory(start, buffer.count), elf_kind(elf) == ELF_K_ELF else {
                throw malformed(name, "not an ELF file")
            }
            defer { elf_end(elf) }
            return try ELFReader(elf: elf, name: name, size: UInt64(buffer.count)).read()
        }
    }

    public init(path: String) throws {
        try self.init(Files.read(path), name: path)
    }
}

private func malformed(_ name: String, _ what: String) -> Failure {
    Failure("malformed object '\(name)': \(what)", status: .verificationRefused)
}

private func libelfError() -> String {
    elf_errmsg(-1).map { String(cString: $0) } ?? "unknown error"
}

private struct ELFReader {
    let elf: OpaquePointer
    let name: String
    /// Of the file, in bytes.
    let size: UInt64

    func read() throws -> ObjectFile {
        var header = GElf_Ehdr()
        guard gelf_getehdr(elf, &header) != nil else { throw malformed(name, libelfError()) }
        // libelf gives a file whose section headers lie behind its end for one without sections.
        guard header.e_shoff <= size,
            UInt64(header.e_shnum) * UInt64(header.e_shentsize) <= size - header.e_shoff
        else {
            throw malformed(name, "it is truncated")
        }
        var object = ObjectFile(
            machine: header.e_machine, is64Bit: gelf_getclass(elf) == ELFCLASS64, type: header.e_type)
        var names = 0
        guard elf_getshdrstrndx(elf, &names) == 0 else { throw malformed(name, libelfError()) }

        var symbolTable: OpaquePointer?
        var relocationSections: [(OpaquePointer, GElf_Shdr)] = []
        var scan = elf_nextscn(elf, nil)
        while let section = scan {
            defer { scan = elf_nextscn(elf, section) }
            var info = GElf_Shdr()
            guard gelf_getshdr(section, &info) != nil else { throw malformed(name, libelfError()) }
            switch info.sh_type {
            case SectionType.symbolTable:
                symbolTable = section
                object.sections.append(Section(name: "", type: SectionType.null))
            case SectionType.rela, SectionType.rel:
                if info.sh_flags & SectionFlags.alloc == 0 { relocationSections.append((section, info)) }
                object.sections.append(Section(name: "", type: SectionType.null))
            case SectionType.stringTable, SectionType.symbolTableIndices, SectionType.group:
                object.sections.append(Section(name: "", type: SectionType.null))
            default:
                object.sections.append(try self.section(section, info, names))
            }
        }
        if let symbolTable { try readSymbols(symbolTable, into: &object) }
        for (section, info) in relocationSections { try readRelocations(section, info, into: &object) }
        return object
    }

    private func section(_ section: OpaquePointer, _ info: GElf_Shdr, _ names: Int) throws -> Section {
        guard let label = elf_strptr(elf, names, Int(info.sh_name)) else {
            throw malformed(name, libelfError())
        }
        var result = Section(
            name: String(cString: label), type: info.sh_type, flags: info.sh_flags,
            alignment: info.sh_addralign, entrySize: info.sh_entsize)
        result.address = info.sh_addr
        result.info = info.sh_info
        result.link = info.sh_link
        guard info.sh_size <= 1 << 40 else { throw malformed(name, "section \(result.name) is too large") }
        result.size = Int(info.sh_size)
        if info.sh_type != SectionType.noBits && info.sh_size > 0 {
            guard let data = elf_rawdata(section, nil), data.pointee.d_size == result.size,
                let start = data.pointee.d_buf
            else { throw malformed(name, "section \(result.name): \(libelfError())") }
            result.contents = Array(UnsafeRawBufferPointer(start: start, count: result.size))
        }
        return result
    }

    /// The number of entries of a table that is there as a whole.
    private func entries(_ info: GElf_Shdr, _ data: UnsafeMutablePointer<Elf_Data>) throws -> Int {
        guard info.sh_size <= size, info.sh_size <= UInt64(data.pointee.d_size), info.sh_entsize >= 8 else {
            throw malformed(name, "a table is truncated")
        }
        return Int(info.sh_size / info.sh_entsize)
    }

    private func offset(_ raw: UInt64) throws -> Int {
        guard let offset = Int(exactly: raw) else { throw malformed(name, "a relocation points outside") }
        return offset
    }

    private func readSymbols(_ section: OpaquePointer, into object: inout ObjectFile) throws {
        var info = GElf_Shdr()
        guard gelf_getshdr(section, &info) != nil, info.sh_entsize > 0, let data = elf_getdata(section, nil)
        else { throw malformed(name, "symbol table: \(libelfError())") }
        let count = try entries(info, data)
        object.symbols.reserveCapacity(count)
        for index in 1..<max(count, 1) {
            var raw = GElf_Sym()
            guard gelf_getsym(data, Int32(index), &raw) != nil,
                let label = elf_strptr(elf, Int(info.sh_link), Int(raw.st_name))
            else { throw malformed(name, "symbol \(index): \(libelfError())") }
            var symbol = Symbol(
                name: String(cString: label), value: raw.st_value, size: raw.st_size,
                binding: raw.st_info >> 4,
                type: raw.st_info & 15, section: Int(raw.st_shndx))
            symbol.other = raw.st_other
            if symbol.isDefinedInSection && symbol.section >= object.sections.count {
                throw malformed(name, "symbol \(symbol.name) is in a section that does not exist")
            }
            if symbol.isSectionSymbol && symbol.name.isEmpty && symbol.isDefinedInSection {
                symbol.name = object.sections[symbol.section].name
            }
            object.symbols.append(symbol)
        }
    }

    /// libelf gives the entries of both classes in the form of the wider one.
    private func type(_ info: UInt64, _ object: ObjectFile) throws -> UInt32 {
        let raw = UInt32(truncatingIfNeeded: info)
        guard object.is64Bit || raw < InPlaceAddends.mark else {
            throw malformed(name, "relocation type \(raw) is not one of 32-bit x86")
        }
        return InPlaceAddends.type(raw, machine: object.machine)
    }

    /// Takes the addend out of a relocation's field.
    private func inPlace(_ relocation: Relocation, in section: inout Section) throws -> Relocation {
        var relocation = relocation
        guard
            let addend = InPlaceAddends.read(
                section.contents, at: relocation.offset, type: relocation.type),
            InPlaceAddends.write(0, to: &section.contents, at: relocation.offset, type: relocation.type)
        else {
            throw malformed(
                name,
                "the relocation of type \(InPlaceAddends.rawType(relocation.type)) at \(relocation.offset) of "
                    + "\(section.name) is not understood")
        }
        relocation.addend = addend
        return relocation
    }

    private func readRelocations(_ section: OpaquePointer, _ info: GElf_Shdr, into object: inout ObjectFile)
        throws
    {
        let target = Int(info.sh_info)
        guard target > 0, target < object.sections.count, info.sh_entsize > 0 else {
            throw malformed(name, "relocations for a section that does not exist")
        }
        guard object.sections[target].type != SectionType.null else { return }
        guard let data = elf_getdata(section, nil) else { throw malformed(name, libelfError()) }
        let count = try entries(info, data)
        var relocations: [Relocation] = []
        relocations.reserveCapacity(count)
        for index in 0..<count {
            let relocation: Relocation
            if info.sh_type == SectionType.rela {
                var raw = GElf_Rela()
                guard gelf_getrela(data, Int32(index), &raw) != nil else {
                    throw malformed(name, libelfError())
                }
                relocation = Relocation(
                    offset: try offset(raw.r_offset), type: try type(raw.r_info, object),
                    symbol: Int(raw.r_info >> 32),
                    addend: raw.r_addend)
            } else {
                var raw = GElf_Rel()
                guard gelf_getrel(data, Int32(index), &raw) != nil else {
                    throw malformed(name, libelfError())
                }
                relocation = try inPlace(
                    Relocation(
                        offset: try offset(raw.r_offset), type: try type(raw.r_info, object),
                        symbol: Int(raw.r_info >> 32), addend: 0), in: &object.sections[target])
            }
            guard relocation.offset >= 0, relocation.offset < object.sections[target].size,
                relocation.symbol < object.symbols.count
            else {
                throw malformed(name, "relocation \(index) of \(object.sections[target].name) points outside")
            }
            relocations.append(relocation)
        }
        let sorted = zip(relocations, relocations.dropFirst()).allSatisfy { $0.offset <= $1.offset }
        object.sections[target].relocations =
            sorted ? relocations : relocations.sorted { $0.offset < $1.offset }
    }
}
