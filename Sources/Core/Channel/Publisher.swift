// Sending channels with all that belongs to them to another repository: the policy of trust first, then everything or nothing. Notes, which
// several people write, are fetched and merged first; channels and the policy of trust only grow.

/// Publishes to one remote repository.
public struct Publisher: Sendable {
    public let repository: Repository
    /// A remote's name, a URL or a path.
    public let remote: String

    public init(_ repository: Repository, remote: String) {
        (self.repository, self.remote) = (repository, remote)
    }

    /// What was sent of a ref, or would be.
    public struct Sent: Sendable, Equatable {
        public var ref: String
        /// As `git push --porcelain` says it: `*` new, ` ` moved, `=` there already.
        public var kind: String
    }

    /// Sends the policy of trust, then channels, the updates that they list and the notes, these all or none.
    ///
    /// - Parameters:
    ///   - channels: which; all of the repository where nil.
    ///   - isDryRun: sends nothing, but asks the other side.
    @discardableResult
    public func publish(_ channels: [ChannelName]? = nil, isDryRun: Bool = false) async throws -> [Sent] {
        let store = ChannelStore(repository)
        let names: [ChannelName]
        if let channels { names = channels } else { names = try await store.names() }
        guard !names.isEmpty else {
            throw Failure(
                "there is no channel to publish", status: .notFound, hint: "git ksplice tag RELEASE UPDATE..."
            )
        }
        var refs: [String] = []
        for name in names { refs += try await checked(name, store) }
        // First: the server judges the rest by it, each ref for itself.
        let policy = try await repository.references([TrustChain.ref]).keys.sorted()
        var sent: [Sent] = []
        if !policy.isEmpty {
            let result = try await push(policy, isDryRun: isDryRun)
            guard result.status == 0 else { throw refusal(result) }
            sent = result.sent
        }
        for _ in 0..<5 {
            if !isDryRun { try await mergeNotes() }
            let notes = try await repository.references(["refs/notes/ksplice/"]).keys.sorted()
            let result = try await push(refs + notes, isDryRun: isDryRun)
            if result.status == 0 { return sent + result.sent }
            // Somebody's notes came between.
            let raced = result.rejected.filter { $0.hasPrefix("refs/notes/") }
            guard !raced.isEmpty, raced.count == result.rejected.count else { throw refusal(result) }
        }
        throw Failure("others publish to '\(remote)' all the time", status: .busy, hint: "try again")
    }

    /// Writes channels, what they list and the policy of trust into a file that `fetch` reads. Returns the number of refs.
    public func bundle(_ channels: [ChannelName], into file: String) async throws -> Int {
        var refs = try await repository.references([TrustChain.ref]).keys.sorted()
        for name in channels { refs += try await checked(name, ChannelStore(repository)) }
        try await repository.git(
            ["bundle", "create", "-q", file, "--stdin"],
            input: Array((refs.joined(separator: "\n") + "\n").utf8)
        )
        .check("cannot write '\(file)'")
        return refs.count
    }

    /// A channel and what it lists, each of it where it should be. Who signed it, the server judges.
    private func checked(_ name: ChannelName, _ store: ChannelStore) async throws -> [String] {
        guard let state = try await store.state(name) else {
            throw Failure(
                "no such channel: '\(name.ref)'", status: .notFound, hint: "git ksplice channel list")
        }
        let refs = state.index.entries.map { name.ref(of: $0) }
        let present = try await repository.references(refs)
        for (entry, ref) in zip(state.index.entries, refs) {
            guard let commit = present[ref] else {
                // One that was withdrawn may be gone for good.
                if entry.withdrawn != nil { continue }
                throw Failure(
                    "update \(entry.id.prefix(12)) of '\(name.name)' is not here", status: .notFound,
                    hint: "git ksplice withdraw \(entry.id.prefix(12)) --reason TEXT")
            }
            guard commit == entry.commit else {
                throw Failure(
                    "'\(ref)' is not the commit that '\(name.name)' lists", status: .verificationRefused,
                    hint: "git update-ref \(ref) \(entry.commit) puts it back")
            }
        }
        return [name.ref] + refs.filter { present[$0] != nil }
    }

    /// What others have written beside commits there comes here, line by line.
    private func mergeNotes() async throws {
        let place = "refs/notes/ksplice-incoming/"
        try await repository.deleteReferences([place], reason: "ksplice: publish")
        let fetched = try await repository.git([
            "fetch", "-q", "--no-tags", "--no-write-fetch-head", "--refmap=", "--end-of-options", remote,
            "+refs/notes/ksplice/*:\(place)*",
        ]).run()
        guard fetched.succeeded else {
            throw Failure("cannot fetch from '\(remote)': \(Repository.words(of: fetched))")
        }
        for (ref, commit) in try await repository.references([place]).sorted(by: { $0.key < $1.key }) {
            let own = "refs/notes/ksplice/" + ref.dropFirst(place.count)
            if let present = try await repository.references([own])[own] {
                if present != commit { try await merge(ref, into: own, at: present) }
            } else {
                try await repository.updateReferences(
                    [.init(name: own, new: commit, old: nil)], reason: "ksplice: publish")
            }
            try await repository.updateReferences(
                [.init(name: ref, new: nil, old: commit)], reason: "ksplice: publish")
        }
    }

    /// Beside the notes themselves: somebody may write to them meanwhile, and git would not see that.
    private func merge(_ ref: String, into own: String, at present: String) async throws {
        let beside = "refs/notes/ksplice-merge"
        let before = try await repository.references([beside])[beside]
        try await repository.updateReferences(
            [.init(name: beside, new: present, old: before)], reason: "ksplice: publish")
        try await repository.git(["notes", "--ref", beside, "merge", "-q", "-s", "cat_sort_uniq", ref])
            .check("cannot merge '\(own)'")
        guard let merged = try await repository.references([beside])[beside] else { return }
        try await repository.updateReferences(
            [
                .init(name: own, new: merged, old: present), .init(name: beside, new: nil, old: merged),
            ], reason: "ksplice: publish")
    }

    private struct Push {
        var status: Int32
        var sent: [Sent] = []
        var rejected: [String] = []
        var reasons: [String] = []
        var said: String
    }

    private func push(_ refs: [String], isDryRun: Bool) async throws -> Push {
        // An update that was signed anew is another commit, and none that follows the one before.
        let local = try await repository.references([ChannelMark.prefix])
        let anew = Set(local.keys.map { UpdateStore.prefix + $0.dropFirst(ChannelMark.prefix.count) })
        let flags = [
            "-c", "advice.pushUpdateRejected=false", "push", "--atomic", "--porcelain", "--no-verify",
            "--no-signed", "--recurse-submodules=no",
        ]
        let result = try await repository.git(
            flags + (isDryRun ? ["--dry-run"] : []) + ["--end-of-options", remote]
                + refs.map { "\(anew.contains($0) ? "+" : "")\($0):\($0)" }
        ).run()
        var push = Push(status: result.status, said: result.errorText.trimmed)
        for line in result.text.lines {
            let fields = line.split(separator: "\t", omittingEmptySubsequences: false)
            guard fields.count >= 3, let ref = fields[1].split(separator: ":").last else { continue }
            if fields[0] == "!" {
                // The others are only told that something else was refused.
                if !fields[2].contains("atomic") {
                    push.rejected.append(String(ref))
                    push.reasons.append(String(fields[2]))
                }
            } else {
                push.sent.append(Sent(ref: String(ref), kind: String(fields[0])))
            }
        }
        return push
    }

    private func refusal(_ push: Push) -> Failure {
        let channels = push.rejected.filter { $0.hasPrefix(ChannelName.prefix) || $0 == TrustChain.ref }
        let isBehind = push.reasons.contains { $0.contains("fetch first") || $0.contains("non-fast-forward") }
        return Failure(
            "'\(remote)' refuses what was to be published; no channel, update or note of it is there\n\(push.said)",
            status: isBehind ? .stale : .fatal,
            hints: isBehind && !channels.isEmpty
                ? ["somebody was faster: git ksplice channel pull \(remote)"] : [])
    }
}
