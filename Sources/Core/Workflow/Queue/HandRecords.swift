// What became of a commit that somebody has tried to make an update of with `git ksplice create`: a refusal is kept as those of
// the background builds are, so that `git ksplice log` says it, too. Only what is true of the commit and the kernel as such is
// kept: not what another ground, findings that were let through, or a limit had a part in.

import Glibc

/// Keeps refusals of `create`.
public struct HandRecords: Sendable {
    private let repository: Repository
    private let options: CreateOptions

    public init(_ repository: Repository, _ options: CreateOptions) {
        (self.repository, self.options) = (repository, options)
    }

    /// Keeps an error as the result of a commit. Does nothing where it says nothing about that alone, and where the name means
    /// something else than a commit.
    public func note(_ error: any Error, of name: String) async throws {
        guard let state = state(of: error), isPlain, !name.contains("..") else { return }
        let commit = try await repository.resolveCommit(
            name.hasSuffix("^!") ? String(name.dropLast(2)) : name)
        let kernel = try await KernelRegistry(repository).summary(options.kernel)
        var record = BuildRecord(
            commit: commit, subject: try repository.commit(commit).subject, kernel: kernel,
            builder: try options.builder(), time: time(nil))
        record.isByHand = true
        record.patchID = try await repository.identities(of: [commit])[commit]?.patchID ?? ""
        record.preTree = try repository.tree(of: kernel.sourceCommit)
        record.postTree = try repository.postTree(
            repository.change(commit: commit), preTree: record.preTree)
        record.state = state
        record.take(error)
        try BuildQueue(repository).keep(record)
    }

    private var isPlain: Bool {
        options.ground.isEmpty && options.force.isEmpty && options.replacedConstants.isEmpty
            && !options.allowsOtherCompiler
    }

    /// Nil for what may be otherwise the next time.
    private func state(of error: any Error) -> BuildRecord.State? {
        if let refusal = error as? Refusal {
            // A limit is the caller's, and what ended the work early may be mended.
            let isOwn =
                refusal.interruption == nil && !refusal.findings.contains { $0.code == "too-many-units" }
            return isOwn ? .refused : nil
        }
        return (error as? Failure)?.status == .noChange ? .nothing : nil
    }
}

extension BuildRecord {
    /// What an error says: the codes that stand in the way, and one line.
    mutating func take(_ error: any Error) {
        func line(_ text: String) -> String { text.lines.first.map(String.init) ?? "" }
        guard let refusal = error as? Refusal else {
            reason = line(Failure(error).message)
            return
        }
        let errors = refusal.findings.filter { $0.severity == .error }
        codes = Set(errors.map(\.code)).sorted()
        reason = errors.first.map { line($0.message) } ?? ""
    }
}
