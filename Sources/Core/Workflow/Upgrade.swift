// Replacing applied updates by others in one pause, so that the system never runs in between without the fix that both
// make. What is new is matched with memory as it is once the old updates are undone.

public struct UpgradeReport: Sendable {
    public let applied: [ApplyReport]
    public let undone: [UndoReport]
    /// How long the machine stood still, in nanoseconds.
    public let pause: Int
    /// How often it was tried.
    public let tries: Int
}

public struct Upgrader: Sendable {
    private let applier: Applier
    private let updates: HostUpdates
    private var host: any Host & Sendable { applier.host }
    private var progress: @Sendable (String) -> Void { applier.progress }

    /// The applier says how matching is done and how long is tried; the updates are those of its host.
    public init(_ applier: Applier, _ updates: HostUpdates) {
        self.applier = applier
        self.updates = updates
    }

    /// A new update's module, ready to be loaded.
    private struct Ready {
        var update: Update
        var module: [UInt8]
        var prepared: PreparedUpdate
    }

    /// Applies updates, and undoes in the same pause what they replace: those named, all others, or every applied update that
    /// replaces one of the same functions, if nothing of it is lost: all its functions are replaced, it has nothing but
    /// functions, and its commits are among those of the new ones.
    public func run(_ wanted: [Update], undoing named: [LoadedUpdate], all: Bool) async throws
        -> UpgradeReport
    {
        let loaded = try await updates.all()
        let applied = loaded.filter { $0.state == "applied" }
        let new = wanted.filter { update in !applied.contains { $0.id == update.id } }
        if let other = named.first(where: { $0.state != "applied" }) {
            throw Failure(
                "update \(other.id.prefix(12)) is not applied", status: .no, hint: "git ksplice status")
        }
        let others = applied.filter { old in !wanted.contains { $0.id == old.id } }
        let chosen = Set((named + (all ? others : [])).map(\.id))
        guard !new.isEmpty || !chosen.isEmpty else { throw Applier.isApplied(wanted[0]) }
        if let both = wanted.first(where: { chosen.contains($0.id) }) {
            throw Failure("update \(both.id.prefix(12)) cannot be undone and applied at once", status: .usage)
        }
        try await unloadRemains(new, loaded)
        if let refusal = try await ModulePolicy(of: host).refusals.first { throw refusal }
        // Nobody unloads ksplice.ko while its window is open; once they are loaded, the updates hold it.
        let hold: (any OpenMemory)?
        do { hold = try await host.exists(CoreModule.versionPath) ? await host.window() : nil } catch {
            hold = nil
        }
        defer { hold?.close() }
        let (ready, replaced) = try await prepare(new, chosen, others)
        let later: (any OpenMemory)?
        do { later = hold == nil && !ready.isEmpty ? try await host.window() : nil } catch { later = nil }
        defer { later?.close() }
        // The newest first.
        let old = applied.filter { replaced.contains($0.id) }.reversed()
        for update in old { try await updates.refuseUsed(update) }
        return try await change(ready, Array(old))
    }

    /// What an interrupted command has left of the new updates is taken away.
    private func unloadRemains(_ new: [Update], _ loaded: [LoadedUpdate]) async throws {
        for update in new where loaded.contains(where: { $0.id == update.id }) {
            guard try await UpdateSysfs(host: host, id: update.id).number("resident") == 0 else {
                throw Failure(
                    "update \(update.id.prefix(12)) was applied before and stays loaded", status: .no,
                    hint: "git ksplice apply \(update.id.prefix(12))")
            }
            progress("unloading what an interrupted command has left")
            try await host.unload(module: Applier.moduleName(update.id))
        }
    }

    /// Matches the new updates, and tells which of the others they replace.
    private func prepare(
        _ new: [Update], _ chosen: Set<String>, _ others: [LoadedUpdate]
    ) async throws -> ([Ready], replaced: Set<String>) {
        let redirects = try await AppliedRedirect.all(host).filter { redirect in
            others.contains { $0.id == redirect.update }
        }
        let names = Set(new.flatMap { $0.manifest.replacements.map(\.symbol) })
        // By their names at first; matching tells which function of that name it is.
        var replaced = chosen.union(redirects.filter { names.contains($0.function) }.map(\.update))
        while true {
            let restoring = redirects.filter { replaced.contains($0.update) }
            var ready: [Ready] = []
            for update in new { ready.append(try await prepare(update, restoring)) }
            let old = ready.flatMap { $0.prepared.targets.map { $0.function.address } }
            let met = chosen.union(Self.replaced(old, redirects, try await host.symbols()))
            if met == replaced {
                for id in replaced.subtracting(chosen).sorted() {
                    try await refuseLoss(of: id, redirects, ready)
                }
                return (ready, replaced)
            }
            guard met.isSubset(of: replaced) else {
                throw Failure(
                    "it cannot be told which updates are replaced", status: .verificationRefused,
                    hint: "name them with --undo")
            }
            replaced = met
        }
    }

    /// The updates that have redirected code at some addresses, and those that have redirected their code.
    private static func replaced(
        _ old: [UInt64], _ redirects: [AppliedRedirect], _ symbols: KernelSymbols
    ) -> Set<String> {
        var met = Set(redirects.filter { old.contains($0.old) }.map(\.update))
        while true {
            let modules = Set(met.map(Applier.moduleName))
            let more = redirects.filter {
                !met.contains($0.update)
                    && modules.contains(symbols.nearest(to: $0.old)?.symbol.module ?? "")
            }
            if more.isEmpty { return met }
            met.formUnion(more.map(\.update))
        }
    }

    /// What is replaced must be replaced whole: a fix that nobody spoke of must not go with it.
    private func refuseLoss(of id: String, _ redirects: [AppliedRedirect], _ new: [Ready]) async throws {
        let short = id.prefix(12)
        func refusal(_ reason: String) -> Failure {
            Failure(
                "update \(short), which would be replaced, \(reason)", status: .no,
                hint: "--undo \(short) says that it may go")
        }
        let old = Set(new.flatMap { $0.prepared.targets.map { $0.function.address } })
        // Redirected code of redirected code.
        func root(_ redirect: AppliedRedirect) -> UInt64 {
            redirects.first { $0.new == redirect.old }.map(root) ?? redirect.old
        }
        if let lost = redirects.first(where: { $0.update == id && !old.contains(root($0)) }) {
            throw refusal("also changes '\(lost.function)'")
        }
        let contents = try await UpdateSysfs(host: host, id: id).text("contents").split(separator: " ")
        guard contents.count == 4, contents[1] == "0", contents[2] == "0" else {
            throw refusal("also has constants or hooks")
        }
        let known = Set(new.flatMap(\.update.manifest.commits))
        let commits = try await updates.journalCommits()[id]
        guard let commits, !commits.isEmpty, known.isSuperset(of: commits) else {
            throw refusal("was made of other commits")
        }
    }

    private func prepare(_ update: Update, _ restoring: [AppliedRedirect]) async throws -> Ready {
        let undone = Set(restoring.map(\.update))
        if let ground = update.manifest.depends.first(where: { undone.contains($0) }) {
            throw Failure(
                "update \(update.id.prefix(12)) was made on update \(ground.prefix(12)), which it would replace",
                status: .usage, hint: "git ksplice apply \(update.id.prefix(12)) applies it on that")
        }
        return try await applier.withPrepared(update, restoring: restoring) { prepared in
            try await applier.loadCore(
                update, prepared.symbols, prepared.running, exports: prepared.checksums)
            let module = try applier.updateModule(
                try prepared.module(update), prepared, core: try await host.symbols())
            return Ready(update: update, module: module, prepared: prepared)
        }
    }

    private func change(_ new: [Ready], _ old: [LoadedUpdate]) async throws -> UpgradeReport {
        var loaded: [String] = []
        let pause: Int
        let tries: Int
        var resident: Set<String> = []
        do {
            for update in new {
                let name = Applier.moduleName(update.update.id)
                try await host.load(module: update.module, name: name, parameters: "")
                loaded.append(name)
                // From now on ksplice.ko holds them.
                try update.prepared.checkModules(try await host.modules())
            }
            for update in old where try await UpdateSysfs(host: host, id: update.id).number("resident") != 0 {
                resident.insert(update.id)
            }
            let steps =
                old.map { Transition.Step(id: $0.id, isUndo: true) }
                + new.map { Transition.Step(id: $0.update.id, isUndo: false) }
            (pause, tries) = try await Transition(host, steps, applier.patience)
                .make(progress: progress)
        } catch {
            for name in loaded.reversed() { try? await host.unload(module: name) }
            throw error
        }
        // The kernel is changed: nothing makes that a failure any more.
        var applied: [ApplyReport] = []
        for update in new {
            applied.append(
                await applier.finish(update.update, update.prepared.result.statistics, pause, tries))
        }
        var undone: [UndoReport] = []
        for update in old {
            do {
                undone.append(
                    try await updates.finish(
                        update, mayGo: !resident.contains(update.id), pause, tries, progress))
            } catch {
                progress("the module of \(update.id.prefix(12)) stays loaded: \(error)")
                undone.append(UndoReport(id: update.id, pause: pause, tries: tries, unloaded: false))
            }
        }
        return UpgradeReport(applied: applied, undone: undone, pause: pause, tries: tries)
    }
}
