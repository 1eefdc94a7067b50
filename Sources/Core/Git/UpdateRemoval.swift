// Removing updates: their refs, the marks of this clone about them, and the lines of notes that name them go in one
// transaction. Lines go wherever they are: notes follow a commit that is amended or rebased, and stand beside both then. They may
// come back with somebody else's notes; a line about an update that is not there is passed over. The objects stay until git
// collects garbage.

extension UpdateStore {
    /// Removes updates, damaged ones, too.
    ///
    /// - Parameter unmoved: refs on whose values it depends that these may go; where one is another one now, nothing is
    ///   removed, and the failure is `busy`.
    public func remove(_ updates: [StoredUpdate], unmoved: [String: String] = [:]) async throws {
        if updates.isEmpty { return }
        let identity = try await repository.identity()
        let marks = updates.map { ChannelMark.ref(of: $0.ref) }
        let notes = [Self.peopleNotes, Self.programNotes]
        let what = updates.count == 1 ? updates[0].id : "\(updates.count) updates"
        let remaining = try await list().filter { stored in !updates.contains { $0.ref == stored.ref } }
        try await repository.changeReferences(
            updates.map(\.ref) + marks + notes + unmoved.keys, reason: "ksplice: remove \(what)"
        ) { now in
            for (ref, value) in unmoved where now[ref] != value {
                throw Failure("'\(ref)' was changed meanwhile", status: .busy, hint: "try again")
            }
            var changes: [ReferenceUpdate] = []
            // Notes first: whoever is killed between git's own steps leaves an update without its line, and no line without
            // its update.
            for ref in notes {
                let lines = try lines(of: updates, among: now[ref], keeping: remaining)
                let tip = try repository.notesCommit(
                    after: now[ref], lines, message: "ksplice: remove \(what)", identity: identity)
                if tip != now[ref] { changes.append(.init(name: ref, new: tip, old: now[ref])) }
            }
            let gone = now.filter { value in
                marks.contains(value.key) || updates.contains { $0.ref == value.key }
            }
            let fixed = unmoved.sorted { $0.key < $1.key }.map {
                ReferenceUpdate(name: $0.key, new: $0.value, old: $0.value)
            }
            return changes + ReferenceUpdate.deletions(of: gone) + fixed
        }
    }

    /// The lines that name some updates and none that stays.
    private func lines(
        of updates: [StoredUpdate], among tip: String?, keeping remaining: [StoredUpdate]
    ) throws -> [NoteLine] {
        guard let tip else { return [] }
        let ids = Set(updates.map(\.id))
        let short = Set(ids.map { $0.prefix(12) }).subtracting(remaining.map { $0.id.prefix(12) })
        return try repository.allNotes(at: tip).flatMap { commit, lines in
            lines.filter { line in
                if let named = Self.update(ofPeopleLine: line) { return short.contains(named[...]) }
                guard line.hasPrefix("{"), let id = Self.update(ofProgramLine: line) else { return false }
                return ids.contains(id)
            }.map { NoteLine(commit: commit, line: $0, isRemoval: true) }
        }
    }

    /// The digits by which a line for people names an update; nil for anybody else's line.
    static func update(ofPeopleLine line: some StringProtocol) -> String? {
        guard let match = String(line).firstMatch(of: /^\S* ?\([\w-]+\): update ([0-9a-f]*)(, |$)/) else {
            return nil
        }
        return String(match.1)
    }

    /// The identity that a line for programs names; nil for one that cannot be read.
    private static func update(ofProgramLine line: String) -> String? {
        do { return try JSON(parsing: line)["update"]?.string } catch { return nil }
    }
}

/// Marks of this clone about updates, as `ChannelStore` makes them.
enum ChannelMark {
    /// Of this clone alone: which updates were signed anew, because their signatures count no more.
    static let prefix = "refs/ksplice-local/anew/"

    static func ref(of update: String) -> String { prefix + update.dropFirst(UpdateStore.prefix.count) }
}

extension Repository {
    /// All lines of a notes commit, by the object that they stand beside.
    func allNotes(at tip: String) throws -> [(commit: String, lines: [String])] {
        try files(tree: tree(of: tip)).sorted { $0.key < $1.key }.map { path, content in
            (
                path.split(separator: "/").joined(),
                String(decoding: content, as: UTF8.self).lines.map { String($0) }
            )
        }
    }

    /// The moment that a text means, as git reads it where something expires: `3.months`, `2026-11-01`, `now`, `never`. Seconds
    /// since 1970.
    public func moment(_ text: String) async throws -> Int64 {
        let result = try await git([
            "-c", "ksplice.moment=" + text, "config", "--type=expiry-date", "--get", "ksplice.moment",
        ]).run()
        guard result.succeeded, let seconds = UInt64(result.text.trimmed) else {
            throw Failure(
                "'\(text)' is no moment", status: .usage,
                hint: "for example 3.months, 2.weeks, 2026-11-01, never")
        }
        return Int64(clamping: seconds)
    }
}
