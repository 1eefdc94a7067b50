import ArgumentParser
import Core

/// What hooks/update calls on a server.
struct Receive: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Judge one ref of a push, for the update hook of a server.",
        usage: "git ksplice receive <ref> <old> <new>")

    @Argument(help: "The ref's name.")
    var ref: String

    @Argument(help: "What it names now.")
    var old: String

    @Argument(help: "What it is to name.")
    var new: String

    func run() async throws {
        let repository = try await Repository()
        let anchor = try await repository.config("ksplice.trust")
        try await Gatekeeper(repository, anchor: anchor).judge(ref, old: old, new: new)
    }
}
