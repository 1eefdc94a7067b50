import ArgumentParser
import Core

struct Withdraw: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Take an update out of use: hosts apply it no more, and undo it when they upgrade.",
        usage: "git ksplice withdraw --reason <text> [--channel <name>] (<update> | --stdin)")

    @Option(help: ArgumentHelp("Why, for those who have applied it.", valueName: "text"))
    var reason: String

    @Option(help: ArgumentHelp("Only from this channel.", valueName: "name"))
    var channel: String?

    @OptionGroup var input: InputOptions

    @Argument(help: "An update's id, or the first digits of it.")
    var update: String?

    func validate() throws { try input.check(update.map { [$0] } ?? [], "an update") }

    func run() async throws {
        let names = try await input.updates(update.map { [$0] } ?? [])
        let store = ChannelStore(try await Repository())
        try await InputOptions.each(names) { try await withdraw($0, store) }
    }

    private func withdraw(_ update: String, _ store: ChannelStore) async throws {
        var done = false
        for name in try await store.names() where channel == nil || name.name == channel {
            let entries = try await store.state(name)?.index.entries ?? []
            let found = entries.filter { $0.id.hasPrefix(update.lowercased()) && update.count >= 4 }
            guard found.count <= 1 else {
                throw Failure(
                    "'\(update)' is ambiguous; it may mean\n"
                        + found.map { "  " + $0.id }.joined(separator: "\n"),
                    hint: "give more digits")
            }
            guard let entry = found.first, entry.withdrawn == nil else { continue }
            try await store.withdraw(entry.id, from: name, reason: reason)
            print("update \(entry.id.prefix(12)) is withdrawn from \(name.name) of \(name.kernel.prefix(12))")
            done = true
        }
        guard done else {
            throw Failure(
                "no channel lists an update '\(update)'", status: .notFound, hint: "git ksplice channel show")
        }
    }
}
