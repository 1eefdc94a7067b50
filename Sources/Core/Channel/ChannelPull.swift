// Taking over what others have published. Nothing moves here before it was judged as a host would, but for the number of signers: a
// state to which one of several has agreed must get to the others. So a server cannot have a maintainer sign what it made up.

extension ChannelStore {
    private static let arriving = "refs/ksplice-incoming/"

    /// Takes over what others have published of channels and the policy of trust. What was done here and not published yet is
    /// put behind it, signed anew.
    ///
    /// - Returns: the names of what moved.
    /// - Throws: `busy` where another process goes on publishing or pulling in this repository.
    public func pull(from remote: String) async throws -> [String] {
        try await repository.exchanging { try await pullAlone(from: remote) }
    }

    private func pullAlone(from remote: String) async throws -> [String] {
        let place = Self.arriving
        // What an interrupted one has left is of another time, or of another remote.
        try await repository.deleteReferences([place], reason: "ksplice: pull")
        try await repository.bring(
            [
                "+\(TrustChain.ref):\(place)trust/root", "+refs/ksplice/channels/*:\(place)channels/*",
                "+refs/ksplice/updates/*:\(place)updates/*",
            ], from: remote)
        let arrived = try await repository.references([place])
        guard let root = arrived[place + "trust/root"] else {
            throw Failure("'\(remote)' has no policy of trust", status: .notFound)
        }
        let policy = try await judge(root)
        var moved: [String] = []
        func own(_ ref: String) -> String { "refs/ksplice/" + ref.dropFirst(place.count) }
        // What is here already, mostly nearly everything, goes at once.
        let present = try await repository.references(["refs/ksplice/"])
        let same = arrived.filter { present[own($0.key)] == $0.value }
        try await repository.updateReferences(ReferenceUpdate.deletions(of: same), reason: "ksplice: pull")
        // The policy, then updates, then the channels that list them.
        let other = arrived.filter { same[$0.key] == nil }
        for (from, theirs) in other.sorted(by: { Self.order($0.key) < Self.order($1.key) }) {
            let ref = own(from)
            let ours = try await repository.references([ref])[ref]
            let new = try await merged(ref, ours: ours, theirs: theirs, policy)
            var changes = [ReferenceUpdate(name: from, new: nil, old: theirs)]
            if new != ours {
                changes.append(.init(name: ref, new: new, old: ours))
                moved.append(ref)
            }
            try await repository.updateReferences(changes, reason: "ksplice: pull")
        }
        return moved.sorted()
    }

    private static func order(_ ref: String) -> String {
        let rest = ref.dropFirst(arriving.count)
        return (rest.hasPrefix("trust/") ? "0" : rest.hasPrefix("updates/") ? "1" : "2") + rest
    }

    /// The policy that is right when theirs is taken over: it follows from ours, or ours from it. Where there is none here, theirs
    /// is believed, as a clone is.
    private func judge(_ theirs: String) async throws -> TrustPolicy {
        let chain = TrustChain(repository)
        let first = try chain.policy(of: repository.signedCommit(theirs))
        guard let ours = try await chain.policy() else { return first }
        if first.serial < ours.serial { return ours }
        return try await chain.reach(theirs, from: ours)
    }

    private func isBefore(_ a: String, _ b: String) async throws -> Bool {
        try await repository.isAncestor(a, of: b, as: .stored)
    }

    private func merged(
        _ ref: String, ours: String?, theirs: String, _ policy: TrustPolicy
    ) async throws -> String {
        if ours == theirs { return theirs }
        if let ours, try await isBefore(theirs, ours) { return ours }
        guard let name = ChannelName(ref: ref) else {
            if ref.hasPrefix(UpdateStore.prefix) {
                // Where two have signed the same update, the one that is published counts.
                try await Gatekeeper(repository).judgeUpdate(ref, theirs, policy)
                return theirs
            }
            if let ours, try await !isBefore(ours, theirs) {
                throw Failure(
                    "'\(ref)' was changed here and in the other repository", status: .stale,
                    hint: "to give up what was done here: git update-ref \(ref) \(theirs)")
            }
            return theirs
        }
        let other = try ChannelState(theirs, of: name, in: repository)
        try await policy.check(other, in: repository, threshold: 1)
        guard let ours, try await !isBefore(ours, theirs) else { return theirs }
        let index = try merged(ChannelState(ours, of: name, in: repository).index, behind: other.index, name)
        if index == other.index { return theirs }
        let tree = try repository.writeTree(files: [ChannelIndex.path: Array(index.text.utf8)])
        let message = ChannelState.message(
            "merge what was done here", name: name, index: index, serial: other.serial + 1,
            validUntil: CalendarTime.now + validity, extra: [])
        return try await repository.writeSignedCommit(tree: tree, message: message, parents: [theirs])
    }

    /// Our updates, in their order, behind theirs; each of our releases behind the last of its own.
    private func merged(
        _ own: ChannelIndex, behind other: ChannelIndex, _ name: ChannelName
    ) throws -> ChannelIndex {
        var index = other
        func end(_ place: Int) throws {
            for release in own.releases where release.count == place {
                if let theirs = index.releases.first(where: { $0.name == release.name }) {
                    let has = Set(index.entries.prefix(theirs.count).map(\.id))
                    guard has.isSuperset(of: own.entries.prefix(release.count).map(\.id)) else {
                        throw Failure(
                            "release '\(release.name)' of '\(name.name)' was made here and in the other repository",
                            status: .stale,
                            hint: "to give up what was done here: git update-ref -d \(name.ref)")
                    }
                } else {
                    index.releases.append((release.name, index.entries.count))
                }
            }
        }
        try end(0)
        for (place, entry) in own.entries.enumerated() {
            if let known = index.entries.firstIndex(where: { $0.id == entry.id }) {
                index.entries[known].withdrawn = index.entries[known].withdrawn ?? entry.withdrawn
            } else {
                index.entries.append(entry)
            }
            try end(place + 1)
        }
        return index
    }
}
