// Updates in git. Each is an orphan commit under refs/ksplice/updates/<arch>/<build-id>/<update-id>, so that it
// can be fetched alone; its trailers say what it is without reading its files. Beside each source commit stands a
// line for people (refs/notes/ksplice/updates) and one for programs (refs/notes/ksplice/builds). The ref and both
// notes change in one transaction.
//
// Storing is idempotent: what is there already is kept, what is missing (an interruption inside git's own commit
// of the transaction) is added.

/// What is known of a stored update without reading its files.
public struct StoredUpdate: Sendable, Equatable {
    /// The update's identity: the last part of its ref.
    public var id: String
    public var ref: String
    /// The orphan commit that the ref names.
    public var commit: String
    public var arch: String
    /// The build-id, or what stands for it (`KernelIdentity.refName`).
    public var buildID: String
    public var release: String
    /// One line for people.
    public var description: String
    /// The source commits, oldest first.
    public var commits: [String]
    public var preTree: String
    public var postTree: String
    /// Seconds since 1970: when it was stored.
    public var time: Int64
}

/// The updates of a repository.
public struct UpdateStore: Sendable {
    public let repository: Repository

    static let prefix = "refs/ksplice/updates/"
    static let peopleNotes = "refs/notes/ksplice/updates"
    static let programNotes = "refs/notes/ksplice/builds"
    static let formatVersion = 1

    public init(_ repository: Repository) { self.repository = repository }

    /// The ref that an update is stored under.
    public static func ref(of update: Update) -> String {
        let kernel = update.manifest.kernel
        return "\(prefix)\(kernel.arch)/\(kernel.refName)/\(update.id)"
    }

    /// Stores an update and notes it beside its source commits. Returns it as stored.
    @discardableResult
    public func store(_ update: Update) async throws -> StoredUpdate {
        let ref = Self.ref(of: update)
        let identity = try await repository.identity()
        var files = update.files
        files[Update.Path.manifest] = Array(update.manifestText.utf8)
        let tree = try repository.writeTree(files: files)
        let commit = try repository.writeCommit(
            tree: tree, message: Self.message(update.manifest, id: update.id, ref: ref), parents: [],
            identity: identity)
        let names = [ref, Self.peopleNotes, Self.programNotes]
        try await repository.changeReferences(names, reason: "ksplice: create \(update.id)") { now in
            var changes: [ReferenceUpdate] = []
            // The ref comes first: a note must not name an update that is not there.
            if let present = now[ref] {
                guard try repository.tree(of: present, as: .stored) == tree else {
                    throw Failure(
                        "'\(ref)' holds something else than its name says", status: .verificationRefused)
                }
            } else {
                changes.append(.init(name: ref, new: commit, old: nil))
            }
            return try changes + noteChanges(update, ref: ref, now: now, identity: identity)
        }
        guard let stored = try await list(pattern: ref).first else {
            throw Failure("cannot read '\(ref)' back")
        }
        return stored
    }

    /// Reads an update and verifies it: every file against the manifest, the manifest against the ref's name.
    public func load(_ ref: String) async throws -> Update {
        guard let commit = try await repository.references([ref])[ref] else {
            throw Failure("no such update: '\(ref)'", status: .notFound)
        }
        return try Self.update(
            files: repository.files(tree: repository.tree(of: commit, as: .stored)), ref: ref)
    }

    /// The update that files make, verified in the same way.
    static func update(files: [String: [UInt8]], ref: String) throws -> Update {
        var files = files
        guard let manifest = files.removeValue(forKey: Update.Path.manifest) else {
            throw Failure("'\(ref)' holds no update: it has no manifest", status: .verificationRefused)
        }
        let update = try Update(manifestText: String(decoding: manifest, as: UTF8.self), files: files)
        guard Self.ref(of: update) == ref else {
            throw Failure(
                "'\(ref)' holds another update: \(Self.ref(of: update))", status: .verificationRefused)
        }
        return update
    }

    private func noteChanges(
        _ update: Update, ref: String, now: [String: String], identity: (author: String, committer: String)
    ) throws -> [ReferenceUpdate] {
        let what = "ksplice: create \(update.id)"
        let texts = [
            (Self.peopleNotes, Self.peopleLine(update.manifest, id: update.id)),
            (Self.programNotes, Self.programLine(update.manifest, id: update.id, ref: ref)),
        ]
        return try texts.compactMap { notes, line in
            let lines = update.manifest.commits.map { NoteLine(commit: $0, line: line) }
            let tip = try repository.notesCommit(after: now[notes], lines, message: what, identity: identity)
            return tip == now[notes] ? nil : ReferenceUpdate(name: notes, new: tip, old: now[notes])
        }
    }
}

// MARK: - Texts

extension UpdateStore {
    /// The commit message: a subject that reads well in `git log --all`, and the trailers.
    static func message(_ manifest: Manifest, id: String, ref: String) -> String {
        let kernel = manifest.kernel
        let trailers = [
            ("Format", "\(formatVersion)"), ("Update", id), ("Ref", ref), ("Arch", kernel.arch),
            ("Build-Id", kernel.buildID), ("Release", kernel.release),
            ("Config", "sha256:" + kernel.configDigest),
            ("Toolchain", kernel.compiler), ("Commits", manifest.commits.joined(separator: " ")),
            ("Trees", "\(manifest.preTree)..\(manifest.postTree)"), ("Manifest", "sha256:" + id),
        ]
        var text = oneLine("ksplice: \(kernel.arch) \(kernel.release): \(manifest.description)") + "\n\n"
        for (key, value) in trailers where !value.isEmpty { text += "Ksplice-\(key): \(oneLine(value))\n" }
        for id in manifest.depends { text += "Ksplice-Depends: \(id)\n" }
        return text
    }

    static func peopleLine(_ manifest: Manifest, id: String) -> String {
        let pieces = [
            counted("function", manifest.replacements.filter { $0.partOf == nil }.map(\.symbol)),
            counted("constant", manifest.constants.map(\.symbol)),
            counted("hook", manifest.hooks.map(\.symbol)),
            counted("export", manifest.exports.map(\.symbol)),
        ]
        return oneLine(
            "\(manifest.kernel.release) (\(manifest.kernel.arch)): update \(id.prefix(12))"
                + pieces.compactMap { $0 }.map { ", " + $0 }.joined())
    }

    /// `2 functions: f, g`; nil for none.
    private static func counted(_ what: String, _ all: [String]) -> String? {
        var names: [String] = []
        for name in all where !names.contains(name) { names.append(name) }
        if names.isEmpty { return nil }
        let shown = names.prefix(8).joined(separator: ", ") + (names.count > 8 ? ", ..." : "")
        return "\(names.count) \(what)\(names.count == 1 ? "" : "s"): \(shown)"
    }

    static func programLine(_ manifest: Manifest, id: String, ref: String) -> String {
        let fields = [
            ("event", "created"), ("update", id), ("arch", manifest.kernel.arch),
            ("build_id", manifest.kernel.buildID), ("release", manifest.kernel.release), ("ref", ref),
            ("pre_tree", manifest.preTree), ("post_tree", manifest.postTree),
        ]
        return "{\"v\":1," + fields.map { "\(JSON.quoted($0.0)):\(JSON.quoted($0.1))" }.joined(separator: ",")
            + "}"
    }

    private static func oneLine(_ text: String) -> String {
        String(
            String.UnicodeScalarView(
                text.unicodeScalars.map { $0.value < 0x20 || $0.value == 0x7f ? " " : $0 })
        ).trimmed
    }
}

extension UpdateStore {
    /// The manifest of a stored update; nil for one of an older format, which nothing new can be compared with.
    func readableManifest(_ stored: StoredUpdate) async throws -> Manifest? {
        let bytes = try manifestBytes(stored) ?? []
        let head = "ksplice-update "
        let version = String(decoding: bytes.prefix { $0 != 10 }, as: UTF8.self)
        if version.hasPrefix(head), let number = Int(version.dropFirst(head.count)),
            number < Manifest.formatVersion
        {
            return nil
        }
        return try await manifest(stored)
    }

    private func manifestBytes(_ stored: StoredUpdate) throws -> [UInt8]? {
        let tree = try repository.tree(of: stored.commit, as: .stored)
        return try repository.blob(Update.Path.manifest, tree: tree, as: .stored)
    }

    /// Reads the manifest of a stored update alone, verified against the ref's name.
    public func manifest(_ stored: StoredUpdate) async throws -> Manifest {
        guard let bytes = try manifestBytes(stored) else {
            throw Failure("'\(stored.ref)' holds no update: it has no manifest", status: .verificationRefused)
        }
        guard sha256(bytes) == stored.id else {
            throw Failure("'\(stored.ref)' holds an altered manifest", status: .verificationRefused)
        }
        return try Manifest(parsing: String(decoding: bytes, as: UTF8.self))
    }
}
