// Sending channels with all that belongs to them to another repository: the policy of trust first, then everything or nothing. Notes, which
// several people write, are fetched and merged first; channels and the policy of trust only grow.

/// Publishes to one remote repository.
public struct Publisher: Sendable {
    public let repository: Repository
    /// A remote's name, a URL or a path.
    public let remote: String
    private let progress: @Sendable (String) -> Void

    public init(
        _ repository: Repository, remote: String, progress: @escaping @Sendable (String) -> Void = { _ in }
    ) {
        (self.repository, self.remote, self.progress) = (repository, remote, progress)
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
    ///   - isRepair: also sends what belongs to a channel that is there as it is here: a server that lost refs has it back then.
    /// - Throws: `busy` where another process goes on publishing or pulling in this repository.
    @discardableResult
    public func publish(_ channels: [ChannelName]? = nil, isDryRun: Bool = false, isRepair: Bool = false)
        async throws -> [Sent]
    {
        // One that sends nothing brings nothing here either.
        if isDryRun { return try await publishAlone(channels, isDryRun: true, isRepair: isRepair) }
        return try await repository.exchanging {
            try await publishAlone(channels, isDryRun: false, isRepair: isRepair)
        }
    }

    private func publishAlone(_ channels: [ChannelName]?, isDryRun: Bool, isRepair: Bool) async throws
        -> [Sent]
    {
        let store = ChannelStore(repository)
        let names: [ChannelName]
        if let channels { names = channels } else { names = try await store.names() }
        guard !names.isEmpty else {
            throw Failure(
                "there is no channel to publish", status: .notFound, hint: "git ksplice tag RELEASE UPDATE..."
            )
        }
        var listed: [String: [String]] = [:]
        progress("looking at \(names.count) channel(s)")
        for name in names { listed[name.ref] = try await checked(name, store) }
        var sent: [Sent] = []
        for _ in 0..<5 {
            // With each push, git lists all refs that the other side has: there is none for what is there already.
            if !isDryRun { progress("asking what is there, and for others' notes") }
            let theirs = isDryRun ? [:] : try await meet(names)
            let here = try await repository.references(
                [TrustChain.ref, "refs/notes/ksplice/"] + names.map(\.ref))
            let new = here.filter { ref, value in
                theirs[ref] != value || isRepair && ref != TrustChain.ref
            }.keys.sorted()
            // First: the server judges the rest by it, each ref for itself.
            if new.contains(TrustChain.ref) {
                let result = try await push([TrustChain.ref], isDryRun: isDryRun)
                guard result.status == 0 else { throw refusal(result) }
                sent += result.sent
            }
            let rest = new.filter { $0 != TrustChain.ref }
            let updates = rest.flatMap { listed[$0] ?? [] }
            if rest.isEmpty { return sent }
            let refs = rest + Set(updates).sorted()
            progress("sending \(refs.count) ref(s)")
            let result = try await push(refs, isDryRun: isDryRun)
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
        for name in channels { refs += [name.ref] + (try await checked(name, ChannelStore(repository))) }
        try await repository.git(
            ["bundle", "create", "-q", file, "--stdin"],
            input: Array((refs.joined(separator: "\n") + "\n").utf8)
        )
        .check("cannot write '\(file)'")
        return refs.count
    }

    /// What a channel lists, each of it where it should be. Who signed it, the server judges.
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
        return refs.filter { present[$0] != nil }
    }

    /// Looks at what is there: what others have written beside commits comes here, line by line. Where a channel is there as it
    /// is here, so is what it lists: a server takes both or none.
    ///
    /// - Returns: the values of its policy of trust, of channels and of notes.
    private func meet(_ names: [ChannelName]) async throws -> [String: String] {
        let (place, beside) = ("refs/notes/ksplice-incoming/", "refs/ksplice-local/theirs/")
        try await repository.deleteReferences([place, beside], reason: "ksplice: publish")
        let folders = Set(names.map { "channels/\($0.arch)/\($0.kernel)/" }).sorted() + ["trust/"]
        try await repository.bring(
            ["+refs/notes/ksplice/*:\(place)*"] + folders.map { "+refs/ksplice/\($0)*:\(beside)\($0)*" },
            from: remote)
        var theirs: [String: String] = [:]
        for (ref, commit) in try await repository.references([place]) {
            theirs["refs/notes/ksplice/" + ref.dropFirst(place.count)] = commit
        }
        let seen = try await repository.references([beside])
        for (ref, commit) in seen { theirs["refs/ksplice/" + ref.dropFirst(beside.count)] = commit }
        try await mergeNotes(place)
        try await repository.updateReferences(ReferenceUpdate.deletions(of: seen), reason: "ksplice: publish")
        return theirs
    }

    private func mergeNotes(_ place: String) async throws {
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
        try await repository.git(
            ["notes", "--ref", beside, "merge", "-q", "-s", "cat_sort_uniq", ref],
            environment: Repository.asStored
        ).check("cannot merge '\(own)'")
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
        let specs = try await patterns(for: refs, anew)
        let result = try await repository.git(
            flags + (isDryRun ? ["--dry-run"] : []) + ["--end-of-options", remote]
                + specs.map { "\(anew.contains($0) ? "+" : "")\($0):\($0)" }
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

    /// A pattern for all updates of a kernel, where it means no others: git compares each refspec with each ref, which takes minutes
    /// for thousands, and the names of thousands are more than a command's arguments can be.
    private func patterns(for refs: [String], _ anew: Set<String>) async throws -> [String] {
        let updates = refs.filter { $0.hasPrefix(UpdateStore.prefix) }
        if updates.isEmpty { return refs }
        let folders = Dictionary(grouping: updates, by: \.directoryPart)
        let present = try await repository.references(folders.keys.sorted()).keys
        let stored = Dictionary(grouping: present, by: \.directoryPart)
        let whole = folders.filter { folder, refs in
            refs.count > 1 && anew.isDisjoint(with: refs) && Set(refs) == Set(stored[folder] ?? [])
        }
        return whole.keys.sorted().map { $0 + "/*" } + refs.filter { whole[$0.directoryPart] == nil }
    }

    private func refusal(_ push: Push) -> Failure {
        if let other = OtherFormat.failure(push.said, remote: remote, repository) { return other }
        let channels = push.rejected.filter { $0.hasPrefix(ChannelName.prefix) || $0 == TrustChain.ref }
        let isBehind = push.reasons.contains { $0.contains("fetch first") || $0.contains("non-fast-forward") }
        return Failure(
            "'\(remote)' refuses what was to be published; no channel, update or note of it is there\n\(push.said)",
            status: isBehind ? .stale : .fatal,
            hints: isBehind && !channels.isEmpty
                ? ["somebody was faster: git ksplice channel pull \(remote)"] : [])
    }
}
