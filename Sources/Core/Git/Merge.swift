// Putting a change onto the kernel's source: a three-way merge in memory, as `git cherry-pick` does it, so that a
// moved or partly changed neighbourhood is understood and never guessed. Nothing of the user's is touched; the
// result is only new objects in the object database.

import CShims

extension Repository {
    /// The tree that `change` makes of the tree `preTree`. It equals `preTree` where that has the change already.
    /// Fails where both changed the same lines, with every such file.
    public func postTree(_ change: Change, preTree: String) throws -> String {
        if preTree == change.baseTree { return change.changeTree }
        return try withLibrary { repository in
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
        try check(git_merge_trees(&index, repository, base, ours, theirs, &options), "cannot merge the change")
        defer { git_index_free(index) }
        guard git_index_has_conflicts(index) == 0 else {
            let lines = try conflicts(in: index).map { "  " + $0 }.joined(separator: "\n")
            throw Failure(
                "the change does not fit the kernel's source: '\(change.description)'\n\(lines)",
                hint: "put the change on top of the commit that the kernel was built from (git cherry-pick), "
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
