import ArgumentParser
import Core

struct Prune: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Remove stored updates that nothing needs, and state that nobody uses any more.",
        usage: """
            git ksplice prune [--keep <count>] [--older-than <time>] [--superseded] [--withdrawn] [--kernel <name>]
                                     [--expire <time>] [--host] [-n | -f] [-v] [--json]
            """,
        discussion: "Without --force, it only lists what would go.")

    @Option(help: ArgumentHelp("Keep the newest ones of each kernel.", valueName: "count"))
    var keep: Int?

    @Option(help: ArgumentHelp("Only updates that were stored before.", valueName: "time"))
    var olderThan: String?

    @Flag(help: "Updates that newer ones replace.")
    var superseded = false

    @Flag(help: "Updates that were withdrawn.")
    var withdrawn = false

    @Option(help: ArgumentHelp("Only updates for this kernel.", valueName: "name"))
    var kernel: String?

    @Option(help: ArgumentHelp("State that was not used since.", valueName: "time"))
    var expire: String?

    @Flag(help: "Of what this host has fetched, instead of this repository.")
    var host = false

    @Flag(name: [.customShort("n"), .long], help: "List what would go, and remove nothing.")
    var dryRun = false

    @Flag(name: .shortAndLong, help: "Remove it.")
    var force = false

    @Flag(name: .shortAndLong, help: "Also list what is chosen and stays, and why.")
    var verbose = false

    @Flag(help: "Print JSON, one object a line.")
    var json = false

    func validate() throws {
        if let keep, keep < 0 { throw ValidationError("--keep takes a number of updates") }
    }

    func run() async throws {
        guard host else { return try await prune(try await Repository()) }
        let subscription = Locations.subscription
        guard let repository = try await subscription.repository() else {
            throw Failure(
                "nothing was fetched on this host", status: .notFound, hint: "git ksplice fetch URL")
        }
        try await subscription.exclusively { try await prune(repository) }
    }

    private func prune(_ repository: Repository) async throws {
        var removes = force
        if !removes { removes = try await !repository.isTrue("ksplice.prune.requireForce", default: true) }
        if dryRun { removes = false }
        let inUse = try await inUse(isRemoving: removes)
        let pruner = Pruner(repository, policy: try await policy(repository), inUse: inUse)
        var plan = try await pruner.plan()
        if removes { plan = try await pruner.run(plan) }
        show(plan, isDone: removes)
    }

    /// What the command line says, else what the configuration says.
    private func policy(_ repository: Repository) async throws -> PrunePolicy {
        var policy = try await PrunePolicy.configured(repository)
        if let keep { policy.keep = keep }
        if let olderThan { policy.before = try await repository.moment(olderThan) }
        if superseded || withdrawn { (policy.superseded, policy.withdrawn) = (superseded, withdrawn) }
        if let kernel { policy.kernel = try await Pruner.kernel(kernel, in: repository) }
        if let expire { policy.expire = try await repository.moment(expire) }
        return policy
    }

    /// What this machine has applied, or keeps for the next boot. Where something is removed, and on a host, it must be known.
    private func inUse(isRemoving: Bool) async throws -> [String: String] {
        var found: [String: String] = [:]
        do {
            for entry in try BootCommand.store.lists().flatMap(\.entries) {
                found[entry.id] = "kept for the next boot"
            }
            for update in try await HostUpdates(host: Locations.host, journal: Locations.journal).all() {
                found[update.id] = "loaded on this machine"
            }
        } catch {
            guard !host, !isRemoving else { throw error }
            Talk.warning("what this machine has applied cannot be told: \(Failure(error).message)")
        }
        return found
    }

    private func show(_ plan: Pruner.Plan, isDone: Bool) {
        if json { return showJSON(plan, isDone: isDone) }
        let word = isDone ? "removed" : "would remove"
        for item in plan.updates {
            print(
                "\(word) update \(item.update.id.prefix(12)) (\(item.update.release): \(item.update.description)): "
                    + "\(item.reason), \(item.bytes) bytes")
        }
        for item in plan.state { print("\(word) \(item.path): \(item.reason), \(item.bytes) bytes") }
        if verbose {
            for (update, reason) in plan.kept { print("kept update \(update.id.prefix(12)): \(reason)") }
        }
        if let freed = plan.freed, !plan.updates.isEmpty {
            print("\(plan.updates.count) update(s); git gc then frees \(freed) bytes")
        }
        if !isDone, !plan.updates.isEmpty || !plan.state.isEmpty { Talk.line("hint: --force removes this") }
    }

    private func showJSON(_ plan: Pruner.Plan, isDone: Bool) {
        func line(_ members: [(String, JSON)]) { print(JSON.object([("v", .number(1))] + members).text) }
        func update(_ stored: StoredUpdate) -> [(String, JSON)] {
            [("update", .string(stored.id)), ("ref", .string(stored.ref)), ("path", .null)]
        }
        for item in plan.updates {
            line(
                update(item.update) + [
                    ("bytes", .number(item.bytes)), ("reason", .string(item.reason)), ("kept", .bool(false)),
                    ("removed", .bool(isDone)),
                ])
        }
        for item in plan.state {
            line([
                ("update", .null), ("ref", .null), ("path", .string(item.path)),
                ("bytes", .number(item.bytes)),
                ("reason", .string(item.reason)), ("kept", .bool(false)), ("removed", .bool(isDone)),
            ])
        }
        for (stored, reason) in plan.kept where verbose {
            line(
                update(stored) + [
                    ("bytes", .null), ("reason", .string(reason)), ("kept", .bool(true)),
                    ("removed", .bool(false)),
                ])
        }
    }
}
