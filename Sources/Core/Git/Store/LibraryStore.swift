// Objects by libgit2, opened only when an object is read or written: its initialisation costs 5 ms. It sees the common git
// directory as a bare repository, so that neither the user's worktree nor index can play a part. It reads and
// writes objects and nothing else: configuration, revisions and refs belong to the git program.

import CShims
import Glibc
import Synchronization

/// One opened repository.
final class LibraryStore: ObjectStore {
    /// It serves one thread at a time.
    private let handle: Mutex<Handle>

    private struct Handle: @unchecked Sendable { let repository: OpaquePointer }

    private static let started: Int32 = {
        let status = git_libgit2_init()
        return status < 0 ? status : ks_git_configure()
    }()

    /// The library's, as `1.5.1`.
    static var version: String {
        var (major, minor, revision): (Int32, Int32, Int32) = (0, 0, 0)
        git_libgit2_version(&major, &minor, &revision)
        return "\(major).\(minor).\(revision)"
    }

    /// What every use of the library begins with.
    static func start() throws {
        guard started >= 0 else { throw Failure("cannot initialise libgit2: error \(started)") }
    }

    /// Fails where the library does not know the repository's format.
    ///
    /// - Parameter withQuarantine: whether what a push has brought, and no hook has accepted yet, can be read, too.
    init(opening directory: String, withQuarantine: Bool) throws {
        try Self.start()
        let flags = GIT_REPOSITORY_OPEN_NO_SEARCH.rawValue | GIT_REPOSITORY_OPEN_BARE.rawValue
        var opened: OpaquePointer?
        try check(
            git_repository_open_ext(&opened, directory, flags, nil), "cannot open repository '\(directory)'")
        guard let opened else { throw Failure("cannot open repository '\(directory)'") }
        handle = Mutex(Handle(repository: opened))
        if withQuarantine { try Self.addQuarantine(opened) }
    }

    deinit { git_repository_free(handle.withLock { $0 }.repository) }

    /// What a push has brought lies in a folder of its own until the hooks have said yes (git-receive-pack(1)).
    private static func addQuarantine(_ repository: OpaquePointer) throws {
        guard let path = getenv("GIT_QUARANTINE_PATH") else { return }
        try withDatabase(of: repository) {
            try check(git_odb_add_disk_alternate($0, path), "cannot open what was pushed")
        }
    }

    private static func withDatabase<T>(
        of repository: OpaquePointer, _ body: (OpaquePointer?) throws -> T
    ) throws -> T {
        var database: OpaquePointer?
        try check(git_repository_odb(&database, repository), "cannot open the object database")
        defer { git_odb_free(database) }
        return try body(database)
    }

    private func withDatabase<T: Sendable>(_ body: (OpaquePointer?) throws -> T) throws -> T {
        try handle.withLock { try Self.withDatabase(of: $0.repository, body) }
    }

    private static func kind(_ type: git_object_t) -> GitObjectKind? {
        GitObjectKind(rawValue: String(cString: git_object_type2string(type)))
    }

    func header(of id: String) throws -> (kind: GitObjectKind, size: Int)? {
        var name = try objectID(id)
        return try withDatabase { database in
            var (size, type) = (0, GIT_OBJECT_ANY)
            let status = git_odb_read_header(&size, &type, database, &name)
            if status == GIT_ENOTFOUND.rawValue { return nil }
            try check(status, "cannot read '\(id)'")
            return Self.kind(type).map { ($0, size) }
        }
    }

    func read(_ id: String) throws -> GitObject? {
        var name = try objectID(id)
        return try withDatabase { database in
            var object: OpaquePointer?
            let status = git_odb_read(&object, database, &name)
            if status == GIT_ENOTFOUND.rawValue { return nil }
            try check(status, "cannot read '\(id)'")
            defer { git_odb_object_free(object) }
            guard let kind = Self.kind(git_odb_object_type(object)) else { return nil }
            let bytes = UnsafeRawBufferPointer(
                start: git_odb_object_data(object), count: git_odb_object_size(object))
            return GitObject(kind: kind, bytes: Array(bytes))
        }
    }

    func write(_ objects: [GitObject]) throws {
        try withDatabase { database in
            for object in objects {
                var id = git_oid()
                let type = git_object_string2type(object.kind.rawValue)
                try check(
                    git_odb_write(&id, database, object.bytes, object.bytes.count, type),
                    "cannot write to the object database")
            }
        }
    }

    func merge(base: String, ours: String, theirs: String) throws -> TreeMerge {
        try handle.withLock { handle in
            try withTree(base, in: handle.repository) { base in
                try withTree(ours, in: handle.repository) { ours in
                    try withTree(theirs, in: handle.repository) { theirs in
                        try Self.merge(base, ours, theirs, in: handle.repository)
                    }
                }
            }
        }
    }

    private static func merge(
        _ base: OpaquePointer, _ ours: OpaquePointer, _ theirs: OpaquePointer, in repository: OpaquePointer
    ) throws -> TreeMerge {
        var options = git_merge_options()
        git_merge_options_init(&options, UInt32(GIT_MERGE_OPTIONS_VERSION))
        options.flags = UInt32(GIT_MERGE_FIND_RENAMES.rawValue)
        var index: OpaquePointer?
        try check(
            git_merge_trees(&index, repository, base, ours, theirs, &options), "cannot merge the change")
        defer { git_index_free(index) }
        guard git_index_has_conflicts(index) == 0 else { return .conflicts(try conflicts(in: index)) }
        var result = git_oid()
        try check(git_index_write_tree_to(&result, index, repository), "cannot write the merged tree")
        return .tree(result.name)
    }

    private static func conflicts(in index: OpaquePointer?) throws -> [MergeConflict] {
        var iterator: OpaquePointer?
        try check(git_index_conflict_iterator_new(&iterator, index), "cannot list conflicts")
        defer { git_index_conflict_iterator_free(iterator) }
        var found: [MergeConflict] = []
        while true {
            var base: UnsafePointer<git_index_entry>?
            var ours: UnsafePointer<git_index_entry>?
            var theirs: UnsafePointer<git_index_entry>?
            let status = git_index_conflict_next(&base, &ours, &theirs, iterator)
            if status == GIT_ITEROVER.rawValue { return found }
            try check(status, "cannot list conflicts")
            let path = (base ?? ours ?? theirs)?.pointee.path.map { String(cString: $0) } ?? "?"
            found.append(
                MergeConflict(
                    path: path, base: base?.pointee.id.name, ours: ours?.pointee.id.name,
                    theirs: theirs?.pointee.id.name))
        }
    }
}

/// Turns a libgit2 error code into a failure. The library's words are the calling thread's: read at once.
func check(_ code: Int32, _ what: @autoclosure () -> String) throws {
    guard code < 0 else { return }
    let words = git_error_last().map { String(cString: $0.pointee.message) } ?? "libgit2 error \(code)"
    throw Failure("\(what()): \(words)", status: code == GIT_ENOTFOUND.rawValue ? .notFound : .fatal)
}

/// The binary form of an object name of 40 hexadecimal digits.
private func objectID(_ name: String) throws -> git_oid {
    var id = git_oid()
    guard name.utf8.count == ObjectFormat.sha1.digits, git_oid_fromstr(&id, name) == 0 else {
        throw Failure("not an object name: '\(name)'")
    }
    return id
}

extension git_oid {
    /// 40 lower-case hexadecimal digits.
    fileprivate var name: String { withUnsafeBytes(of: self) { hex($0) } }
}

/// Looks a tree up, lends it, and frees it.
private func withTree<T>(
    _ name: String, in repository: OpaquePointer, _ body: (OpaquePointer) throws -> T
) throws -> T {
    var id = try objectID(name)
    var object: OpaquePointer?
    try check(git_object_lookup(&object, repository, &id, GIT_OBJECT_TREE), "cannot read tree '\(name)'")
    guard let object else { throw Failure("cannot read tree '\(name)'") }
    defer { git_object_free(object) }
    return try body(object)
}
