// Whether a commit is there to stay. A rebase makes commits that it may throw away a moment later, and the branch that
// it works on keeps the old ones until it is done: both are worth no work before it has ended. What nothing names any
// more (amended, rebased, dropped) is worth none at all.
//
// Each worktree can have a rebase of its own; it holds back what only it can reach, and nothing else.

/// What becomes of a commit.
public enum CommitStanding: Sendable, Equatable {
    /// A branch, tag, remote branch or idle worktree has it.
    case settled
    /// Only what a rebase or the like works on has it; the words for that, as `a rebase is in progress`.
    case moving(String)
    /// Nothing has it any more.
    case gone
}

/// The places from which commits are reached, as they are now.
struct SettledHistory {
    private let repository: Repository
    /// Arguments of rev-list for what stays.
    private var settled: [String] = []
    /// Commits that something works on, with the words for it.
    private var moving: [(commit: String, words: String)] = []

    /// Reads what each worktree is doing.
    init(_ repository: Repository) async throws {
        self.repository = repository
        var excluded: [String] = []
        var heads: [String] = []
        for folder in try Self.gitDirectories(repository) {
            guard
                let head = try await Self.answer(repository, folder, ["rev-parse", "-q", "--verify", "HEAD"])
            else { continue }
            guard let words = Self.operation(in: folder) else {
                heads.append(head)
                continue
            }
            moving.append((head, words))
            guard let branch = try await Self.branch(repository, folder), branch.hasPrefix("refs/heads/")
            else { continue }
            excluded.append("--exclude=" + branch.dropFirst("refs/heads/".count))
            if let tip = try await repository.references([branch])[branch] { moving.append((tip, words)) }
        }
        settled = excluded + ["--branches", "--tags", "--remotes"] + heads
    }

    /// What becomes of a commit, by its full name.
    func standing(of commit: String) async throws -> CommitStanding {
        guard try repository.hasObject(commit) else { return .gone }
        let left = try await repository.git(["rev-list", "--max-count=1", commit, "--not"] + settled)
            .check("cannot find out what has commit \(commit)")
        if left.output.isEmpty { return .settled }
        for (tip, words) in moving {
            if try await repository.isAncestor(commit, of: tip) { return .moving(words) }
        }
        return .gone
    }

    /// Those of all worktrees.
    private static func gitDirectories(_ repository: Repository) throws -> [String] {
        let linked = repository.commonDirectory + "/worktrees"
        let names = Files.isDirectory(linked) ? try Files.list(linked) : []
        return [repository.commonDirectory] + names.map { "\(linked)/\($0)" }
    }

    /// What is under way in a worktree, by the files that git keeps meanwhile (builtin/rebase.c, wt-status.c).
    static func operation(in folder: String) -> String? {
        let signs = [
            ("rebase-merge", "a rebase"), ("rebase-apply/applying", "git am"), ("rebase-apply", "a rebase"),
            ("MERGE_HEAD", "a merge"), ("CHERRY_PICK_HEAD", "a cherry-pick"), ("REVERT_HEAD", "a revert"),
            ("sequencer", "a cherry-pick or revert"),
        ]
        return signs.first { Files.exists("\(folder)/\($0.0)") }.map { $0.1 + " is in progress" }
    }

    /// The branch that a worktree is on; during a rebase, the one that it will set.
    private static func branch(_ repository: Repository, _ folder: String) async throws -> String? {
        for name in ["rebase-merge/head-name", "rebase-apply/head-name"] {
            let file = "\(folder)/\(name)"
            if Files.exists(file) { return try Files.readText(file).trimmed }
        }
        return try await answer(repository, folder, ["symbolic-ref", "-q", "HEAD"])
    }

    private static func answer(_ repository: Repository, _ folder: String, _ arguments: [String])
        async throws -> String?
    {
        let result = try await repository.git(["--git-dir=" + folder] + arguments).run()
        return result.succeeded ? result.text.trimmed : nil
    }
}
