// What publishing and pulling have in common: refs of another repository that arrive beside one's own.

extension Repository {
    /// Exchanges channels with another repository while no other process does: what arrives has a place, and there is one of each.
    /// Another one is waited for, for a minute. Who may write to the repository may hold the lock, as its folder says.
    func exchanging<Result>(_ body: () async throws -> Result) async throws -> Result {
        let folder = DurableFolder(stateDirectory + "/exchange")
        try folder.create()
        return try await folder.locked(
            patience: 60, mode: 0o666,
            busy: "another process publishes from this repository, or pulls into it",
            body)
    }

    /// Fetches refs to where refspecs say, and nothing else. Of patterns, what is not there is no error.
    func bring(_ refspecs: [String], from remote: String) async throws {
        try BundleHeader(of: remote)?.refusePartial(remote)
        let fetched = try await git(
            [
                "fetch", "-q", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--refmap=",
                "--stdin", "--end-of-options", remote,
            ], input: Array((refspecs.joined(separator: "\n") + "\n").utf8)
        ).run()
        guard fetched.succeeded else {
            let said = Self.words(of: fetched)
            throw OtherFormat.failure(said, remote: remote, self)
                ?? Failure("cannot fetch from '\(remote)': \(said)")
        }
    }
}
