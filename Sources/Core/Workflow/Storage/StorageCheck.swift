// `git ksplice fsck`: reads everything that the project stores in a repository, expects nothing, and collects all that
// is wrong. It changes nothing. What each kind of ref must be is in the files beside this one; here are the refs
// themselves, and the objects below them.

/// Looks for damage in what a repository stores.
public struct StorageCheck: Sendable {
    let repository: Repository
    /// Whether it is what a host has fetched: that has no kernels, and only what is to be applied there.
    public var isHost = false
    /// What is believed; nil for what the repository itself says.
    var policy: TrustPolicy?
    /// Seconds since 1970.
    var now = CalendarTime.now

    /// In the order of finding.
    var problems: [StorageProblem] = []
    /// What the project's refs name.
    var refs: [String: String] = [:]
    /// Blobs that were read, by name. Updates for one kernel share some.
    private var blobs: [String: (size: Int, digest: String)] = [:]
    /// Folders of the tree that was read last which could not be read, with their slashes.
    var lost: [String] = []
    /// The manifests of the updates that were read, by ref, for whoever refers to them.
    var manifests: [String: Manifest] = [:]
    /// The bytes of an update's files together, by ref.
    var sizes: [String: Int] = [:]
    /// The names of the kernels that were read, by ref.
    var kernels: [String: String] = [:]
    /// 12 digits of the identities of all updates.
    var stored: Set<String> = []
    /// Whether all notes could be read.
    var areNotesWhole = true
    /// Beside which commit which update is noted, and by which notes: by 12 digits of its identity.
    var noted: [String: [String: Set<String>]] = [:]

    public init(_ repository: Repository) { self.repository = repository }

    static let local = "refs/ksplice-local/"
    static let notes = "refs/notes/ksplice/"
    /// What stands there is moved on within the command that has put it there.
    private static let passing = [
        "refs/ksplice-incoming/", "refs/notes/ksplice-incoming/", "refs/notes/ksplice-merge",
    ]

    mutating func add(
        _ code: StorageProblem.Code, _ subject: String, _ message: String, hint: String
    ) {
        // A failure's further lines are details.
        let line = message.split(separator: "\n").first.map { String($0) } ?? message
        problems.append(StorageProblem(code: code, subject: subject, message: line, hint: hint))
    }

    /// Everything that is wrong, or what is wrong with some refs.
    ///
    /// - Parameter only: full names of refs. With them, neither notes nor the folder of state are looked at unless named.
    public mutating func run(only: [String]? = nil) async throws -> [StorageProblem] {
        problems = []
        try await readReferences()
        if let only { problems.removeAll { !only.contains($0.subject) } }
        let chosen = refs.keys.sorted().filter { only?.contains($0) ?? true }
        for ref in chosen where ref.hasPrefix(UpdateStore.prefix) { try await checkUpdate(ref) }
        for ref in chosen where ref.hasPrefix(KernelStore.prefix) { checkKernel(ref) }
        if only == nil { checkKernelsTogether() }
        for ref in chosen where ref == TrustChain.ref { try await checkTrust(ref) }
        for ref in chosen where ref.hasPrefix(ChannelName.prefix) { try await checkChannel(ref) }
        for ref in chosen where ref.hasPrefix(Self.notes) { checkNotes(ref) }
        if only == nil { compareNotes() }
        for ref in chosen { checkPlace(ref) }
        for update in manifests.keys.sorted() { checkGrounds(of: update) }
        if only == nil {
            try await checkFormat()
            if !isHost { try await checkState() }
        }
        return problems
    }

    /// The refs that arguments mean: full names, or updates in any way to name one.
    public func refs(_ specs: [String]) async throws -> [String] {
        let all = try await Self.list(repository).values
        var found: [String] = []
        for spec in specs {
            if spec.hasPrefix("refs/") {
                let below = all.keys.filter {
                    $0 == spec || $0.hasPrefix(spec.hasSuffix("/") ? spec : spec + "/")
                }
                guard !below.isEmpty else { throw Failure("no such ref: '\(spec)'", status: .notFound) }
                found += below
                continue
            }
            // First by the refs' names alone: a damaged update must be found, too.
            let digits = (spec.hasPrefix("ksplice-") ? String(spec.dropFirst(8)) : spec).lowercased()
            let named = all.keys.filter {
                $0.hasPrefix(UpdateStore.prefix) && digits.count >= 4
                    && $0.lastPathComponent.hasPrefix(digits)
            }
            if named.isEmpty {
                found += try await UpdateStore(repository).findAll(spec).map(\.ref)
            } else {
                found += named
            }
        }
        return found
    }
}

// MARK: - Refs

extension StorageCheck {
    /// The project's refs with what they name, and those that git cannot read or that name other refs.
    private static func list(_ repository: Repository) async throws -> (
        values: [String: String], symbolic: [String: String], broken: [String]
    ) {
        let places = [
            "refs/ksplice/", local, notes, "refs/ksplice-incoming/", "refs/notes/ksplice-incoming/",
            "refs/notes/ksplice-merge",
        ]
        let result = try await repository.git(
            ["for-each-ref", "--format=%(objectname) %(refname) %(symref)"] + places
        ).check("cannot read refs")
        var values: [String: String] = [:]
        var symbolic: [String: String] = [:]
        for line in result.text.lines {
            let fields = line.split(separator: " ").map { String($0) }
            guard fields.count >= 2 else { continue }
            values[fields[1]] = fields[0]
            if fields.count > 2 { symbolic[fields[1]] = fields[2] }
        }
        let broken = result.errorText.lines.compactMap { line -> String? in
            guard line.contains("broken ref"), let name = line.split(separator: " ").last else { return nil }
            return String(name)
        }
        return (values, symbolic, broken)
    }

    /// Refs that git leaves out where it lists them, or that are other names.
    mutating func unreadableRefs() async throws -> [String] {
        try await readReferences()
        return problems.filter { [.refBroken, .refSymbolic].contains($0.code) }.map(\.subject)
    }

    private mutating func readReferences() async throws {
        let listed = try await Self.list(repository)
        refs = listed.values
        stored = Set(
            refs.keys.filter { $0.hasPrefix(UpdateStore.prefix) }.map {
                String($0.lastPathComponent.prefix(12))
            })
        for (ref, target) in listed.symbolic.sorted(by: { $0.key < $1.key }) {
            add(
                .refSymbolic, ref, "it is another name of '\(target)', and moves with that",
                hint: "git symbolic-ref -d \(ref); then fetch it or make it again")
        }
        var broken = Set(listed.broken)
        var locks: [String] = []
        // Where git keeps refs in files, those that it passes over without a word are found, too.
        for place in ["refs/ksplice", "refs/ksplice-local", "refs/notes/ksplice"] {
            for file in try files(below: repository.commonDirectory + "/" + place) {
                let ref = String(file.dropFirst(repository.commonDirectory.count + 1))
                if ref.hasSuffix(".lock") {
                    locks.append(ref)
                } else if refs[ref] == nil {
                    broken.insert(ref)
                }
            }
        }
        for ref in broken.sorted() {
            add(
                .refBroken, ref, "it names no object",
                hint: "remove the file '\(repository.commonDirectory)/\(ref)', then fetch it or make it again"
            )
        }
        if Files.exists(repository.commonDirectory + "/packed-refs.lock") { locks.append("packed-refs.lock") }
        for file in locks.sorted() where age(repository.commonDirectory + "/" + file) > Self.longestLock {
            add(
                .refLock, file, "a process that was killed has left its lock",
                hint: "if no git is at work here: rm '\(repository.commonDirectory)/\(file)'")
        }
    }

    /// No command holds one for so many seconds.
    private static let longestLock: Int64 = 600

    /// Whether a ref stands where the project has refs.
    private mutating func checkPlace(_ ref: String) {
        if Self.passing.contains(where: { ref.hasPrefix($0) }) {
            add(
                .refLeftover, ref, "an interrupted command has left it, or one is at work",
                hint: "the next fetch, pull or publish removes it")
        } else if ref.hasPrefix(ChannelMark.prefix) {
            let update = UpdateStore.prefix + ref.dropFirst(ChannelMark.prefix.count)
            if refs[update] != refs[ref] {
                add(
                    .localStale, ref, "it says that '\(update)' was signed anew, which names something else",
                    hint: "git update-ref -d \(ref)")
            }
        } else if !isKnown(ref) {
            add(
                .refUnknown, ref, "nothing of git ksplice stands there",
                hint: "it is of a newer git ksplice, or: git update-ref -d \(ref)")
        }
    }

    private func isKnown(_ ref: String) -> Bool {
        if ref == TrustChain.ref || ref == UpdateStore.peopleNotes || ref == UpdateStore.programNotes {
            return true
        }
        return [UpdateStore.prefix, KernelStore.prefix, ChannelName.prefix].contains { ref.hasPrefix($0) }
    }

    private mutating func checkFormat() async throws {
        let key = "ksplice.repositoryFormatVersion"
        guard let version = try await repository.config(key), version != "1" else { return }
        add(
            .formatUnknown, key, "this repository has the format \(version), which is not known",
            hint: "install a newer git ksplice")
    }
}

// MARK: - Objects

extension StorageCheck {
    /// A file below a commit. What could not be read has no digest; that was told then.
    struct FoundFile {
        var size = 0
        var digest: String?
        /// Of files that are wanted.
        var bytes: [UInt8]?
    }

    /// How damaged and missing objects come back.
    private func again(_ ref: String) -> String {
        "get it from a repository that has it: git fetch --refetch REMOTE +\(ref):\(ref)"
    }

    /// An object that must be there and of a kind; nil where it is not, which was told.
    mutating func object(_ id: String, kind: String, as what: String, of ref: String) -> [UInt8]? {
        let found: InspectedObject
        do { found = try repository.inspect(id) } catch { found = .corrupt(Failure(error).message) }
        switch found {
        case .missing: add(.objectMissing, ref, "\(what) (\(id.prefix(12))) is missing", hint: again(ref))
        case .corrupt(let words):
            add(.objectCorrupt, ref, "\(what) (\(id.prefix(12))) is damaged: \(words)", hint: again(ref))
        case .intact(kind: kind, let bytes): return bytes
        case .intact(let other, _):
            add(.objectKind, ref, "\(what) (\(id.prefix(12))) is a \(other), not a \(kind)", hint: again(ref))
        }
        return nil
    }

    /// The commit at a ref, or below one; nil where it cannot be read, which was told.
    mutating func commit(_ id: String, of ref: String) -> SignedCommit? {
        guard let bytes = object(id, kind: "commit", as: "its commit", of: ref) else { return nil }
        do { return try SignedCommit(id: id, parsing: bytes, format: repository.format) } catch {
            add(.objectCorrupt, ref, Failure(error).message, hint: again(ref))
            return nil
        }
    }

    /// All files of a tree by path; what is wrong below it is told, and folders that cannot be read are in `lost`. Nil where the
    /// tree itself cannot be read.
    mutating func files(_ tree: String, of ref: String, keeping wanted: (String) -> Bool) -> [String:
        FoundFile]?
    {
        var files: [String: FoundFile] = [:]
        var folders = [(tree, "")]
        lost = []
        while let (id, prefix) = folders.popLast() {
            let what = prefix.isEmpty ? "its tree" : "the folder '\(prefix.dropLast())'"
            guard let bytes = object(id, kind: "tree", as: what, of: ref),
                let entries = entries(ofTree: bytes)
            else {
                if prefix.isEmpty { return nil }
                lost.append(prefix)
                continue
            }
            for entry in entries {
                let path = prefix + entry.text
                // Not in the way of old programs: what is stored here is new.
                if entry.mode == TreeEntry.folder {
                    folders.append((entry.id, path + "/"))
                } else if entry.isPlainFile {
                    files[path] = file(entry.id, path, of: ref, isWanted: wanted(path))
                } else {
                    add(.objectKind, ref, "'\(path)' is neither file nor folder", hint: again(ref))
                    files[path] = FoundFile()
                }
            }
        }
        return files
    }

    /// Nil for bytes that are no tree.
    private func entries(ofTree bytes: [UInt8]) -> [TreeEntry]? {
        do { return try TreeObject(parsing: bytes, format: repository.format).entries } catch { return nil }
    }

    private mutating func file(_ id: String, _ path: String, of ref: String, isWanted: Bool) -> FoundFile {
        if !isWanted, let known = blobs[id] { return FoundFile(size: known.size, digest: known.digest) }
        guard let bytes = object(id, kind: "blob", as: "the file '\(path)'", of: ref) else {
            return FoundFile()
        }
        let digest = sha256(bytes)
        blobs[id] = (bytes.count, digest)
        return FoundFile(size: bytes.count, digest: digest, bytes: isWanted ? bytes : nil)
    }
}
