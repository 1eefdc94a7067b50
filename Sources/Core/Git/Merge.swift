// Putting a change onto the kernel's source: a three-way merge in memory, as `git cherry-pick` does it, so that a
// moved or partly changed neighbourhood is understood and never guessed. Nothing of the user's is touched; the
// result is only new objects in the object database.
//
// Merging whole trees takes libgit2 seconds for a kernel. A change touches few files: where all of them are
// plain files at the same place on both sides, merging just these gives the same tree in milliseconds; the texts are merged by
// libgit2, which needs no repository for that. What is not that simple (moved files, modes, conflicts) goes to the store.

import CShims

extension Repository {
    /// The tree that `change` makes of the tree `preTree`. It equals `preTree` where that has the change already.
    /// Fails where both changed the same lines, with every such file.
    public func postTree(_ change: Change, preTree: String) throws -> String {
        if preTree == change.baseTree { return change.changeTree }
        return try mergeFiles(change, preTree: preTree) ?? mergeTrees(change, preTree: preTree)
    }

    /// Merges only the files that the change touches; nil where that does not suffice.
    func mergeFiles(_ change: Change, preTree: String) throws -> String? {
        let touched = try changedFiles(pre: change.baseTree, post: change.changeTree)
        var merged: [String: [UInt8]?] = [:]
        for file in touched {
            guard file.status == .modified,
                let base = try entry(file.path, tree: change.baseTree, as: .meant),
                let ours = try entry(file.path, tree: preTree, as: .meant),
                let theirs = try entry(file.path, tree: change.changeTree, as: .meant),
                [base, ours, theirs].allSatisfy({ $0.isPlainFile && !$0.isExecutable })
            else { return nil }
            if ours.id == theirs.id { continue }
            let contents = try [base, ours, theirs].map { try object($0.id, .blob, as: .meant) }
            if ours.id == base.id {
                merged[file.path] = contents[2]
            } else {
                guard let text = try mergeFile(contents[0], contents[1], contents[2]) else { return nil }
                merged[file.path] = text
            }
        }
        return try updateTree(preTree, with: merged, as: .meant)
    }

    /// The three-way merge of one file; nil where both sides changed the same lines, or it is not text.
    private func mergeFile(_ base: [UInt8], _ ours: [UInt8], _ theirs: [UInt8]) throws -> [UInt8]? {
        if [base, ours, theirs].contains(where: { $0.contains(0) }) { return nil }
        try LibraryStore.start()
        return try base.withUnsafeBytes { base in
            try ours.withUnsafeBytes { ours in
                try theirs.withUnsafeBytes { theirs in
                    func input(_ bytes: UnsafeRawBufferPointer) -> git_merge_file_input {
                        var input = git_merge_file_input()
                        git_merge_file_input_init(&input, UInt32(GIT_MERGE_FILE_INPUT_VERSION))
                        input.ptr = bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
                        input.size = bytes.count
                        return input
                    }
                    var (a, b, c) = (input(base), input(ours), input(theirs))
                    var result = git_merge_file_result()
                    try check(git_merge_file(&result, &a, &b, &c, nil), "cannot merge a file")
                    defer { git_merge_file_result_free(&result) }
                    guard result.automergeable == 1 else { return nil }
                    return Array(UnsafeRawBufferPointer(start: result.ptr, count: result.len))
                }
            }
        }
    }

    /// Merges whole trees and finds moved files.
    func mergeTrees(_ change: Change, preTree: String) throws -> String {
        switch try store.merge(base: change.baseTree, ours: preTree, theirs: change.changeTree) {
        case .tree(let tree): return tree
        case .conflicts(let conflicts):
            let lines = conflicts.map { "  " + Self.line($0) }.joined(separator: "\n")
            throw Failure(
                "the change does not fit the kernel's source: '\(change.description)'\n\(lines)",
                hint:
                    "put the change on top of the commit that the kernel was built from (git cherry-pick), or, if it needs a change that has an update, make it on that (--on UPDATE), "
                    + "then name that commit")
        }
    }

    /// One line for a conflict: the file, and what each side did to it.
    private static func line(_ conflict: MergeConflict) -> String {
        func did(_ side: String?) -> String {
            guard let side else { return conflict.base == nil ? "without it" : "removed" }
            return (conflict.base == nil ? "added " : "changed ") + side.prefix(12)
        }
        return
            "\(conflict.path): kernel's source: \(did(conflict.ours)), change: \(did(conflict.theirs))"
    }
}
