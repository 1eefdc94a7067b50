// Layouts of the types that a unit knows. Objects that exist when an update is applied have the old layout; code
// compiled for another one corrupts memory, and nothing in the code's bytes says so. So types are compared themselves.
//
// Members of nameless structs and unions count as members of the type around them, so that a layout is a flat list of
// places: `a`, `in.x`, `list[].y`.

/// A struct, union or enum.
struct TypeLayout: Equatable, Sendable {
    struct Member: Equatable, Sendable {
        var name: String
        /// Bits from the start of the type; for an enum the value.
        var position: Int64
        /// Bits; 0 where the type has no size (a flexible array).
        var size: Int64
        /// Text that is equal where the values mean the same to code.
        var type: String
        /// The key of the type that stands here as a whole.
        var contained: String?
        /// Parameters and result, where it points to a function.
        var signature = ""

        /// The names of members of which a member's name is made: `list[].y` is that of `y` in `list`.
        static func parts(of name: String) -> [Substring] { name.split { ".[]".contains($0) } }
    }

    /// In bytes.
    var size: Int64
    var isEnum: Bool
    var members: [Member]
}

/// The layouts of one object, worked out when they are asked for.
struct TypeLayouts {
    let debug: DebugInformation
    /// Complete types by `struct NAME`, `union NAME`, `enum NAME` or, where they have no name, a typedef's name.
    private(set) var types: [String: Int] = [:]
    /// Names that typedefs give to nameless types.
    private var aliases: [Int: String] = [:]
    private var texts: [Int: String] = [:]

    init(_ debug: DebugInformation) {
        self.debug = debug
        for type in debug.types where type.kind == .alias && type.function == nil {
            guard let target = type.target, debug.types[target].isAggregate, debug.types[target].name.isEmpty
            else { continue }
            if aliases[target].map({ type.name < $0 }) ?? true { aliases[target] = type.name }
        }
        // A type in a function's body has no objects outside of the calls of that function.
        for (index, type) in debug.types.enumerated()
        where type.isAggregate && !type.isDeclaration && type.function == nil {
            if let key = key(index), types[key] == nil { types[key] = index }
        }
    }

    /// The key of a type; nil for what has no name.
    func key(_ index: Int) -> String? {
        let type = debug.types[index]
        if type.name.isEmpty { return aliases[index] }
        switch type.kind {
        case .structure: return "struct " + type.name
        case .union: return "union " + type.name
        case .enumeration: return "enum " + type.name
        default: return nil
        }
    }

    /// Where a type is declared; for a nameless one that is its typedef's line, at the end.
    func place(_ key: String) -> SourceLine? { types[key].flatMap { debug.source(debug.types[$0].place) } }

    /// Where a member of a type is declared.
    func place(_ key: String, member: String) -> SourceLine? {
        guard let index = types[key] else { return nil }
        return debug.source(debug.types[index].members.first { $0.name == member }?.place)
    }

    mutating func layout(_ key: String) -> TypeLayout? {
        guard let index = types[key] else { return nil }
        let type = debug.types[index]
        var layout = TypeLayout(size: type.size ?? 0, isEnum: type.kind == .enumeration, members: [])
        if layout.isEnum {
            layout.members = type.members.map {
                .init(name: $0.name, position: $0.position, size: 0, type: "")
            }
        } else {
            add(index, prefix: "", at: 0, to: &layout, depth: 0)
        }
        return layout
    }

    private mutating func add(
        _ index: Int, prefix: String, at base: Int64, to layout: inout TypeLayout, depth: Int
    ) {
        for member in debug.types[index].members {
            let position = base + member.position
            let name = prefix + member.name
            var inner = debug.resolved(member.type)
            var dimensions = ""
            while let array = inner, debug.types[array].kind == .array {
                dimensions += "[]"
                inner = debug.resolved(debug.types[array].target)
            }
            if let inner, debug.types[inner].isAggregate, debug.types[inner].kind != .enumeration,
                key(inner) == nil, depth < 16
            {
                // An array's extent is a place of its own: its length may change.
                if !dimensions.isEmpty { layout.members.append(place(name, position, member)) }
                let inside = member.name.isEmpty ? prefix : name + dimensions + "."
                add(inner, prefix: inside, at: position, to: &layout, depth: depth + 1)
            } else {
                layout.members.append(place(name, position, member))
            }
        }
    }

    private mutating func place(_ name: String, _ position: Int64, _ member: DebugMember) -> TypeLayout.Member
    {
        var result = TypeLayout.Member(
            name: name, position: position, size: member.bits ?? (debug.size(of: member.type) ?? 0) * 8,
            type: text(member.type))
        var inner = debug.resolved(member.type)
        while let array = inner, debug.types[array].kind == .array {
            inner = debug.resolved(debug.types[array].target)
        }
        guard let inner else { return result }
        if debug.types[inner].isAggregate { result.contained = key(inner) }
        if debug.types[inner].kind == .pointer, let target = debug.resolved(debug.types[inner].target),
            debug.types[target].kind == .function
        {
            result.signature = signature(target)
        }
        return result
    }

    /// A type's text for comparison: names of types that are compared themselves, the kind of all others.
    private mutating func text(_ type: Int?) -> String {
        guard let index = debug.resolved(type) else { return "void" }
        if let known = texts[index] { return known }
        let type = debug.types[index]
        let result: String
        switch type.kind {
        case .pointer: result = "pointer"
        case .base: result = baseText(type)
        case .array:
            let counts = type.counts.map { "[" + ($0.map { "\($0)" } ?? "") + "]" }.joined()
            result = text(type.target) + counts
        default: result = key(index) ?? "nameless type of \(type.size ?? 0) bytes"
        }
        texts[index] = result
        return result
    }

    private func baseText(_ type: DebugType) -> String {
        switch type.encoding {
        case 2: "bool"  // DW_ATE_boolean
        case 4: "\((type.size ?? 0) * 8)-bit float"  // DW_ATE_float
        case 7, 8: "\((type.size ?? 0) * 8)-bit unsigned"  // DW_ATE_unsigned, DW_ATE_unsigned_char
        default: "\((type.size ?? 0) * 8)-bit signed"
        }
    }

    private func signature(_ index: Int) -> String {
        func name(_ type: Int?) -> String {
            guard let index = debug.resolved(type) else { return "void" }
            let type = debug.types[index]
            if type.kind == .pointer { return name(type.target) + " *" }
            return key(index) ?? (type.kind == .base ? baseText(type) : "type")
        }
        let parameters = debug.types[index].members.map { $0.name == "..." ? "..." : name($0.type) }
        return "\(name(debug.types[index].target))(\(parameters.joined(separator: ", ")))"
    }
}
