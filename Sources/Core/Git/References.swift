// Refs: read with one call, changed in one transaction of the git program. libgit2's transactions are applied one
// by one and can stop half way; git's take all locks first and change nothing where one old value is not as told.

/// A change of one ref. nil as new value deletes it; nil as old value means that it must not exist.
struct ReferenceUpdate: Sendable {
    var name: String
    var new: String?
    var old: String?
}

extension ReferenceUpdate {
    /// Deletes refs that have these values, in the order of their names.
    static func deletions(of values: [String: String]) -> [Self] {
        values.sorted { $0.key < $1.key }.map { Self(name: $0.key, new: nil, old: $0.value) }
    }
}

extension Repository {
    /// The objects that refs name; what does not exist is left out.
    func references(_ names: [String]) async throws -> [String: String] {
        let result = try await git(["for-each-ref", "--format=%(objectname) %(refname)"] + names)
            .check("cannot read refs")
        var values: [String: String] = [:]
        for line in result.text.lines {
            let fields = line.split(separator: " ", maxSplits: 1)
            if fields.count == 2 { values[String(fields[1])] = String(fields[0]) }
        }
        return values
    }

    /// Makes all changes or none.
    func updateReferences(_ updates: [ReferenceUpdate], reason: String) async throws {
        if updates.isEmpty { return }
        var script = "start\n"
        for update in updates {
            switch (update.new, update.old) {
            case (let new?, let old?): script += "update \(update.name) \(new) \(old)\n"
            case (let new?, nil): script += "create \(update.name) \(new)\n"
            case (nil, let old?): script += "delete \(update.name) \(old)\n"
            case (nil, nil): script += "verify \(update.name)\n"
            }
        }
        script += "prepare\ncommit\n"
        let result = try await git(["update-ref", "-m", reason, "--stdin"], input: [UInt8](script.utf8)).run()
        guard result.succeeded else { throw Failure("cannot update refs: \(Self.words(of: result))") }
    }

    /// Deletes all refs of some places.
    func deleteReferences(_ places: [String], reason: String) async throws {
        try await changeReferences(places, reason: reason) { ReferenceUpdate.deletions(of: $0) }
    }

    /// Makes changes that depend on what refs are now: `plan` gets their values and says what to change. Where
    /// another process was faster, the plan is made again.
    func changeReferences(
        _ names: [String], reason: String, plan: ([String: String]) throws -> [ReferenceUpdate]
    ) async throws {
        var last = Failure("cannot update refs")
        for attempt in 0..<30 {
            let before = try await references(names)
            do {
                return try await updateReferences(plan(before), reason: reason)
            } catch let failure as Failure {
                let moved = try await references(names) != before
                guard moved || failure.message.contains(".lock") else { throw failure }
                last = failure
            }
            let pause = Int.random(in: 2...20) * (1 + attempt / 4)
            try await Task.sleep(for: .milliseconds(pause))
        }
        last.status = .busy
        last.hints = ["git ksplice fsck tells whether a process that was killed has left its lock"]
        throw last
    }
}
