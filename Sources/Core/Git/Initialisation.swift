// `git ksplice init` and its undo. What is set is recorded in the repository's configuration before it is set
// (`ksplice.set`), so that undo takes away exactly that, also after an interruption, and never what the user set.

import Glibc

/// Prepares a repository: `git log` shows updates, and notes follow rewritten commits.
public struct Initialisation: Sendable {
    /// One thing that was looked at.
    public struct Step: Sendable, Equatable {
        /// A line for people, such as `set notes.rewriteMode=cat_sort_uniq`.
        public var text: String
        /// Whether something was changed; otherwise it was left alone.
        public var changed: Bool
    }

    public let repository: Repository
    static let record = "ksplice.set"
    /// Keys with many values get ours besides the others.
    static let added = [
        ("notes.displayRef", UpdateStore.peopleNotes + "*"), ("notes.rewriteRef", "refs/notes/ksplice/*"),
        ("log.excludeDecoration", "refs/ksplice/*"),
    ]

    public init(_ repository: Repository) { self.repository = repository }

    /// Sets what is not set yet. Doing it again changes nothing.
    public func run() async throws -> [Step] {
        var steps: [Step] = []
        let rewrites = try await repository.configAll("notes.rewriteRef")
        for (key, value) in Self.added {
            if try await repository.configAll(key).contains(value) {
                steps.append(.init(text: "\(key)=\(value) is set already", changed: false))
            } else {
                try await set(key, value)
                steps.append(.init(text: "set \(key)=\(value)", changed: true))
            }
        }
        // The mode is for all notes: it is not changed under notes of the user's own that already follow.
        let others = rewrites.contains { !$0.hasPrefix("refs/notes/ksplice/") }
        for (key, value) in [
            ("notes.rewriteMode", "cat_sort_uniq"), ("ksplice.repositoryFormatVersion", "1"),
        ] {
            let present = try await repository.config(key)
            if let present {
                steps.append(.init(text: "\(key)=\(present) is set already", changed: false))
            } else if key == "notes.rewriteMode" && others {
                steps.append(.init(text: "\(key) left alone: other notes are rewritten too", changed: false))
            } else {
                try await set(key, value)
                steps.append(.init(text: "set \(key)=\(value)", changed: true))
            }
        }
        let folder = repository.stateDirectory
        if !Files.isDirectory(folder) {
            try Files.createDirectory(folder)
            steps.append(.init(text: "created \(folder)", changed: true))
        }
        return steps
    }

    private func set(_ key: String, _ value: String) async throws {
        let entry = "\(key)=\(value)"
        if try await !repository.configAll(Self.record, local: true).contains(entry) {
            try await repository.addConfig(Self.record, entry)
        }
        try await repository.addConfig(key, value)
    }

    /// Whether git takes the notes of updates along when it rewrites a commit.
    public func keepsNotes() async throws -> Bool {
        let notes = UpdateStore.programNotes
        return try await repository.configAll("notes.rewriteRef").contains { pattern in
            pattern == notes || pattern.hasSuffix("*") && notes.hasPrefix(pattern.dropLast())
        }
    }

    /// Takes back what `run` set. Updates, kernels and their notes stay, and so does the state folder unless it is
    /// empty; `everything` removes them too, all refs in one transaction.
    public func undo(everything: Bool = false) async throws -> [Step] {
        var steps: [Step] = []
        for entry in try await repository.configAll(Self.record, local: true) {
            guard let equals = entry.firstIndex(of: "=") else { continue }
            let (key, value) = (String(entry[..<equals]), String(entry[entry.index(after: equals)...]))
            if try await repository.unsetConfig(key, value) {
                steps.append(.init(text: "unset \(key)=\(value)", changed: true))
            } else {
                steps.append(.init(text: "\(key)=\(value) is gone already", changed: false))
            }
            try await repository.unsetConfig(Self.record, entry)
        }
        steps += try await undoReferences(everything: everything)
        let folder = repository.stateDirectory
        if everything, Files.exists(folder) {
            try Files.remove(folder)
            steps.append(.init(text: "removed \(folder)", changed: true))
        } else if rmdir(folder) == 0 {
            steps.append(.init(text: "removed the empty folder \(folder)", changed: true))
        } else if Files.exists(folder) {
            steps.append(.init(text: "kept \(folder): it is not empty", changed: false))
        }
        return steps
    }

    private func undoReferences(everything: Bool) async throws -> [Step] {
        let places = ["refs/ksplice/", "refs/ksplice-local/", "refs/notes/ksplice/"]
        let present = try await repository.references(places)
        if present.isEmpty { return [] }
        let what = present.count == 1 ? "1 ref" : "\(present.count) refs"
        guard everything else {
            return [.init(text: "kept \(what) under refs/ksplice and refs/notes/ksplice", changed: false)]
        }
        try await repository.deleteReferences(places, reason: "ksplice: init --undo")
        return [.init(text: "deleted \(what) under refs/ksplice and refs/notes/ksplice", changed: true)]
    }
}
