import ArgumentParser
import Core

struct Publish: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Send channels, their updates and the notes to another repository: all or nothing.",
        usage:
            "git ksplice publish [--channel <name>] [--kernel <name>] [--dry-run] [--repair] [--json] <remote>"
    )

    @Option(help: ArgumentHelp("Only this channel.", valueName: "name"))
    var channel: String?

    @OptionGroup var options: ChannelOptions

    @Flag(name: [.customShort("n"), .long], help: "Send nothing, but ask the other side.")
    var dryRun = false

    @Flag(help: "Send also what the other side should have already, and may have lost.")
    var repair = false

    @Flag(name: .shortAndLong, help: "Print what changed only, not what is there already.")
    var quiet = false

    @Flag(help: "Print the result as JSON.")
    var json = false

    @OptionGroup var progress: ProgressOptions

    @Argument(help: "A remote's name, a URL or a path.")
    var remote: String

    func run() async throws {
        let repository = try await Repository()
        let names = try await options.channels(channel, in: ChannelStore(repository))
        let place = try await repository.place(ofRemote: remote)
        let say = progress.steps(isQuiet: quiet || json).step
        let sent = try await Publisher(repository, remote: place, progress: say)
            .publish(names, isDryRun: dryRun, isRepair: repair)
        if json { return print(report(sent).text) }
        let new = sent.filter { $0.kind != "=" }
        for item in new { print("\(item.kind == "*" ? "new" : "moved")  \(item.ref)") }
        if !quiet {
            print(
                new.isEmpty
                    ? "'\(remote)' has everything already"
                    : "\(new.count) ref(s) \(dryRun ? "would be sent" : "sent") to '\(remote)'")
        }
    }

    private func report(_ sent: [Publisher.Sent]) -> JSON {
        let refs = sent.map { item in
            let state = item.kind == "=" ? "present" : item.kind == "*" ? "new" : "moved"
            return JSON.object([("ref", .string(item.ref)), ("state", .string(state))])
        }
        return .object([("v", .number(1)), ("dry_run", .bool(dryRun)), ("refs", .array(refs))])
    }
}
