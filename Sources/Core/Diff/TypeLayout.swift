// Layouts of the types that a unit knows, from its debug information (DWARF, read with libdw). Objects that exist when
// an update is applied have the old layout; code compiled for another one corrupts memory, and nothing in the code's
// bytes says so. So types are compared themselves.

import CShims
import Glibc

/// A struct, union or enum.
struct TypeLayout: Equatable {
    struct Member: Equatable {
        var name: String
        /// Bits from the start of the type; for an enum the value.
        var position: Int64
        /// Bits; 0 where the type has no size (a flexible array).
        var size: Int64
        var type: String
    }

    /// In bytes.
    var size: Int64
    var isEnum: Bool
    var members: [Member]
}

enum TypeLayouts {
    /// All complete named types of an object file, by `struct NAME`, `union NAME`, `enum NAME` or a typedef's name.
    static func read(path: String) throws -> [String: TypeLayout] {
        var callbacks = Dwfl_Callbacks(
            find_elf: dwfl_build_id_find_elf, find_debuginfo: dwfl_standard_find_debuginfo,
            section_address: dwfl_offline_section_address, debuginfo_path: nil)
        return try withUnsafePointer(to: &callbacks) { callbacks in
            guard let session = dwfl_begin(callbacks) else { throw failure(path) }
            defer { dwfl_end(session) }
            guard let module = dwfl_report_offline(session, path, path, -1),
                dwfl_report_end(session, nil, nil) == 0
            else { throw failure(path) }
            var bias: Dwarf_Addr = 0
            guard dwfl_module_getdwarf(module, &bias) != nil else { throw failure(path) }
            var layouts: [String: TypeLayout] = [:]
            var unit: UnsafeMutablePointer<Dwarf_Die>?
            while let next = dwfl_module_nextcu(module, unit, &bias) {
                unit = next
                collect(next.pointee, into: &layouts)
            }
            return layouts
        }
    }

    private static func failure(_ path: String) -> Failure {
        Failure(
            "cannot read the debug information of '\(path.lastPathComponent)': "
                + (dwfl_errmsg(-1).map { String(cString: $0) } ?? "unknown error"))
    }

    private static func collect(_ root: Dwarf_Die, into layouts: inout [String: TypeLayout]) {
        for die in children(root) {
            guard let key = name(of: die, tag: tag(die)) else { continue }
            if layouts[key] == nil,
                let layout = layout(of: tag(die) == DW_TAG_typedef ? typeOf(die) ?? die : die)
            {
                layouts[key] = layout
            }
        }
    }

    /// The key of a type; nil for what has no layout of its own (a typedef of a type that has a name).
    private static func name(of die: Dwarf_Die, tag: Int) -> String? {
        guard let name = name(die) else { return nil }
        switch tag {
        case DW_TAG_structure_type: return "struct " + name
        case DW_TAG_union_type: return "union " + name
        case DW_TAG_enumeration_type: return "enum " + name
        case DW_TAG_typedef:
            guard let target = typeOf(die), self.name(target) == nil, isAggregate(self.tag(target)) else {
                return nil
            }
            return name
        default: return nil
        }
    }

    private static func layout(of die: Dwarf_Die) -> TypeLayout? {
        guard isAggregate(tag(die)), flag(die, DW_AT_declaration) == false else { return nil }
        var copy = die
        let isEnum = tag(die) == DW_TAG_enumeration_type
        var layout = TypeLayout(size: Int64(dwarf_bytesize(&copy)), isEnum: isEnum, members: [])
        for member in children(die) {
            if isEnum {
                layout.members.append(
                    .init(
                        name: name(member) ?? "", position: number(member, DW_AT_const_value) ?? 0, size: 0,
                        type: ""))
            } else if tag(member) == DW_TAG_member {
                layout.members.append(self.member(member))
            }
        }
        return layout
    }

    private static func member(_ die: Dwarf_Die) -> TypeLayout.Member {
        let type = typeOf(die)
        let bytes = number(die, DW_AT_data_member_location) ?? 0
        let position = number(die, DW_AT_data_bit_offset) ?? bytes * 8
        let size = number(die, DW_AT_bit_size) ?? type.map { Self.size(of: $0) * 8 } ?? 0
        return .init(
            name: name(die) ?? "", position: position, size: size,
            type: type.map { describe($0, depth: 0) } ?? "void")
    }

    /// A type's text for comparison: names where there are any, the layout where there is none.
    private static func describe(_ die: Dwarf_Die, depth: Int) -> String {
        let tag = tag(die)
        switch tag {
        case DW_TAG_pointer_type: return "pointer"
        case DW_TAG_const_type, DW_TAG_volatile_type, DW_TAG_restrict_type:
            return typeOf(die).map { describe($0, depth: depth) } ?? "void"
        case DW_TAG_array_type:
            let count = children(die).map {
                number($0, DW_AT_count) ?? number($0, DW_AT_upper_bound).map { $0 + 1 } ?? 0
            }
            return (typeOf(die).map { describe($0, depth: depth) } ?? "") + "\(count)"
        default:
            if let name = name(die) { return name }
            guard depth < 8, let layout = layout(of: die) else { return "type" }
            return "{"
                + layout.members.map { "\($0.name)@\($0.position):\($0.size) \($0.type)" }.joined(
                    separator: ";") + "}"
        }
    }

    private static func size(of die: Dwarf_Die) -> Int64 {
        var copy = die
        var bytes: Dwarf_Word = 0
        return dwarf_aggregate_size(&copy, &bytes) == 0 ? Int64(bytes) : 0
    }

    private static func isAggregate(_ tag: Int) -> Bool {
        tag == DW_TAG_structure_type || tag == DW_TAG_union_type || tag == DW_TAG_enumeration_type
    }

    // MARK: - libdw

    private static func tag(_ die: Dwarf_Die) -> Int {
        var copy = die
        return Int(dwarf_tag(&copy))
    }

    private static func name(_ die: Dwarf_Die) -> String? {
        var copy = die
        return dwarf_diename(&copy).map { String(cString: $0) }
    }

    private static func children(_ die: Dwarf_Die) -> [Dwarf_Die] {
        var copy = die
        var child = Dwarf_Die()
        var all: [Dwarf_Die] = []
        guard dwarf_child(&copy, &child) == 0 else { return [] }
        while true {
            all.append(child)
            var next = Dwarf_Die()
            guard dwarf_siblingof(&child, &next) == 0 else { return all }
            child = next
        }
    }

    private static func attribute<T>(
        _ die: Dwarf_Die, _ code: Int, _ read: (UnsafeMutablePointer<Dwarf_Attribute>) -> T?
    ) -> T? {
        var copy = die
        var attribute = Dwarf_Attribute()
        guard dwarf_attr(&copy, UInt32(code), &attribute) != nil else { return nil }
        return read(&attribute)
    }

    private static func typeOf(_ die: Dwarf_Die) -> Dwarf_Die? {
        attribute(die, DW_AT_type) { attribute in
            var target = Dwarf_Die()
            return dwarf_formref_die(attribute, &target) != nil ? target : nil
        }
    }

    private static func number(_ die: Dwarf_Die, _ code: Int) -> Int64? {
        attribute(die, code) { attribute in
            var value: Dwarf_Sword = 0
            return dwarf_formsdata(attribute, &value) == 0 ? Int64(value) : nil
        }
    }

    private static func flag(_ die: Dwarf_Die, _ code: Int) -> Bool {
        attribute(die, code) { attribute in
            var value = false
            return dwarf_formflag(attribute, &value) == 0 ? value : nil
        } ?? false
    }

    // MARK: - Comparison

    /// Findings for each type of both objects whose layout differs.
    static func compare(pre: [String: TypeLayout], post: [String: TypeLayout], file: String) -> [Finding] {
        var findings: [Finding] = []
        for (name, new) in post.sorted(by: { $0.key < $1.key }) {
            guard let old = pre[name], old != new else { continue }
            let differences = new.isEnum ? enumDifferences(old, new) : memberDifferences(old, new)
            guard !differences.isEmpty else { continue }
            findings.append(
                Finding(
                    "type-layout", .error, file: file, symbol: name,
                    "the layout of '\(name)' changes: " + summary(differences),
                    advice:
                        "objects that exist when the update is applied have the old layout, and code for the new one corrupts them; keep new state outside of the type"
                ))
        }
        return findings
    }

    /// The first few: a member that is put in front moves all others.
    private static func summary(_ differences: [String]) -> String {
        let most = 4
        let rest = differences.count - most
        return differences.prefix(most).joined(separator: "; ") + (rest > 0 ? "; and \(rest) more" : "")
    }

    /// A new name for a value that had none is harmless.
    private static func enumDifferences(_ old: TypeLayout, _ new: TypeLayout) -> [String] {
        let values = Dictionary(new.members.map { ($0.name, $0.position) }) { first, _ in first }
        return old.members.compactMap { member in
            guard let value = values[member.name] else { return nil }
            return value == member.position ? nil : "'\(member.name)' was \(member.position) and is \(value)"
        } + (old.size == new.size ? [] : ["size was \(old.size) and is \(new.size) bytes"])
    }

    private static func memberDifferences(_ old: TypeLayout, _ new: TypeLayout) -> [String] {
        var differences: [String] = []
        if old.size != new.size { differences.append("size was \(old.size) and is \(new.size) bytes") }
        let before = Dictionary(old.members.map { ($0.name, $0) }) { first, _ in first }
        let after = Dictionary(new.members.map { ($0.name, $0) }) { first, _ in first }
        for member in new.members {
            guard let was = before[member.name] else {
                differences.append("new member '\(member.name)' at \(offset(member))")
                continue
            }
            if was.position != member.position {
                differences.append("member '\(member.name)' moves from \(offset(was)) to \(offset(member))")
            } else if was.size != member.size {
                differences.append(
                    "member '\(member.name)' had \(was.size / 8) and has \(member.size / 8) bytes")
            } else if was.type != member.type {
                differences.append("member '\(member.name)' was '\(was.type)' and is '\(member.type)'")
            }
        }
        for member in old.members where after[member.name] == nil {
            differences.append("member '\(member.name)' at \(offset(member)) is gone")
        }
        return differences
    }

    private static func offset(_ member: TypeLayout.Member) -> String {
        "offset \(member.position / 8)" + (member.position % 8 == 0 ? "" : " bit \(member.position % 8)")
    }
}
