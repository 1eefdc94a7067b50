import ArgumentParser
import Core

struct Check: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Find out whether an update could be applied, without loading anything.",
        usage: "git ksplice check [<options>] (<update> | <commit> | <ref> | <file>)")

    @Flag(help: "Print the result as JSON.")
    var json = false

    @Flag(help: "Where the kernel's memory is not to be seen, load ksplice.ko and look through it.")
    var window = false

    @OptionGroup var machine: HostOptions

    @Argument(help: "An update's id, a commit or ref that has one for this kernel, or an archive.")
    var update: String

    func run() async throws {
        let host = machine.target
        let found = try await UpdateSource.load(update, kernel: await UpdateSource.runningKernel(host))
        var applier = Applier(host: host, progress: Talk.progress(isQuiet: json))
        applier.late = try machine.late
        let forecast = try await applier.check(found, mayLoad: window)
        if json {
            print(forecast.json(id: found.id).text)
        } else {
            print("update \(found.id.prefix(12)): \(found.manifest.description)")
            report(forecast)
        }
        if forecast.status != .success { throw ExitCode(forecast.status.rawValue) }
    }

    private func report(_ forecast: Forecast) {
        let statistics = forecast.statistics
        if statistics.functions > 0 {
            print(
                "  matched    \(statistics.functions) functions, \(statistics.bytes) bytes, in \(statistics.nanoseconds / 1_000_000) ms"
            )
        }
        let replaced = forecast.functions + forecast.constants
        if !replaced.isEmpty { print("  replaces   \(replaced.joined(separator: ", "))") }
        if !forecast.hooks.isEmpty {
            print("  hooks      \(forecast.hooks.joined(separator: ", ")) (not run)")
        }
        if !forecast.waiting.isEmpty {
            print(
                "  waits for  \(forecast.waiting.joined(separator: ", ")) (not loaded; changed when loaded)")
        }
        for function in forecast.traced {
            let who = function.tracers.isEmpty ? "" : " by " + function.tracers.joined(separator: ", ")
            print("  traced     \(function.name)\(who)")
        }
        for task in forecast.inside { print("  in use     \(task.description)") }
        for point in forecast.unknown {
            print("  \(Self.padded("unknown"))\(point.point.rawValue): \(point.text)")
        }
        for obstacle in forecast.obstacles {
            let lines = obstacle.failure.message.lines
            print("  \(Self.padded("obstacle"))\(obstacle.point.rawValue): \(lines[0])")
            for line in lines.dropFirst() { print("  \(Self.padded(""))\(line)") }
            for hint in obstacle.failure.hints { print("  \(Self.padded("hint"))\(hint)") }
        }
        if forecast.obstacles.isEmpty {
            print("it can be applied")
        } else if forecast.obstacles.allSatisfy({ $0.point == .tasks }) {
            print("it cannot be applied as long as these tasks are inside")
        } else {
            print("it cannot be applied")
        }
    }

    private static func padded(_ word: String) -> String {
        word + String(repeating: " ", count: 11 - word.count)
    }
}
