// `git ksplice log`: what is known of commits and registered kernels together. For each pair there is one answer, the
// first of these that is true: an update of exactly this change; it is being built or waits; what became of it in the
// background; an update of a former version; nothing.
//
// Nothing that belongs to another version of a commit counts: an update or a refusal that was found through a note or a
// patch-id is compared by trees first.

/// What is known of one commit for one kernel.
public struct CommitAnswer: Sendable, Equatable {
    public enum State: String, Sendable {
        case update, building, waiting, refused, nothing, failed
        /// There is an update of another version of this commit: it should be built again.
        case stale
        case untried
    }

    /// The kernel's name.
    public var kernel: String
    public var arch: String
    public var buildID: String
    public var state: State
    /// The updates; of a stale one, those of the other version.
    public var updates: [StoredUpdate] = []
    /// The codes of the findings that stand in the way.
    public var codes: [String] = []
    /// One line; empty where the state says it all.
    public var reason = ""

    init(_ kernel: KernelSummary, _ state: State) {
        self.kernel = kernel.name
        arch = kernel.identity.arch
        buildID = kernel.identity.refName
        self.state = state
    }

    /// For people.
    public var words: String {
        let ids = updates.map { String($0.id.prefix(12)) }.joined(separator: ", ")
        return switch state {
        case .update: "update \(ids)"
        case .stale: "stale update \(ids): \(reason)"
        case .refused: "refused: \(codes.joined(separator: ", "))"
        case .nothing, .failed: "\(state.rawValue): \(reason)"
        case .building, .waiting, .untried: reason.isEmpty ? state.rawValue : "\(state.rawValue): \(reason)"
        }
    }

    public var json: JSON {
        .object([
            ("kernel", .string(kernel)), ("arch", .string(arch)), ("build_id", .string(buildID)),
            ("state", .string(state.rawValue)), ("updates", .strings(updates.map(\.id))),
            ("codes", .strings(codes)), ("reason", .string(reason)),
        ])
    }
}

/// A commit with the answers for all kernels, in their order.
public struct CommitReport: Sendable {
    public var commit: ListedCommit
    public var answers: [CommitAnswer]

    public var json: JSON {
        .object([
            ("v", .number(1)), ("commit", .string(commit.id)), ("subject", .string(commit.subject)),
            ("kernels", .array(answers.map(\.json))),
        ])
    }
}

/// Everything that is known in a repository, read once.
public struct CommitReporter: Sendable {
    let repository: Repository
    let kernels: [KernelSummary]
    private let updates: [StoredUpdate]
    private let records: [BuildRecord]
    /// When each commit that waits was put into the queue, in seconds since 1970.
    private let waiting: [String: Int]
    private let building: BuildQueue.Building?

    /// - Parameter names: of the kernels to report about; empty for all.
    public init(_ repository: Repository, kernels names: [String] = []) async throws {
        self.repository = repository
        let registry = KernelRegistry(repository)
        var kernels: [KernelSummary] = []
        for name in names { kernels.append(try await registry.summary(name)) }
        if names.isEmpty { kernels = try await registry.all() }
        guard !kernels.isEmpty else {
            throw Failure(
                "no kernel is registered in this repository", status: .notFound,
                hint: "git ksplice kernel add NAME --source COMMIT --from PACKAGE")
        }
        self.kernels = kernels
        // What is done leaves the queue last: looked at in the other order, nothing is missed.
        let queue = BuildQueue(repository)
        building = queue.exists ? try queue.building() : nil
        let entries = queue.exists ? try queue.entries() : []
        waiting = Dictionary(
            entries.map { ($0.name, $0.time / 1_000_000_000) }, uniquingKeysWith: { max($0, $1) })
        records = queue.exists ? try queue.results() : []
        // Of other kernels there may be thousands.
        let store = UpdateStore(repository)
        var updates: [StoredUpdate] = names.isEmpty ? try await store.list() : []
        for kernel in names.isEmpty ? [] : kernels {
            updates += try await store.list(arch: kernel.identity.arch, buildID: kernel.identity.refName)
        }
        self.updates = updates
    }

    /// Arguments for the commits that no registered kernel was built with.
    public var newCommits: [String] { ["HEAD", "--not"] + kernels.map(\.sourceCommit) }

    /// The answers for commits, in their order.
    public func report(_ commits: [ListedCommit]) async throws -> [CommitReport] {
        let store = UpdateStore(repository)
        let known = Set(updates.flatMap(\.commits))
        let unknown = commits.filter { $0.parents.count == 1 && !known.contains($0.id) }.map(\.id)
        let resembling = try await store.resemblances(of: unknown, among: updates)
        let identities = records.isEmpty ? [:] : try await repository.identities(of: unknown)
        return try commits.map { commit in
            let found = Found(
                direct: updates.filter { $0.commits.contains(commit.id) },
                resembling: resembling[commit.id] ?? Resemblance(), patchID: identities[commit.id]?.patchID)
            return CommitReport(commit: commit, answers: try kernels.map { try answer(commit, $0, found) })
        }
    }

    /// What was found of one commit, for whichever kernel.
    private struct Found {
        var direct: [StoredUpdate]
        var resembling: Resemblance
        var patchID: String?
    }

    private func answer(_ commit: ListedCommit, _ kernel: KernelSummary, _ found: Found) throws
        -> CommitAnswer
    {
        func own(_ updates: [StoredUpdate]) -> [StoredUpdate] {
            updates.filter { $0.arch == kernel.identity.arch && $0.buildID == kernel.identity.refName }
        }
        var answer = CommitAnswer(kernel, .untried)
        let exact = own(found.direct) + own(found.resembling.same)
        if !exact.isEmpty {
            answer.state = .update
            answer.updates = exact
        } else if commit.parents.count != 1 {
            answer.reason =
                commit.parents.isEmpty
                ? "it is a root commit" : "it is a merge, which stands for several changes"
        } else if building?.commit == commit.id, building?.kernel == kernel.name {
            answer.state = .building
        } else if let record = try record(of: commit, kernel, patchID: found.patchID),
            let state = Self.state(record), isNewer(record, of: commit)
        {
            answer.state = state
            answer.codes = record.codes
            answer.reason = record.reason
        } else if waiting[commit.id] != nil {
            answer.state = .waiting
        } else if let other = own(found.resembling.other).first {
            answer.state = .stale
            answer.updates = [other]
            answer.reason =
                "it was made from another version of this commit; git ksplice create makes a new one"
        }
        return answer
    }

    /// Whether a record was made since the commit waits: of several kernels, some are done before it leaves the queue.
    private func isNewer(_ record: BuildRecord, of commit: ListedCommit) -> Bool {
        guard let since = waiting[commit.id] else { return true }
        return record.commit == commit.id && record.time >= since
    }

    /// What a record still says; nothing where its update was removed since, or the commit was left out.
    private static func state(_ record: BuildRecord) -> CommitAnswer.State? {
        switch record.state {
        case .refused: .refused
        case .nothing: .nothing
        case .failed: .failed
        case .made, .skipped: nil
        }
    }

    /// The newest record that is true of a commit: made of it, or of the same change, with the kernel's source as it is.
    private func record(of commit: ListedCommit, _ kernel: KernelSummary, patchID: String?) throws
        -> BuildRecord?
    {
        let source = try repository.tree(of: kernel.sourceCommit)
        let candidates = records.filter { record in
            record.isFor(kernel) && (record.preTree.isEmpty || record.preTree == source)
                && (record.commit == commit.id || record.patchID == patchID && !record.postTree.isEmpty)
        }
        if let own = candidates.last(where: { $0.commit == commit.id }) { return own }
        if candidates.isEmpty { return nil }
        let change = try repository.change(commit: commit.id)
        guard let tree = try? repository.postTree(change, preTree: source) else { return nil }
        return candidates.last { $0.postTree == tree }
    }
}
