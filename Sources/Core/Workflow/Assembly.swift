// From shipped objects to an update module: objtool on each, names that only this update knows, the tables that
// ksplice.ko reads, and the link.
//
// Symbols that exist in the kernel and are not exported get the name `ksplice.N`, where N is the position in the
// manifest's references. The renaming comes after objtool, which knows functions by their names, and before the link,
// which would merge equal names of different things.

/// The update module of one part (Update/UpdateParts.swift) and what the manifest says of it.
struct Assembly {
    var module: [UInt8]
    /// The module that it changes; nil for the kernel image.
    var home: String?
    var units: [Manifest.Unit]
    var replacements: [Manifest.Replacement]
    var references: [Manifest.Reference]
    var constants: [Manifest.Constant] = []
    var hooks: [Manifest.Hook] = []
    var shadows: [Manifest.Shadow] = []
    var modules: [String]
    var isResident: Bool
    var exports: [Manifest.Export] = []
    /// Symbols that are left to the kernel's module loader.
    var imported: Set<String>
}

struct Assembler {
    let builder: ModuleBuilder
    /// What the kernel exports, and what the change adds to it.
    let exports: ExportReview
    let workFolder: String
    /// The objects that every update module contains (`ModuleBuilder.Parts.glue`).
    let glue: [String]
    let clock: PhaseClock
    let architecture: X86Architecture

    /// Assembles each part of a division.
    /// - Parameters:
    ///   - differences: in the order of the division.
    ///   - objtool: the objtool command of each unit.
    func assemble(_ division: Division, _ differences: [UnitDifference], objtool: [[String]]) async throws
        -> AssembledUpdate
    {
        var assemblies: [Assembly] = []
        var refused: [Finding] = []
        for (home, range) in zip(division.homes, division.ranges) {
            do {
                assemblies.append(
                    try await assemble(
                        home, differences, range, objtool: objtool,
                        addressed: division.addressed.contains(home)))
            } catch let refusal as Refusal { refused += refusal.findings }
        }
        guard refused.isEmpty else { throw Refusal(findings: refused) }
        return AssembledUpdate(parts: assemblies)
    }

    /// - Parameter addressed: whether another part takes the address of something that this one brings.
    private func assemble(
        _ home: String?, _ all: [UnitDifference], _ range: Range<Int>, objtool: [[String]], addressed: Bool
    ) async throws -> Assembly {
        let differences = all[range]
        var assembly = Assembly(
            module: [], home: home, units: [], replacements: [], references: [], modules: [],
            isResident: addressed, imported: [])
        let newGlobals = Set(differences.flatMap { $0.shipment?.newGlobals ?? [] })
        let foreign = Division.bringers(all).filter { $0.value != home }.mapValues { $0 ?? Update.image }
        let tag = range.lowerBound
        var names: [String: String] = [:]
        var custom = CustomCode()
        var objects: [String] = []
        var newSizes: [Int] = []
        var refused: [Finding] = []
        for position in range {
            let difference = all[position]
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
            do {
                // A unit that only exports what exists ships nothing.
                let isEmpty = shipment.object.sections.count == 1
                try await clock.measure("objtool") {
                    try await builder.runObjtool(path, like: isEmpty ? [] : objtool[position])
                }
            } catch let failure as Failure {
                guard let finding = Finding(failure, file: difference.path) else { throw failure }
                refused.append(finding)
                continue
            }
            var finished = try ObjectFile(path: path)
            newSizes += try nameReplaced(&finished, difference, first: first, assembly.replacements, &names)
            try custom.take(&finished, difference, unit: assembly.units.count - 1, &names)
            rename(&finished, difference, unit: assembly.units.count - 1, newGlobals, foreign, &assembly)
            try Files.write(ELFWriter.write(finished), to: path)
            objects.append(path)
        }
        guard refused.isEmpty else { throw Refusal(findings: refused) }
        custom.record(in: &assembly)
        let shipped = differences.filter { $0.shipment != nil }
        let exportTables = try ExportTables(
            shipped.map(\.newExports), exports.checksums, newGlobals, &assembly,
            architecture: architecture)
        if let exportTables {
            try ExportTables.checkForm(
                script: Files.exists(builder.linkerScript) ? Files.readText(builder.linkerScript) : nil,
                options: exports.options)
            objects.append(workFolder + "/exports.\(tag).o")
            try Files.write(ELFWriter.write(exportTables.object), to: objects[objects.count - 1])
        }
        let tables = workFolder + "/tables.\(tag).o"
        let content = UpdateTables(
            assembly, newSizes: newSizes, custom: custom, architecture: architecture)
        try Files.write(ELFWriter.write(content.object), to: tables)
        let linked = try await builder.link(
            objects + [tables] + glue, to: workFolder + "/update.\(tag).linked.ko")
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
            let unique = UpdateTables.replacedPrefix + "\(position)"
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
        _ foreign: [String: String], _ assembly: inout Assembly
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
                if object.takesAddress(of: index) { assembly.isResident = true }
                continue
            }
            if ModuleResolver.coreFunctions.contains(name) { continue }
            // What another part brings is found in that part's module.
            if !isOwn && foreign[name] == nil && exports.index.isExported(name) {
                assembly.imported.insert(name)
                continue
            }
            if !isOwn, foreign[name] == nil, let module = exports.index.module(name),
                !assembly.modules.contains(module)
            {
                assembly.modules.append(module)
            }
            object.symbols[index].name = "ksplice.\(assembly.references.count)"
            object.symbols[index].binding = SymbolBinding.global
            let bringer = isOwn ? nil : foreign[name]
            assembly.references.append(
                .init(
                    name: name, unit: unit, preSymbol: bringer == nil ? difference.preSymbols[name] : nil,
                    bringer: bringer))
        }
    }

    private func usedNames(_ object: ObjectFile, _ used: Set<Int>) -> Set<String> {
        Set(used.map { object.symbols[$0].name })
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
