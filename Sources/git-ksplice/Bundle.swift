import ArgumentParser
import Core

struct Bundle: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write what hosts fetch into a file, for those that are not connected.",
        usage: "git ksplice bundle [--channel <name>] [--kernel <name>] <file>")

    @Option(help: ArgumentHelp("Which channel.", valueName: "name"))
    var channel = "stable"

    @OptionGroup var options: ChannelOptions

    @Argument(help: "The file that is made.")
    var file: String

    func run() async throws {
        let repository = try await Repository()
        let names = try await options.channels(channel, in: ChannelStore(repository))
        // It need not be there yet.
        let path = file.contains("/") ? file : "./" + file
        let place = try Files.absolute(path.directoryPart) + "/" + (path.split(separator: "/").last ?? "")
        let count = try await Publisher(repository, remote: "").bundle(names, into: place)
        print("\(count) ref(s) written to '\(file)'; on a host: git ksplice fetch \(file)")
    }
}
