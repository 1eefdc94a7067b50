// What differs between two trees: files, hunks of lines, and a patch that anyone can apply. Texts are compared by libgit2, which
// needs no repository for that.

import CShims

/// A file that two trees do not have in common.
public struct ChangedFile: Sendable, Equatable {
    public enum Status: Sendable { case added, deleted, modified }
    public var path: String
    public var status: Status

    public init(path: String, status: Status) {
        self.path = path
        self.status = status
    }
}

extension Repository {
    /// The files that differ, sorted by path. A moved file is one deleted and one added.
    public func changedFiles(pre: String, post: String) throws -> [ChangedFile] {
        var changed: [ChangedFile] = []
        /// Both sides are in git's order, and folders that are equal have one name: nothing below them is read.
        func compare(_ old: String?, _ new: String?, _ prefix: String) throws {
            if old == new { return }
            var before = try old.map { try entries($0, as: .meant).entries[...] } ?? []
            var after = try new.map { try entries($0, as: .meant).entries[...] } ?? []
            while let first = [before.first, after.first].compactMap({ $0 }).min(by: { $0.isBefore($1) }) {
                func take(_ side: inout ArraySlice<TreeEntry>) -> TreeEntry? {
                    guard let next = side.first, !first.isBefore(next) else { return nil }
                    return side.popFirst()
                }
                let (one, other) = (take(&before), take(&after))
                let path = prefix + first.text
                if first.isFolder {
                    try compare(one?.id, other?.id, path + "/")
                } else if one == nil {
                    changed.append(.init(path: path, status: .added))
                } else if other == nil {
                    changed.append(.init(path: path, status: .deleted))
                } else if one != other {
                    changed.append(.init(path: path, status: .modified))
                }
            }
        }
        try compare(pre, post, "")
        return changed
    }

    /// The changed lines of one file, in order. A file that a tree does not have counts as empty.
    public func hunks(_ path: String, pre: String, post: String) throws -> [Hunk] {
        let (old, new) = try (blob(path, tree: pre) ?? [], blob(path, tree: post) ?? [])
        return try hunks(pre: old, post: new)
    }

    /// The changed lines between two texts.
    public func hunks(pre: [UInt8], post: [UInt8]) throws -> [Hunk] {
        try LibraryStore.start()
        var options = git_diff_options()
        git_diff_options_init(&options, UInt32(GIT_DIFF_OPTIONS_VERSION))
        options.flags |= UInt32(GIT_DIFF_FORCE_TEXT.rawValue)
        options.context_lines = 0
        options.interhunk_lines = 0
        var patch: OpaquePointer?
        // No file names: they would bring attributes and with them other rules for text.
        let status = git_patch_from_buffers(&patch, pre, pre.count, nil, post, post.count, nil, &options)
        try check(status, "cannot compare two files")
        defer { git_patch_free(patch) }
        return try (0..<git_patch_num_hunks(patch)).map { index in
            var hunk: UnsafePointer<git_diff_hunk>?
            try check(git_patch_get_hunk(&hunk, nil, patch, index), "cannot compare two files")
            guard let hunk = hunk?.pointee else { throw Failure("cannot compare two files") }
            // Of an empty stretch git names the line behind which it would stand.
            return Hunk(
                preStart: Int(hunk.old_start) + (hunk.old_lines == 0 ? 1 : 0),
                preCount: Int(hunk.old_lines),
                postStart: Int(hunk.new_start) + (hunk.new_lines == 0 ? 1 : 0),
                postCount: Int(hunk.new_lines))
        }
    }

    /// The difference as a patch for `git apply` and `patch -p1`. It depends on the two trees only, not on
    /// configuration or attributes: the update's identity covers it. Bytes, because sources need not be UTF-8.
    public func patchText(pre: String, post: String) async throws -> [UInt8] {
        let result = try await git(
            Self.patchConfiguration + ["diff-tree"] + Self.patchFormat + ["--end-of-options", pre, post],
            environment: Self.patchEnvironment
        ).check("cannot compare trees \(pre) and \(post)")
        return result.output
    }

    /// What makes a patch depend on the two sides only.
    static let patchConfiguration = [
        "-c", "core.bare=true", "-c", "core.attributesFile=/dev/null", "-c", "diff.orderFile=/dev/null",
        "-c", "diff.suppressBlankEmpty=false", "-c", "core.quotePath=true",
    ]
    static let patchFormat = [
        "-r", "-p", "--binary", "--full-index", "--no-renames", "--no-color", "--no-ext-diff",
        "--no-textconv",
        "--unified=3", "--inter-hunk-context=0", "--diff-algorithm=myers", "--no-indent-heuristic",
        "--src-prefix=a/", "--dst-prefix=b/", "--submodule=short", "--no-relative",
    ]
    static let patchEnvironment: [String: String?] = [
        "GIT_ATTR_NOSYSTEM": "1", "GIT_DIFF_OPTS": nil, "GIT_EXTERNAL_DIFF": nil,
    ]
}
