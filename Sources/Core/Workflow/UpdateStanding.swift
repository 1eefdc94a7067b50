// How what is applied on a machine stands to the history of a ref: which of its updates for this kernel are missing, and
// which are applied that it does not have.

/// One update, and what a ref and a machine say of it.
public struct UpdateStanding: Sendable, Equatable {
    public enum Word: String, Sendable, CaseIterable {
        /// Applied, and made of commits that the ref has.
        case current
        /// The ref has its commits, and they are not all in updates that are applied.
        case behind
        /// Applied, and the ref does not have its commits.
        case ahead
        /// Applied, and not in the repository.
        case unknown
    }

    public var word: Word
    public var id: String
    public var description: String

    public var json: JSON {
        .object([
            ("update", .string(id)), ("standing", .string(word.rawValue)),
            ("description", .string(description)),
        ])
    }
}

extension UpdateStore {
    /// Compares updates that are applied to a kernel with the history of a ref. In the order of storing, what is unknown last.
    public func standing(
        of applied: [LoadedUpdate], to ref: String, kernel: KernelIdentity
    ) async throws -> [UpdateStanding] {
        let tip = try await repository.resolveCommit(ref)
        let stored = try await list(arch: kernel.arch, buildID: kernel.refName).reversed()
        let isApplied = Set(applied.map(\.id))
        let done = Set(stored.filter { isApplied.contains($0.id) }.flatMap(\.commits))
        var standings: [UpdateStanding] = []
        var told: Set<[String]> = []
        for update in stored {
            let isInRef = try await repository.has(update.commits, in: tip)
            let word: UpdateStanding.Word
            if isApplied.contains(update.id) {
                word = isInRef ? .current : .ahead
            } else {
                // One line for several updates of the same commits.
                guard isInRef, !done.isSuperset(of: update.commits), told.insert(update.commits).inserted
                else {
                    continue
                }
                word = .behind
            }
            standings.append(.init(word: word, id: update.id, description: update.description))
        }
        let known = Set(stored.map(\.id))
        return standings
            + applied.filter { !known.contains($0.id) }.map {
                .init(word: .unknown, id: $0.id, description: $0.description)
            }
    }
}

extension Repository {
    /// Whether the history of a commit has all of some commits; false where there are none, or one is not in the repository.
    fileprivate func has(_ commits: [String], in tip: String) async throws -> Bool {
        for commit in commits {
            guard try hasObject(commit) else { return false }
            let result = try await git(["merge-base", "--is-ancestor", commit, tip]).run()
            guard result.status <= 1 else {
                throw Failure("cannot compare '\(commit)' with '\(tip)': \(result.errorText.trimmed)")
            }
            if result.status == 1 { return false }
        }
        return !commits.isEmpty
    }
}
