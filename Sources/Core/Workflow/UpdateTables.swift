// The sections of `kernel/update.h` with what is known when an update is made. Addresses of the update's own code and
// data are relocations to symbols that the assembler has given unique names; what only the running kernel knows is
// left zero.

struct UpdateTables {
    /// The new code of replaced function N.
    static let replacedPrefix = "ksplice.new."

    private(set) var object: ObjectFile
    private var expected = 0
    private var strings: [UInt8] = []
    private var symbols: [String: Int] = [:]

    private static let expectedSection = 1
    private static let namesSection = 2

    init(
        _ assembly: Assembly, newSizes: [Int], custom: CustomCode, architecture: X86Architecture
    ) {
        object = architecture.emptyObject()
        object.symbols.append(
            Symbol(name: ".ksplice.expected", type: SymbolType.section, section: Self.expectedSection))
        object.symbols.append(
            Symbol(name: ".ksplice.names", type: SymbolType.section, section: Self.namesSection))
        object.sections += [
            Section(name: ".ksplice.expected", type: 1, flags: 3),
            Section(name: ".ksplice.names", type: 1, flags: 2),
        ]
        addCode(assembly.replacements, newSizes)
        addHooks(custom.hooks)
        addShadows(custom.shadows)
        addData(custom.constants)
        addHead(assembly)
        var modules: [UInt8] = []
        for module in assembly.modules { modules += Array(module.utf8) + [0] }
        place("modules", modules + [0], isWritable: false)
        object.sections[Self.expectedSection].contents = [UInt8](repeating: 0, count: max(1, expected))
        object.sections[Self.namesSection].contents = strings.isEmpty ? [0] : strings
        for section in [Self.expectedSection, Self.namesSection] {
            object.sections[section].size = object.sections[section].contents.count
        }
    }

    // MARK: - Tables

    private mutating func addCode(_ replacements: [Manifest.Replacement], _ newSizes: [Int]) {
        var functions: [UInt8] = []
        var parts: [UInt8] = []
        var functionFields: [Relocation] = []
        var partFields: [Relocation] = []
        var index: [Int: Int] = [:]
        for (position, replacement) in replacements.enumerated() {
            let size = UInt64(replacement.size)
            if let owner = replacement.partOf {
                partFields.append(expectedField(parts.count + 16, size: replacement.size, copies: 2))
                parts += words([0, size, 0])
                parts.append(littleEndian: UInt32(index[owner]!))
                parts.append(littleEndian: UInt32(0))
            } else {
                index[position] = functions.count / 56
                functionFields += [
                    symbolField(functions.count + 16, Self.replacedPrefix + "\(position)"),
                    nameField(functions.count + 32, replacement.symbol),
                    expectedField(functions.count + 40, size: replacement.size, copies: 2),
                ]
                functions += words([0, size, 0, UInt64(newSizes[position]), 0, 0, 0])
            }
        }
        place("functions", functions, functionFields, room: 56)
        place("parts", parts, partFields, room: 32)
    }

    private mutating func addHooks(_ hooks: [CustomCode.Hook]) {
        var contents: [UInt8] = []
        var fields: [Relocation] = []
        for hook in hooks {
            fields += [symbolField(contents.count, hook.unique), nameField(contents.count + 8, hook.name)]
            contents += words([0, 0])
            contents.append(littleEndian: hook.kind.number)
            contents.append(littleEndian: UInt32(0))
        }
        place("hooks", contents, fields, room: 24)
    }

    private mutating func addShadows(_ shadows: [CustomCode.Shadow]) {
        var contents: [UInt8] = []
        var fields: [Relocation] = []
        for shadow in shadows {
            if let release = shadow.release { fields.append(symbolField(contents.count + 8, release)) }
            contents += words([shadow.id, 0])
        }
        place("shadows", contents, fields, room: 16)
    }

    private mutating func addData(_ constants: [CustomCode.Constant]) {
        var contents: [UInt8] = []
        var fields: [Relocation] = []
        for constant in constants {
            fields += [
                symbolField(contents.count + 16, constant.unique),
                expectedField(contents.count + 24, size: constant.size, copies: 1),
                nameField(contents.count + 32, constant.name),
            ]
            contents += words([0, UInt64(constant.size), 0, 0, 0])
        }
        place("data", contents, fields, room: 40)
    }

    private mutating func addHead(_ assembly: Assembly) {
        let functions = assembly.replacements.count { $0.partOf == nil }
        var contents: [UInt8] = []
        for value in [
            functions, assembly.replacements.count - functions,
            (assembly.isResident ? 1 : 0) | (assembly.exports.isEmpty ? 0 : 2),
            assembly.hooks.count, assembly.shadows.count, assembly.constants.count, 0,
        ] {
            if contents.isEmpty { contents.append(littleEndian: ModuleResolver.tableVersion) }
            contents.append(littleEndian: UInt32(value))
        }
        place("table", contents + [UInt8](repeating: 0, count: 144))
    }

    /// A section `.ksplice.NAME` with the symbol `ksplice_NAME`; an empty table still gets `room` bytes, because the
    /// glue refers to its symbol.
    private mutating func place(
        _ name: String, _ contents: [UInt8], _ relocations: [Relocation] = [], room: Int = 0,
        isWritable: Bool = true
    ) {
        var section = Section(name: ".ksplice." + name, type: 1, flags: isWritable ? 3 : 2, alignment: 8)
        section.contents = contents.isEmpty ? [UInt8](repeating: 0, count: room) : contents
        section.size = section.contents.count
        section.relocations = relocations
        object.sections.append(section)
        object.symbols.append(
            Symbol(
                name: "ksplice_" + name, binding: SymbolBinding.global, type: SymbolType.object,
                section: object.sections.count - 1))
    }

    // MARK: - Fields

    private mutating func symbolField(_ offset: Int, _ name: String) -> Relocation {
        if symbols[name] == nil {
            object.symbols.append(Symbol(name: name, binding: SymbolBinding.global))
            symbols[name] = object.symbols.count - 1
        }
        return Relocation(
            offset: offset, type: object.architecture.pointer.type, symbol: symbols[name]!, addend: 0)
    }

    private mutating func nameField(_ offset: Int, _ name: String) -> Relocation {
        defer { strings += Array(name.utf8) + [0] }
        return Relocation(
            offset: offset, type: object.architecture.pointer.type, symbol: 2, addend: Int64(strings.count))
    }

    /// Room for `copies` times `size` bytes that the loader fills.
    private mutating func expectedField(_ offset: Int, size: Int, copies: Int) -> Relocation {
        defer { expected += copies * size }
        return Relocation(
            offset: offset, type: object.architecture.pointer.type, symbol: 1, addend: Int64(expected))
    }

    private func words(_ values: [UInt64]) -> [UInt8] {
        var bytes: [UInt8] = []
        for value in values { bytes.append(littleEndian: value) }
        return bytes
    }
}
