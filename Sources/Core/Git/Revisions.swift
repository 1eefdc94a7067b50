// Revision arguments: `A..B`, `--since=...`, `-5`, `-- PATH`, whatever git rev-list takes. It is git that understands
// them; what changes the form of its answer is refused, because the answer is read here.

/// A commit as a list of revisions has it.
public struct ListedCommit: Sendable, Equatable {
    public var id: String
    public var parents: [String]
    public var subject: String
}

extension Repository {
    /// The commits that arguments of git rev-list mean, in its order.
    ///
    /// - Parameter input: lines for `--stdin`; nil where it is not given.
    public func revisions(_ arguments: [String], input: [UInt8]? = nil) async throws -> [ListedCommit] {
        let result = try await git(
            ["rev-list", "--no-commit-header", "--format=tformat:%H%x00%P%x00%s", "--default", "HEAD"]
                + (input == nil ? [] : ["--stdin"]) + arguments, input: input ?? [],
            inside: worktree ?? gitDirectory
        ).run()
        guard result.succeeded else {
            // Wrong usage: its help follows.
            let said = result.errorText.lines.first.map { String($0) } ?? ""
            if result.status == 129 || said.hasPrefix("usage:") {
                throw Failure(
                    "these are no revisions: \(arguments.joined(separator: " "))", status: .usage,
                    hint: "name commits as for git log, for example v6.1..HEAD")
            }
            throw Failure(
                String(Self.words(of: result).lines.first ?? "git rev-list failed"),
                status: said.contains("unknown revision") ? .notFound : .fatal)
        }
        return try result.text.lines.map { line in
            let fields = line.split(separator: "\0", maxSplits: 2, omittingEmptySubsequences: false)
            guard fields.count == 3, ObjectFormat.isName(fields[0]) else {
                throw Failure(
                    "one of these options changes what git rev-list prints: \(arguments.joined(separator: " "))",
                    status: .usage, hint: "give options that choose commits, and none that show them")
            }
            return ListedCommit(
                id: String(fields[0]), parents: fields[1].split(separator: " ").map(String.init),
                subject: String(fields[2]))
        }
    }
}

extension Repository {
    /// Whether a commit is another one, or in its history; false where git cannot tell.
    func isAncestor(_ commit: String, of other: String, as view: ObjectView = .meant) async throws -> Bool {
        try await git(
            ["merge-base", "--is-ancestor", commit, other], environment: view == .stored ? Self.asStored : [:]
        ).run().succeeded
    }
}
