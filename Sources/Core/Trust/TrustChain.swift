// The policy of trust in git: refs/ksplice/trust/root, a chain of signed commits that only grows. A newer policy counts where
// enough of the signers whom the one before it names have signed it: so keys are exchanged without anybody going to the hosts.

/// The chain of a repository.
public struct TrustChain: Sendable {
    public let repository: Repository
    public static let ref = "refs/ksplice/trust/root"
    static let path = "policy"
    static let limit = 1 << 20
    private static let longest = 10_000

    public init(_ repository: Repository) { self.repository = repository }

    /// One policy of the chain, and all commits behind each other that have it: each is the word of another signer.
    struct Link {
        var policy: TrustPolicy
        var tree: String
        /// The oldest first.
        var commits: [SignedCommit]
    }

    /// The newest policy, believed as it is; nil where there is none.
    public func policy() async throws -> TrustPolicy? {
        guard let tip = try await repository.references([Self.ref])[Self.ref] else { return nil }
        return try policy(of: repository.signedCommit(tip))
    }

    func policy(of commit: SignedCommit) throws -> TrustPolicy {
        guard let bytes = try repository.onlyFile(Self.path, tree: commit.tree, limit: Self.limit) else {
            throw Failure(
                "commit \(commit.id.prefix(12)) of '\(Self.ref)' holds no policy",
                status: .verificationRefused)
        }
        return try TrustPolicy(parsing: String(decoding: bytes, as: UTF8.self))
    }

    /// From a commit back to the first with a policy of such a serial number or a smaller one, the oldest first.
    func links(from tip: String, downTo serial: Int) throws -> [Link] {
        var links: [Link] = []
        var next: String? = tip
        var read = 0
        while let id = next {
            let commit = try repository.signedCommit(id)
            read += 1
            guard read <= Self.longest else {
                throw Failure("'\(Self.ref)' is longer than a chain can be", status: .verificationRefused)
            }
            if let last = links.last, last.tree == commit.tree {
                links[links.count - 1].commits.append(commit)
            } else {
                let policy = try policy(of: commit)
                if let last = links.last, policy.serial >= last.policy.serial {
                    throw Failure(
                        "'\(Self.ref)' goes back in its serial numbers", status: .verificationRefused)
                }
                if policy.serial < serial { break }
                links.append(Link(policy: policy, tree: commit.tree, commits: [commit]))
            }
            guard commit.parents.count <= 1 else {
                throw Failure("'\(Self.ref)' is no chain", status: .verificationRefused)
            }
            next = commit.parents.first
        }
        return links.reversed().map { link in
            var link = link
            link.commits.reverse()
            return link
        }
    }

    /// The same, and fails unless it comes to what stands there: no older policy, and none of a chain that is not signed.
    public func reach(_ tip: String, from policy: TrustPolicy) async throws -> TrustPolicy {
        let reached = try await follow(from: policy, to: tip)
        guard try self.policy(of: repository.signedCommit(tip)) == reached else {
            throw Failure(
                "'\(Self.ref)' goes back in its serial numbers", status: .verificationRefused,
                hint: "ask who publishes it")
        }
        return reached
    }

    /// Follows the chain from a policy that is trusted to the newest one at `tip`. Fails where a link on the way is not signed by
    /// enough of those whom the policy before it names, and of its own signers.
    public func follow(from policy: TrustPolicy, to tip: String) async throws -> TrustPolicy {
        var current = policy
        for link in try links(from: tip, downTo: policy.serial) {
            if link.policy.serial == current.serial {
                guard link.policy == current else {
                    throw Failure(
                        "there are two policies of trust with the serial number \(current.serial)",
                        status: .verificationRefused, hint: "ask who publishes them which one is theirs")
                }
                continue
            }
            for judge in [current, link.policy] { try await Self.check(link, by: judge) }
            current = link.policy
        }
        return current
    }

    /// Fails unless enough of a policy's signers have agreed to a link.
    ///
    /// - Parameter threshold: how many that is; by default, as many as the policy wants.
    static func check(_ link: Link, by policy: TrustPolicy, threshold: Int? = nil) async throws {
        let threshold = threshold ?? policy.threshold(.root)
        let what = "policy of trust \(link.policy.serial)"
        var agreed: Set<Signer> = []
        var last: Failure?
        for commit in link.commits {
            do {
                let signer = try await policy.signer(of: commit, roles: [.root], what: what)
                agreed.insert(signer)
            } catch { last = Failure(error) }
        }
        let count = policy.distinct(agreed)
        guard count >= threshold else {
            if count == 0, let last { throw last }
            throw Failure(
                "\(what) is not to be trusted: \(count) of \(threshold) signers have agreed to it",
                status: .verificationRefused, hint: "another signer says so with 'git ksplice trust sign'")
        }
    }

    /// Adds a policy, signed by the user. `cosign`: the newest one once more, signed by another user.
    @discardableResult
    public func append(_ subject: String, cosign: Bool = false, _ change: (inout TrustPolicy) throws -> Void)
        async throws
        -> TrustPolicy
    {
        let tip = try await repository.references([Self.ref])[Self.ref]
        let before = try tip.map { try self.policy(of: repository.signedCommit($0)) }
        var policy = before ?? TrustPolicy(serial: 0)
        try change(&policy)
        if !cosign {
            if let before, before == policy { return before }
            policy.serial += 1
        }
        try policy.validate()
        let tree = try repository.writeTree(files: [Self.path: Array(policy.text.utf8)])
        let message =
            "ksplice: trust: \(subject)\n\nKsplice-Format: 1\nKsplice-Trust-Serial: \(policy.serial)\n"
        let commit = try await repository.writeSignedCommit(
            tree: tree, message: message, parents: tip.map { [$0] } ?? [])
        try await repository.updateReferences(
            [.init(name: Self.ref, new: commit, old: tip)], reason: "ksplice: trust")
        return policy
    }
}
