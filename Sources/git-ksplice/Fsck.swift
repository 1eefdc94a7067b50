import ArgumentParser
import Core

struct Fsck: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Look for damage in what is stored: updates, kernels, channels, trust, notes, state.",
        usage: "git ksplice fsck [--host] [-q] [--json] [<update> | <ref>]...")

    @Flag(help: "What this host has fetched, instead of this repository.")
    var host = false

    @Flag(name: .shortAndLong, help: "Print errors only, no warnings.")
    var quiet = false

    @Flag(help: "Print JSON, one object a line.")
    var json = false

    @Argument(help: "Updates, or refs; all of them and the folder of state where none is named.")
    var names: [String] = []

    func run() async throws {
        let found: [StorageProblem]
        if host {
            guard let problems = try await Locations.subscription.problems(names) else {
                throw Failure(
                    "nothing was fetched on this host", status: .notFound, hint: "git ksplice fetch URL")
            }
            found = problems
        } else {
            var check = StorageCheck(try await Repository())
            let only = try await check.refs(names)
            found = try await check.run(only: names.isEmpty ? nil : only)
        }
        for problem in found where !quiet || problem.severity == .error {
            print(json ? problem.json.text : "\(problem.text)\n    \(problem.hint)")
        }
        if found.contains(where: { $0.severity == .error }) { throw ExitCode(ExitStatus.no.rawValue) }
    }
}
