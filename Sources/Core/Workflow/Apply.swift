// From an update to a changed kernel, on the host that runs it. Up to `load` nothing has been changed; from there on
// ksplice.ko decides, and every refusal leaves the kernel as it was.

import Glibc

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
    /// Modules that are not loaded, whose parts of the update wait for them.
    public let waiting: [String]

    /// As git-ksplice-apply(1) describes it.
    public var json: JSON {
        .object([
            ("v", .number(1)), ("update", .string(id)), ("done", .bool(true)), ("pause_ns", .number(pause)),
            ("tries", .number(tries)), ("functions", .strings(functions)), ("constants", .strings(constants)),
            ("hooks", .number(hooks)), ("waiting", .strings(waiting)),
        ])
    }
}

public struct Applier: Sendable {
    let host: any Host & Sendable
    let progress: Progress
    /// For tests: whether the kernel's identity is compared; run-pre matching still decides.
    public var checksIdentity = true
    public var patience = Patience()
    /// How updates wait for modules that are not loaded; nil where they cannot, because this program is not on that machine.
    public var late: LateUpdates?
    /// What becomes of a module that comes later and cannot get its part.
    public var latePolicy = LatePolicy.refuse
    /// What the journal says of the reason.
    public var cause = JournalEvent.Cause.command

    public init(host: any Host & Sendable, progress: Progress) {
        self.host = host
        self.progress = progress
    }

    /// Changes the running kernel. Parts for modules that are not loaded wait for them.
    public func apply(_ update: Update) async throws -> ApplyReport {
        try await alone { try await applyAlone(update) }
    }

    /// Does something while no other process of this program changes the kernel, or waits for this one to end.
    func alone<Result>(_ body: () async throws -> Result) async throws -> Result {
        guard let late, geteuid() == 0 else { return try await body() }
        return try await late.locked(body)
    }

    private func applyAlone(_ update: Update) async throws -> ApplyReport {
        let parts = try update.parts()
        if let refusal = try await applyAgain(update, parts) { return refusal }
        if let refusal = try await ModulePolicy(of: host).refusals.first { throw refusal }
        var done: [PreparedUpdate] = []
        var change = (pause: 0, tries: 0)
        var waiting: [String] = []
        // Whoever asks to wait first, and looks then what is there, misses no module that comes meanwhile.
        var awaited: [String] = []
        do {
            while true {
                let presence = try await presence(of: parts)
                waiting = presence.absent
                let new = waiting.filter { !awaited.contains($0) }
                if !new.isEmpty {
                    awaited += try await wait(for: new, update)
                    continue
                }
                if presence.ready.isEmpty { break }
                try await withPrepared(presence.ready) { prepared in
                    change = try await load(prepared)
                    done += prepared.map(\.prepared)
                }
            }
        } catch {
            // What is applied already, and that may only be what came in the meantime, stays.
            if done.isEmpty { try await late?.forget(update.id, modules: awaited) }
            throw error
        }
        let statistics = done.map(\.result.statistics)
        return await finish(
            update, statistics.reduce(into: MatchResult.Statistics()) { $0.add($1) }, change.pause,
            change.tries, waiting: waiting)
    }

    /// What is there already: nothing of it is matched again where its code stays loaded. Fails where the update is applied;
    /// nil where it is not there.
    private func applyAgain(_ update: Update, _ parts: [Update]) async throws -> ApplyReport? {
        let records = try await HostRecords(host)
        let presence = try await presence(of: parts)
        if records.isApplied(update.id), presence.ready.isEmpty,
            Set(presence.absent).isSubset(of: records.modules(awaitedBy: update.id))
        {
            throw Self.isApplied(update)
        }
        var again: [Transition.Step] = []
        for record in records.of(update.id) where record.state != "applied" {
            if record.state == "undone",
                try await UpdateSysfs(host: host, id: record.id).number("resident") != 0
            {
                again.append(.init(id: record.id, whole: update.id, isUndo: false))
                continue
            }
            // Inert: an earlier apply was interrupted. It is matched afresh rather than trusted.
            progress("unloading what an interrupted command has left")
            try await host.unload(module: Self.moduleName(record.id))
        }
        guard !again.isEmpty else { return nil }
        // It never goes. Its addresses hold as long as it is loaded, because ksplice.ko holds the modules that they lead
        // into; and ksplice.ko compares the code again.
        let conditions = ApplyConditions(update: update, host: host)
        try await conditions.dependencies()
        try await conditions.livePatches()
        // The order in which they were loaded is that of the parts.
        let order = parts.map(\.id)
        again.sort { (order.firstIndex(of: $0.id) ?? 0) < (order.firstIndex(of: $1.id) ?? 0) }
        let (pause, tries) = try await Transition(host, again, patience).make(progress: progress.step)
        guard again.count == parts.count else { return nil }
        return await finish(update, MatchResult.Statistics(), pause, tries, waiting: [])
    }

    /// What is there, once no module of these parts is between being there and not.
    private func presence(of parts: [Update]) async throws -> Presence {
        for _ in 0..<Self.patienceWithLoading {
            let presence = Presence(parts, try await HostRecords(host), try await host.modules())
            if !presence.isChanging { return presence }
            try await Task.sleep(nanoseconds: 100_000_000)
        }
        throw Failure(
            "a module that the update changes is being loaded, and does not come up", status: .busy,
            hint: "lsmod")
    }

    /// In tenths of a second.
    private static let patienceWithLoading = 100

    /// Has parts wait. Returns the modules that were not waited for before.
    ///
    /// - Parameter replaced: updates that will have been undone.
    func wait(for modules: [String], _ update: Update, replacing replaced: Set<String> = []) async throws
        -> [String]
    {
        if modules.isEmpty { return [] }
        guard let late else { throw Self.isAbsent(modules[0]) }
        let conditions = ApplyConditions(update: update, host: host)
        if checksIdentity { try conditions.identity(try await host.identity()) }
        try await conditions.dependencies()
        try await refuseRivals(of: update, late, but: replaced)
        try await bringCore(update)
        return try await late.wait(for: modules, update, latePolicy)
    }

    static func isAbsent(_ module: String) -> Failure {
        Failure(
            "the update changes the module '\(module)', which is not loaded", status: .no,
            hint: "modprobe \(module)")
    }

    /// Two that were not made on each other cannot both have a function, which for a module that is not there only names can tell.
    func refuseRivals(of update: Update, _ late: LateUpdates, but replaced: Set<String> = []) async throws {
        guard let rival = try await late.rivals(of: update).first(where: { !replaced.contains($0.id) }) else {
            return
        }
        throw Failure(
            "update \(rival.id.prefix(12)), which waits for a module, replaces '\(rival.function)', too",
            status: .busy,
            hint: "git ksplice upgrade replaces it; git ksplice create --on makes an update that stands on it"
        )
    }

    /// Sees to it that ksplice.ko is there, for an update that has nothing to match yet.
    private func bringCore(_ update: Update) async throws {
        if try await CoreModule.isLoaded(host) { return }
        let symbols = try update.completed(try await host.symbols())
        let running = try await host.identity()
        guard let access = try await memoryAccess(update, symbols, running, mayLoad: true) else {
            preconditionFailure("ksplice.ko may be loaded, and was not")
        }
        try await access.use(progress: progress) { memory in
            let exports = try readExports(memory: memory, symbols: symbols)
            try await loadCore(update, symbols, running, exports: exports.checksums)
        }
        // What came to show the kernel's memory has gone again.
        try await loadCore(update, symbols, running, exports: nil)
    }

    /// Loads parts, which is inert, and writes the redirects of all in one pause.
    private func load(_ parts: [PreparedPart]) async throws -> (pause: Int, tries: Int) {
        try await withLoaded(parts) {
            let steps = parts.map {
                Transition.Step(id: $0.update.id, whole: $0.update.wholeID, isUndo: false)
            }
            return try await Transition(host, steps, patience).make(progress: progress.step)
        }
    }

    /// Loads parts and does something with them; if that fails, they go again.
    func withLoaded<Result>(_ parts: [PreparedPart], _ body: () async throws -> Result) async throws -> Result
    {
        var loaded: [String] = []
        do {
            if let first = parts.first?.update, let prepared = parts.first?.prepared {
                try await loadCore(first, prepared.symbols, prepared.running, exports: prepared.checksums)
            }
            // Nobody unloads ksplice.ko while its window is open; once they are loaded, the updates hold it. A kernel that
            // refuses the window has nobody who comes and goes for it.
            let hold: (any OpenMemory)?
            do { hold = parts.isEmpty ? nil : try await host.window() } catch { hold = nil }
            defer { hold?.close() }
            // ksplice.ko came after the symbols were read; its functions are looked up now.
            var symbols = parts.isEmpty ? nil : try await host.symbols()
            for part in parts {
                if part.update.manifest.references.contains(where: { $0.bringer != nil }), !loaded.isEmpty {
                    symbols = try await host.symbols()
                }
                let name = Self.moduleName(part.update.id)
                let module = try updateModule(part, now: symbols)
                try await host.load(module: module, name: name, parameters: "")
                loaded.append(name)
                // From now on ksplice.ko holds them.
                try part.prepared.checkModules(try await host.modules())
            }
            return try await body()
        } catch {
            for name in loaded.reversed() { try? await host.unload(module: name) }
            throw error
        }
    }

    static func isApplied(_ update: Update) -> Failure {
        Failure("update \(update.id.prefix(12)) is applied already", status: .no, hint: "git ksplice status")
    }

    /// The kernel is changed; a journal that cannot be written does not make that a failure.
    ///
    /// - Parameters:
    ///   - waiting: modules that are not loaded.
    ///   - module: the one that came, of an update that was applied before.
    @discardableResult
    func finish(
        _ update: Update, _ statistics: MatchResult.Statistics, _ pause: Int, _ tries: Int,
        waiting: [String], module: String? = nil
    ) async -> ApplyReport {
        let functions = update.manifest.replacements.filter { $0.partOf == nil }.map(\.symbol)
        do {
            try await host.appendToJournal(
                JournalLine.text(
                    module == nil ? "apply" : "late",
                    [
                        ("update", .string(update.wholeID)),
                        ("description", .string(update.manifest.description)),
                        ("commits", .strings(update.manifest.commits)),
                        ("functions", .strings(functions)),
                        ("constants", .strings(update.manifest.constants.map(\.symbol))),
                        ("pause_ns", .number(pause)), ("tries", .number(tries)),
                        ("waiting", .strings(waiting)), ("module", module.map { .string($0) } ?? .null),
                        ("cause", .string(cause.rawValue)),
                    ]))
        } catch { progress.warn("the update is applied, but the journal cannot be written: \(error)") }
        return ApplyReport(
            id: update.wholeID, functions: functions, constants: update.manifest.constants.map(\.symbol),
            hooks: update.manifest.hooks.count, statistics: statistics, pause: pause, tries: tries,
            waiting: waiting)
    }

    /// The module's name: the identity's beginning, as long as the placeholder.
    static func moduleName(_ id: String) -> String { "ksplice_" + id.prefix(12) }

    // MARK: - Identity, matching

    /// Proves parts, each for itself, and does something with them.
    /// - Parameters:
    ///   - restoring: what other updates, which will have been undone, have done to the code.
    ///   - coming: a module that is being loaded, and waits.
    func withPrepared<Result>(
        _ parts: [Update], restoring: [AppliedRedirect] = [], coming: String? = nil,
        _ body: ([PreparedPart]) async throws -> Result
    ) async throws -> Result {
        guard let first = parts.first else { return try await body([]) }
        let running = try await host.identity()
        if checksIdentity {
            for part in parts { try ApplyConditions(update: part, host: host).identity(running) }
        }
        progress("reading the kernel's symbols")
        let loaded = try await host.modules()
        let symbols = try first.completed(try await host.symbols())
        for part in parts {
            let conditions = ApplyConditions(update: part, host: host)
            try await conditions.dependencies()
            try conditions.modules(loaded, coming: coming)
            try await conditions.livePatches()
            try conditions.exports(symbols)
        }
        guard let access = try await memoryAccess(first, symbols, running, mayLoad: true) else {
            preconditionFailure("ksplice.ko may be loaded, and was not")
        }
        let records = try await HostRecords(host)
        return try await access.use(progress: progress) { memory in
            progress("matching the code that runs")
            let evidence = try await host.matchEvidence(
                madeFor: first.manifest.kernel, undoing: Set(restoring.map(\.update)))
            let restored = RestoredMemory(memory, without: restoring)
            return try await body(
                parts.map { part in
                    let matched = try MatchedUpdate(
                        part, memory: restored, symbols: symbols, evidence: evidence)
                    return PreparedPart(
                        update: part,
                        prepared: try PreparedUpdate(
                            part, matched, running: running, loaded: loaded,
                            grounds: records.moduleNames(of: part.manifest.depends),
                            isComing: coming != nil))
                })
        }
    }

    /// The way to the kernel's memory; nil where there is none without loading ksplice.ko, which is not allowed.
    func memoryAccess(
        _ update: Update, _ symbols: KernelSymbols, _ running: KernelIdentity, mayLoad: Bool
    ) async throws -> MemoryAccess? {
        func load() async throws { try await loadCore(update, symbols, running, exports: nil) }
        return try await MemoryAccess(
            host, covering: { try MatchPlan(update).units.flatMap { $0.candidates(symbols) } },
            load: mayLoad ? load : nil)
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

    /// The update module, ready to be loaded. `now` has the symbols of ksplice.ko and of parts that were loaded before this one;
    /// without it, what those bring gets a place in module space, to see whether all else is there.
    func updateModule(_ part: PreparedPart, now: KernelSymbols?) throws -> [UInt8] {
        let (update, prepared) = (part.update, part.prepared)
        var module = try prepared.module(update, now)
        let somewhere = module.architecture.moduleSpace.lowerBound
        try module.resolve(readOnly: prepared.readOnly) { name in
            guard ModuleResolver.coreFunctions.contains(name) else {
                return try prepared.address(of: name, update, now)
            }
            guard let now else { return somewhere }
            guard let address = now.named(name, in: CoreModule.name).first?.address else {
                throw Failure("ksplice.ko is loaded but has no '\(name)'")
            }
            return address
        }
        try module.setVersions(prepared.checksums)
        return module.bytes
    }
}

/// Which parts of an update a host can have now.
struct Presence {
    /// Those that are not applied, and whose module is loaded.
    private(set) var ready: [Update] = []
    /// Modules of the others.
    private(set) var absent: [String] = []
    /// Whether a module is being loaded that nobody stopped at the gate.
    private(set) var isChanging = false

    init(_ parts: [Update], _ records: HostRecords, _ loaded: [LoadedModule]) {
        for part in parts {
            if records.records.contains(where: { $0.id == part.id && $0.state == "applied" }) { continue }
            guard let home = part.home else {
                ready.append(part)
                continue
            }
            switch loaded.first(where: { $0.name == home })?.state {
            case "Live": ready.append(part)
            case "Loading":
                // At the gate, whoever put it there: a process of its own serves it once this one has ended.
                let isAtGate = records.awaited.contains {
                    $0.module == home && $0.isComing
                }
                if isAtGate { absent.append(home) } else { isChanging = true }
            default: absent.append(home)
            }
        }
    }
}

/// A part that is proven for the running kernel, and for nothing else.
struct PreparedPart {
    var update: Update
    var prepared: PreparedUpdate
}
