// `git ksplice prune`: what a policy chooses and nothing needs. An update stays that a channel lists (withdrawn ones are not
// listed), that this machine has applied or keeps for the next boot, that another one which stays stands on, or whose commit
// a ref of somebody's own names. Where any of that cannot be told, nothing goes.

/// Removes stored updates that nothing needs, and state that nobody has used for long.
public struct Pruner: Sendable {
    let repository: Repository
    let policy: PrunePolicy
    /// Identities that must stay, with the reason.
    let inUse: [String: String]

    public init(_ repository: Repository, policy: PrunePolicy, inUse: [String: String] = [:]) {
        (self.repository, self.policy, self.inUse) = (repository, policy, inUse)
    }

    /// An update that goes, or would.
    public struct Victim: Sendable {
        public var update: StoredUpdate
        public var reason: String
        /// Of its files together.
        public var bytes: Int
    }

    /// What goes, and what does not though the policy chooses it.
    public struct Plan: Sendable {
        public var updates: [Victim] = []
        public var kept: [(update: StoredUpdate, reason: String)] = []
        public var state: [StateLeftover] = []
        /// What git's garbage collection then frees of the object database; nil where it cannot be told.
        public var freed: Int?
        /// The refs of channels on which this depends, with what they name.
        var channels: [String: String] = [:]
    }

    /// Says what would go. Changes nothing.
    public func plan() async throws -> Plan {
        // git passes over such a ref, and what a channel lists would seem to be listed nowhere.
        var check = StorageCheck(repository)
        if let broken = try await check.unreadableRefs().first {
            throw Failure(
                "nothing is removed: '\(broken)' cannot be read", status: .verificationRefused,
                hint: "git ksplice fsck")
        }
        var plan = Plan()
        plan.state = try await StateLeftover.all(in: repository, before: policy.expire)
        if policy.isEmpty { return plan }
        let references = try await repository.references(["refs/"])
        let listing = try Listing(references, in: repository)
        plan.channels = listing.channels
        let all = try await UpdateStore(repository).list()
        var reasons: [String: String] = [:]
        for same in Dictionary(grouping: all, by: \.ref.directoryPart).values {
            for update in same {
                reasons[update.ref] = policy.reason(update, among: same, withdrawn: listing.withdrawn)
            }
        }
        if reasons.isEmpty { return plan }
        let elsewhere = Self.otherNames(references)
        var needed: [String: String] = [:]
        for update in all {
            needed[update.ref] =
                inUse[update.id] ?? listing.listed[update.id].map { "listed in '\($0)'" }
                ?? elsewhere[update.commit].map { "'\($0)' names it" }
        }
        try await keepGrounds(all, reasons, &needed)
        for update in all {
            guard let reason = reasons[update.ref] else { continue }
            if let why = needed[update.ref] {
                plan.kept.append((update, why))
            } else {
                plan.updates.append(Victim(update: update, reason: reason, bytes: try await size(update)))
            }
        }
        plan.freed = try await freed(plan.updates.map(\.update), references)
        return plan
    }

    /// Removes what a plan says. Where a channel was changed since, nothing is removed, and the failure is `busy`.
    ///
    /// - Returns: the plan without the state that a process has begun to work on since, which stays.
    @discardableResult
    public func run(_ plan: Plan) async throws -> Plan {
        try await UpdateStore(repository).remove(plan.updates.map(\.update), unmoved: plan.channels)
        var done = plan
        done.state = try plan.state.filter { try $0.remove() }
        return done
    }

    /// What an update that stays stands on stays, too.
    private func keepGrounds(
        _ all: [StoredUpdate], _ reasons: [String: String], _ needed: inout [String: String]
    ) async throws {
        let byRef = Dictionary(uniqueKeysWithValues: all.map { ($0.ref, $0) })
        // Of kernels that nothing goes of, nothing need be read.
        let touched = Set(reasons.keys.map(\.directoryPart))
        var open = all.filter {
            touched.contains($0.ref.directoryPart) && (reasons[$0.ref] == nil || needed[$0.ref] != nil)
        }
        while let update = open.popLast() {
            for ground in try await grounds(update) {
                let ref = update.ref.directoryPart + "/" + ground
                guard let below = byRef[ref], reasons[ref] != nil, needed[ref] == nil else { continue }
                needed[ref] = "update \(update.id.prefix(12)) stands on it"
                open.append(below)
            }
        }
    }

    private func grounds(_ update: StoredUpdate) async throws -> [String] {
        do {
            if let manifest = try await UpdateStore(repository).readableManifest(update) {
                return manifest.depends
            }
            return try repository.signedCommit(update.commit).trailers.filter { $0.key == "Depends" }.map(
                \.value)
        } catch {
            throw Failure(
                "nothing is removed: what update \(update.id.prefix(12)) stands on cannot be told: \(Failure(error).message)",
                status: .verificationRefused, hint: "git ksplice fsck \(update.id.prefix(12))")
        }
    }

    private func size(_ update: StoredUpdate) async throws -> Int {
        // One that is damaged may go all the same.
        do {
            return try repository.files(tree: repository.tree(of: update.commit)).values.reduce(0) {
                $0 + $1.count
            }
        } catch { return 0 }
    }

    /// Names of commits that refs outside of the project's own places have.
    private static func otherNames(_ references: [String: String]) -> [String: String] {
        let own = ["refs/ksplice/", "refs/notes/ksplice", ChannelMark.prefix, "refs/ksplice-incoming/"]
        return Dictionary(
            references.filter { ref in !own.contains { ref.key.hasPrefix($0) } }.map { ($0.value, $0.key) },
            uniquingKeysWith: min)
    }

    /// What is below some updates and below no other ref of the project.
    private func freed(_ updates: [StoredUpdate], _ references: [String: String]) async throws -> Int? {
        if updates.isEmpty { return 0 }
        let gone = Set(updates.map(\.ref))
        let kept = references.filter {
            ($0.key.hasPrefix("refs/ksplice") || $0.key.hasPrefix("refs/notes/ksplice"))
                && !gone.contains($0.key)
                && !$0.key.hasPrefix(ChannelMark.prefix)
        }.values
        let lines = updates.map(\.commit) + Set(kept).sorted().map { "^" + $0 }
        let result = try await repository.git(
            ["rev-list", "--objects", "--disk-usage", "--stdin"],
            input: Array((lines.joined(separator: "\n") + "\n").utf8)
        ).run()
        return result.succeeded ? Int(result.text.trimmed) : nil
    }

    /// What channels say of updates, those of other repositories, too, wherever they were fetched to.
    private struct Listing {
        /// The channel's ref by identity.
        var listed: [String: String] = [:]
        var withdrawn: Set<String> = []
        var channels: [String: String] = [:]

        init(_ references: [String: String], in repository: Repository) throws {
            for (ref, commit) in references.sorted(by: { $0.key < $1.key }) {
                guard let index = try Self.index(ref, commit, in: repository) else { continue }
                channels[ref] = commit
                for entry in index.entries {
                    if entry.withdrawn != nil {
                        // Anybody's word is enough to keep an update, and not to remove one.
                        if ref.hasPrefix(ChannelName.prefix) { withdrawn.insert(entry.id) }
                    } else if listed[entry.id] == nil {
                        listed[entry.id] = ref
                    }
                }
            }
            withdrawn.subtract(listed.keys)
        }

        private static func index(_ ref: String, _ commit: String, in repository: Repository) throws
            -> ChannelIndex?
        {
            do {
                if ref.hasPrefix(ChannelName.prefix) {
                    guard let name = ChannelName(ref: ref) else { throw Failure("'\(ref)' is no channel") }
                    return try ChannelState(commit, of: name, in: repository).index
                }
                let parts = ref.split(separator: "/")
                guard ref.contains("ksplice"), parts.suffix(4).first == "channels" else { return nil }
                let tree = try repository.signedCommit(commit).tree
                return try repository.onlyFile(ChannelIndex.path, tree: tree, limit: ChannelIndex.limit).map {
                    try ChannelIndex(parsing: String(decoding: $0, as: UTF8.self))
                }
            } catch {
                throw Failure(
                    "nothing is removed: what '\(ref)' lists cannot be told: \(Failure(error).message)",
                    status: .verificationRefused, hint: "git ksplice fsck \(ref)")
            }
        }
    }

    /// The kernel that a name means: a registered one, or one of which only updates are left, by release or build-id.
    public static func kernel(_ name: String, in repository: Repository) async throws -> (
        arch: String, refName: String
    ) {
        do {
            let identity = try await KernelRegistry(repository).summary(name).identity
            return (identity.arch, identity.refName)
        } catch let failure as Failure where failure.status == .notFound {
            let found = try await UpdateStore(repository).list().filter {
                $0.release == name || $0.buildID == name
            }
            guard let first = found.first, Set(found.map(\.buildID)).count == 1 else { throw failure }
            return (first.arch, first.buildID)
        }
    }
}
