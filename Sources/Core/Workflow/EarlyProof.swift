// Proving an update against the kernel's image and module files before it is stored: a wrong config, compiler or
// source is found on the developer's machine, not on the administrator's. The addresses that matching learns on the way
// answer some questions that the code alone does not.

/// What was proven.
public struct Proof: Sendable {
    /// Functions whose bytes are those of the image or of a module's file.
    public var functions: Int
    public var bytes: Int
    /// Units of modules whose file is not at hand; they are proven when the update is applied.
    public var unproven: [String]
    /// Reasons why ksplice.ko would refuse the update, as far as they follow from addresses.
    public var findings: [Finding]
}

struct EarlyProof {
    let kernel: KernelDescriptor
    /// Symbols that the update leaves to the kernel's module loader.
    let imported: Set<String>
    /// Names of what older updates bring: the kernel's files hold other code under these names, or none.
    var unprovable: Set<String> = []

    /// Nil where the image is not at hand. `differences` are those of the update's units, in their order.
    func run(_ update: Update, _ differences: [UnitDifference], progress: (String) -> Void) async throws
        -> Proof?
    {
        let plan = try MatchPlan(update)
        let wanted = Set(plan.units.compactMap(\.module))
        guard kernel.imagePath != nil else { return nil }
        progress("proving the update against the kernel's image")
        try await checkModuleStructure(update)
        guard let offline = try await OfflineKernel(kernel, modules: wanted) else { return nil }
        let proven = plan.units.indices.filter { index in
            plan.units[index].module.map { offline.modules.contains($0) } ?? true
        }
        let unproven = plan.units.indices.filter { !proven.contains($0) }.map { plan.units[$0].path }
        guard !proven.isEmpty else { return Proof(functions: 0, bytes: 0, unproven: unproven, findings: []) }
        let units = proven.map { plan.units[$0] }
        var matcher = try Matcher(
            units: units, tables: update.manifest.tables, memory: offline.memory,
            symbols: offline.symbols, isImage: true,
            evidence: MatchEvidence(madeFor: update.manifest.kernel))
        var result = matcher.match()
        result.failures.removeAll { failure in
            !unprovable.isDisjoint(with: Self.names(of: failure, units))
        }
        try MatchPlan.check(result, what: "the kernel's image")
        for constant in update.manifest.constants {
            guard let unit = proven.firstIndex(of: constant.unit) else { continue }
            _ = try matcher.constant(unit: unit, symbolIndex: constant.preSymbol, size: constant.size)
        }
        var findings = try missingSymbols(update.manifest, result, proven)
        for (position, index) in proven.enumerated() {
            let view = ProvenUnit(difference: differences[index], result: result, unit: position)
            findings += try view.splitRedirects() + view.sealedEntries(offline)
        }
        return Proof(
            functions: result.statistics.functions, bytes: result.statistics.bytes, unproven: unproven,
            findings: findings)
    }

    /// All names of a function that does not match.
    private static func names(of failure: MatchFailure, _ units: [MatchUnit]) -> Set<String> {
        var names: Set<String> = [failure.function]
        let symbols = units[failure.unit].object.symbols.filter(\.isDefinedInSection)
        for symbol in symbols where symbol.name == failure.function {
            names.formUnion(
                symbols.filter { $0.section == symbol.section && $0.value == symbol.value }.map(\.name))
        }
        return names
    }

    /// Old kernels do not compare the size of `struct module`, and a config that drifts changes it.
    private func checkModuleStructure(_ update: Update) async throws {
        guard let folder = kernel.modulesPath, let path = try ModuleFiles(folder: folder).first else {
            return
        }
        let size = try ModuleResolver.moduleSize(
            of: await ModuleFile.read(path), name: path.lastPathComponent)
        for path in update.manifest.modulePaths + [Update.Path.kernelModule] {
            try ModuleResolver(update.file(path), name: path).checkModuleSize(size)
        }
    }

    /// Every symbol that applying will look for must be there, in the kernel or among the exports of a module.
    private func missingSymbols(_ manifest: Manifest, _ result: MatchResult, _ proven: [Int]) throws
        -> [Finding]
    {
        let exported = Set(kernel.exports.lazy.filter { $0.object != "vmlinux" }.map(\.name))
        var findings: [Finding] = []
        for reference in manifest.references
        where !exported.contains(reference.name) && !unprovable.contains(reference.name) {
            guard let unit = proven.firstIndex(of: reference.unit) else { continue }
            if let symbol = reference.preSymbol, result.values[unit][symbol] != nil { continue }
            if reference.bringer != nil { continue }
            guard result.knows(reference.name, unit: unit, symbolIndex: reference.preSymbol) else {
                findings.append(
                    Finding(
                        "symbol-missing", .error, file: manifest.units[reference.unit].path,
                        symbol: reference.name,
                        "new code refers to '\(reference.name)', which this kernel does not have",
                        advice:
                            "make one update of this change and the one that adds it, for example from a range of commits"
                    ))
                continue
            }
            do {
                _ = try result.resolve(reference.name, unit: unit, symbolIndex: reference.preSymbol)
            } catch let failure as Failure {
                findings.append(
                    Finding(
                        "ambiguous", .error, file: manifest.units[reference.unit].path,
                        symbol: reference.name, failure.message,
                        advice: "leave what refers to it as it is, or make the name unique"))
            }
        }
        return findings
    }
}

/// One unit of an update with the addresses that matching learned for it.
private struct ProvenUnit {
    let difference: UnitDifference
    let result: MatchResult
    let unit: Int

    /// The five bytes of a redirect are one store only within a cache line. Where modules will lie is not known.
    func splitRedirects() -> [Finding] {
        guard difference.module == nil else { return [] }
        return difference.functions.compactMap { function in
            guard function.partOf == nil, let symbol = function.preSymbol,
                let found = result.function(unit: unit, symbolIndex: symbol),
                !found.hasFentry, RedirectReview.isSplit(found)
            else { return nil }
            return RedirectReview.noRoom(
                difference.path, function.name,
                "the place of the redirect in '\(function.name)' crosses a cache line")
        }
    }

    /// Functions whose addresses new code hands on, though nobody may branch there.
    func sealedEntries(_ kernel: OfflineKernel) throws -> [Finding] {
        guard kernel.sealed.isActive else { return [] }
        return try difference.newlyTaken.compactMap { name in
            let symbol = difference.preSymbols[name]
            let found: ResolvedSymbol
            do {
                found = try result.resolve(name, unit: unit, symbolIndex: symbol)
            } catch is Failure {
                // What is not there, or ambiguous, has a finding of its own.
                return nil
            }
            guard
                kernel.symbols.named(name).contains(where: { $0.address == found.address && $0.isCode }),
                try kernel.sealed.isSealed(found, name, memory: kernel.memory)
            else { return nil }
            return SealedEntries.finding(difference.path, name)
        }
    }
}
