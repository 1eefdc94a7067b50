import ArgumentParser
import Core

struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List the updates in this repository.")

    @Option(help: ArgumentHelp("Only those for this kernel.", valueName: "name"))
    var kernel: String?

    @Flag(help: "Print JSON, one object a line.")
    var json = false

    func run() async throws {
        let repository = try await Repository()
        var arch: String?
        var build: String?
        if let kernel {
            let identity = try await KernelRegistry(repository).summary(kernel).identity
            (arch, build) = (identity.arch, identity.refName)
        }
        let updates = try await UpdateStore(repository).list(arch: arch, buildID: build)
        if json {
            for update in updates {
                print(
                    JSON.object([
                        ("v", .number(1)), ("update", .string(update.id)), ("ref", .string(update.ref)),
                        ("arch", .string(update.arch)), ("build_id", .string(update.buildID)),
                        ("release", .string(update.release)), ("description", .string(update.description)),
                        ("commits", .strings(update.commits)),
                    ]).text)
            }
            return
        }
        let rows = updates.map {
            [
                String($0.id.prefix(12)), $0.release.isEmpty ? String($0.buildID.prefix(12)) : $0.release,
                $0.description,
            ]
        }
        for line in rows.columns { print(line) }
    }
}
