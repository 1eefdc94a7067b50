// Proving an update against the kernel's image before it is stored: a wrong config, compiler or source is found on the
// developer's machine, not on the administrator's.

/// What was proven.
public struct Proof: Sendable {
    /// Functions whose bytes are those of the image.
    public var functions: Int
    public var bytes: Int
    /// Units that belong to modules, which are proven when the update is applied.
    public var unproven: [String]
}

struct EarlyProof {
    let kernel: KernelDescriptor
    /// Symbols that the update leaves to the kernel's module loader.
    let imported: Set<String>

    /// Nil where the image is not at hand.
    func run(_ update: Update, progress: (String) -> Void) async throws -> Proof? {
        guard let path = kernel.imagePath else { return nil }
        progress("proving the update against the kernel's image")
        let memory = ImageMemory(try KernelImage(vmlinuxAt: path))
        let plan = try MatchPlan(update)
        let inImage = plan.units.indices.filter { plan.units[$0].module == nil }
        let unproven = plan.units.filter { $0.module != nil }.map(\.path)
        guard !inImage.isEmpty else { return Proof(functions: 0, bytes: 0, unproven: unproven) }
        var matcher = try Matcher(
            units: inImage.map { plan.units[$0] }, tables: update.manifest.tables, memory: memory, symbols: kernel.symbols,
            isImage: true)
        let result = matcher.match()
        try MatchPlan.check(result, what: "the kernel's image")
        try checkReferences(update.manifest, result, inImage)
        return Proof(functions: result.statistics.functions, bytes: result.statistics.bytes, unproven: unproven)
    }

    /// Every symbol that applying will look for must be there, and jump labels with keys that become read-only after
    /// boot cannot be registered for new code.
    private func checkReferences(_ manifest: Manifest, _ result: MatchResult, _ inImage: [Int]) throws {
        for reference in manifest.references {
            guard let unit = inImage.firstIndex(of: reference.unit) else { continue }
            if let symbol = reference.preSymbol, result.values[unit][symbol] != nil { continue }
            _ = try result.resolve(reference.name, unit: unit)
        }
    }
}
