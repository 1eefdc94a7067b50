// Reading and writing git objects: commits, trees as dictionaries of files, blobs.

import CShims
import Glibc

/// What is of interest of a commit.
public struct Commit: Sendable, Equatable {
    /// 40 hexadecimal digits, as all object names.
    public var id: String
    public var tree: String
    /// As the commit itself says it; in a shallow clone they may be missing.
    public var parents: [String]
    /// The first paragraph of the message, in one line.
    public var subject: String
    /// `Name <address>`.
    public var author: String
    /// Seconds since 1970.
    public var authorTime: Int64
}

extension Repository {
    /// Reads a commit by its full name.
    public func commit(_ id: String) throws -> Commit {
        try withLibrary { repository in
            try withObject(id, GIT_OBJECT_COMMIT, in: repository) { object in
                let count = git_commit_parentcount(object)
                let author = git_commit_author(object)?.pointee
                func text(_ pointer: UnsafePointer<CChar>?) -> String {
                    pointer.map { String(cString: $0) } ?? ""
                }
                return Commit(
                    id: id, tree: git_commit_tree_id(object)?.pointee.name ?? "",
                    parents: (0..<count).compactMap { git_commit_parent_id(object, $0)?.pointee.name },
                    subject: text(git_commit_summary(object)),
                    author:
                        "\(text(author?.name.map { UnsafePointer($0) })) <\(text(author?.email.map { UnsafePointer($0) }))>",
                    authorTime: author?.when.time ?? 0)
            }
        }
    }

    /// The tree of a commit.
    public func tree(of commit: String) throws -> String { try self.commit(commit).tree }

    /// Whether an object is here.
    public func hasObject(_ id: String) throws -> Bool {
        var oid = try objectID(id)
        return try withLibrary { repository in
            var database: OpaquePointer?
            try check(git_repository_odb(&database, repository), "cannot open the object database")
            defer { git_odb_free(database) }
            return git_odb_exists(database, &oid) == 1
        }
    }

    /// The content of a file in a tree; nil where the tree has no file of this path.
    public func blob(_ path: String, tree: String) throws -> [UInt8]? {
        try withLibrary { try readBlob(path, tree: tree, in: $0) }
    }

    /// The content of the only file of a tree; nil where the tree holds anything else, or the file is larger than `limit` bytes.
    func onlyFile(_ name: String, tree: String, limit: Int) throws -> [UInt8]? {
        try withLibrary { repository in
            let id = try withObject(tree, GIT_OBJECT_TREE, in: repository) { object -> String? in
                guard git_tree_entrycount(object) == 1, let entry = git_tree_entry_byname(object, name),
                    git_tree_entry_type(entry) == GIT_OBJECT_BLOB
                else { return nil }
                return git_tree_entry_id(entry)?.pointee.name
            }
            guard let id, try size(of: id, in: repository) <= limit else { return nil }
            return try blobContent(id, in: repository)
        }
    }

    /// The size of an object, of which no more is read than that.
    func size(of id: String, in repository: OpaquePointer) throws -> Int {
        var name = try objectID(id)
        var database: OpaquePointer?
        try check(git_repository_odb(&database, repository), "cannot open the object database")
        defer { git_odb_free(database) }
        var (size, type) = (0, GIT_OBJECT_ANY)
        try check(git_odb_read_header(&size, &type, database, &name), "cannot read '\(id)'")
        return size
    }

    /// All files of a tree by path. Fails where they are larger than `limit` bytes together (looked at before
    /// anything is read), and on anything that is not a plain file.
    public func files(tree: String, limit: Int = 1 << 28) throws -> [String: [UInt8]] {
        try withLibrary { repository in
            var reader = TreeReader(repository: repository, budget: limit)
            try reader.read(tree, prefix: "")
            return reader.files
        }
    }

    /// Writes a tree of plain files, with folders where paths have slashes. Returns the tree's name.
    public func writeTree(files: [String: [UInt8]]) throws -> String {
        for path in files.keys { try validate(path) }
        for path in files.keys {
            var folder = path
            while folder.contains("/") {
                folder = folder.directoryPart
                if files[folder] != nil { throw Failure("'\(folder)' is both a file and a folder") }
            }
        }
        return try withLibrary { repository in
            try updateTree(nil, with: files.mapValues { $0 as [UInt8]? }, in: repository)
        }
    }

    /// Writes a commit in the name of the user that git's configuration and environment say. Moves no ref.
    public func commitTree(_ tree: String, message: String, parents: [String] = []) async throws -> String {
        try await writeCommit(tree: tree, message: message, parents: parents, identity: identity())
    }

    /// The `author` and `committer` lines' content, for several commits of one moment.
    func identity() async throws -> (author: String, committer: String) {
        func variable(_ name: String) async throws -> String {
            let result = try await git(["var", name]).run()
            guard result.succeeded else {
                throw Failure(
                    "cannot tell who you are: \(Self.words(of: result))",
                    hint: "git config --global user.name NAME; git config --global user.email ADDRESS")
            }
            return result.text.trimmed
        }
        return try await (variable("GIT_AUTHOR_IDENT"), variable("GIT_COMMITTER_IDENT"))
    }

    func writeCommit(
        tree: String, message: String, parents: [String], identity: (author: String, committer: String)
    ) throws -> String {
        var text = "tree \(tree)\n"
        for parent in parents { text += "parent \(parent)\n" }
        text += "author \(identity.author)\ncommitter \(identity.committer)\n\n\(message)"
        if !text.hasSuffix("\n") { text += "\n" }
        return try withLibrary { try writeObject([UInt8](text.utf8), GIT_OBJECT_COMMIT, in: $0) }
    }
}

/// Refuses what git would not check out, or what would mean another file.
private func validate(_ path: String) throws {
    let parts = path.split(separator: "/", omittingEmptySubsequences: false)
    guard !parts.contains(where: { ["", ".", ".."].contains($0) || $0.lowercased() == ".git" }),
        !path.utf8.contains(0)
    else { throw Failure("not a path inside a tree: '\(path)'") }
}

func writeObject(_ bytes: [UInt8], _ type: git_object_t, in repository: OpaquePointer) throws -> String {
    var database: OpaquePointer?
    try check(git_repository_odb(&database, repository), "cannot open the object database")
    defer { git_odb_free(database) }
    var id = git_oid()
    try check(git_odb_write(&id, database, bytes, bytes.count, type), "cannot write to the object database")
    return id.name
}

func readBlob(_ path: String, tree: String, in repository: OpaquePointer) throws -> [UInt8]? {
    try withObject(tree, GIT_OBJECT_TREE, in: repository) { root in
        var entry: OpaquePointer?
        let status = git_tree_entry_bypath(&entry, root, path)
        if status == GIT_ENOTFOUND.rawValue { return nil }
        try check(status, "cannot read '\(path)'")
        defer { git_tree_entry_free(entry) }
        guard git_tree_entry_type(entry) == GIT_OBJECT_BLOB, let id = git_tree_entry_id(entry) else {
            return nil
        }
        return try blobContent(id.pointee.name, in: repository)
    }
}

func blobContent(_ id: String, in repository: OpaquePointer) throws -> [UInt8] {
    try withObject(id, GIT_OBJECT_BLOB, in: repository) { blob in
        let size = Int(git_blob_rawsize(blob))
        guard size > 0, let content = git_blob_rawcontent(blob) else { return [] }
        return Array(UnsafeRawBufferPointer(start: content, count: size))
    }
}

/// Writes a tree that differs from another (nil: the empty one) in the given files; nil content removes a file.
func updateTree(_ base: String?, with files: [String: [UInt8]?], in repository: OpaquePointer) throws
    -> String
{
    var updates: [git_tree_update] = []
    defer { for update in updates { free(UnsafeMutablePointer(mutating: update.path)) } }
    for (path, content) in files.sorted(by: { $0.key < $1.key }) {
        let id = try content.map { try objectID(writeObject($0, GIT_OBJECT_BLOB, in: repository)) }
        updates.append(
            git_tree_update(
                action: id == nil ? GIT_TREE_UPDATE_REMOVE : GIT_TREE_UPDATE_UPSERT, id: id ?? git_oid(),
                filemode: GIT_FILEMODE_BLOB, path: UnsafePointer(strdup(path))))
    }
    var result = git_oid()
    func write(_ baseline: OpaquePointer?) throws {
        let status = git_tree_create_updated(&result, repository, baseline, updates.count, updates)
        try check(status, "cannot write a tree")
    }
    if updates.isEmpty {
        if let base { return base }
        return try writeObject([], GIT_OBJECT_TREE, in: repository)
    }
    if let base {
        try withObject(base, GIT_OBJECT_TREE, in: repository) { try write($0) }
    } else {
        try write(nil)
    }
    return result.name
}

/// Collects the files of a tree within a budget of bytes.
private struct TreeReader {
    let repository: OpaquePointer
    var budget: Int
    var files: [String: [UInt8]] = [:]

    mutating func read(_ tree: String, prefix: String) throws {
        var folders: [(String, String)] = []
        try withObject(tree, GIT_OBJECT_TREE, in: repository) { object in
            for index in 0..<git_tree_entrycount(object) {
                guard let entry = git_tree_entry_byindex(object, index), let id = git_tree_entry_id(entry),
                    let name = git_tree_entry_name(entry)
                else { continue }
                let path = prefix + String(cString: name)
                switch git_tree_entry_filemode(entry) {
                case GIT_FILEMODE_TREE: folders.append((id.pointee.name, path + "/"))
                case GIT_FILEMODE_BLOB, GIT_FILEMODE_BLOB_EXECUTABLE:
                    try spend(id.pointee, path)
                    files[path] = try blobContent(id.pointee.name, in: repository)
                default:
                    throw Failure(
                        "'\(path)' in tree \(tree) is not a plain file", status: .verificationRefused)
                }
            }
        }
        for (id, path) in folders { try read(id, prefix: path) }
    }

    /// Looks at the size before the content is read.
    private mutating func spend(_ id: git_oid, _ path: String) throws {
        var id = id
        var database: OpaquePointer?
        try check(git_repository_odb(&database, repository), "cannot open the object database")
        defer { git_odb_free(database) }
        var size = 0
        var type = GIT_OBJECT_ANY
        try check(git_odb_read_header(&size, &type, database, &id), "cannot read '\(path)'")
        guard size <= budget else { throw Failure("'\(path)' is too large", status: .verificationRefused) }
        budget -= size
    }
}
