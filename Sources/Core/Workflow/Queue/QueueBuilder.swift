// One build in the background: from a commit and a kernel to a record. What is known already is not built again: an
// update of the same trees, and a refusal of the same trees by the same program.

import Glibc

/// Builds an update and says what became of it.
public struct QueueBuilder: Sendable {
    /// What the program is called in records; another one tries anew what this one has refused.
    let name: String
    /// Makes and stores the update of a commit for a kernel.
    let create: @Sendable (_ commit: String, _ kernel: KernelSummary) async throws -> StoredUpdate

    init(
        name: String,
        create: @escaping @Sendable (_ commit: String, _ kernel: KernelSummary) async throws -> StoredUpdate
    ) {
        self.name = name
        self.create = create
    }

    /// What `git ksplice create` would do.
    public init(
        _ repository: Repository, options: CreateOptions, progress: @escaping @Sendable (String) -> Void
    ) throws {
        self.init(name: try options.builder()) { commit, kernel in
            var options = options
            options.kernel = kernel.name
            return try await Creator(repository: repository, options: options, progress: progress)
                .create(.revision(commit)).stored
        }
    }

    /// After so many beginnings without an end, it is not begun again.
    private static let mostTries = 3

    /// What became of a commit; nil where it has an update already.
    func record(
        _ building: BuildQueue.Building, kernel: KernelSummary, known: [BuildRecord],
        in repository: Repository
    ) async throws -> BuildRecord? {
        let commit = building.commit
        var record = BuildRecord(
            commit: commit, subject: try repository.commit(commit).subject, kernel: kernel, builder: name,
            time: time(nil))
        do {
            record.patchID = try await repository.identities(of: [commit])[commit]?.patchID ?? ""
            record.preTree = try repository.tree(of: kernel.sourceCommit)
            record.postTree = try repository.postTree(
                repository.change(commit: commit), preTree: record.preTree)
            let store = UpdateStore(repository)
            let stored = try await store.find(
                kernel: kernel.identity, preTree: record.preTree, postTree: record.postTree)
            if stored.contains(where: { $0.commits.contains(commit) }) { return nil }
            if let update = stored.first {
                record.state = .made
                record.update = update.id
                return record
            }
            if let answer = known.last(where: { $0.answers(record) }) {
                (record.state, record.codes) = (answer.state, answer.codes)
                record.reason = answer.reason
                return record
            }
            guard building.tries <= Self.mostTries else {
                throw Failure("git-ksplice was ended \(Self.mostTries) times while it built this")
            }
            record.update = try await create(commit, kernel).id
            record.state = .made
        } catch let refusal as Refusal {
            record.state = .refused
            record.take(refusal)
        } catch {
            record.state = Failure(error).status == .noChange ? .nothing : .failed
            record.take(error)
        }
        return record
    }
}

extension BuildRecord {
    /// Whether it says what another one about the same trees would say.
    fileprivate func answers(_ other: BuildRecord) -> Bool {
        [.refused, .nothing].contains(state) && arch == other.arch && buildID == other.buildID
            && preTree == other.preTree && postTree == other.postTree && builder == other.builder
    }
}
