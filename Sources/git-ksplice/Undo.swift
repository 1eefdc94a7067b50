import ArgumentParser
import Core

struct Undo: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Give the old code back.", usage: "git ksplice undo [<options>] (<update> | --all)")

    @Flag(help: "Undo all updates, the newest first.")
    var all = false

    @Flag(help: "Do not apply it at boot any more, either.")
    var boot = false

    @OptionGroup var change: ChangeOptions
    @OptionGroup var machine: HostOptions

    @Flag(help: "Print the results as JSON, one a line.")
    var json = false

    @Argument(help: "An update's id, or a commit or ref that has one for this kernel.")
    var update: String?

    func validate() throws {
        guard all != (update != nil) else { throw ValidationError("give either an update or --all") }
        try machine.refuse(boot: boot)
    }

    func run() async throws {
        let host = machine.target
        var updates = HostUpdates(host: host, journal: machine.journal)
        updates.patience = change.patience
        updates.late = try machine.late
        let targets = try await targets(updates, host)
        if targets.isEmpty {
            if !json { print("no update is applied") }
            return
        }
        for target in targets {
            let report = try await Talk.result(of: target.id, isJSON: json) {
                try await updates.undo(target, progress: Talk.progress(isQuiet: change.quiet || json))
            }
            if json {
                print(report.json.text)
            } else if !change.quiet {
                print(
                    "update \(report.id.prefix(12)) undone; the machine stood still for \(report.pause) ns"
                        + (report.unloaded ? "" : "; its module stays loaded, inert"))
            }
            if machine.isElsewhere { continue }
            try await BootCommand.forget(target.id, isAsked: boot, isQuiet: change.quiet)
        }
        if !json { print("Done!") }
    }

    private func targets(_ updates: HostUpdates, _ host: any Host & Sendable) async throws -> [LoadedUpdate] {
        guard let update else { return try await updates.all().filter(\.isInEffect).reversed() }
        if let found = try await updates.find(update) { return [found] }
        let id = try await identity(update, host)
        guard let found = try await updates.find(id) else {
            throw Failure("update \(id.prefix(12)) is not applied", status: .no, hint: "git ksplice status")
        }
        return [found]
    }

    /// The identity of an update that is not loaded. Where there is no repository to ask, what looks like an identity
    /// is taken for one.
    private func identity(_ update: String, _ host: any Host & Sendable) async throws -> String {
        do {
            return try await UpdateSource.load(update, kernel: await UpdateSource.runningKernel(host)).id
        } catch let failure as Failure where failure.status == .fatal || failure.status == .notFound {
            guard update.count >= 12, update.allSatisfy(\.isHexDigit) else { throw failure }
            return update
        }
    }
}
