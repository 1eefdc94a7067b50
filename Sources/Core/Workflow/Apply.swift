// From an update to a changed kernel, on the host that runs it. Up to `load` nothing has been changed; from there on
// ksplice.ko decides, and every refusal leaves the kernel as it was.

public struct ApplyReport: Sendable {
    public let id: String
    public let functions: [String]
    /// Names of constants whose content was replaced in place.
    public let constants: [String]
    /// How many hooks the update has.
    public let hooks: Int
    public let statistics: MatchResult.Statistics
    /// How long the machine stood still, in nanoseconds.
    public let pause: Int
    /// How often it was tried.
    public let tries: Int

    /// As git-ksplice-apply(1) describes it.
    public var json: JSON {
        .object([
            ("v", .number(1)), ("update", .string(id)), ("done", .bool(true)), ("pause_ns", .number(pause)),
            ("tries", .number(tries)), ("functions", .strings(functions)), ("constants", .strings(constants)),
            ("hooks", .number(hooks)),
        ])
    }
}

public struct Applier: Sendable {
    let host: any Host & Sendable
    let progress: @Sendable (String) -> Void
    /// For tests: whether the kernel's identity is compared; run-pre matching still decides.
    public var checksIdentity = true
    public var patience = Patience()

    public init(host: any Host & Sendable, progress: @escaping @Sendable (String) -> Void) {
        self.host = host
        self.progress = progress
    }

    /// Changes the running kernel.
    public func apply(_ update: Update) async throws -> ApplyReport {
        let sysfs = UpdateSysfs(host: host, id: update.id)
        switch try await sysfs.state() {
        case "applied": throw Self.isApplied(update)
        case "undone" where try await sysfs.number("resident") != 0:
            // It never goes. Its addresses hold as long as it is loaded, because ksplice.ko holds the modules that they lead
            // into; and ksplice.ko compares the code again.
            let conditions = ApplyConditions(update: update, host: host)
            try await conditions.dependencies()
            try await conditions.livePatches()
            let (pause, tries) = try await sysfs.enable(patience, progress: progress)
            return await finish(update, MatchResult.Statistics(), pause, tries)
        case .some:
            // Inert: an earlier apply was interrupted. It is matched afresh rather than trusted.
            progress("unloading what an interrupted command has left")
            try await host.unload(module: Self.moduleName(update.id))
        case nil: break
        }
        if let refusal = try await ModulePolicy(of: host).refusals.first { throw refusal }
        return try await withPrepared(update) { prepared in
            let change = try await load(update, prepared, sysfs)
            return await finish(update, prepared.result.statistics, change.pause, change.tries)
        }
    }

    /// Loads what is missing and writes the redirects.
    private func load(_ update: Update, _ prepared: PreparedUpdate, _ sysfs: UpdateSysfs) async throws -> (
        pause: Int, tries: Int
    ) {
        try await loadCore(update, prepared.symbols, prepared.running, exports: prepared.checksums)
        let module = try prepared.module(update)
        let name = Self.moduleName(update.id)
        // Nobody unloads ksplice.ko while its window is open; once it is loaded, the update holds it. A kernel that refuses
        // the window has nobody who comes and goes for it.
        let hold: (any OpenMemory)?
        do { hold = try await host.window() } catch { hold = nil }
        defer { hold?.close() }
        // ksplice.ko came after the symbols were read; its functions are looked up now.
        let resolved = try updateModule(module, prepared, core: try await host.symbols())
        try await host.load(module: resolved, name: name, parameters: "")
        do {
            // From now on ksplice.ko holds them.
            try prepared.checkModules(try await host.modules())
            return try await sysfs.enable(patience, progress: progress)
        } catch {
            try? await host.unload(module: name)
            throw error
        }
    }

    static func isApplied(_ update: Update) -> Failure {
        Failure("update \(update.id.prefix(12)) is applied already", status: .no, hint: "git ksplice status")
    }

    /// The kernel is changed; a journal that cannot be written does not make that a failure.
    func finish(_ update: Update, _ statistics: MatchResult.Statistics, _ pause: Int, _ tries: Int)
        async -> ApplyReport
    {
        let functions = update.manifest.replacements.filter { $0.partOf == nil }.map(\.symbol)
        do {
            try await host.appendToJournal(
                JSON.object([
                    ("v", .number(1)), ("event", .string("apply")), ("update", .string(update.id)),
                    ("description", .string(update.manifest.description)),
                    ("commits", .strings(update.manifest.commits)),
                    ("functions", .strings(functions)),
                    ("constants", .strings(update.manifest.constants.map(\.symbol))),
                    ("pause_ns", .number(pause)),
                    ("tries", .number(tries)),
                ]).text)
        } catch { progress("the update is applied, but the journal cannot be written: \(error)") }
        return ApplyReport(
            id: update.id, functions: functions, constants: update.manifest.constants.map(\.symbol),
            hooks: update.manifest.hooks.count, statistics: statistics, pause: pause, tries: tries)
    }

    /// The module's name: the identity's beginning, as long as the placeholder.
    static func moduleName(_ id: String) -> String { "ksplice_" + id.prefix(12) }

    // MARK: - Identity, matching

    /// Proves an update and does something with it.
    /// - Parameter restoring: what other updates, which will have been undone, have done to the code.
    func withPrepared<Result>(
        _ update: Update, restoring: [AppliedRedirect] = [],
        _ body: (PreparedUpdate) async throws -> Result
    ) async throws -> Result {
        let conditions = ApplyConditions(update: update, host: host)
        let running = try await host.identity()
        if checksIdentity { try conditions.identity(running) }
        progress("reading the kernel's symbols")
        let loaded = try await host.modules()
        let symbols = try await host.symbols()
        try await conditions.dependencies()
        try conditions.modules(loaded)
        try await conditions.livePatches()
        try conditions.exports(symbols)
        guard let access = try await memoryAccess(update, symbols, running, mayLoad: true) else {
            preconditionFailure("ksplice.ko may be loaded, and was not")
        }
        return try await access.use(progress: progress) { memory in
            progress("matching the code that runs")
            let matched = try MatchedUpdate(
                update, memory: RestoredMemory(memory, without: restoring), symbols: symbols,
                evidence: try await host.matchEvidence(
                    madeFor: update.manifest.kernel, undoing: Set(restoring.map(\.update))))
            return try await body(PreparedUpdate(update, matched, running: running, loaded: loaded))
        }
    }

    /// The way to the kernel's memory; nil where there is none without loading ksplice.ko, which is not allowed.
    func memoryAccess(
        _ update: Update, _ symbols: KernelSymbols, _ running: KernelIdentity, mayLoad: Bool
    ) async throws -> MemoryAccess? {
        func load() async throws { try await loadCore(update, symbols, running, exports: nil) }
        return try await MemoryAccess(host, load: mayLoad ? load : nil)
    }

    // MARK: - Loading

    /// - Parameter exports: the kernel's, where its memory was read before.
    func loadCore(
        _ update: Update, _ symbols: KernelSymbols, _ running: KernelIdentity, exports: [String: UInt32]?
    ) async throws {
        if try await CoreModule.isLoaded(host) { return }
        progress("loading ksplice.ko")
        let module = try CoreModule(
            update.file(Update.Path.kernelModule), symbols: symbols, release: running.release)
        do {
            try await host.load(
                module: module.resolved(exports: exports), name: CoreModule.name, parameters: "")
        } catch {
            // Somebody else may apply another update at this moment.
            guard try await host.exists(CoreModule.versionPath) else { throw error }
        }
    }

    /// The update module, ready to be loaded. `symbols` hold those of ksplice.ko; without them, its functions get a place
    /// in module space, to see whether all else is there.
    func updateModule(_ module: ModuleResolver, _ prepared: PreparedUpdate, core symbols: KernelSymbols?)
        throws -> [UInt8]
    {
        var module = module
        try module.resolve(readOnly: prepared.readOnly) { name in
            guard ModuleResolver.coreFunctions.contains(name) else {
                return try prepared.address(of: name)
            }
            guard let symbols else { return ModuleResolver.moduleSpace.lowerBound }
            guard let address = symbols.named(name, in: CoreModule.name).first?.address else {
                throw Failure("ksplice.ko is loaded but has no '\(name)'")
            }
            return address
        }
        try module.setVersions(prepared.checksums)
        return module.bytes
    }
}
