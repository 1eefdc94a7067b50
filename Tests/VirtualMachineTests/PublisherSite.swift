// A maintainer, and the server to which updates are published.

import Testing

@testable import Core

/// A maintainer's repository, which holds updates and no source, and a server with the update hook.
struct PublisherSite {
    let folder: String
    let laboratory: Laboratory
    /// For the maintainer's git, to reach a server.
    var environment: [String: String?] = [:]
    var repository: String { folder + "/maintainer" }
    var server: String { folder + "/server.git" }

    /// `source`: whether the maintainer has the laboratory's kernel source, and its commits.
    init(_ laboratory: Laboratory, source: Bool = false) async throws {
        self.laboratory = laboratory
        folder = try Files.temporaryDirectory()
        if source {
            try await Command(["git", "clone", "-q", "--shared", "-n", laboratory.repository, repository])
                .check()
        } else {
            try await Command(["git", "init", "-q", "--template=", repository]).check()
        }
        try await Command(["git", "init", "-q", "--bare", "--template=", server]).check()
        try Files.createDirectory(server + "/hooks")
        let hook = #filePath.directoryPart.directoryPart.directoryPart + "/hooks/update"
        try Files.write(Files.read(hook), to: server + "/hooks/update", mode: 0o755)
        for (key, value) in [
            ("user.name", "A Maintainer"), ("user.email", "m@example.org"), ("gpg.format", "ssh"),
        ] {
            try await git("config", key, value)
        }
        try await sign(as: "alice")
    }

    func sign(as name: String) async throws {
        let key = "\(folder)/\(name)"
        if !Files.exists(key) {
            try await Command(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key]).check()
        }
        try await git("config", "user.signingKey", key + ".pub")
    }

    @discardableResult
    func git(_ arguments: String...) async throws -> String {
        try await Command(["git"] + arguments, directory: repository).check().text.trimmed
    }

    /// Runs the program in the repository; the server's hook finds it, too.
    func run(_ arguments: String...) async throws -> CommandResult { try await command(arguments).run() }

    private func command(_ arguments: [String]) -> Command {
        var values = environment
        values["PATH"] = laboratory.program.directoryPart + ":/usr/sbin:/usr/bin:/sbin:/bin"
        return Command([laboratory.program] + arguments, directory: repository, environment: values)
    }

    @discardableResult
    func check(_ arguments: String...) async throws -> String {
        try await command(arguments).check().text.trimmed
    }

    /// Stores an update that was made elsewhere.
    func take(_ update: TestUpdate) async throws -> String {
        try await UpdateStore(try await Repository(directory: repository)).store(
            Update(archive: update.archive)
        ).id
    }
}
