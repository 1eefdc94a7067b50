// What an update is made from: a commit, a range of commits as one change, or a patch file. All three become the
// same value, two trees, and the change between them is then merged onto the kernel's own source tree.

import Glibc

/// A change of source code: what leads from one tree to another.
public struct Change: Sendable, Equatable {
    /// One line for people.
    public var description: String
    /// The commits whose change it is, oldest first; none for a patch file.
    public var commits: [String]
    /// The trees before and after, as their author had them.
    public var baseTree: String
    public var changeTree: String

    public init(description: String, commits: [String], baseTree: String, changeTree: String) {
        self.description = description
        self.commits = commits
        self.baseTree = baseTree
        self.changeTree = changeTree
    }
}

extension Repository {
    /// The change of a commit, or of `A..B` as a whole.
    public func change(_ spec: String) async throws -> Change {
        if spec.contains("..") { return try await change(range: spec) }
        let name = spec.hasSuffix("^!") ? String(spec.dropLast(2)) : spec
        return try await change(commit: resolveCommit(name))
    }

    /// The change of one commit against its only parent.
    func change(commit id: String) throws -> Change {
        let commit = try commit(id)
        let named = "'\(id.prefix(12))' (\(commit.subject))"
        guard let parent = commit.parents.first else {
            throw Failure(
                "\(named) is a root commit: it has no change to make an update from",
                hint: "name a commit that has a parent, or a range A..B")
        }
        guard commit.parents.count == 1 else {
            throw Failure(
                "\(named) is a merge commit: it stands for several changes",
                hint: "name what was merged as one change: \(commit.parents[0].prefix(12))..\(id.prefix(12))")
        }
        try requireHistory(parent, of: named)
        return try Change(
            description: commit.subject, commits: [id], baseTree: tree(of: parent), changeTree: commit.tree)
    }

    private func requireHistory(_ parent: String, of named: String) throws {
        guard try !hasObject(parent) else { return }
        throw Failure(
            "the parent of \(named) is missing: this clone is shallow", status: .notFound,
            hint: "git fetch --deepen=1")
    }

    /// The change from A to B of `A..B`; an empty side means HEAD, as in git.
    private func change(range: String) async throws -> Change {
        guard let dots = range.firstRange(of: ".."), !range.contains("...") else {
            throw Failure(
                "'\(range)' is not a range that has one change", status: .usage, hint: "write it as A..B")
        }
        func end(_ part: Substring) async throws -> String {
            try await resolveCommit(part.isEmpty ? "HEAD" : String(part))
        }
        let (first, last) = try await (end(range[..<dots.lowerBound]), end(range[dots.upperBound...]))
        guard try await isAncestor(first, of: last) else {
            throw Failure(
                "'\(range)' is not a line of history: its start is no ancestor of its end",
                hint: "start where both part: git merge-base \(first.prefix(12)) \(last.prefix(12))")
        }
        let listed = try await git([
            "rev-list", "--reverse", "--topo-order", "--end-of-options", "\(first)..\(last)",
        ])
        .check("cannot list the commits of '\(range)'")
        let commits = listed.text.lines.map(String.init)
        guard !commits.isEmpty else { throw Failure("'\(range)' holds no commit", status: .notFound) }
        let subject = try commit(last).subject
        return try Change(
            description: commits.count == 1 ? subject : "\(subject) (and \(commits.count - 1) before it)",
            commits: commits, baseTree: tree(of: first), changeTree: tree(of: last))
    }

    /// The change of a patch (unified diff), applied to a tree as it is: no fuzz, but the place may have moved.
    /// Paths may have one leading folder (`a/`, `linux-new/`) or none.
    ///
    /// - Parameter name: what to call the patch in messages; its description where it has no subject line.
    public func change(patch: [UInt8], name: String, tree: String) async throws -> Change {
        let folder = try Files.temporaryDirectory()
        defer { try? Files.remove(folder) }
        let environment: [String: String?] = ["GIT_INDEX_FILE": folder + "/index"]
        var refusals: [CommandResult] = []
        for strip in ["-p1", "-p0"] {
            try await git(["read-tree", tree], environment: environment).check("cannot read tree \(tree)")
            let applied = try await git(
                [
                    "-c", "apply.ignoreWhitespace=no", "-c", "core.autocrlf=false", "apply", "--cached",
                    "--whitespace=nowarn",
                    strip, "-",
                ], environment: environment, input: patch
            ).run()
            guard applied.succeeded else {
                refusals.append(applied)
                continue
            }
            let written = try await git(["write-tree"], environment: environment).check("cannot write a tree")
            return Change(
                description: Self.subject(ofPatch: patch) ?? name.lastPathComponent, commits: [],
                baseTree: tree,
                changeTree: written.text.trimmed)
        }
        // The more telling words are those of the attempt that found the files.
        let telling = refusals.first { !$0.errorText.contains("does not exist in index") } ?? refusals[0]
        throw Failure(
            "cannot apply patch '\(name)' to the kernel's source:\n\(telling.errorText.trimmed)",
            hint: "make the patch against the source that the kernel was built from")
    }

    /// The subject of a patch that was mailed or made by `git format-patch`.
    static func subject(ofPatch patch: [UInt8]) -> String? {
        let lines = String(decoding: patch.prefix(1 << 16), as: UTF8.self).lines
        guard let start = lines.firstIndex(where: { $0.hasPrefix("Subject:") }) else { return nil }
        if let code = lines.firstIndex(where: { $0.hasPrefix("--- ") }), code < start { return nil }
        var subject = String(lines[start].dropFirst("Subject:".count)).trimmed
        for line in lines[(start + 1)...] {
            guard line.hasPrefix(" ") || line.hasPrefix("\t") else { break }
            subject += " " + String(line).trimmed
        }
        if subject.hasPrefix("["), let end = subject.firstIndex(of: "]") {
            subject = String(subject[subject.index(after: end)...]).trimmed
        }
        return subject.isEmpty ? nil : subject
    }
}
