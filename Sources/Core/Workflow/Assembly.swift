// From shipped objects to an update module: objtool on each, names that only this update knows, the tables that
// ksplice.ko reads, and the link.
//
// Symbols that exist in the kernel and are not exported get the name `ksplice.N`, where N is the position in the
// manifest's references. The renaming comes after objtool, which knows functions by their names, and before the link,
// which would merge equal names of different things.

/// The update module and what the manifest says of it.
struct Assembly {
    var module: [UInt8]
    var units: [Manifest.Unit]
    var replacements: [Manifest.Replacement]
    var references: [Manifest.Reference]
    var modules: [String]
    var isResident: Bool
    /// Symbols that are left to the kernel's module loader.
    var imported: Set<String>
}

struct Assembler {
    let builder: ModuleBuilder
    /// What the kernel image exports without a namespace: left to the module loader.
    let isExported: (String) -> Bool
    /// The module that exports a name, where it is known.
    let exportingModule: (String) -> String?
    let workFolder: String
    /// The objects that every update module contains (`ModuleBuilder.Parts.glue`).
    let glue: [String]

    private static let replacedPrefix = "ksplice.new."

    /// - Parameter objtool: the objtool command of each unit.
    func assemble(_ differences: [UnitDifference], objtool: [[String]]) async throws -> Assembly {
        var assembly = Assembly(
            module: [], units: [], replacements: [], references: [], modules: [], isResident: false,
            imported: [])
        let newGlobals = Set(differences.flatMap { $0.shipment?.newGlobals ?? [] })
        var names: [String: String] = [:]
        var objects: [String] = []
        var newSizes: [Int] = []
        for (position, difference) in differences.enumerated() {
            guard let shipment = difference.shipment else { continue }
            assembly.units.append(
                .init(
                    path: difference.path, module: difference.module,
                    object: "\(Update.Path.pre)/\(position).o"))
            assembly.isResident = assembly.isResident || shipment.keepsAddresses
            if let module = difference.module, !assembly.modules.contains(module) {
                assembly.modules.append(module)
            }
            let path = "\(workFolder)/ship.\(position).o"
            let first = assembly.replacements.count
            addReplacements(difference, unit: assembly.units.count - 1, to: &assembly)
            try Files.write(ELFWriter.write(shipment.object), to: path)
            try await builder.runObjtool(path, like: objtool[position])
            var finished = try ObjectFile(path: path)
            newSizes += try nameReplaced(&finished, difference, first: first, assembly.replacements, &names)
            rename(&finished, difference, unit: assembly.units.count - 1, newGlobals, &assembly)
            try Files.write(ELFWriter.write(finished), to: path)
            objects.append(path)
        }
        let tables = workFolder + "/tables.o"
        try Files.write(ELFWriter.write(tablesObject(assembly, newSizes, names)), to: tables)
        let linked = try await builder.link(objects + [tables] + glue, to: workFolder + "/update.linked.ko")
        assembly.module = try finish(linked, names)
        return assembly
    }

    /// Records each replaced function, then the other parts of old ones.
    private func addReplacements(_ difference: UnitDifference, unit: Int, to assembly: inout Assembly) {
        var positions: [String: Int] = [:]
        for function in difference.functions where function.partOf == nil {
            guard let name = function.preName, let symbol = function.preSymbol else { continue }
            positions[name] = assembly.replacements.count
            assembly.replacements.append(
                .init(unit: unit, symbol: name, preSymbol: symbol, size: function.preSize))
        }
        for part in difference.oldParts {
            guard let owner = positions[part.family] else { continue }
            assembly.replacements.append(
                .init(
                    unit: unit, symbol: part.name, preSymbol: part.preSymbol, size: part.size, partOf: owner))
        }
    }

    /// Gives the new code of each replaced function a global name that the tables can refer to. objtool has found
    /// `f` for `f.cold` by its name before, and has given symbols other numbers.
    /// Returns the sizes of the new functions in the order of the replacements.
    private func nameReplaced(
        _ object: inout ObjectFile, _ difference: UnitDifference, first: Int,
        _ replacements: [Manifest.Replacement],
        _ names: inout [String: String]
    ) throws -> [Int] {
        var sizes: [Int] = []
        var position = first
        for function in difference.functions where function.partOf == nil && function.preSymbol != nil {
            let unique = Self.replacedPrefix + "\(position)"
            guard
                let symbol = object.symbols.firstIndex(where: {
                    $0.name == function.name && $0.isDefinedInSection && $0.isFunction
                })
            else {
                throw Failure("objtool has dropped the symbol '\(function.name)' of '\(difference.path)'")
            }
            names[unique] = function.name
            object.symbols[symbol].name = unique
            object.symbols[symbol].binding = SymbolBinding.global
            sizes.append(Int(object.symbols[symbol].size))
            position += 1
        }
        return sizes + [Int](repeating: 0, count: replacements.count - position)
    }

    private func rename(
        _ object: inout ObjectFile, _ difference: UnitDifference, unit: Int, _ newGlobals: Set<String>,
        _ assembly: inout Assembly
    ) {
        let used = Set(object.sections.flatMap { $0.relocations.map(\.symbol) })
        object = object.withoutSymbols {
            $0.isUndefined && !$0.name.isEmpty && !usedNames(object, used).contains($0.name)
        }
        for index in object.symbols.indices.dropFirst() where object.symbols[index].isUndefined {
            let name = object.symbols[index].name
            // A name that this unit defines itself is a reference to the original; only others are left to the loader.
            let isOwn = difference.shipment?.references[name].flatMap { $0 } != nil
            if !isOwn && newGlobals.contains(name) {
                if takesAddress(object, index) { assembly.isResident = true }
                continue
            }
            if !isOwn && isExported(name) {
                assembly.imported.insert(name)
                continue
            }
            if !isOwn, let module = exportingModule(name), !assembly.modules.contains(module) {
                assembly.modules.append(module)
            }
            object.symbols[index].name = "ksplice.\(assembly.references.count)"
            object.symbols[index].binding = SymbolBinding.global
            assembly.references.append(.init(name: name, unit: unit, preSymbol: difference.preSymbols[name]))
        }
    }

    /// Whether an object refers to a symbol other than by calling it.
    private func takesAddress(_ object: ObjectFile, _ symbol: Int) -> Bool {
        object.sections.contains { section in
            section.isAllocated
                && section.relocations.contains {
                    $0.symbol == symbol
                        && !(section.isExecutable && X86Branch.isTarget(of: $0, in: section.contents))
                }
        }
    }

    private func usedNames(_ object: ObjectFile, _ used: Set<Int>) -> Set<String> {
        Set(used.map { object.symbols[$0].name })
    }

    // MARK: - Tables

    /// The sections of `kernel/update.h`, with what is known at create time.
    private func tablesObject(_ assembly: Assembly, _ newSizes: [Int], _ names: [String: String])
        -> ObjectFile
    {
        var object = ObjectFile(machine: 62, is64Bit: true, type: 1)  // EM_X86_64, ET_REL
        var strings: [UInt8] = []
        var functions = Section(name: ".ksplice.functions", type: 1, flags: 3, alignment: 8)
        var parts = Section(name: ".ksplice.parts", type: 1, flags: 3, alignment: 8)
        var expected = 0
        var functionIndex: [Int: Int] = [:]
        object.symbols.append(Symbol(name: ".ksplice.expected", type: SymbolType.section, section: 3))
        object.symbols.append(Symbol(name: ".ksplice.names", type: SymbolType.section, section: 4))
        for (position, replacement) in assembly.replacements.enumerated() {
            if let owner = replacement.partOf {
                let base = parts.contents.count
                parts.contents += words([0, UInt64(replacement.size), 0])
                parts.contents.append(littleEndian: UInt32(functionIndex[owner]!))
                parts.contents.append(littleEndian: UInt32(0))
                parts.relocations.append(
                    .init(offset: base + 16, type: 1, symbol: 1, addend: Int64(expected)))
            } else {
                functionIndex[position] = functions.contents.count / 56
                let base = functions.contents.count
                functions.contents += words([
                    0, UInt64(replacement.size), 0, UInt64(newSizes[position]), 0, 0, 0,
                ])
                object.symbols.append(
                    Symbol(name: Self.replacedPrefix + "\(position)", binding: SymbolBinding.global))
                functions.relocations += [
                    .init(offset: base + 16, type: 1, symbol: object.symbols.count - 1, addend: 0),
                    .init(offset: base + 32, type: 1, symbol: 2, addend: Int64(strings.count)),
                    .init(offset: base + 40, type: 1, symbol: 1, addend: Int64(expected)),
                ]
                strings += Array(replacement.symbol.utf8) + [0]
            }
            expected += 2 * replacement.size
        }
        functions.size = functions.contents.count
        if parts.contents.isEmpty { parts.contents = [UInt8](repeating: 0, count: 32) }
        parts.size = parts.contents.count
        var table = Section(name: ".ksplice.table", type: 1, flags: 3, alignment: 8)
        for value in [
            1, functionIndex.count, assembly.replacements.count - functionIndex.count,
            assembly.isResident ? 1 : 0,
        ] {
            table.contents.append(littleEndian: UInt32(value))
        }
        table.contents += [UInt8](repeating: 0, count: 72)
        table.size = table.contents.count
        var modules: [UInt8] = []
        for module in assembly.modules { modules += Array(module.utf8) + [0] }
        modules.append(0)
        object.sections += [
            functions, parts,
            Section(
                name: ".ksplice.expected", type: 1, flags: 3,
                contents: [UInt8](repeating: 0, count: max(1, expected))),
            Section(name: ".ksplice.names", type: 1, flags: 2, contents: strings), table,
            Section(name: ".ksplice.modules", type: 1, flags: 2, contents: modules),
        ]
        for (name, section) in [("functions", 1), ("parts", 2), ("table", 5), ("modules", 6)] {
            object.symbols.append(
                Symbol(
                    name: "ksplice_" + name, binding: SymbolBinding.global, type: SymbolType.object,
                    section: section))
        }
        return object
    }

    private func words(_ values: [UInt64]) -> [UInt8] {
        var bytes: [UInt8] = []
        for value in values { bytes.append(littleEndian: value) }
        return bytes
    }

    /// Takes debug information and the link's own names out of the module.
    private func finish(_ bytes: [UInt8], _ names: [String: String]) throws -> [UInt8] {
        var object = try ObjectFile(bytes, name: "update.ko").withoutDebugInformation()
        for index in object.symbols.indices {
            if let name = names[object.symbols[index].name] {
                object.symbols[index].name = name
                object.symbols[index].binding = SymbolBinding.local
            }
        }
        return try ELFWriter.write(object)
    }
}
