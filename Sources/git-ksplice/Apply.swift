import ArgumentParser
import Core
import Glibc

struct Apply: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Change the running kernel.",
        usage: "git ksplice apply [<options>] (<update> | <commit> | <ref> | <file> | --all)")

    @OptionGroup var change: ChangeOptions
    @OptionGroup var late: LateOptions
    @OptionGroup var machine: HostOptions

    @Flag(help: "Apply all that this host has fetched and that are not applied, in their order.")
    var all = false

    @OptionGroup var followed: FollowedOptions

    @Flag(help: "Apply it at each boot of this kernel, too.")
    var boot = false

    @Flag(help: "Print the result as JSON.")
    var json = false

    @Argument(help: "An update's id, a commit or ref that has one for this kernel, or an archive.")
    var update: String?

    func validate() throws {
        try machine.refuse(boot: boot)
        guard all != (update != nil) else { throw ValidationError("give either an update or --all") }
    }

    func run() async throws {
        let host = machine.target
        guard let update else { return try await applyAll(host) }
        try await apply(
            UpdateSource.load(
                update, kernel: await UpdateSource.runningKernel(host), channel: followed.channel), host)
    }

    private func applyAll(_ host: any Host & Sendable) async throws {
        let state = try await Locations.subscription.state(channel: followed.channel, kernel: host.identity())
        let applied = Set(
            try await HostUpdates(host: host, journal: machine.journal).all().filter(\.isInEffect).map(\.id))
        let missing = try state.index.wanted().filter { !applied.contains($0.id) }
        if missing.isEmpty, !json { print("everything of channel '\(followed.channel)' is applied") }
        for entry in missing { try await apply(Locations.subscription.load(entry, of: state), host) }
    }

    private func apply(_ found: Update, _ host: any Host & Sendable) async throws {
        var applier = Applier(host: host, progress: Talk.progress(isQuiet: change.quiet || json))
        applier.patience = change.patience
        applier.late = try machine.late
        applier.latePolicy = late.policy
        if getenv("GIT_KSPLICE_TEST_IGNORE_IDENTITY") != nil {
            Talk.warning("the kernel's identity is not compared; run-pre matching decides")
            applier.checksIdentity = false
        }
        let report = try await Talk.result(of: found.id, isJSON: json) { try await applier.apply(found) }
        if !change.quiet && !json {
            for (what, names) in [("function", report.functions), ("constant", report.constants)]
            where !names.isEmpty {
                print("\(names.count) \(what)(s) replaced: \(names.joined(separator: ", "))")
            }
            if report.hooks > 0 { print("\(report.hooks) hook(s)") }
            Talk.waiting(report)
            if report.tries > 0 {
                print("the machine stood still for \(report.pause) ns; \(report.tries) attempt(s)")
            }
        }
        if boot { try await BootCommand.keep(found, isJSON: json) }
        print(json ? report.json.text : "Done!")
    }
}
