// What a change is, wherever it stands: the files that it touches and `git patch-id --stable`, which ignores line
// numbers and white space. A rebased or picked commit keeps it as long as its lines and their neighbours are the same.
//
// It finds candidates and proves nothing: what counts is whether the commit, merged onto an update's source tree,
// gives the update's tree.

/// A change without its place.
struct ChangeIdentity: Sendable, Equatable {
    /// The lines `diff --git ...` of its patch, in their order.
    var files: [String]
    var patchID: String
}

extension Repository {
    /// The identities of commits' changes against their only parents. Merges, root commits and empty ones have none.
    func identities(of commits: [String]) async throws -> [String: ChangeIdentity] {
        if commits.isEmpty { return [:] }
        let patches = try await git(
            Self.patchConfiguration + ["diff-tree", "--stdin"] + Self.patchFormat,
            environment: Self.patchEnvironment,
            input: Array((commits.joined(separator: "\n") + "\n").utf8)
        ).check("cannot compare commits with their parents")
        return try await identities(patches: patches.output)
    }

    /// The identities of patches, each behind a line with the name that it is to have: that of an object.
    func identities(patches: [UInt8]) async throws -> [String: ChangeIdentity] {
        var found: [String: ChangeIdentity] = [:]
        let said = try await git(["patch-id", "--stable"], input: patches).check("cannot identify patches")
        for line in said.text.lines {
            let fields = line.split(separator: " ").map(String.init)
            if fields.count == 2 { found[fields[1]] = ChangeIdentity(files: [], patchID: fields[0]) }
        }
        var name = ""
        let opening = Array("diff --git ".utf8)
        for line in patches.split(separator: UInt8(ascii: "\n")) {
            if line.starts(with: opening) {
                found[name]?.files.append(String(decoding: line, as: UTF8.self))
            } else if ObjectFormat.isName(line) {
                name = String(decoding: line, as: UTF8.self)
            }
        }
        return found
    }
}

/// Updates of a commit that was not named when they were made.
struct Resemblance: Sendable, Equatable {
    /// The commit makes exactly these updates' change to their source.
    var same: [StoredUpdate] = []
    /// They were made from another version of it: git's notes lead to them, or the same lines change, and the trees differ.
    var other: [StoredUpdate] = []
}

extension UpdateStore {
    /// The updates that were made from other versions of commits, or make the same change. Commits without any are left out.
    func resemblances(of commits: [String], among updates: [StoredUpdate]) async throws
        -> [String: Resemblance]
    {
        if commits.isEmpty || updates.isEmpty { return [:] }
        let wanted = try await repository.identities(of: commits)
        let noted = try await noted(commits, among: updates)
        let known = try await identities(of: updates)
        var found: [String: Resemblance] = [:]
        for commit in commits {
            let notes = noted[commit] ?? []
            let identity = wanted[commit]
            let candidates = updates.filter { update in
                notes.contains(update) || identity != nil && known[update.commit]?.files == identity?.files
            }
            if candidates.isEmpty { continue }
            let change = try repository.change(commit: commit)
            var resemblance = Resemblance()
            for update in candidates {
                if makes(change, update) {
                    resemblance.same.append(update)
                } else if notes.contains(update) || known[update.commit]?.patchID == identity?.patchID {
                    resemblance.other.append(update)
                }
            }
            if resemblance != Resemblance() { found[commit] = resemblance }
        }
        return found
    }

    /// The identities of updates' changes, by the commits that hold the updates. The same change of the same source, for another
    /// build of it, is looked at once.
    private func identities(of updates: [StoredUpdate]) async throws -> [String: ChangeIdentity] {
        var patches: [UInt8] = []
        var named: [[String]: String] = [:]
        for update in updates where named[[update.preTree, update.postTree]] == nil {
            // A damaged update resembles nothing.
            let tree = try repository.tree(of: update.commit, as: .stored)
            guard let patch = try repository.blob(Update.Path.patch, tree: tree, as: .stored) else {
                continue
            }
            named[[update.preTree, update.postTree]] = update.commit
            patches += Array((update.commit + "\n").utf8) + patch
        }
        let found = try await repository.identities(patches: patches)
        let all = updates.compactMap { update in
            named[[update.preTree, update.postTree]].flatMap { found[$0] }.map { (update.commit, $0) }
        }
        return Dictionary(all, uniquingKeysWith: { first, _ in first })
    }

    /// The updates that notes beside commits name. Notes go with a commit that is rewritten, whatever becomes of it: they
    /// prove nothing. Commits without any are left out.
    private func noted(_ commits: [String], among all: [StoredUpdate]) async throws
        -> [String: [StoredUpdate]]
    {
        guard try await repository.references([Self.programNotes])[Self.programNotes] != nil else {
            return [:]
        }
        let listed = try await repository.git(
            ["notes", "--ref=" + Self.programNotes, "list"], environment: Repository.asStored
        ).check("cannot list notes")
        let annotated = Set(listed.text.lines.compactMap { $0.split(separator: " ").last.map(String.init) })
        var found: [String: [StoredUpdate]] = [:]
        for commit in commits where annotated.contains(commit) {
            let lines = try await repository.noteLines(Self.programNotes, commit: commit)
            let updates = all.filter { update in lines.contains { $0.contains("\"\(update.ref)\"") } }
            if !updates.isEmpty { found[commit] = updates }
        }
        return found
    }

    /// Whether a change, made to the source of an update, gives the update's tree. One that does not fit does not.
    private func makes(_ change: Change, _ update: StoredUpdate) -> Bool {
        do { return try repository.postTree(change, preTree: update.preTree) == update.postTree } catch {
            return false
        }
    }
}
