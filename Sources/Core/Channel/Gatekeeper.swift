// What a server looks at before it takes a ref under refs/ksplice: the `update` hook calls it for each (hooks/update). Everything
// there is signed by somebody whom the server's own policy of trust names, an update never changes, a channel and the policy only
// grow.

/// Judges one ref of a push.
public struct Gatekeeper: Sendable {
    public let repository: Repository
    /// Where the server's administrator said whom to trust first; nil: what the repository has already is trusted.
    let anchor: String?

    public init(_ repository: Repository, anchor: String? = nil) {
        (self.repository, self.anchor) = (repository, anchor)
    }

    private static let none = Set("0")

    private func refusal(_ what: String, _ hint: String) -> Failure {
        Failure(what, status: .verificationRefused, hint: hint)
    }

    /// Fails where a ref must not change so. Refs that are not of git ksplice are not judged.
    ///
    /// - Parameters:
    ///   - old: the object's name that it has, all zeros for none.
    ///   - new: the one that it is to have, all zeros for none.
    public func judge(_ ref: String, old: String, new: String) async throws {
        let isNotes = ref.hasPrefix("refs/notes/ksplice/")
        guard
            isNotes || ref == "refs/ksplice" || ref.hasPrefix("refs/ksplice/")
                || ref.hasPrefix("refs/ksplice-")
        else { return }
        guard Set(new) != Self.none else {
            throw refusal(
                "'\(ref)' cannot be deleted", "an update is taken out of use with git ksplice withdraw")
        }
        let isNew = Set(old) == Self.none
        if !isNew, !ref.hasPrefix(UpdateStore.prefix) {
            guard try await repository.isAncestor(old, of: new, as: .stored) else {
                throw refusal("'\(ref)' only grows", "git ksplice channel pull, then publish again")
            }
        }
        if isNotes { return }
        if ref == TrustChain.ref { return try await judgePolicy(old: isNew ? nil : old, new: new) }
        let policy = try await trusted()
        if let name = ChannelName(ref: ref) {
            let state = try ChannelState(new, of: name, in: repository)
            try await policy.check(state, in: repository)
            return try judgeProgress(state, from: isNew ? nil : old)
        }
        guard ref.hasPrefix(UpdateStore.prefix) else {
            throw refusal("'\(ref)' is not a ref that is published", "git ksplice publish sends what is")
        }
        var isAllowed = isNew || old == new
        if !isAllowed { isAllowed = try await isSignedAnew(old, new, policy) }
        guard isAllowed else {
            throw refusal("'\(ref)' never changes", "another update has another identity: git ksplice create")
        }
        try await judgeUpdate(ref, new, policy)
    }

    /// Whether an update stays what it is, and has a signature that counts in place of one that counts no more.
    private func isSignedAnew(_ old: String, _ new: String, _ policy: TrustPolicy) async throws -> Bool {
        let (before, after) = try (repository.signedCommit(old), repository.signedCommit(new))
        guard before.tree == after.tree, before.message == after.message, before.parents == after.parents
        else {
            return false
        }
        return (try? await policy.signer(of: before, roles: [.release], what: "it")) == nil
    }

    private func trusted() async throws -> TrustPolicy {
        if let policy = try await TrustChain(repository).policy() { return policy }
        if let anchor { return try TrustPolicy(parsing: Files.readText(anchor)) }
        throw refusal(
            "this repository trusts nobody yet",
            "on the server: git config ksplice.trust FILE; or publish a policy first: git ksplice trust init")
    }

    /// The first one is believed where the server's administrator has named none: then whoever may push is.
    private func judgePolicy(old: String?, new: String) async throws {
        let chain = TrustChain(repository)
        if let old {
            let before = try chain.links(from: old, downTo: 1).last?.policy
            guard let before else { throw refusal("'\(TrustChain.ref)' holds no policy", "git fsck") }
            _ = try await chain.reach(new, from: before)
            return
        }
        if let anchor {
            _ = try await chain.reach(new, from: TrustPolicy(parsing: Files.readText(anchor)))
            return
        }
        guard let first = try chain.links(from: new, downTo: 1).first else {
            throw refusal("'\(TrustChain.ref)' holds no policy", "git ksplice trust init")
        }
        // At least its own signers stand behind it.
        var before = first.policy
        before.serial -= 1
        _ = try await chain.reach(new, from: before)
    }

    private func judgeProgress(_ state: ChannelState, from old: String?) throws {
        var (serial, before) = (0, state)
        if let old { serial = try ChannelState(old, of: state.name, in: repository).serial }
        // Each number is there, and nothing between is somebody else's.
        while before.serial > serial + 1, let parent = before.commit.parents.first {
            let older = try ChannelState(parent, of: state.name, in: repository)
            guard older.serial == before.serial - 1 else { break }
            before = older
        }
        guard before.serial == serial + 1 else {
            throw refusal(
                "'\(state.name.ref)' goes back in its serial numbers, or leaves some out",
                "git ksplice channel log")
        }
    }

    /// Fails unless a commit is an update that may stand at this ref.
    func judgeUpdate(_ ref: String, _ id: String, _ policy: TrustPolicy) async throws {
        let commit = try repository.signedCommit(id)
        let parts = ref.dropFirst(UpdateStore.prefix.count).split(separator: "/").map { String($0) }
        guard parts.count == 3, ChannelIndex.isDigest(parts[2]) else {
            throw refusal("'\(ref)' is not the ref of an update", "git ksplice publish sends what is")
        }
        let entry = ChannelEntry(id: parts[2], commit: id, size: 0)
        let name = try ChannelName(arch: parts[0], kernel: parts[1], name: "update")
        try await policy.check(commit, of: entry, name: name)
        _ = try UpdateStore.update(files: repository.files(tree: commit.tree), ref: ref)
    }
}
