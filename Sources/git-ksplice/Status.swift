import ArgumentParser
import Core

struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Show which updates the running kernel has.")

    @Flag(help: "Print the result as JSON.")
    var json = false

    func run() async throws {
        let host = LocalHost()
        let updates = try await HostUpdates(host: host).all()
        if json {
            let kernel = try await host.identity()
            print(
                JSON.object([
                    ("v", .number(1)), ("release", .string(kernel.release)),
                    ("build_id", .string(kernel.buildID)),
                    ("updates", .array(updates.map(\.json))),
                ]).text)
            return
        }
        if updates.isEmpty { print("no update is loaded") }
        for update in updates {
            print("\(update.id.prefix(12))  \(update.state)  \(update.description)")
            if !update.functions.isEmpty { print("    \(update.functions.joined(separator: ", "))") }
        }
    }
}
