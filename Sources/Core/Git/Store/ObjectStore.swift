// What git keeps: commits, trees and blobs, each under the digest of its content. There are two ways to them. libgit2 is in this
// process and fast, and serves what it knows: names of SHA-1, and no extension that is newer than it. The git program
// serves every repository that git has, at the price of starting it. What an object means is read and written here for both
// (`TreeObject`, `Objects.swift`), so that both give the same names.
//
// Neither knows of objects that stand in the place of others (git-replace(1)): whether these count is the question of
// whoever asks (`ObjectView`).

import CShims

/// What an object is.
enum GitObjectKind: String, Sendable { case commit, tree, blob, tag }

/// An object as git stores it: what its name is the digest of.
struct GitObject: Sendable, Equatable {
    var kind: GitObjectKind
    var bytes: [UInt8]
}

/// The way in which a repository names its objects.
enum ObjectFormat: String, Sendable {
    case sha1, sha256

    /// How many hexadecimal digits a name has.
    var digits: Int { self == .sha1 ? 40 : 64 }

    /// The name of an object (gitformat-pack(5), "object header").
    func name(of object: GitObject) -> String {
        let bytes = Array("\(object.kind.rawValue) \(object.bytes.count)\0".utf8) + object.bytes
        var digest = [UInt8](repeating: 0, count: digits / 2)
        let status =
            self == .sha1
            ? ks_sha1(bytes, bytes.count, &digest) : ks_sha256(bytes, bytes.count, &digest)
        precondition(status == 0, "libcrypto refused to compute a digest")
        return hex(digest)
    }

    /// Whether a text is the whole name of an object in any format: 40 or 64 lower-case hexadecimal digits.
    static func isName(_ text: some StringProtocol) -> Bool { isName(Array(text.utf8)) }

    static func isName(_ bytes: some Collection<UInt8>) -> Bool {
        (bytes.count == Self.sha1.digits || bytes.count == Self.sha256.digits)
            && bytes.allSatisfy { hexDigit($0) != nil && !(0x41...0x46).contains($0) }
    }
}

/// A merge of three trees: what became of it.
enum TreeMerge: Sendable {
    case tree(String)
    case conflicts([MergeConflict])
}

/// A file that both sides changed: what each has there, nil where it has none.
struct MergeConflict: Sendable {
    var path: String
    var base: String?
    var ours: String?
    var theirs: String?
}

/// One way to the objects of a repository. Names are whole ones.
protocol ObjectStore: Sendable {
    /// What an object is, and how many bytes it has; nil where it is not here. No more is read than that.
    func header(of id: String) throws -> (kind: GitObjectKind, size: Int)?

    /// An object whose content has the digest that its name says; nil where it is not here.
    func read(_ id: String) throws -> GitObject?

    /// Writes objects; those that are there already stay.
    func write(_ objects: [GitObject]) throws

    /// Merges whole trees, and finds moved files.
    func merge(base: String, ours: String, theirs: String) throws -> TreeMerge
}

/// Which of them is used.
enum StoreChoice: String, Sendable {
    case libgit2, git

    /// The variable that names one, for tests and for whoever suspects one of them.
    static let variable = "GIT_KSPLICE_STORE"
}
