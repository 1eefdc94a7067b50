import ArgumentParser
import Core

struct Test: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Try an update on its kernel in a virtual machine.")

    func run() async throws {
        throw Failure("not there yet")
    }
}
