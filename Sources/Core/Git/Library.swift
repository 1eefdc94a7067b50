// libgit2, opened only when an object is read or written: its initialisation costs 5 ms. It sees the common git
// directory as a bare repository, so that neither the user's worktree nor index can play a part. It reads and
// writes objects and nothing else: configuration, revisions and refs belong to the git program.
// Limits: SHA-1 object names only; partial clones are refused by libgit2 itself.

import CShims
import Glibc

/// One opened repository. It serves one thread at a time; `Repository` guards it.
struct LibraryHandle: @unchecked Sendable {
    let repository: OpaquePointer

    private static let started: Int32 = {
        let status = git_libgit2_init()
        return status < 0 ? status : ks_git_configure()
    }()

    /// As `1.5.1`.
    static var version: String {
        var (major, minor, revision): (Int32, Int32, Int32) = (0, 0, 0)
        git_libgit2_version(&major, &minor, &revision)
        return "\(major).\(minor).\(revision)"
    }

    init(opening directory: String, withQuarantine: Bool) throws {
        guard Self.started >= 0 else { throw Failure("cannot initialise libgit2: error \(Self.started)") }
        let flags = GIT_REPOSITORY_OPEN_NO_SEARCH.rawValue | GIT_REPOSITORY_OPEN_BARE.rawValue
        var opened: OpaquePointer?
        try check(
            git_repository_open_ext(&opened, directory, flags, nil), "cannot open repository '\(directory)'")
        guard let opened else { throw Failure("cannot open repository '\(directory)'") }
        repository = opened
        if withQuarantine { try Self.addQuarantine(opened) }
    }

    /// What a push has brought lies in a folder of its own until the hooks have said yes (git-receive-pack(1)).
    private static func addQuarantine(_ repository: OpaquePointer) throws {
        guard let path = getenv("GIT_QUARANTINE_PATH") else { return }
        var database: OpaquePointer?
        try check(git_repository_odb(&database, repository), "cannot open the object database")
        defer { git_odb_free(database) }
        try check(git_odb_add_disk_alternate(database, path), "cannot open what was pushed")
    }
}

/// Turns a libgit2 error code into a failure. The library's words are the calling thread's: read at once.
func check(_ code: Int32, _ what: @autoclosure () -> String) throws {
    guard code < 0 else { return }
    let words = git_error_last().map { String(cString: $0.pointee.message) } ?? "libgit2 error \(code)"
    throw Failure(
        "\(what()): \(words)", status: code == GIT_ENOTFOUND.rawValue ? .notFound : .fatal,
        hints: code == GIT_ENOTFOUND.rawValue
            ? ["a shallow clone lacks objects: try 'git fetch --unshallow'"] : [])
}

/// The binary form of an object name of 40 hexadecimal digits.
func objectID(_ name: String) throws -> git_oid {
    var id = git_oid()
    guard name.utf8.count == 40, git_oid_fromstr(&id, name) == 0 else {
        throw Failure("not an object name: '\(name)'")
    }
    return id
}

extension git_oid {
    /// 40 lower-case hexadecimal digits.
    var name: String { withUnsafeBytes(of: self) { hex($0) } }
}

/// Looks an object up, lends it, and frees it.
func withObject<T>(
    _ name: String, _ type: git_object_t, in repository: OpaquePointer, _ body: (OpaquePointer) throws -> T
) throws -> T {
    var id = try objectID(name)
    var object: OpaquePointer?
    let kind = String(cString: git_object_type2string(type))
    try check(git_object_lookup(&object, repository, &id, type), "cannot read \(kind) '\(name)'")
    guard let object else { throw Failure("cannot read \(kind) '\(name)'") }
    defer { git_object_free(object) }
    return try body(object)
}
