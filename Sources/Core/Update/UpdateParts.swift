// The parts of an update: what is loaded by itself, each with the units of the kernel image or of one module. A part
// is an update of its own to everything that matches, resolves and loads; only who chooses and tells knows the whole.

extension Manifest {
    /// The paths of the update modules.
    var modulePaths: [String] { parts.isEmpty ? [Update.Path.module] : parts.map(\.file) }

    /// Whether the parts cover all units, and each holds only what is its own.
    var hasSoundParts: Bool {
        if parts.isEmpty { return true }
        guard parts.count > 1, parts.allSatisfy({ $0.units > 0 }),
            parts.reduce(0, { $0 + $1.units }) == units.count
        else { return false }
        return unitRanges.allSatisfy { range in
            let home = units[range.lowerBound].module
            return range.allSatisfy { units[$0].module == home }
        }
            && replacements.allSatisfy { replacement in
                replacement.partOf.map { owner in
                    replacements[owner].unit == replacement.unit
                } ?? true
            }
    }

    /// The units of each part.
    fileprivate var unitRanges: [Range<Int>] {
        var start = 0
        return parts.map { part in
            defer { start += part.units }
            return start..<start + part.units
        }
    }

    /// The manifest of a part, as if it were all; without files.
    fileprivate func part(_ part: Part, units range: Range<Int>) -> Manifest {
        var result = self
        func local(_ unit: Int) -> Int { unit - range.lowerBound }
        result.parts = []
        result.files = []
        result.isResident = part.isResident
        result.modules = part.modules
        result.units = Array(units[range])
        let kept = replacements.indices.filter { range.contains(replacements[$0].unit) }
        let positions = Dictionary(uniqueKeysWithValues: kept.enumerated().map { ($1, $0) })
        result.replacements = kept.map { index in
            var replacement = replacements[index]
            replacement.unit = local(replacement.unit)
            replacement.partOf = replacement.partOf.flatMap { positions[$0] }
            return replacement
        }
        result.references = references.filter { range.contains($0.unit) }.map {
            .init(
                name: $0.name, unit: local($0.unit), preSymbol: $0.preSymbol, bringer: $0.bringer)
        }
        result.constants = constants.filter { range.contains($0.unit) }.map {
            .init(unit: local($0.unit), symbol: $0.symbol, preSymbol: $0.preSymbol, size: $0.size)
        }
        result.hooks = hooks.filter { range.contains($0.unit) }.map {
            .init(unit: local($0.unit), kind: $0.kind, symbol: $0.symbol)
        }
        result.shadows = shadows.filter { range.contains($0.unit) }.map {
            .init(unit: local($0.unit), id: $0.id)
        }
        result.exports = exports.filter { range.contains($0.unit) }.map {
            .init(
                unit: local($0.unit), symbol: $0.symbol, isGPL: $0.isGPL, namespace: $0.namespace,
                checksum: $0.checksum)
        }
        return result
    }
}

extension Update {
    /// The module that this update or part changes, as `/proc/modules` has it; nil for the kernel image.
    var home: String? { manifest.units.first?.module }
    /// The same for messages and for `Manifest.Reference.bringer`.
    var homeName: String { home ?? Self.image }
    static let image = "vmlinux"

    /// The parts, each as an update of its own, with its own identity; the update itself where it is not divided. One that
    /// others refer to comes before them.
    public func parts() throws -> [Update] {
        if manifest.parts.isEmpty { return [self] }
        var parts = try zip(manifest.parts, manifest.unitRanges).map { part, range in
            let own = manifest.part(part, units: range)
            var files = [
                Path.module: try file(part.file), Path.kernelModule: try file(Path.kernelModule),
            ]
            files[Path.symbols] = self.files[Path.symbols]
            for unit in own.units { files[unit.object] = try file(unit.object) }
            var result = Update(manifest: own, files: files)
            result.whole = id
            return result
        }
        let identities = Dictionary(uniqueKeysWithValues: parts.map { ($0.homeName, $0.id) })
        for index in parts.indices { parts[index].siblings = identities }
        return parts
    }
}
