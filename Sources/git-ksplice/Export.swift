import ArgumentParser
import Core

struct Export: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write an update to an archive that can be applied without a repository.")

    @Option(
        name: .shortAndLong,
        help: ArgumentHelp("The archive; default: ksplice-<id>.tar.gz.", valueName: "file"))
    var output: String?

    @OptionGroup var input: InputOptions

    @Argument(help: "An update, or a commit that has one.")
    var update: String?

    func validate() throws {
        try input.check(update.map { [$0] } ?? [], "an update")
        guard output == nil || !input.stdin else {
            throw ValidationError("--output is for one update, and --stdin may name several")
        }
    }

    func run() async throws {
        let names = try await input.updates(update.map { [$0] } ?? [])
        let store = UpdateStore(try await Repository())
        try await InputOptions.each(names) { name in
            let found = try await store.load(try await store.find(name).ref)
            let path = output ?? "ksplice-\(found.id.prefix(8)).tar.gz"
            try Files.write(try found.archive(), to: path)
            print(path)
        }
    }
}
