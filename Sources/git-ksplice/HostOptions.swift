import ArgumentParser
import Core

/// Which machine a command works on.
struct HostOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Work on another machine, through a command that gives a shell of root there, such as 'ssh root@box'.",
            valueName: "command"))
    var host: String?

    func validate() throws {
        guard host?.trimmed != "" else { throw ValidationError("--host needs a command") }
    }

    var isElsewhere: Bool { host != nil }

    /// The machine, with its journal.
    var target: any Host & Sendable {
        if let host { RemoteHost(command: host) } else { Locations.host }
    }

    /// The path of the journal on that machine.
    var journal: String { isElsewhere ? LocalHost.journalPath : Locations.journal }

    /// How updates wait for modules there; nil on another machine, whose kernel cannot start this program.
    var late: LateUpdates? {
        get throws { isElsewhere ? nil : try Locations.late }
    }

    /// What is kept for the next boot belongs to the machine that the program runs on.
    func refuse(boot: Bool) throws {
        guard isElsewhere && boot else { return }
        throw ValidationError("--boot and --host exclude each other: run git ksplice on the host itself")
    }
}
