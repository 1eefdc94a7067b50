import ArgumentParser
import Core
import Glibc

/// Names that come from standard input.
struct InputOptions: ParsableArguments {
    @Flag(
        help:
            "Read names from standard input, too, one a line; also revisions as git rev-list --stdin takes them."
    )
    var stdin = false

    @Flag(name: [.customShort("z"), .customLong("null")], help: "The names of --stdin end with NUL.")
    var null = false

    func validate() throws {
        guard stdin || !null else { throw ValidationError("-z goes with --stdin") }
    }

    /// Fails where nothing is named.
    func check(_ typed: [String], _ what: String) throws {
        guard stdin || !typed.isEmpty else {
            throw ValidationError("\(what) is missing; name it, or give --stdin")
        }
    }

    /// The updates that were typed, and those from standard input.
    func updates(_ typed: [String]) async throws -> [String] {
        try await typed + (read()?.updates { try await Repository() } ?? [])
    }

    /// The same for what updates are to be made of.
    func changes(_ typed: [String]) async throws -> [String] {
        try await typed + (read()?.changes { try await Repository() } ?? [])
    }

    private func read() throws -> InputNames? {
        stdin ? InputNames(try Files.read("/dev/stdin"), endsWithNull: null) : nil
    }

    /// Does something with each name. Of several, those that fail do not keep the others from it; the first failure's status is
    /// that of the command.
    static func each(_ names: [String], _ body: (String) async throws -> Void) async throws {
        if names.count == 1 { return try await body(names[0]) }
        var status: Int32?
        for name in names {
            do { try await body(name) } catch {
                fflush(nil)
                let its = GitKsplice.report(error, about: name)
                status = status ?? its
            }
        }
        if let status { throw ExitCode(status) }
    }
}
