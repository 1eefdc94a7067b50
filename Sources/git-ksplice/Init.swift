import ArgumentParser
import Core

struct Init: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Prepare a repository for updates: show them in git log, keep them through rebases.")

    @Flag(help: "Take back what init has set.")
    var undo = false

    func run() async throws {
        let initialisation = Initialisation(try await Repository())
        for step in undo ? try await initialisation.undo() : try await initialisation.run() {
            print(step.text)
        }
    }
}
