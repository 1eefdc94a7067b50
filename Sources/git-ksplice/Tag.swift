import ArgumentParser
import Core

struct Tag: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say which updates a release has.",
        usage:
            "git ksplice tag [--channel <name>] [--kernel <name>] [--supersedes <update>]... <release> [<update>...]",
        discussion: "The release's own tag is left alone: the channel names it, and what it says is signed.")

    @OptionGroup var listing: ListingOptions

    @Argument(help: "The release's name; that of its tag, where there is one.")
    var release: String

    @Argument(
        help:
            "An update's id, or a commit or ref that has one; what the channel lists already belongs to it, too."
    )
    var updates: [String] = []

    @OptionGroup var input: InputOptions

    func run() async throws {
        guard !release.contains(where: \.isWhitespace), !release.isEmpty else {
            throw Failure("'\(release)' cannot be the name of a release", status: .usage)
        }
        let tag = try await Repository().tagObject(release)
        let named = try await listing.add(try await input.updates(updates), release: release, tag: tag)
        if tag == nil {
            Talk.line("note: there is no tag '\(release)' yet; its message may name the updates:")
            Talk.line("Ksplice-Channel: \(listing.channel)")
            for update in named { Talk.line("Ksplice-Update: \(update.id)") }
        }
    }
}
