// Reads the tables and relocations that say where an object's patch sites are. The layouts of the entries are those
// of Linux's asm/alternative.h, asm/paravirt_types.h, linux/jump_label.h; they are told apart by their size.

struct PatchSiteFinder {
    let object: ObjectFile
    let tables: [String: Int]
    var sites: [Int: [PatchSite]] = [:]
    var locks: [Int: [Int]] = [:]

    init(object: ObjectFile, tables: [String: Int]) {
        self.object = object
        self.tables = tables
    }

    mutating func run() throws {
        try each(".altinstructions", sizes: [12, 13, 14]) { try $0.alternative($1, $2, size: $3) }
        let word = object.architecture.wordSize
        try each(".parainstructions", sizes: [2 * word]) { finder, table, entry, _ in
            try finder.paravirt(table, entry)
        }
        try each(".smp_locks", sizes: [4]) { finder, table, entry, _ in
            let place = try finder.code(table, entry)
            finder.locks[place.section, default: []].append(place.offset)
        }
        try each("__jump_table", sizes: [8 + word]) { finder, table, entry, _ in
            try finder.jumpLabel(table, entry)
        }
        try each("__mcount_loc", sizes: [word]) { finder, table, entry, _ in
            let place = try finder.code(table, entry)
            try finder.add(.fentry, in: place.section, at: place.offset, length: 5)
        }
        for section in object.sections where section.name.hasPrefix("runtime_") {
            try runtimeConstants(section)
        }
        for (index, section) in object.sections.enumerated() where section.isAllocated && section.isExecutable
        {
            for relocation in section.relocations { try branchSite(index, section, relocation) }
        }
        try entries()
    }

    /// Calls `body` for each entry of the table sections of a name: section, offset and size of the entry.
    private mutating func each(
        _ name: String, sizes: [Int], _ body: (inout PatchSiteFinder, Section, Int, Int) throws -> Void
    ) throws {
        for section in object.sections where section.name == name && section.size > 0 {
            guard let size = tables[name] else {
                throw Failure("the entry size of section \(name) is not known")
            }
            guard sizes.contains(size), section.contents.count % size == 0 else {
                throw Failure(
                    "section \(name) with entries of \(size) bytes is not understood",
                    hint: "this version of git-ksplice knows entries of "
                        + sizes.map { "\($0)" }.joined(separator: ", ") + " bytes")
            }
            for entry in stride(from: 0, to: section.contents.count, by: size) {
                try body(&self, section, entry, size)
            }
        }
    }

    private mutating func add(_ kind: PatchSite.Kind, in section: Int, at offset: Int, length: Int) throws {
        guard offset >= 0, length > 0, offset + length <= object.sections[section].contents.count else {
            throw Failure(
                "section \(object.sections[section].name): a patch site at \(offset) does not fit in it")
        }
        sites[section, default: []].append(PatchSite(offset: offset, length: length, kind: kind))
    }

    /// The place that a table's pointer or self-relative offset leads to.
    private func place(_ table: Section, _ offset: Int) throws -> (section: Int, offset: Int) {
        guard let relocation = table.relocations(in: offset..<offset + 1).first,
            object.symbols[relocation.symbol].isDefinedInSection
        else { throw Failure("section \(table.name): the entry at \(hex(UInt64(offset))) points to nothing") }
        let symbol = object.symbols[relocation.symbol]
        let target = Int(truncatingIfNeeded: Int64(bitPattern: symbol.value) &+ relocation.addend)
        guard target >= 0, target <= object.sections[symbol.section].size else {
            throw Failure(
                "section \(table.name): the entry at \(hex(UInt64(offset))) points outside of its section")
        }
        return (symbol.section, target)
    }

    private func code(_ table: Section, _ offset: Int) throws -> (section: Int, offset: Int) {
        let found = try place(table, offset)
        guard object.sections[found.section].isExecutable,
            found.offset < object.sections[found.section].contents.count
        else {
            throw Failure("section \(table.name): the entry at \(hex(UInt64(offset))) does not point to code")
        }
        return found
    }

    private mutating func alternative(_ table: Section, _ entry: Int, size: Int) throws {
        // {s32 instruction; s32 replacement; u16 feature (14: u32); u8 length; u8 replacement length (13: u8 padding)}
        let lengths = entry + (size == 14 ? 12 : 10)
        let original = try code(table, entry)
        guard let length = table.contents.load(UInt8.self, at: lengths),
            let newLength = table.contents.load(UInt8.self, at: lengths + 1)
        else { throw Failure("section \(table.name) is truncated") }
        var replacement = CodeRange(section: original.section, offset: original.offset, length: 0)
        if newLength > 0 {
            let new = try place(table, entry + 4)
            replacement = CodeRange(section: new.section, offset: new.offset, length: Int(newLength))
        }
        guard newLength <= length,
            original.offset + Int(length) <= object.sections[original.section].contents.count,
            replacement.range.upperBound <= object.sections[replacement.section].contents.count
        else {
            throw Failure("section \(table.name): the entry at \(hex(UInt64(entry))) does not fit its code")
        }
        if length == 0 { return }
        // ALT_FLAG_DIRECT_CALL, since Linux 6.8: a call through a pointer becomes a call of what the pointer holds.
        if size == 14, let flags = table.contents.load(UInt16.self, at: entry + 10), flags & 2 != 0 {
            let pointers = object.sections[original.section].relocations(
                in: original.offset..<original.offset + Int(length))
            guard let pointer = pointers.first, object.symbols[pointer.symbol].name == "pv_ops" else {
                throw Failure(
                    "section \(table.name): the call at \(hex(UInt64(original.offset))) is not understood")
            }
            return try add(
                .paravirt(slot: Int(pointer.addend) + 4), in: original.section, at: original.offset,
                length: Int(length))
        }
        try add(.alternative([replacement]), in: original.section, at: original.offset, length: Int(length))
    }

    /// `runtime_ptr_NAME` and `runtime_shift_NAME`: each entry leads to an immediate operand of 8 bytes, or of one.
    private mutating func runtimeConstants(_ table: Section) throws {
        let kinds = [("runtime_ptr_", 8), ("runtime_shift_", 1)]
        guard let (prefix, width) = kinds.first(where: { table.name.hasPrefix($0.0) }) else {
            throw Failure("section \(table.name) is not understood")
        }
        for entry in stride(from: 0, to: table.contents.count, by: 4) {
            let place = try code(table, entry)
            let starts = object.symbols.filter {
                $0.section == place.section && $0.isFunction && $0.value <= UInt64(place.offset)
            }.map { Int($0.value) }
            let code = object.sections[place.section].contents
            let end = min(place.offset + width, code.count)
            let bounds = X86Instruction.boundaries(
                of: code, in: (starts.max() ?? 0)..<end, is64Bit: object.is64Bit)
            // The operand is the last part of its instruction.
            guard let start = bounds.last(where: { $0 < place.offset }), place.offset - start <= 4,
                bounds.last == end
            else {
                throw Failure("section \(table.name): an entry does not lead into an instruction")
            }
            try add(
                .runtimeConstant(String(table.name.dropFirst(prefix.count)), width: width),
                in: place.section, at: start, length: place.offset + width - start)
        }
    }

    private mutating func paravirt(_ table: Section, _ entry: Int) throws {
        // {u8 *instruction; u8 type; u8 length}
        let site = try code(table, entry)
        let word = object.architecture.wordSize
        guard let type = table.contents.load(UInt8.self, at: entry + word),
            let length = table.contents.load(UInt8.self, at: entry + word + 1)
        else { throw Failure("section \(table.name) is truncated") }
        try add(.paravirt(slot: Int(type) * word), in: site.section, at: site.offset, length: Int(length))
    }

    private mutating func jumpLabel(_ table: Section, _ entry: Int) throws {
        // {s32 code; s32 target; long key}
        let site = try code(table, entry)
        let target = try place(table, entry + 4)
        let bytes = object.sections[site.section].contents
        let length: Int
        switch bytes[site.offset] {
        case 0xeb: length = 2
        case 0xe9: length = 5
        default:
            guard let nop = object.architecture.nops.length(in: bytes, at: site.offset), nop == 2 || nop == 5
            else {
                throw Failure(
                    "section \(table.name): the entry at \(hex(UInt64(entry))) has neither jump nor nop")
            }
            length = nop
        }
        try add(
            .jumpLabel(section: target.section, offset: target.offset), in: site.section, at: site.offset,
            length: length)
    }

    /// A branch whose relocation names a thunk, a trampoline or the tracer's entry.
    private mutating func branchSite(_ index: Int, _ section: Section, _ relocation: Relocation) throws {
        let name = object.symbols[relocation.symbol].name
        guard name.hasPrefix("__") else { return }
        let kind: PatchSite.Kind
        if name == "__fentry__" {
            kind = .fentry
        } else if name == "__x86_return_thunk" {
            kind = .returnThunk
        } else if name.hasPrefix("__SCT__"), object.architecture.rewritesStaticCalls {
            kind = .staticCall(String(name.dropFirst(7)))
        } else if name.hasPrefix("__x86_indirect_thunk_"),
            let register = X86Registers.number(name.dropFirst(21))
        {
            kind = .retpoline(register: register)
        } else {
            return
        }
        guard section.name != ".altinstr_replacement", let start = branchStart(section, relocation) else {
            return
        }
        // The kernel replaces only jumps to the return thunk and only calls of __fentry__.
        let opcode = section.contents[start]
        if kind == .returnThunk && opcode != 0xe9 || kind == .fentry && opcode != 0xe8 { return }
        var first = start
        if case .retpoline = kind, first > 0, section.contents[first - 1] == 0x2e, opcode != 0x0f {
            first -= 1
        }
        try add(kind, in: index, at: first, length: relocation.offset + 4 - first)
    }

    /// Where the branch begins whose displacement a relocation fills.
    private func branchStart(_ section: Section, _ relocation: Relocation) -> Int? {
        guard X86Relocation.isPC32(relocation.type), relocation.offset >= 1, relocation.addend == -4
        else { return nil }
        let before = section.contents[relocation.offset - 1]
        if before == 0xe8 || before == 0xe9 { return relocation.offset - 1 }
        if relocation.offset >= 2, before & 0xf0 == 0x80, section.contents[relocation.offset - 2] == 0x0f {
            return relocation.offset - 2
        }
        return nil
    }

    /// Sites that belong to symbols: static call trampolines, and `endbr64` at the start of functions.
    private mutating func entries() throws {
        for symbol in object.symbols where symbol.isDefinedInSection {
            let section = object.sections[symbol.section]
            guard section.isAllocated, section.isExecutable, symbol.value < UInt64(section.contents.count)
            else { continue }
            let offset = Int(symbol.value)
            if symbol.name.hasPrefix("__SCT__") {
                sites[symbol.section]?.removeAll { $0.offset == offset && $0.length <= 5 }
                try add(
                    .trampoline(String(symbol.name.dropFirst(7))), in: symbol.section, at: offset, length: 5)
            } else if symbol.isFunction, section.contents.load(UInt32.self, at: offset) == 0xfa1e_0ff3 {
                try add(.endbr, in: symbol.section, at: offset, length: 4)
            }
        }
    }
}

/// The general registers by the names that the kernel's thunks carry.
public enum X86Registers {
    static let names = [
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
        "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
    ]

    /// The number that instructions encode.
    static func number(_ name: some StringProtocol) -> UInt8? {
        names.firstIndex { $0 == name }.map { UInt8($0) }
    }
}
