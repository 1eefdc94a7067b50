// Notes: lines beside commits, each complete in itself, so that `cat_sort_uniq` merges two clones' notes. The notes
// commit is made here without moving the ref, because the ref changes together with others in one transaction.

/// A line to be put beside a commit, or taken away.
struct NoteLine: Sendable {
    var commit: String
    var line: String
    var isRemoval = false
}

extension Repository {
    /// The lines that a notes ref holds for a commit.
    func noteLines(_ ref: String, commit: String) async throws -> [String] {
        guard let tip = try await references([ref])[ref] else { return [] }
        let tree = try tree(of: tip, as: .stored)
        let content = try blob(notePath(commit, tree: tree).path, tree: tree, as: .stored) ?? []
        return String(decoding: content, as: UTF8.self).lines.map(String.init)
    }

    /// The commit that a notes ref is to move to from `tip` (nil: it does not exist). Returns `tip` itself where all
    /// lines are as wanted already.
    func notesCommit(
        after tip: String?, _ lines: [NoteLine], message: String,
        identity: (author: String, committer: String)
    ) throws -> String? {
        let before = try tip.map { try tree(of: $0, as: .stored) }
        let after = try notesTree(before, lines)
        guard let after, after != before else { return tip }
        return try writeCommit(
            tree: after, message: message, parents: tip.map { [$0] } ?? [], identity: identity)
    }

    private func notesTree(_ base: String?, _ lines: [NoteLine]) throws -> String? {
        var tree = base
        for (commit, group) in Dictionary(grouping: lines, by: \.commit).sorted(by: { $0.key < $1.key }) {
            let (path, exists) = try tree.map { try notePath(commit, tree: $0) } ?? (commit, false)
            var text = try exists ? tree.flatMap { try blob(path, tree: $0, as: .stored) } ?? [] : []
            let former = text
            for entry in group {
                let wanted = Array(entry.line.utf8)
                let present = text.split(separator: UInt8(ascii: "\n")).map(Array.init)
                if entry.isRemoval {
                    guard present.contains(wanted) else { continue }
                    text = Array(present.filter { $0 != wanted }.map { $0 + [UInt8(ascii: "\n")] }.joined())
                } else if !present.contains(wanted) {
                    if let last = text.last, last != UInt8(ascii: "\n") { text.append(UInt8(ascii: "\n")) }
                    text += wanted + [UInt8(ascii: "\n")]
                }
            }
            if text == former { continue }
            tree = try updateTree(tree, with: [path: text.isEmpty ? nil : text], as: .stored)
        }
        return tree
    }

    /// Where the note of a commit is, or belongs: notes trees have folders of two digits once there are many.
    private func notePath(_ commit: String, tree: String) throws -> (path: String, exists: Bool) {
        var prefix = ""
        var rest = Substring(commit)
        var level = tree
        while true {
            let tree = try entries(level, as: .stored)
            if tree.entry(rest) != nil { return (prefix + rest, true) }
            let folder = tree.entry(rest.prefix(2)).flatMap { $0.isFolder ? $0.id : nil }
            guard folder != nil || tree.entries.contains(where: \.isFolder), rest.count > 2 else {
                return (prefix + rest, false)
            }
            prefix += rest.prefix(2) + "/"
            rest = rest.dropFirst(2)
            guard let folder else { return (prefix + rest, false) }
            level = folder
        }
    }
}
