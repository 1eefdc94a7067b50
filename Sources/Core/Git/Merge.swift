// Putting a change onto the kernel's source: a three-way merge in memory, as `git cherry-pick` does it, so that a
// moved or partly changed neighbourhood is understood and never guessed. Nothing of the user's is touched; the
// result is only new objects in the object database.
//
// libgit2 merges by listing whole trees, seconds for a kernel. A change touches few files: where all of them are
// plain files at the same place on both sides, merging just these gives the same tree in milliseconds. What is not
// that simple (moved files, modes, conflicts) goes to libgit2.

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
        return try withLibrary { repository in
            var merged: [String: [UInt8]?] = [:]
            for file in touched {
                func side(_ tree: String) throws -> (id: String, mode: git_filemode_t)? {
                    try entry(file.path, tree: tree, in: repository)
                }
                guard file.status == .modified, let base = try side(change.baseTree),
                    let ours = try side(preTree),
                    let theirs = try side(change.changeTree),
                    [base, ours, theirs].allSatisfy({ $0.mode == GIT_FILEMODE_BLOB })
                else { return nil }
                if ours.id == theirs.id { continue }
                let contents = try [base, ours, theirs].map { try blobContent($0.id, in: repository) }
                if ours.id == base.id {
                    merged[file.path] = contents[2]
                } else {
                    guard let text = try mergeFile(contents[0], contents[1], contents[2]) else { return nil }
                    merged[file.path] = text
                }
            }
            return try updateTree(preTree, with: merged, in: repository)
        }
    }

    private func entry(
        _ path: String, tree: String, in repository: OpaquePointer
    ) throws -> (id: String, mode: git_filemode_t)? {
        try withObject(tree, GIT_OBJECT_TREE, in: repository) { root in
            var entry: OpaquePointer?
            let status = git_tree_entry_bypath(&entry, root, path)
            if status == GIT_ENOTFOUND.rawValue { return nil }
            try check(status, "cannot read '\(path)'")
            defer { git_tree_entry_free(entry) }
            return git_tree_entry_id(entry).map { ($0.pointee.name, git_tree_entry_filemode(entry)) }
        }
    }

    /// The three-way merge of one file; nil where both sides changed the same lines, or it is not text.
    private func mergeFile(_ base: [UInt8], _ ours: [UInt8], _ theirs: [UInt8]) throws -> [UInt8]? {
        if [base, ours, theirs].contains(where: { $0.contains(0) }) { return nil }
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
        try withLibrary { repository in
            try withObject(change.baseTree, GIT_OBJECT_TREE, in: repository) { base in
                try withObject(preTree, GIT_OBJECT_TREE, in: repository) { ours in
                    try withObject(change.changeTree, GIT_OBJECT_TREE, in: repository) { theirs in
                        try merge(base, ours, theirs, change: change, in: repository)
                    }
                }
            }
        }
    }

    private func merge(
        _ base: OpaquePointer, _ ours: OpaquePointer, _ theirs: OpaquePointer, change: Change,
        in repository: OpaquePointer
    ) throws -> String {
        var options = git_merge_options()
        git_merge_options_init(&options, UInt32(GIT_MERGE_OPTIONS_VERSION))
        options.flags = UInt32(GIT_MERGE_FIND_RENAMES.rawValue)
        var index: OpaquePointer?
        try check(
            git_merge_trees(&index, repository, base, ours, theirs, &options), "cannot merge the change")
        defer { git_index_free(index) }
        guard git_index_has_conflicts(index) == 0 else {
            let lines = try conflicts(in: index).map { "  " + $0 }.joined(separator: "\n")
            throw Failure(
                "the change does not fit the kernel's source: '\(change.description)'\n\(lines)",
                hint:
                    "put the change on top of the commit that the kernel was built from (git cherry-pick), or, if it needs a change that has an update, make it on that (--on UPDATE), "
                    + "then name that commit")
        }
        var result = git_oid()
        try check(git_index_write_tree_to(&result, index, repository), "cannot write the merged tree")
        return result.name
    }

    /// One line for each conflict: the file, and what each side did to it.
    private func conflicts(in index: OpaquePointer?) throws -> [String] {
        var iterator: OpaquePointer?
        try check(git_index_conflict_iterator_new(&iterator, index), "cannot list conflicts")
        defer { git_index_conflict_iterator_free(iterator) }
        var lines: [String] = []
        while true {
            var base: UnsafePointer<git_index_entry>?
            var ours: UnsafePointer<git_index_entry>?
            var theirs: UnsafePointer<git_index_entry>?
            let status = git_index_conflict_next(&base, &ours, &theirs, iterator)
            if status == GIT_ITEROVER.rawValue { return lines }
            try check(status, "cannot list conflicts")
            let path = (base ?? ours ?? theirs)?.pointee.path.map { String(cString: $0) } ?? "?"
            func did(_ side: UnsafePointer<git_index_entry>?) -> String {
                guard let side else { return base == nil ? "without it" : "removed" }
                return (base == nil ? "added " : "changed ") + side.pointee.id.name.prefix(12)
            }
            lines.append("\(path): kernel's source: \(did(ours)), change: \(did(theirs))")
        }
    }
}
