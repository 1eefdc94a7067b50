import ArgumentParser
import Core

struct Upgrade: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Replace applied updates by others, in one pause.",
        usage: "git ksplice upgrade [<options>] [--undo <update>]... [--all] <update>...")

    @Option(
        help: ArgumentHelp(
            "Undo this applied update in the same pause, too; can be given several times.",
            valueName: "update"))
    var undo: [String] = []

    @Flag(help: "Undo all other applied updates in the same pause.")
    var all = false

    @Option(
        help: ArgumentHelp(
            "How long to go on trying while tasks are inside the functions.", valueName: "seconds"))
    var timeout = 30.0

    @Flag(help: "Take sleeping tasks out of the functions for a moment.")
    var nudge = false

    @Flag(name: .shortAndLong, help: "Say nothing but the result.")
    var quiet = false

    @Argument(help: "An update's id, a commit or ref that has one for this kernel, or an archive.")
    var updates: [String]

    func run() async throws {
        let host = Locations.host
        let kernel = await UpdateSource.runningKernel(host)
        var wanted: [Update] = []
        for spec in updates {
            let update = try await UpdateSource.load(spec, kernel: kernel)
            if !wanted.contains(where: { $0.id == update.id }) { wanted.append(update) }
        }
        let loaded = HostUpdates(host: host, journal: Locations.journal)
        var named: [LoadedUpdate] = []
        for spec in undo {
            guard let found = try await loaded.find(spec) else {
                throw Failure("no update '\(spec)' is loaded", status: .no, hint: "git ksplice status")
            }
            if !named.contains(where: { $0.id == found.id }) { named.append(found) }
        }
        var applier = Applier(host: host, progress: Talk.progress(isQuiet: quiet))
        applier.patience = Patience(timeout: timeout, nudges: nudge)
        let report = try await Upgrader(applier, loaded).run(wanted, undoing: named, all: all)
        if !quiet {
            for undone in report.undone {
                print(
                    "update \(undone.id.prefix(12)) undone"
                        + (undone.unloaded ? "" : "; its module stays loaded, inert"))
            }
            for applied in report.applied {
                print("update \(applied.id.prefix(12)) applied: \(applied.functions.joined(separator: ", "))")
            }
            print("the machine stood still for \(report.pause) ns; \(report.tries) attempt(s)")
        }
        print("Done!")
    }
}
