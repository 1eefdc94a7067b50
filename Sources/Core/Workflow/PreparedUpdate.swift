// What matching has proven for one update on one host, and the update module with everything that only the running
// kernel knows.

/// What matching found for an update in memory, which may be that it does not match.
struct MatchedUpdate {
    let result: MatchResult
    let memory: any KernelMemory
    let symbols: KernelSymbols
    private let matcher: Matcher

    /// `evidence` is the host's, see `Host.matchEvidence(madeFor:)`.
    init(
        _ update: Update, memory: any KernelMemory, symbols: KernelSymbols, evidence: MatchEvidence
    ) throws {
        self.memory = memory
        self.symbols = symbols
        var matcher = try Matcher(
            units: MatchPlan(update).units, tables: update.manifest.tables, memory: memory, symbols: symbols,
            isImage: false, evidence: evidence)
        result = matcher.match()
        self.matcher = matcher
    }

    /// Where the constants are that an update replaces in place. Fails where memory does not hold them.
    func constants(of update: Update) throws -> [MatchedConstant] {
        try update.manifest.constants.map {
            try matcher.constant(unit: $0.unit, symbolIndex: $0.preSymbol, size: $0.size)
        }
    }
}

/// An update that is proven for the running kernel.
struct PreparedUpdate {
    struct Target {
        var function: MatchedFunction
        var isPart: Bool
    }

    let result: MatchResult
    let symbols: KernelSymbols
    let running: KernelIdentity
    /// What the kernel exports, with checksums.
    let checksums: [String: UInt32]
    /// In the order of the manifest's replacements.
    let targets: [Target]
    /// In the order of the manifest's constants.
    let constants: [MatchedConstant]
    /// What the kernel has write-protected since it booted.
    let readOnly: Range<UInt64>
    /// Addresses of variables of modules that are write-protected since the module was loaded.
    private let readOnlyOfModules: Set<UInt64>
    private let memory: any KernelMemory
    /// The modules that addresses of the update lead into, where they were when it was matched.
    let modules: [String: UInt64]
    private let isComing: Bool
    /// The modules of other parts that it refers to.
    private let siblings: [String]
    private let references: [Manifest.Reference]
    /// In the order of the references; nil for what another part brings.
    private let addresses: [UInt64?]

    /// Fails where a function did not match, and where something that the new code needs is not in the kernel.
    ///
    /// - Parameters:
    ///   - grounds: the kernel modules of the updates that it was made on.
    ///   - isComing: whether its module is being loaded, and its init function has not run.
    init(
        _ update: Update, _ matched: MatchedUpdate, running: KernelIdentity, loaded: [LoadedModule],
        grounds: [String], isComing: Bool = false
    ) throws {
        self.isComing = isComing
        let (result, memory, symbols) = (matched.result, matched.memory, matched.symbols)
        try MatchPlan.check(result, what: "the running kernel")
        self.result = result
        self.symbols = symbols
        self.running = running
        constants = try matched.constants(of: update)
        let exports = try readExports(memory: memory, symbols: symbols)
        checksums = exports.checksums
        targets = try update.manifest.replacements.map { replacement in
            guard let function = result.function(unit: replacement.unit, symbolIndex: replacement.preSymbol)
            else {
                throw Failure(
                    "'\(replacement.symbol)' is not in the running kernel", status: .verificationRefused)
            }
            return Target(function: function, isPart: replacement.partOf != nil)
        }
        // ksplice.ko lets nobody undo an update whose module another one holds.
        var held = Set(update.manifest.modules + grounds)
        references = update.manifest.references
        siblings = Set(references.compactMap(\.bringer)).sorted().compactMap { update.siblings[$0] }
            .map(Applier.moduleName)
        addresses = try references.map { reference in
            if reference.bringer != nil { return nil }
            if let symbol = reference.preSymbol, let value = result.values[reference.unit][symbol] {
                return value
            }
            let found = try result.resolve(
                reference.name, unit: reference.unit, symbolIndex: reference.preSymbol)
            // For example an earlier update, whose new function this one calls.
            if let module = found.module { held.insert(module) }
            return found.address
        }
        self.memory = memory
        readOnlyOfModules = Set(
            zip(update.manifest.references, addresses).compactMap { reference, address in
                address.flatMap {
                    result.isReadOnlyAfterInit(reference.preSymbol, unit: reference.unit) ? $0 : nil
                }
            })
        let places = Dictionary(loaded.map { ($0.name, $0.address) }) { first, _ in first }
        modules = Dictionary(uniqueKeysWithValues: held.map { ($0, places[$0] ?? 0) })
        let (start, end) = (symbols.unique("__start_rodata"), symbols.unique("__end_rodata"))
        readOnly = (start ?? 0)..<max(start ?? 0, end ?? 0)
    }

    /// Fails where a module that was matched or referred to has gone, or come back elsewhere, since.
    func checkModules(_ now: [LoadedModule]) throws {
        for (name, address) in modules
        where !now.contains(where: { $0.name == name && $0.address == address }) {
            throw Failure(
                "the module '\(name)' was unloaded while the update was matched", status: .busy,
                hint: "try again")
        }
    }

    /// Nil for what is left to the kernel's module loader. `now` has the symbols of parts that were loaded since; without it, what
    /// they bring gets a place in module space, to see whether all else is there.
    func address(of name: String, _ update: Update, _ now: KernelSymbols?) throws -> UInt64? {
        let prefix = "ksplice."
        guard name.hasPrefix(prefix), let number = Int(name.dropFirst(prefix.count)) else {
            guard checksums[name] != nil else {
                throw Failure("the kernel does not export '\(name)'", status: .verificationRefused)
            }
            return nil
        }
        guard addresses.indices.contains(number) else {
            throw Failure(
                "the update module refers to a symbol that its manifest does not list",
                status: .verificationRefused)
        }
        if let known = addresses[number] { return known }
        return try broughtAddress(references[number], update, now)
    }

    private func broughtAddress(
        _ reference: Manifest.Reference, _ update: Update, _ now: KernelSymbols?
    ) throws -> UInt64 {
        guard let now else { return try update.manifest.kernel.architecture().moduleSpace.lowerBound }
        let home = reference.bringer ?? ""
        let module = update.siblings[home].map(Applier.moduleName)
        let found = now.named(reference.name, in: module).filter(\.mayBeGlobal)
        guard module != nil, found.count == 1 else {
            throw Failure(
                "'\(reference.name)', which the update's part for '\(home)' brings, is not there",
                status: .verificationRefused,
                hints: home == Update.image ? [] : ["modprobe \(home)"])
        }
        return found[0].address
    }

    /// The update module with its tables filled in.
    func module(_ update: Update, _ now: KernelSymbols?) throws -> ModuleResolver {
        var module = try ModuleResolver(update.file(Update.Path.module), name: Update.Path.module)
        try module.settleJumpLabels(
            address: { name in
                name.hasPrefix("ksplice.") ? try address(of: name, update, now) : symbols.unique(name)
            },
            isFinal: { readOnly.contains($0) || readOnlyOfModules.contains($0) },
            isEnabled: { key in
                guard !isComing || readOnly.contains(key) else {
                    throw Failure(
                        "new code has a switch whose key the module's init function may still set, and nobody afterwards",
                        status: .cannotBePatched, hint: "load the module first, and apply the update then")
                }
                // The counter at the beginning of struct static_key.
                let bytes = try memory.read(at: key, count: 4)
                return (bytes.load(Int32.self, at: 0) ?? 0) > 0
            })
        try module.fillTables(
            functions: targets.filter { !$0.isPart }.map { ExpectedCode($0.function) },
            parts: targets.filter(\.isPart).map { ExpectedCode($0.function) }, data: constants,
            id: update.id, update: update.wholeID)
        try module.setModules((modules.keys + siblings).sorted())
        try module.rename(to: Applier.moduleName(update.id))
        try module.setRelease(running.release)
        return module
    }
}
