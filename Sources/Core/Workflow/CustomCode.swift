// What the author of a patch adds to the change itself: hooks, ids of shadow variables, constants to be replaced in
// place. Collected from the shipped objects after objtool has run on them, because it must see that hooks are called
// through pointers; the entries themselves do not go into the module, its tables name the functions.

struct CustomCode {
    struct Hook {
        var unit: Int
        var kind: HookKind
        var name: String
        /// The symbol's name while the module is linked.
        var unique: String
    }

    struct Shadow {
        var unit: Int
        var id: UInt64
        var release: String?
    }

    struct Constant {
        var unit: Int
        var name: String
        var preSymbol: Int
        var size: Int
        var unique: String
    }

    private(set) var hooks: [Hook] = []
    private(set) var shadows: [Shadow] = []
    private(set) var constants: [Constant] = []

    /// Takes the entries out of a shipped object and gives what they name global names that the tables can refer to;
    /// `names` keeps the old ones.
    mutating func take(
        _ object: inout ObjectFile, _ difference: UnitDifference, unit: Int, _ names: inout [String: String]
    ) throws {
        var found: [(order: UInt64, hook: Hook)] = []
        for section in object.sections.indices {
            if let kind = try HookKind(section: object.sections[section].name) {
                for entry in try entries(object, section) {
                    guard let symbol = entry.function else { throw foreign(difference.path, kind.rawValue) }
                    let (name, unique) = expose(symbol, "ksplice.hook.", &object, &names)
                    found.append((entry.order, Hook(unit: unit, kind: kind, name: name, unique: unique)))
                }
            } else if object.sections[section].name == HookKind.idSection {
                for entry in try entries(object, section, functionIsFirst: false) {
                    let release = entry.function.map { expose($0, "ksplice.hook.", &object, &names).unique }
                    shadows.append(Shadow(unit: unit, id: entry.order, release: release))
                }
            }
        }
        hooks += found.sorted { $0.order < $1.order }.map(\.hook)
        try takeConstants(&object, difference, unit: unit, &names)
        removeEntries(&object)
    }

    private mutating func takeConstants(
        _ object: inout ObjectFile, _ difference: UnitDifference, unit: Int, _ names: inout [String: String]
    ) throws {
        for constant in difference.constants {
            guard
                let symbol = object.symbols.firstIndex(where: {
                    $0.name == constant.shippedName && $0.isDefinedInSection && !$0.isFunction
                })
            else { throw Failure("the new content of '\(constant.name)' is not in the update module") }
            let (_, unique) = expose(symbol, "ksplice.content.", &object, &names)
            constants.append(
                Constant(
                    unit: unit, name: constant.name, preSymbol: constant.preSymbol, size: constant.size,
                    unique: unique))
        }
    }

    /// Two words an entry: a pointer and a number.
    private func entries(_ object: ObjectFile, _ index: Int, functionIsFirst: Bool = true) throws -> [(
        order: UInt64, function: Int?
    )] {
        let section = object.sections[index]
        let form = ELFForm(is64Bit: object.is64Bit)
        let (functionAt, orderAt) = functionIsFirst ? (0, form.word) : (form.word, 0)
        return try stride(from: 0, to: section.size - 2 * form.word + 1, by: 2 * form.word).map { start in
            guard let order = form.word(section.contents, at: start + orderAt) else {
                throw Failure("'\(section.name)' is malformed", status: .cannotBePatched)
            }
            let pointer = section.relocations.first { $0.offset == start + functionAt }
            return (order, try pointer.map { try function(object, $0) })
        }
    }

    /// The symbol of the shipped function that an entry points to.
    private func function(_ object: ObjectFile, _ pointer: Relocation) throws -> Int {
        let target = object.symbols[pointer.symbol]
        let place = Int64(bitPattern: target.value) + pointer.addend
        guard target.isDefinedInSection,
            let symbol = object.symbols.firstIndex(where: {
                $0.isFunction && $0.section == target.section && Int64(bitPattern: $0.value) == place
            })
        else { throw foreign("", target.name) }
        return symbol
    }

    private func foreign(_ path: String, _ name: String) -> Failure {
        Failure(
            "a hook\(path.isEmpty ? "" : " of '\(path)'") names no new function: '\(name)'",
            status: .cannotBePatched,
            hint: "write a function of its own for the hook, and let it call the existing one")
    }

    private func expose(
        _ symbol: Int, _ prefix: String, _ object: inout ObjectFile, _ names: inout [String: String]
    ) -> (name: String, unique: String) {
        let name = object.symbols[symbol].name
        // A function may stand in several entries.
        if let original = names[name] { return (original, name) }
        let unique = prefix + "\(names.count)"
        names[unique] = name
        object.symbols[symbol].name = unique
        object.symbols[symbol].binding = SymbolBinding.global
        return (name, unique)
    }

    private func removeEntries(_ object: inout ObjectFile) {
        var dropped: Set<Int> = []
        for index in object.sections.indices where object.sections[index].name.hasPrefix(".ksplice.") {
            object.sections[index] = Section(name: "", type: SectionType.null)
            dropped.insert(index)
        }
        if dropped.isEmpty { return }
        object = object.withoutSymbols { $0.isDefinedInSection && dropped.contains($0.section) }
    }

    /// What the manifest says of it.
    func record(in assembly: inout Assembly) {
        assembly.hooks = hooks.map { .init(unit: $0.unit, kind: $0.kind, symbol: $0.name) }
        assembly.shadows = shadows.map { .init(unit: $0.unit, id: $0.id) }
        assembly.constants = constants.map {
            .init(unit: $0.unit, symbol: $0.name, preSymbol: $0.preSymbol, size: $0.size)
        }
    }
}
