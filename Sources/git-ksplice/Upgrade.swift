import ArgumentParser
import Core

struct Upgrade: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Replace applied updates by others, in one pause.",
        usage: "git ksplice upgrade [<options>] [--undo <update>]... [--all] <update>... | [--to <release>]")

    @Option(
        help: ArgumentHelp(
            "Undo this applied update in the same pause, too; can be given several times.",
            valueName: "update"))
    var undo: [String] = []

    @Flag(help: "Undo all other applied updates in the same pause.")
    var all = false

    @Option(help: ArgumentHelp("Have what this release of the channel has.", valueName: "release"))
    var to: String?

    @OptionGroup var followed: FollowedOptions

    @OptionGroup var change: ChangeOptions
    @OptionGroup var late: LateOptions
    @OptionGroup var machine: HostOptions

    @Flag(help: "Let the new updates come back at each boot of this kernel, and the undone ones no more.")
    var boot = false

    @Flag(help: "Print the results as JSON, one object for each pause.")
    var json = false

    @Argument(
        help: """
            An update's id, a commit or ref that has one for this kernel, or an archive; without any, this host gets what it has
            fetched.
            """)
    var updates: [String] = []

    func validate() throws {
        try machine.refuse(boot: boot)
        guard to == nil || updates.isEmpty else { throw ValidationError("give either updates or --to") }
        guard !updates.isEmpty || undo.isEmpty && !all else { throw ValidationError("name updates, too") }
    }

    func run() async throws {
        if updates.isEmpty { return try await follow() }
        let host = machine.target
        let kernel = await UpdateSource.runningKernel(host)
        var wanted: [Update] = []
        for spec in updates {
            let update = try await UpdateSource.load(spec, kernel: kernel, channel: followed.channel)
            if !wanted.contains(where: { $0.id == update.id }) { wanted.append(update) }
        }
        var loaded = HostUpdates(host: host, journal: machine.journal)
        loaded.late = try machine.late
        var named: [LoadedUpdate] = []
        for spec in undo {
            guard let found = try await loaded.find(spec) else {
                throw Failure("no update '\(spec)' is loaded", status: .no, hint: "git ksplice status")
            }
            if !named.contains(where: { $0.id == found.id }) { named.append(found) }
        }
        let upgrader = Upgrader(applier(host, loaded), loaded)
        let report = try await Talk.result(of: wanted.count == 1 ? wanted[0].id : nil, isJSON: json) {
            try await upgrader.run(wanted, undoing: named, all: all)
        }
        try await tell(report, wanted)
    }

    private func applier(_ host: any Host & Sendable, _ loaded: HostUpdates) -> Applier {
        var applier = Applier(host: host, progress: Talk.progress(isQuiet: change.quiet || json))
        applier.patience = change.patience
        applier.late = loaded.late
        applier.latePolicy = late.policy
        return applier
    }

    /// Makes this host have what the channel wants: what it lists is applied, what it has withdrawn or replaced undone.
    private func follow() async throws {
        let host = machine.target
        let state = try await Locations.subscription.state(channel: followed.channel, kernel: host.identity())
        var loaded = HostUpdates(host: host, journal: machine.journal)
        loaded.late = try machine.late
        let applied = try await loaded.all().filter(\.isInEffect)
        let plan = try ChannelPlan(state.index, applied: applied.map(\.id), release: to)
        if plan.isEmpty {
            if !json { print("channel '\(followed.channel)': this host has everything") }
            return
        }
        let upgrader = Upgrader(applier(host, loaded), loaded)
        for step in plan.steps {
            var new: [Update] = []
            for entry in step.new { new.append(try await Locations.subscription.load(entry, of: state)) }
            let old = applied.filter { step.old.contains($0.id) }
            let report = try await Talk.result(of: new.count == 1 ? new[0].id : nil, isJSON: json) {
                try await upgrader.run(new, undoing: old, all: false)
            }
            try await tell(report, new)
        }
    }

    private func tell(_ report: UpgradeReport, _ wanted: [Update]) async throws {
        if !change.quiet && !json {
            for undone in report.undone {
                print(
                    "update \(undone.id.prefix(12)) undone"
                        + (undone.unloaded ? "" : "; its module stays loaded, inert"))
            }
            for applied in report.applied {
                print("update \(applied.id.prefix(12)) applied: \(applied.functions.joined(separator: ", "))")
                Talk.waiting(applied)
            }
            print("the machine stood still for \(report.pause) ns; \(report.tries) attempt(s)")
        }
        // First what comes: a machine that stops in between boots with the old ones, and never without both.
        if boot { for update in wanted { try await BootCommand.keep(update, isJSON: json) } }
        for undone in report.undone where !machine.isElsewhere {
            try await BootCommand.forget(undone.id, isAsked: boot, isQuiet: change.quiet)
        }
        print(json ? report.json.text : "Done!")
    }
}
