// Replacing applied updates by others in one pause, so that the system never runs in between without the fix that both
// make. What is new is matched with memory as it is once the old updates are undone.

public struct UpgradeReport: Sendable {
    public let applied: [ApplyReport]
    public let undone: [UndoReport]
    /// How long the machine stood still, in nanoseconds.
    public let pause: Int
    /// How often it was tried.
    public let tries: Int

    /// As git-ksplice-upgrade(1) describes it.
    public var json: JSON {
        .object([
            ("v", .number(1)), ("done", .bool(true)), ("pause_ns", .number(pause)), ("tries", .number(tries)),
            ("applied", .array(applied.map(\.json))), ("undone", .array(undone.map(\.json))),
        ])
    }
}

public struct Upgrader: Sendable {
    private var applier: Applier
    private var updates: HostUpdates
    private var host: any Host & Sendable { applier.host }
    private var progress: Progress { applier.progress }

    /// The applier says how matching is done and how long is tried; the updates are those of its host.
    public init(_ applier: Applier, _ updates: HostUpdates) {
        self.applier = applier
        self.updates = updates
        self.applier.cause = .upgrade
        self.updates.cause = .upgrade
    }

    /// Applies updates, and undoes in the same pause what they replace: those named, all others, or every applied update that
    /// replaces one of the same functions, if nothing of it is lost: all its functions are replaced, it has nothing but
    /// functions, and its commits are among those of the new ones.
    public func run(_ wanted: [Update], undoing named: [LoadedUpdate], all: Bool) async throws
        -> UpgradeReport
    {
        try await applier.alone { try await runAlone(wanted, undoing: named, all: all) }
    }

    private func runAlone(_ wanted: [Update], undoing named: [LoadedUpdate], all: Bool) async throws
        -> UpgradeReport
    {
        let loaded = try await updates.all()
        let applied = loaded.filter(\.isInEffect)
        let new = wanted.filter { update in !applied.contains { $0.id == update.id } }
        if let other = named.first(where: { !$0.isInEffect }) {
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
        let plan = try await Plan(new, host)
        return try await prepared(plan, chosen, others) { ready, replaced in
            // The newest first.
            let old = applied.filter { replaced.contains($0.id) }.reversed()
            for update in old { try await updates.refuseUsed(update) }
            for update in old { try await updates.refuseAwaited(update, undoing: replaced) }
            return try await change(plan, ready, Array(old))
        }
    }

    /// The new updates, what of them can be applied now, and what waits for modules.
    private struct Plan {
        let updates: [Update]
        var ready: [Update] = []
        var absent: [String: [String]] = [:]

        init(_ updates: [Update], _ host: any Host) async throws {
            self.updates = updates
            let loaded = Set(try await host.modules().filter { $0.state == "Live" }.map(\.name))
            for update in updates {
                for part in try update.parts() {
                    if let home = part.home, !loaded.contains(home) {
                        absent[update.id, default: []].append(home)
                    } else {
                        ready.append(part)
                    }
                }
            }
        }
    }

    /// What an interrupted command has left of the new updates is taken away.
    private func unloadRemains(_ new: [Update], _ loaded: [LoadedUpdate]) async throws {
        for update in new where loaded.contains(where: { $0.id == update.id }) {
            let parts = loaded.first { $0.id == update.id }?.parts ?? []
            for part in parts where try await UpdateSysfs(host: host, id: part.id).number("resident") != 0 {
                throw Failure(
                    "update \(update.id.prefix(12)) was applied before and stays loaded", status: .no,
                    hint: "git ksplice apply \(update.id.prefix(12))")
            }
            progress("unloading what an interrupted command has left")
            for part in parts { try await host.unload(module: Applier.moduleName(part.id)) }
        }
    }

    /// Matches the new updates, tells which of the others they replace, and does something with both.
    private func prepared<Result>(
        _ plan: Plan, _ chosen: Set<String>, _ others: [LoadedUpdate],
        _ body: ([PreparedPart], Set<String>) async throws -> Result
    ) async throws -> Result {
        let redirects = try await AppliedRedirect.all(host).filter { redirect in
            others.contains { $0.id == redirect.update }
        }
        let names = Set(plan.updates.flatMap { $0.manifest.replacements.map(\.symbol) })
        // Of what waits for a module, only names can tell.
        var rivals: Set<String> = []
        for update in plan.updates {
            rivals.formUnion(try await applier.late?.rivals(of: update).map(\.id) ?? [])
        }
        let certain = chosen.union(rivals.filter { id in others.contains { $0.id == id } })
        // By their names at first; matching tells which function of that name it is.
        var replaced = certain.union(redirects.filter { names.contains($0.function) }.map(\.update))
        while true {
            let restoring = redirects.filter { replaced.contains($0.update) }
            try refuseOwnGround(plan, replaced)
            let asked = replaced
            var met: Set<String> = []
            let result = try await applier.withPrepared(plan.ready, restoring: restoring) {
                ready -> Result? in
                let old = ready.flatMap { $0.prepared.targets.map { $0.function.address } }
                met = certain.union(Self.replaced(old, redirects, try await host.symbols()))
                guard met == asked else { return nil }
                for id in asked.subtracting(chosen).sorted() {
                    try await refuseLoss(of: id, redirects, ready, plan)
                }
                return try await body(ready, asked)
            }
            if let result { return result }
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
            let modules = Set(
                redirects.filter { met.contains($0.update) }.map { Applier.moduleName($0.part) })
            let more = redirects.filter {
                !met.contains($0.update)
                    && modules.contains(symbols.nearest(to: $0.old)?.symbol.module ?? "")
            }
            if more.isEmpty { return met }
            met.formUnion(more.map(\.update))
        }
    }

    /// What is replaced must be replaced whole: a fix that nobody spoke of must not go with it.
    private func refuseLoss(
        of id: String, _ redirects: [AppliedRedirect], _ new: [PreparedPart], _ plan: Plan
    ) async throws {
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
        let records = try await HostRecords(host)
        for part in records.of(id) {
            let contents = try await UpdateSysfs(host: host, id: part.id).text("contents")
                .split(separator: " ")
            guard contents.count == 4, contents[1] == "0", contents[2] == "0" else {
                throw refusal("also has constants or hooks")
            }
        }
        let awaited = records.modules(awaitedBy: id)
        let covered = Set(plan.updates.flatMap { $0.manifest.units.compactMap(\.module) })
        if let lost = awaited.first(where: { !covered.contains($0) }) {
            throw refusal("also waits for the module '\(lost)'")
        }
        let known = Set(plan.updates.flatMap(\.manifest.commits))
        let commits = try await updates.journalCommits()[id]
        guard let commits, !commits.isEmpty, known.isSuperset(of: commits) else {
            throw refusal("was made of other commits")
        }
    }

    private func refuseOwnGround(_ plan: Plan, _ undone: Set<String>) throws {
        for update in plan.updates {
            guard let ground = update.manifest.depends.first(where: { undone.contains($0) }) else { continue }
            throw Failure(
                "update \(update.id.prefix(12)) was made on update \(ground.prefix(12)), which it would replace",
                status: .usage, hint: "git ksplice apply \(update.id.prefix(12)) applies it on that")
        }
    }

    /// Whoever came before anybody waited for it, and after it was looked for, would be left out.
    private func refuseComing(_ plan: Plan) async throws {
        let (records, loaded) = (try await HostRecords(host), try await host.modules())
        for update in plan.updates {
            let parts = try update.parts().filter { part in
                plan.absent[update.id]?.contains { $0 == part.home } ?? false
            }
            let presence = Presence(parts, records, loaded)
            guard presence.ready.isEmpty, !presence.isChanging else {
                throw Failure(
                    "a module that the update changes was loaded while it was matched", status: .busy,
                    hint: "try again")
            }
        }
    }

    private func change(_ plan: Plan, _ new: [PreparedPart], _ old: [LoadedUpdate]) async throws
        -> UpgradeReport
    {
        var leaving: [[HostUpdates.Leaving]] = []
        for update in old { leaving.append(try await updates.leaving(update)) }
        let steps =
            old.flatMap(\.undoSteps)
            + new.map { Transition.Step(id: $0.update.id, whole: $0.update.wholeID, isUndo: false) }
        var awaited: [(id: String, modules: [String])] = []
        let pause: Int
        let tries: Int
        do {
            for update in plan.updates {
                let modules = try await applier.wait(
                    for: plan.absent[update.id] ?? [], update, replacing: Set(old.map(\.id)))
                awaited.append((update.id, modules))
            }
            try await refuseComing(plan)
            (pause, tries) = try await applier.withLoaded(new) {
                try await Transition(host, steps, applier.patience).make(progress: progress.step)
            }
        } catch {
            for (id, modules) in awaited { try? await applier.late?.forget(id, modules: modules) }
            throw error
        }
        // The kernel is changed: nothing makes that a failure any more.
        var applied: [ApplyReport] = []
        for update in plan.updates {
            var statistics = MatchResult.Statistics()
            for part in new where part.update.wholeID == update.id {
                statistics.add(part.prepared.result.statistics)
            }
            applied.append(
                await applier.finish(
                    update, statistics, pause, tries, waiting: plan.absent[update.id] ?? []))
        }
        var undone: [UndoReport] = []
        for (update, leaving) in zip(old, leaving) {
            do {
                undone.append(try await updates.finish(update, leaving, pause, tries, progress))
            } catch {
                progress.warn("the module of \(update.id.prefix(12)) stays loaded: \(error)")
                undone.append(UndoReport(id: update.id, pause: pause, tries: tries, unloaded: false))
            }
        }
        return UpgradeReport(applied: applied, undone: undone, pause: pause, tries: tries)
    }
}
