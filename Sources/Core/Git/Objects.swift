// Reading and writing git objects: commits, trees as dictionaries of files, blobs. How their bytes are found and kept is the
// store's (`Store/ObjectStore.swift`).

import Glibc

/// What is of interest of a commit.
public struct Commit: Sendable, Equatable {
    /// 40 hexadecimal digits, or 64 where the repository names objects by SHA-256, as all object names.
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
    public var message: String

    /// Takes the bytes of a commit object apart.
    init(id: String, parsing bytes: [UInt8]) {
        (self.id, tree, parents, author, authorTime) = (id, "", [], "", 0)
        let end = bytes.firstRange(of: [10, 10])?.lowerBound ?? bytes.endIndex
        for line in String(decoding: bytes[..<end], as: UTF8.self).lines {
            let words = line.split(separator: " ", maxSplits: 1).map(String.init)
            guard words.count == 2 else { continue }
            switch words[0] {
            case "tree" where tree.isEmpty: tree = words[1]
            case "parent": parents.append(words[1])
            case "author" where author.isEmpty:
                let close = words[1].lastIndex(of: ">") ?? words[1].startIndex
                author = String(words[1][...close])
                authorTime =
                    words[1][close...].split(separator: " ").dropFirst().first.flatMap { Int64($0) } ?? 0
            default: break
            }
        }
        message = String(decoding: bytes.dropFirst(end + 2), as: UTF8.self)
        subject = message.lines.map { String($0).trimmed }.drop { $0.isEmpty }.prefix { !$0.isEmpty }
            .joined(separator: " ")
    }
}

/// What a name stands for.
public enum ObjectView: Sendable {
    /// What git shows: an object that was put in its place (git-replace(1)) counts. For commits that people name.
    case meant
    /// The object whose content has this very name. For updates, channels and all that is signed.
    case stored
}

extension Repository {
    /// The bytes of an object.
    func object(_ id: String, _ kind: GitObjectKind, as view: ObjectView) throws -> [UInt8] {
        let name = view == .meant ? replacement(of: id) : id
        guard let object = try store.read(name) else { throw try missing(id, kind.rawValue) }
        guard object.kind == kind else {
            throw Failure("cannot read \(kind.rawValue) '\(id)': it is a \(object.kind.rawValue)")
        }
        return object.bytes
    }

    func missing(_ id: String, _ kind: String) throws -> Failure {
        let hint: String
        if Files.exists(commonDirectory + "/shallow") {
            hint = "a shallow clone lacks objects: git fetch --unshallow"
        } else if try isPartial {
            hint =
                "a partial clone gets objects from where it was cloned: is that there, and does it have them?"
        } else {
            hint = "git fsck finds what is missing"
        }
        return Failure("cannot read \(kind) '\(id)': it is not here", status: .notFound, hint: hint)
    }

    /// Reads a commit by its full name.
    public func commit(_ id: String, as view: ObjectView = .meant) throws -> Commit {
        Commit(id: id, parsing: try object(id, .commit, as: view))
    }

    /// The tree of a commit.
    public func tree(of commit: String, as view: ObjectView = .meant) throws -> String {
        try self.commit(commit, as: view).tree
    }

    /// The entries of a tree.
    func entries(_ tree: String, as view: ObjectView) throws -> TreeObject {
        try TreeObject(parsing: object(tree, .tree, as: view), format: format)
    }

    /// What a tree has at a path; nil where it has nothing there.
    func entry(_ path: String, tree: String, as view: ObjectView) throws -> TreeEntry? {
        var (tree, parts) = (tree, path.split(separator: "/", omittingEmptySubsequences: false)[...])
        while let part = parts.popFirst() {
            let bytes = try object(tree, .tree, as: view)
            guard let found = try TreeObject.entry(part, of: bytes, format: format) else { return nil }
            if parts.isEmpty { return found }
            guard found.isFolder else { return nil }
            tree = found.id
        }
        return nil
    }

    /// Whether an object is here, or is got when it is asked for.
    public func hasObject(_ id: String) throws -> Bool { try store.header(of: id) != nil }

    /// The content of a file in a tree; nil where the tree has no file of this path.
    public func blob(_ path: String, tree: String, as view: ObjectView = .meant) throws -> [UInt8]? {
        guard let entry = try entry(path, tree: tree, as: view), !entry.isFolder, !entry.isModule else {
            return nil
        }
        return try object(entry.id, .blob, as: view)
    }

    /// The content of the only file of a tree; nil where the tree holds anything else, or the file is larger than `limit` bytes.
    func onlyFile(_ name: String, tree: String, limit: Int) throws -> [UInt8]? {
        let entries = try entries(tree, as: .stored).entries
        guard entries.count == 1, entries[0].text == name, !entries[0].isFolder, !entries[0].isModule,
            let size = try store.header(of: entries[0].id)?.size, size <= limit
        else { return nil }
        return try object(entries[0].id, .blob, as: .stored)
    }

    /// All files of a tree by path. Fails where they are larger than `limit` bytes together (looked at before
    /// anything is read), and on anything that is not a plain file. What stands in the place of others does not count.
    public func files(tree: String, limit: Int = 1 << 28) throws -> [String: [UInt8]] {
        var (files, budget) = ([String: [UInt8]](), limit)
        func read(_ tree: String, prefix: String) throws {
            let entries = try entries(tree, as: .stored).entries
            for entry in entries where !entry.isFolder {
                let path = prefix + entry.text
                guard entry.isPlainFile else {
                    throw Failure(
                        "'\(path)' in tree \(tree) is not a plain file", status: .verificationRefused)
                }
                guard let size = try store.header(of: entry.id)?.size else {
                    throw try missing(entry.id, "blob")
                }
                guard size <= budget else {
                    throw Failure("'\(path)' is too large", status: .verificationRefused)
                }
                budget -= size
                files[path] = try object(entry.id, .blob, as: .stored)
            }
            for entry in entries where entry.isFolder {
                try read(entry.id, prefix: prefix + entry.text + "/")
            }
        }
        try read(tree, prefix: "")
        return files
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
        return try updateTree(nil, with: files.mapValues { $0 as [UInt8]? }, as: .stored)
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
        let commit = GitObject(kind: .commit, bytes: [UInt8](text.utf8))
        try store.write([commit])
        return format.name(of: commit)
    }
}

/// Refuses what git would not check out, or what would mean another file.
private func validate(_ path: String) throws {
    let parts = path.split(separator: "/", omittingEmptySubsequences: false)
    guard !parts.contains(where: { ["", ".", ".."].contains($0) || $0.lowercased() == ".git" }),
        !path.utf8.contains(0)
    else { throw Failure("not a path inside a tree: '\(path)'") }
}
