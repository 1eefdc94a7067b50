// Changing channels: what a maintainer does. Everything that belongs together, such as a channel's new commit and updates that
// had to be signed for it, changes in one transaction.

/// The channels of a repository.
public struct ChannelStore: Sendable {
    public let repository: Repository
    /// How long what a channel says is believed, in seconds, from the moment that it is said.
    public var validity: Int64 = 30 * 86400

    public init(_ repository: Repository) { self.repository = repository }

    /// All channels, or those of one kernel.
    public func names(_ kernel: KernelIdentity? = nil) async throws -> [ChannelName] {
        let pattern = ChannelName.prefix + (kernel.map { "\($0.arch)/\($0.refName)/" } ?? "")
        return try await repository.references([pattern]).keys.sorted().compactMap { ChannelName(ref: $0) }
    }

    /// The newest state; nil where there is no such channel.
    public func state(_ name: ChannelName) async throws -> ChannelState? {
        try await repository.references([name.ref])[name.ref].map {
            try ChannelState($0, of: name, in: repository)
        }
    }

    /// All states, the newest first. Fails where they are not one chain with a serial number each.
    public func history(_ name: ChannelName) async throws -> [ChannelState] {
        guard var state = try await state(name) else { return [] }
        var states = [state]
        while let parent = state.commit.parents.first {
            let before = try ChannelState(parent, of: name, in: repository)
            guard before.serial == state.serial - 1 else {
                throw Failure("'\(name.ref)' leaves out serial numbers", status: .verificationRefused)
            }
            state = before
            states.append(state)
        }
        return states
    }

    /// Adds a commit that changes the index. `change` gets it as it is now; where it leaves it so, and nothing else is to be said,
    /// nothing is added. Returns the new state.
    ///
    /// - Parameters:
    ///   - subject: one line of what is done.
    ///   - signing: updates whose commits are to be signed on the way, where they are not yet.
    ///   - vouching: what it says already is taken over by the user's own signature, whoever has said it.
    ///   - trailers: more to be said, without `Ksplice-`.
    @discardableResult
    public func append(
        to name: ChannelName, _ subject: String, signing updates: [StoredUpdate] = [],
        trailers: [(String, String)] = [], evenIfUnchanged: Bool = false, vouching: Bool = false,
        _ change: (inout ChannelIndex, _ commits: [String: String]) throws -> Void
    ) async throws -> ChannelState {
        var signed: [String: String] = [:]
        for update in updates { signed[update.ref] = try await signedCommit(update) }
        let commits = Dictionary(
            updates.map { ($0.id, signed[$0.ref] ?? $0.commit) }, uniquingKeysWith: { first, _ in first })
        let marks = signed.keys.map { ChannelMark.ref(of: $0) }
        let names = [name.ref] + signed.keys.sorted() + marks
        var last = Failure("cannot change '\(name.ref)'", status: .busy)
        // Signing may ask its user for a pass phrase: so it is not done again unless somebody was faster.
        for _ in 0..<5 {
            let now = try await repository.references(names)
            let before = try now[name.ref].map { try ChannelState($0, of: name, in: repository) }
            // What nobody has signed is not signed on the way.
            if let before, !vouching, let policy = try await TrustChain(repository).policy() {
                try await policy.check(before, in: repository, threshold: 1)
            }
            var index = before?.index ?? ChannelIndex()
            try change(&index, commits)
            if let before, before.index == index, !evenIfUnchanged { return before }
            let tree = try repository.writeTree(files: [ChannelIndex.path: Array(index.text.utf8)])
            let message = ChannelState.message(
                subject, name: name, index: index, serial: (before?.serial ?? 0) + 1,
                validUntil: CalendarTime.now + validity, extra: trailers)
            let commit = try await repository.writeSignedCommit(
                tree: tree, message: message, parents: before.map { [$0.commit.id] } ?? [])
            var changes: [ReferenceUpdate] = [.init(name: name.ref, new: commit, old: now[name.ref])]
            for (ref, new) in signed.sorted(by: { $0.key < $1.key }) {
                if now[ref] == new {
                    // It is still there when the channel lists it.
                    changes.append(.init(name: ref, new: new, old: new))
                    continue
                }
                guard let old = now[ref], updates.contains(where: { $0.ref == ref && $0.commit == old })
                else {
                    throw Failure("'\(ref)' was changed meanwhile", status: .busy, hint: "try again")
                }
                changes.append(.init(name: ref, new: new, old: old))
                // It may be published with a signature that counts no more.
                if try repository.signedCommit(old).signature != nil {
                    let mark = ChannelMark.ref(of: ref)
                    changes.append(.init(name: mark, new: new, old: now[mark]))
                }
            }
            do {
                try await repository.updateReferences(changes, reason: "ksplice: channel \(name.name)")
                return try ChannelState(commit, of: name, in: repository)
            } catch let failure as Failure {
                guard try await repository.references(names) != now || failure.message.contains(".lock")
                else { throw failure }
                last = failure
            }
        }
        throw last
    }

    /// The same update with a signature that counts; one that has it stays as it is.
    private func signedCommit(_ update: StoredUpdate) async throws -> String {
        let commit = try repository.signedCommit(update.commit)
        let policy = try await TrustChain(repository).policy()
        if let policy {
            let signer = try? await policy.signer(of: commit, roles: [.release], what: "it")
            if signer != nil { return update.commit }
        } else if commit.signature != nil {
            return update.commit
        }
        return try await repository.writeSignedCommit(
            tree: commit.tree, message: commit.message, parents: commit.parents)
    }
}

extension ChannelStore {
    /// Puts updates at the end of a channel, those that are there already left where they are.
    ///
    /// - Parameters:
    ///   - release: the name of a release that has everything that the channel lists then.
    ///   - tag: the tag's object, where there is one.
    ///   - supersedes: identities of updates that the new ones replace, where they have to be named.
    @discardableResult
    public func add(
        _ updates: [StoredUpdate], to name: ChannelName, release: String? = nil, tag: String? = nil,
        supersedes: [String] = []
    ) async throws -> ChannelState {
        var entries: [ChannelEntry] = []
        let store = UpdateStore(repository)
        for update in updates {
            let loaded = try await store.load(update.ref)
            var entry = ChannelEntry(
                id: update.id, commit: update.commit,
                size: loaded.files.values.reduce(loaded.manifestText.utf8.count) { $0 + $1.count })
            entry.depends = loaded.manifest.depends
            entry.cves = try await cves(of: update)
            entries.append(entry)
        }
        let all = try await store.list(arch: name.arch, buildID: name.kernel)
        let sources = Dictionary(all.map { ($0.id, Set($0.commits)) }, uniquingKeysWith: { $0.union($1) })
        let listed = entries.map { String($0.id.prefix(12)) }.joined(separator: ", ")
        let subject =
            release.map { "release \($0)" + (listed.isEmpty ? "" : ": " + listed) } ?? "add \(listed)"
        let trailers = release.map { [("Release-Tag", $0 + (tag.map { " " + $0 } ?? ""))] } ?? []
        return try await append(to: name, subject, signing: updates, trailers: trailers) { index, commits in
            for var entry in entries {
                if let place = index.entries.firstIndex(where: { $0.id == entry.id }) {
                    // It may have been signed anew.
                    index.entries[place].commit = commits[entry.id] ?? entry.commit
                    continue
                }
                entry.commit = commits[entry.id] ?? entry.commit
                entry.supersedes = Self.superseded(by: entry.id, index, supersedes, sources)
                let known = Set(index.entries.map(\.id))
                if let missing = entry.depends.first(where: { !known.contains($0) }) {
                    throw Failure(
                        "update \(entry.id.prefix(12)) needs \(missing.prefix(12)), which is not in the channel",
                        hint: "name both, the one that is needed first")
                }
                index.entries.append(entry)
            }
            if let release, index.releases.last?.name != release {
                guard !index.releases.contains(where: { $0.name == release }) else {
                    throw Failure(
                        "release '\(release)' is older than the newest of this channel", status: .no,
                        hint: "what was said of it cannot be changed; take another name")
                }
                index.releases.append((release, index.entries.count))
            } else if release != nil {
                index.releases[index.releases.count - 1].count = index.entries.count
            }
        }
    }

    /// What an update replaces: what was named, and every one whose source commits it has all, and more.
    private static func superseded(
        by id: String, _ index: ChannelIndex, _ named: [String], _ sources: [String: Set<String>]
    ) -> [String] {
        index.entries.map(\.id).filter { older in
            if older == id { return false }
            guard let own = sources[id], let its = sources[older], !its.isEmpty else {
                return named.contains(older)
            }
            return named.contains(older) || its.isStrictSubset(of: own)
        }
    }

    /// Takes an update out of use.
    @discardableResult
    public func withdraw(_ id: String, from name: ChannelName, reason: String) async throws -> ChannelState {
        let words = reason.split(whereSeparator: \.isNewline).joined(separator: " ").trimmed
        guard !words.isEmpty else {
            throw Failure("a reason is missing", status: .usage, hint: "--reason TEXT")
        }
        return try await append(
            to: name, "withdraw \(id.prefix(12))", trailers: [("Withdrawn", "\(id) \(words)")]
        ) { index, _ in
            guard let place = index.entries.firstIndex(where: { $0.id == id }) else {
                throw Failure("'\(name.name)' does not list update \(id.prefix(12))", status: .notFound)
            }
            guard index.entries[place].withdrawn == nil else {
                throw Failure("update \(id.prefix(12)) is withdrawn already", status: .no)
            }
            index.entries[place].withdrawn = words
        }
    }

    /// Says that a channel still stands as it is: it is believed for longer.
    @discardableResult
    public func renew(_ name: ChannelName, cosign: Bool = false) async throws -> ChannelState {
        guard try await state(name) != nil else {
            throw Failure("no such channel: '\(name.name)'", status: .notFound)
        }
        return try await append(
            to: name, cosign ? "agreed" : "renewed", evenIfUnchanged: true, vouching: cosign
        ) { _, _ in }
    }

    private func cves(of update: StoredUpdate) async throws -> [String] {
        var text = update.description
        for commit in update.commits where try repository.hasObject(commit) {
            text += "\n" + (try repository.commit(commit).message)
        }
        return ChannelIndex.cves(in: text)
    }
}
