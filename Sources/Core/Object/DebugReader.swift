// Reading DWARF with libdw. An object's debug sections hold relocated fields, which libdw leaves alone; its higher
// interface (libdwfl) relocates them, but puts sections to addresses that only it knows. So a small image of just
// these sections is made here, with their relocations applied, and libdw reads that.

import CShims
import Glibc

extension DebugInformation {
    /// Reads the debug information of an object, empty where it has none. `path` is the source file's in the
    /// kernel's tree: what stands before it in the debug information is a folder of this machine, and left out.
    init(_ object: ObjectFile, path: String) throws {
        let bases = Self.bases(of: object)
        self.init(bases: bases)
        guard object.section(named: ".debug_info") != nil else { return }
        var image = try ELFWriter.write(Self.debugImage(object, bases))
        let reader = DebugReader(path: path, bases: bases)
        try image.withUnsafeMutableBytes { buffer in
            let start = buffer.baseAddress?.assumingMemoryBound(to: CChar.self)
            guard let elf = elf_memory(start, buffer.count) else { throw reader.failure() }
            defer { elf_end(elf) }
            guard let dwarf = dwarf_begin_elf(elf, DWARF_C_READ, nil) else { throw reader.failure() }
            defer { dwarf_end(dwarf) }
            try reader.read(dwarf)
        }
        self = reader.result
    }

    private static func debugImage(_ object: ObjectFile, _ bases: [UInt64]) throws -> ObjectFile {
        var image = ObjectFile(machine: object.machine, is64Bit: object.is64Bit, type: object.type)
        for section in object.sections where section.name.hasPrefix(".debug_") && section.hasContents {
            guard section.flags & UInt64(SHF_COMPRESSED) == 0 else {
                throw Failure("the debug information of an object is compressed, which is not supported")
            }
            var copy = Section(name: section.name, type: section.type, contents: section.contents)
            for relocation in section.relocations {
                let symbol = object.symbols[relocation.symbol]
                let base = symbol.isDefinedInSection ? bases[symbol.section] : 0
                let value = symbol.value &+ base &+ UInt64(bitPattern: relocation.addend)
                let isWide = object.is64Bit && relocation.type == 1  // R_X86_64_64
                guard relocation.offset + (isWide ? 8 : 4) <= copy.contents.count else { continue }
                for i in 0..<(isWide ? 8 : 4) {
                    copy.contents[relocation.offset + i] = UInt8(truncatingIfNeeded: value >> (8 * UInt64(i)))
                }
            }
            image.sections.append(copy)
        }
        return image
    }
}

private final class DebugReader {
    var result: DebugInformation
    private let path: String
    private var typeIndex: [Dwarf_Off: Int] = [:]
    private var functionIndex: [Dwarf_Off: Int] = [:]
    /// The function in whose body each variable is declared, by its entry.
    private var declarers: [Dwarf_Off: Int?] = [:]
    /// Variables that are copies, with the entries that they are copies of.
    private var copies: [(variable: Int, origin: Dwarf_Off)] = []
    /// The index in `result.files` of each file number of the present unit.
    private var unitFiles: [Int] = []
    private var fileIndex: [String: Int] = [:]

    init(path: String, bases: [UInt64]) {
        self.path = path
        result = DebugInformation(bases: bases)
    }

    func failure() -> Failure {
        let words = dwarf_errmsg(-1) ?? elf_errmsg(-1)
        return Failure(
            "cannot read the debug information of '\(path)': "
                + (words.map { String(cString: $0) } ?? "unknown error"))
    }

    func read(_ dwarf: OpaquePointer) throws {
        var unit: OpaquePointer?
        while true {
            var next: OpaquePointer?
            var root = Dwarf_Die()
            let status = dwarf_get_units(dwarf, unit, &next, nil, nil, &root, nil)
            guard status >= 0 else { throw failure() }
            guard status == 0, let found = next else { break }
            unit = found
            try read(unit: &root)
        }
        // Of several rows for one address the last counts, so their order is kept.
        let order = result.lines.indices.sorted {
            (result.lines[$0].address, $0) < (result.lines[$1].address, $1)
        }
        result.setLines(order.map { result.lines[$0] })
    }

    // MARK: - Files and lines

    private func read(unit root: inout Dwarf_Die) throws {
        let name = root.text(DW_AT_name) ?? ""
        let source = name.hasSuffix(path) ? String(name.dropLast(path.count)) : name.directoryPart + "/"
        let folders = [source, (root.text(DW_AT_comp_dir) ?? "") + "/"].filter { $0.count > 1 }
        unitFiles = []
        var files: OpaquePointer?
        var count = 0
        if dwarf_getsrcfiles(&root, &files, &count) == 0 {
            for number in 0..<count {
                let full = dwarf_filesrc(files, number, nil, nil).map { String(cString: $0) } ?? ""
                unitFiles.append(file(Self.shortened(full, folders)))
            }
        }
        try readLines(&root)
        read(children: root, function: nil)
        // An inlined call has copies of the callee's variables, and the callee may stand behind it.
        for copy in copies {
            if let declarer = declarers[copy.origin] { result.variables[copy.variable].function = declarer }
        }
        copies = []
    }

    /// A path without the machine's folders, and without `.` and `..`.
    private static func shortened(_ full: String, _ folders: [String]) -> String {
        func parts(_ text: String) -> [Substring] {
            var kept: [Substring] = []
            for part in text.split(separator: "/") where part != "." {
                if part == "..", let last = kept.last, last != ".." {
                    kept.removeLast()
                } else {
                    kept.append(part)
                }
            }
            return kept
        }
        let all = parts(full)
        for folder in folders.map(parts) where !folder.isEmpty && all.starts(with: folder) {
            return all.dropFirst(folder.count).joined(separator: "/")
        }
        return full.hasPrefix("/") ? String(all.last ?? "") : all.joined(separator: "/")
    }

    private func file(_ name: String) -> Int {
        if let known = fileIndex[name] { return known }
        fileIndex[name] = result.files.count
        result.files.append(name)
        return result.files.count - 1
    }

    private func readLines(_ root: inout Dwarf_Die) throws {
        var lines: OpaquePointer?
        var count = 0
        guard dwarf_getsrclines(&root, &lines, &count) == 0 else { return }
        var rows = result.lines
        rows.reserveCapacity(rows.count + count)
        for index in 0..<count {
            let line = dwarf_onesrcline(lines, index)
            var address: Dwarf_Addr = 0
            var number: Int32 = 0
            var isEnd = false
            var files: OpaquePointer?
            var file = 0
            guard dwarf_lineaddr(line, &address) == 0, dwarf_lineno(line, &number) == 0,
                dwarf_lineendsequence(line, &isEnd) == 0, dwarf_line_file(line, &files, &file) == 0,
                unitFiles.indices.contains(file)
            else { throw failure() }
            rows.append(
                DebugLine(
                    address: address, place: DebugPlace(file: unitFiles[file], line: Int(number)),
                    isEnd: isEnd))
        }
        result.setLines(rows)
    }

    private func place(_ die: Dwarf_Die?, _ file: Int = DW_AT_decl_file, _ line: Int = DW_AT_decl_line)
        -> DebugPlace?
    {
        guard let die, let number = die.number(file), let line = die.number(line),
            unitFiles.indices.contains(Int(number))
        else { return nil }
        return DebugPlace(file: unitFiles[Int(number)], line: Int(line))
    }

    // MARK: - Entries

    private func read(children parent: Dwarf_Die, function: Int?) {
        parent.forEachChild { die in
            switch die.tag {
            case DW_TAG_subprogram: self.read(function: die)
            case DW_TAG_variable: self.read(variable: die, function: function)
            case DW_TAG_lexical_block where function != nil:
                self.read(body: die, function: function!, parent: nil)
            default: self.read(type: die, function: function)
            }
        }
    }

    private func type(_ die: Dwarf_Die) -> Int? { die.reference(DW_AT_type).map { typeIndex(of: $0) } }

    private func typeIndex(of offset: Dwarf_Off) -> Int {
        if let known = typeIndex[offset] { return known }
        typeIndex[offset] = result.types.count
        result.types.append(DebugType())
        return result.types.count - 1
    }

    private func functionIndex(of offset: Dwarf_Off) -> Int {
        if let known = functionIndex[offset] { return known }
        functionIndex[offset] = result.functions.count
        result.functions.append(DebugFunction())
        return result.functions.count - 1
    }

    private func read(variable die: Dwarf_Die, function: Int?) {
        let type = type(die)
        if let function, let type { result.functions[function].types.insert(type) }
        let name = die.text(DW_AT_name) ?? die.text(DW_AT_name, of: DW_AT_specification)
        let address = die.address(DW_AT_location)
        guard name != nil || address != nil else { return }
        if let origin = die.reference(DW_AT_abstract_origin) {
            copies.append((result.variables.count, origin))
        } else {
            declarers.updateValue(function, forKey: die.offset)
        }
        result.variables.append(
            DebugVariable(
                name: name ?? die.text(DW_AT_name, of: DW_AT_abstract_origin) ?? "", type: type,
                place: place(die) ?? place(die.target(DW_AT_abstract_origin)), function: function,
                address: address))
    }

    private func read(type die: Dwarf_Die, function: Int?) {
        let tag = die.tag
        guard let kind = Self.kinds[tag] else { return }
        var type = DebugType(kind: kind)
        type.name = die.text(DW_AT_name) ?? ""
        type.size = die.number(DW_AT_byte_size)
        type.encoding = die.number(DW_AT_encoding) ?? 0
        type.isDeclaration = die.isSet(DW_AT_declaration)
        type.target = self.type(die)
        type.place = place(die)
        type.function = function
        if kind == .array || kind == .function || type.isAggregate {
            die.forEachChild { child in
                switch child.tag {
                case DW_TAG_member: type.members.append(self.member(child))
                case DW_TAG_formal_parameter:
                    type.members.append(.init(name: "", position: 0, type: self.type(child)))
                case DW_TAG_unspecified_parameters:
                    type.members.append(.init(name: "...", position: 0, type: nil))
                case DW_TAG_enumerator:
                    type.members.append(
                        .init(
                            name: child.text(DW_AT_name) ?? "",
                            position: child.number(DW_AT_const_value) ?? 0,
                            place: self.place(child)))
                case DW_TAG_subrange_type:
                    type.counts.append(
                        child.number(DW_AT_count) ?? child.number(DW_AT_upper_bound).map { $0 + 1 })
                default: self.read(type: child, function: function)
                }
            }
        }
        result.types[typeIndex(of: die.offset)] = type
    }

    private static let kinds: [Int: DebugType.Kind] = [
        DW_TAG_base_type: .base, DW_TAG_pointer_type: .pointer, DW_TAG_structure_type: .structure,
        DW_TAG_union_type: .union, DW_TAG_enumeration_type: .enumeration, DW_TAG_typedef: .alias,
        DW_TAG_array_type: .array, DW_TAG_subroutine_type: .function, DW_TAG_const_type: .qualifier,
        DW_TAG_volatile_type: .qualifier, DW_TAG_restrict_type: .qualifier, DW_TAG_atomic_type: .qualifier,
    ]

    private func member(_ die: Dwarf_Die) -> DebugMember {
        let bytes = die.number(DW_AT_data_member_location) ?? 0
        return DebugMember(
            name: die.text(DW_AT_name) ?? "", position: die.number(DW_AT_data_bit_offset) ?? bytes * 8,
            bits: die.number(DW_AT_bit_size), type: type(die), place: place(die))
    }

    private func read(function die: Dwarf_Die) {
        let index = functionIndex(of: die.offset)
        var function = DebugFunction()
        function.name = die.text(DW_AT_name) ?? ""
        function.place = place(die)
        function.isDeclaration = die.isSet(DW_AT_declaration)
        function.ranges = die.ranges
        function.origin = die.reference(DW_AT_abstract_origin).map { functionIndex(of: $0) }
        if let type = type(die) { function.types.insert(type) }
        result.functions[index] = function
        read(body: die, function: index, parent: nil)
    }

    private func read(body: Dwarf_Die, function: Int, parent: Int?) {
        body.forEachChild { die in
            switch die.tag {
            case DW_TAG_inlined_subroutine:
                guard let origin = die.reference(DW_AT_abstract_origin) else { return }
                let callee = self.functionIndex(of: origin)
                self.result.functions[function].inlined.append(
                    DebugInline(
                        function: callee, parent: parent, ranges: die.ranges,
                        call: self.place(die, DW_AT_call_file, DW_AT_call_line)))
                let position = self.result.functions[function].inlined.count - 1
                self.read(body: die, function: function, parent: position)
            case DW_TAG_lexical_block: self.read(body: die, function: function, parent: parent)
            case DW_TAG_formal_parameter:
                if let type = self.type(die) { self.result.functions[function].types.insert(type) }
            case DW_TAG_variable: self.read(variable: die, function: function)
            case DW_TAG_subprogram: self.read(function: die)
            case DW_TAG_GNU_call_site, DW_TAG_call_site, DW_TAG_label: break
            default: self.read(type: die, function: function)
            }
        }
    }
}

// MARK: - libdw

/// An entry is a handle without ownership: it is valid while the image is.
extension Dwarf_Die {
    fileprivate var tag: Int {
        var copy = self
        return Int(dwarf_tag(&copy))
    }

    fileprivate var offset: Dwarf_Off {
        var copy = self
        return dwarf_dieoffset(&copy)
    }

    fileprivate func forEachChild(_ body: (Dwarf_Die) -> Void) {
        var copy = self
        var child = Dwarf_Die()
        guard dwarf_child(&copy, &child) == 0 else { return }
        while true {
            body(child)
            var next = Dwarf_Die()
            guard dwarf_siblingof(&child, &next) == 0 else { return }
            child = next
        }
    }

    private func attribute(_ code: Int) -> Dwarf_Attribute? {
        var copy = self
        var attribute = Dwarf_Attribute()
        return dwarf_attr(&copy, UInt32(code), &attribute) != nil ? attribute : nil
    }

    fileprivate func text(_ code: Int) -> String? {
        guard var attribute = attribute(code), let text = dwarf_formstring(&attribute) else { return nil }
        return String(cString: text)
    }

    fileprivate func number(_ code: Int) -> Int64? {
        guard var attribute = attribute(code) else { return nil }
        // Fixed forms have no sign: the compiler writes small positive numbers with them, up to the largest.
        let form = dwarf_whatform(&attribute)
        if [DW_FORM_data1, DW_FORM_data2, DW_FORM_data4, DW_FORM_data8, DW_FORM_udata].contains(Int(form)) {
            var value: Dwarf_Word = 0
            return dwarf_formudata(&attribute, &value) == 0 ? Int64(bitPattern: UInt64(value)) : nil
        }
        var value: Dwarf_Sword = 0
        return dwarf_formsdata(&attribute, &value) == 0 ? Int64(value) : nil
    }

    fileprivate func isSet(_ code: Int) -> Bool {
        guard var attribute = attribute(code) else { return false }
        var value = false
        return dwarf_formflag(&attribute, &value) == 0 && value
    }

    /// The entry that an attribute refers to.
    fileprivate func target(_ code: Int) -> Dwarf_Die? {
        guard var attribute = attribute(code) else { return nil }
        var target = Dwarf_Die()
        return dwarf_formref_die(&attribute, &target) != nil ? target : nil
    }

    fileprivate func reference(_ code: Int) -> Dwarf_Off? { target(code)?.offset }

    fileprivate func text(_ code: Int, of reference: Int) -> String? { target(reference)?.text(code) }

    /// Of a variable that has one place for its whole life.
    fileprivate func address(_ code: Int) -> UInt64? {
        guard var attribute = attribute(code) else { return nil }
        var operations: UnsafeMutablePointer<Dwarf_Op>?
        var count = 0
        guard dwarf_getlocation(&attribute, &operations, &count) == 0, count == 1,
            let first = operations?.pointee, first.atom == UInt8(DW_OP_addr)
        else { return nil }
        return UInt64(first.number)
    }

    fileprivate var ranges: [Range<UInt64>] {
        var copy = self
        var found: [Range<UInt64>] = []
        var base: Dwarf_Addr = 0
        var start: Dwarf_Addr = 0
        var end: Dwarf_Addr = 0
        var position: Int = 0
        while true {
            position = dwarf_ranges(&copy, position, &base, &start, &end)
            guard position > 0 else { return found }
            if start < end { found.append(start..<end) }
        }
    }
}
