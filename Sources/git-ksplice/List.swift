import ArgumentParser
import Core

struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List the updates in this repository.")

    @Option(help: ArgumentHelp("Only those for this kernel.", valueName: "name"))
    var kernel: String?

    @Flag(help: "Print JSON, one object a line.")
    var json = false

    @Flag(help: "Only those that standard input names: updates, commits or revisions, one a line.")
    var stdin = false

    @OptionGroup var lines: LineOptions
    @OptionGroup var colors: ColorOptions

    func run() async throws {
        let repository = try await Repository()
        var arch: String?
        var build: String?
        if let kernel {
            let identity = try await KernelRegistry(repository).summary(kernel).identity
            (arch, build) = (identity.arch, identity.refName)
        }
        let store = UpdateStore(repository)
        var updates = try await store.list(arch: arch, buildID: build)
        if stdin { updates = try await store.named(input(), among: updates) }
        if json {
            for update in updates { print(update.json.text) }
            return
        }
        if let form = lines.form { return Talk.raw(updates.map { form.line($0) }.joined()) }
        let paint = await colors.paint()
        await Pager.start()
        let rows = updates.map {
            [
                String($0.id.prefix(12)), $0.release.isEmpty ? String($0.buildID.prefix(12)) : $0.release,
                $0.description,
            ]
        }
        for line in rows.columns { print(paint(line.prefix(12), .yellow) + line.dropFirst(12)) }
    }

    private func input() throws -> InputNames {
        InputNames(try Files.read("/dev/stdin"), endsWithNull: lines.null)
    }
}
