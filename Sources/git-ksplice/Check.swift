import ArgumentParser
import Core

struct Check: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Find out whether an update could be applied, without loading anything.",
        usage: "git ksplice check (<update> | <commit> | <ref> | <file>)")

    @Flag(help: "Print the result as JSON.")
    var json = false

    @Argument(help: "An update's id, a commit or ref that has one for this kernel, or an archive.")
    var update: String

    func run() async throws {
        let host = LocalHost()
        let found = try await UpdateSource.load(update, kernel: await UpdateSource.runningKernel(host))
        let ready = try await Applier(host: host, progress: Talk.progress(isQuiet: json)).check(found)
        let statistics = ready.statistics
        if json {
            print(
                JSON.object([
                    ("v", .number(1)), ("update", .string(found.id)),
                    ("matched_functions", .number(statistics.functions)),
                    ("matched_bytes", .number(statistics.bytes)),
                    ("match_ns", .number(Int(statistics.nanoseconds))),
                    ("functions", .strings(ready.functions)), ("traced", .strings(ready.traced)),
                    ("inside", .strings(ready.inside)),
                ]).text)
        } else {
            print("update \(found.id.prefix(12)): \(found.manifest.description)")
            print(
                "  matched    \(statistics.functions) functions, \(statistics.bytes) bytes, in \(statistics.nanoseconds / 1_000_000) ms"
            )
            let replaced = ready.functions + found.manifest.constants.map(\.symbol)
            if !replaced.isEmpty { print("  replaces   \(replaced.joined(separator: ", "))") }
            if !found.manifest.hooks.isEmpty {
                print("  hooks      \(found.manifest.hooks.map(\.symbol).joined(separator: ", ")) (not run)")
            }
            if !ready.traced.isEmpty { print("  traced     \(ready.traced.joined(separator: ", "))") }
            for task in ready.inside { print("  in use     \(task)") }
            print(
                ready.inside.isEmpty
                    ? "it can be applied" : "it cannot be applied as long as these tasks are inside")
        }
        if !ready.inside.isEmpty { throw ExitCode(ExitStatus.busy.rawValue) }
    }
}
