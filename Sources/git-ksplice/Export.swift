import ArgumentParser
import Core

struct Export: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write an update to an archive that can be applied without a repository.")

    @Option(
        name: .shortAndLong,
        help: ArgumentHelp("The archive; default: ksplice-<id>.tar.gz.", valueName: "file"))
    var output: String?

    @Argument(help: "An update, or a commit that has one.")
    var update: String

    func run() async throws {
        let repository = try await Repository()
        let store = UpdateStore(repository)
        let found = try await store.load(try await store.find(update).ref)
        let path = output ?? "ksplice-\(found.id.prefix(8)).tar.gz"
        try Files.write(try found.archive(), to: path)
        print(path)
    }
}
