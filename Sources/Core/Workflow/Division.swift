// Which units of a change go into one update module: those of the kernel image, and those of each module it changes, so
// that what belongs to a module can be loaded when that module is.

struct Division {
    /// What each part changes: a module, or nil for the kernel image.
    let homes: [String?]
    /// The units of each part, as positions in `order`.
    let ranges: [Range<Int>]
    /// Positions of the differences that were given, in the order of the parts.
    let order: [Int]
    /// Homes of what other parts take the address of: it must stay as long as they do.
    let addressed: Set<String?>

    /// A part comes behind those that bring what it refers to. The kernel's modules depend on each other in no circle, and the
    /// image on none of them; so there is always such an order.
    init(_ differences: [UnitDifference]) {
        let bringers = Self.bringers(differences)
        var needs: [String?: Set<String?>] = [:]
        var addressed: Set<String?> = []
        for difference in differences {
            guard let object = difference.shipment?.object else { continue }
            for (index, symbol) in object.symbols.enumerated() where symbol.isUndefined {
                guard let home = bringers[symbol.name], home != difference.module else { continue }
                needs[difference.module, default: []].insert(home)
                if object.takesAddress(of: index) { addressed.insert(home) }
            }
        }
        self.addressed = addressed
        var open = Set(differences.map(\.module)).sorted { ($0 ?? "") < ($1 ?? "") }
        var homes: [String?] = []
        while !open.isEmpty {
            let next =
                open.firstIndex { home in needs[home, default: []].allSatisfy { homes.contains($0) } } ?? 0
            homes.append(open.remove(at: next))
        }
        self.homes = homes
        var order: [Int] = []
        var ranges: [Range<Int>] = []
        for home in homes {
            let start = order.count
            order += differences.indices.filter { differences[$0].module == home }
            ranges.append(start..<order.count)
        }
        self.order = order
        self.ranges = ranges
    }
}

extension Division {
    /// What each new global symbol comes from: a module, or nil for the kernel image.
    static func bringers(_ differences: [UnitDifference]) -> [String: String?] {
        var bringers: [String: String?] = [:]
        for difference in differences {
            for name in difference.shipment?.newGlobals ?? [] {
                bringers.updateValue(difference.module, forKey: name)
            }
        }
        return bringers
    }
}

extension ObjectFile {
    /// Whether code or data refers to a symbol other than by calling it.
    func takesAddress(of symbol: Int) -> Bool {
        sections.contains { section in
            section.isAllocated
                && section.relocations.contains {
                    $0.symbol == symbol
                        && !(section.isExecutable && X86Branch.isTarget(of: $0, in: section.contents))
                }
        }
    }
}

/// All parts, and what the manifest says of the whole.
struct AssembledUpdate {
    let parts: [Assembly]

    var units: [Manifest.Unit] { parts.flatMap(\.units) }
    /// Those of the kernel image.
    var constants: [Manifest.Constant] { parts.filter { $0.home == nil }.flatMap(\.constants) }
    var imported: Set<String> { parts.reduce(into: []) { $0.formUnion($1.imported) } }

    /// The update modules by their paths in the update.
    var modules: [String: [UInt8]] {
        Dictionary(uniqueKeysWithValues: zip(paths, parts.map(\.module)))
    }

    private var paths: [String] {
        parts.indices.map { index in
            index == 0 ? Update.Path.module : Update.Path.module(of: parts[index].home ?? "")
        }
    }

    /// Writes down what the parts hold.
    func record(in manifest: inout Manifest) {
        for part in parts {
            let (unit, replacement) = (manifest.units.count, manifest.replacements.count)
            manifest.units += part.units
            manifest.replacements += part.replacements.map {
                .init(
                    unit: unit + $0.unit, symbol: $0.symbol, preSymbol: $0.preSymbol, size: $0.size,
                    partOf: $0.partOf.map { $0 + replacement })
            }
            manifest.references += part.references.map {
                .init(
                    name: $0.name, unit: unit + $0.unit, preSymbol: $0.preSymbol, bringer: $0.bringer)
            }
            manifest.constants += part.constants.map {
                .init(unit: unit + $0.unit, symbol: $0.symbol, preSymbol: $0.preSymbol, size: $0.size)
            }
            manifest.hooks += part.hooks.map { .init(unit: unit + $0.unit, kind: $0.kind, symbol: $0.symbol) }
            manifest.shadows += part.shadows.map { .init(unit: unit + $0.unit, id: $0.id) }
            manifest.exports += part.exports.map {
                .init(
                    unit: unit + $0.unit, symbol: $0.symbol, isGPL: $0.isGPL, namespace: $0.namespace,
                    checksum: $0.checksum)
            }
            for module in part.modules where !manifest.modules.contains(module) {
                manifest.modules.append(module)
            }
        }
        manifest.isResident = parts.contains(where: \.isResident)
        guard parts.count > 1 else { return }
        manifest.parts = zip(paths, parts).map { path, part in
            .init(file: path, units: part.units.count, isResident: part.isResident, modules: part.modules)
        }
    }
}
