// Reversing updates, and telling which are applied.

import Glibc

/// An update that is loaded on a host.
public struct LoadedUpdate: Sendable {
    public let id: String
    /// `loaded`, `applied`, `undone`; `partial` where a command was interrupted that had a part wait for a module.
    public let state: String
    /// Modules that are not loaded, whose parts of the update wait for them.
    public let waiting: [String]
    /// What is loaded of it, in the order of loading.
    let parts: [HostRecords.Record]
    /// Whether anything of it is in effect.
    public var isInEffect: Bool { state == "applied" || state == "partial" }
    public let functions: [String]
    /// Nanoseconds that the machine stood still for the last change.
    public let pause: Int
    /// From the host's journal; empty where it knows nothing of it.
    public let description: String
    /// Functions of an applied update that the kernel's own live patching replaces, too, with the live patch: its handler
    /// stands in front of the redirect, so its code runs and the update's does not.
    public var overridden: [(function: String, livePatch: String)] = []

    public var json: JSON {
        .object([
            ("update", .string(id)), ("state", .string(state)), ("functions", .strings(functions)),
            ("pause_ns", .number(pause)),
            ("description", .string(description)), ("waiting", .strings(waiting)),
            (
                "overridden",
                .array(
                    overridden.map {
                        .object([("function", .string($0.function)), ("live_patch", .string($0.livePatch))])
                    })
            ),
        ])
    }
}

extension LoadedUpdate {
    /// The steps of a pause that undoes it: a part before those that it refers to.
    var undoSteps: [Transition.Step] {
        parts.reversed().filter { $0.state == "applied" }.map {
            Transition.Step(id: $0.id, whole: id, isUndo: true)
        }
    }
}

public struct UndoReport: Sendable {
    public let id: String
    public let pause: Int
    public let tries: Int
    /// Whether the update's module is gone, too. It stays, inert, where the kernel may still hold addresses in it.
    public let unloaded: Bool

    /// As git-ksplice-undo(1) describes it.
    public var json: JSON {
        .object([
            ("v", .number(1)), ("update", .string(id)), ("done", .bool(true)), ("pause_ns", .number(pause)),
            ("tries", .number(tries)), ("unloaded", .bool(unloaded)),
        ])
    }
}

public struct HostUpdates: Sendable {
    let host: any Host & Sendable
    private let journal: String
    public var patience = Patience()
    /// As for `Applier`.
    public var late: LateUpdates?
    public var cause = JournalEvent.Cause.command

    public init(host: any Host & Sendable, journal: String = LocalHost.journalPath) {
        self.host = host
        self.journal = journal
    }

    /// All updates, in the order of loading; those that only wait come last.
    public func all() async throws -> [LoadedUpdate] {
        let descriptions = try await journalDescriptions()
        let order = try await host.modules().map(\.name).reversed().enumerated()
        let position = Dictionary(order.map { ($0.element, $0.offset) }) { first, _ in first }
        let livePatches = try await host.livePatches()
        let records = try await HostRecords(host)
        func place(_ record: HostRecords.Record) -> Int {
            position[Applier.moduleName(record.id)] ?? 0
        }
        var updates: [LoadedUpdate] = []
        for id in records.updates {
            let parts = records.of(id).sorted { place($0) < place($1) }
            var functions: [String] = []
            var pause = 0
            for part in parts {
                let sysfs = UpdateSysfs(host: host, id: part.id)
                functions += try await sysfs.functions()
                pause = try await sysfs.number("pause_ns")
            }
            var update = LoadedUpdate(
                id: id, state: isPartial(id, records) ? "partial" : records.state(of: id) ?? "loaded",
                waiting: stillAwaited(by: id, records), parts: parts, functions: functions,
                pause: pause, description: descriptions[id] ?? "")
            for (patch, functions) in livePatches.sorted(by: { $0.key < $1.key }) where update.isInEffect {
                update.overridden += update.functions.filter(functions.contains).map { ($0, patch) }
            }
            updates.append(update)
        }
        // Stable: those that wait keep the order in which they were asked for.
        return updates.enumerated().sorted { a, b in
            let (x, y) = (a.element.parts.first.map(place), b.element.parts.first.map(place))
            return (x ?? Int.max, a.offset) < (y ?? Int.max, b.offset)
        }.map(\.element)
    }

    /// The modules that an update waits for and that have not got their parts.
    private func stillAwaited(by id: String, _ records: HostRecords) -> [String] {
        let awaited = records.modules(awaitedBy: id)
        // Without its archive nothing more can be told.
        guard !awaited.isEmpty, let parts = try? late?.update(id).parts() else { return awaited }
        let applied = Set(records.of(id).filter { $0.state == "applied" }.map(\.id))
        let done = Set(parts.filter { applied.contains($0.id) }.compactMap(\.home))
        return awaited.filter { !done.contains($0) }
    }

    /// Whether a part of an update neither is applied nor waits. Only of those that wait it is known which parts they have.
    private func isPartial(_ id: String, _ records: HostRecords) -> Bool {
        let awaited = Set(records.modules(awaitedBy: id))
        // Without its archive nothing more can be told.
        guard !awaited.isEmpty, let parts = try? late?.update(id).parts() else { return false }
        let applied = Set(records.of(id).filter { $0.state == "applied" }.map(\.id))
        return parts.contains { part in
            !applied.contains(part.id) && !(part.home.map { awaited.contains($0) } ?? false)
        }
    }

    /// The loaded update that an identity, or an unambiguous start of one, names.
    public func find(_ spec: String) async throws -> LoadedUpdate? {
        let wanted = spec.hasPrefix("ksplice-") ? String(spec.dropFirst(8)) : spec
        guard wanted.count >= 4, wanted.allSatisfy(\.isHexDigit) else { return nil }
        let found = try await all().filter { $0.id.hasPrefix(wanted) }
        guard found.count <= 1 else {
            throw Failure(
                "'\(spec)' is ambiguous: " + found.map { String($0.id.prefix(12)) }.joined(separator: ", "))
        }
        return found.first
    }

    /// Gives the old code back.
    public func undo(_ update: LoadedUpdate, progress: Progress) async throws -> UndoReport {
        guard let late, geteuid() == 0 else { return try await undoAlone(update, progress) }
        return try await late.locked { try await undoAlone(update, progress) }
    }

    private func undoAlone(_ known: LoadedUpdate, _ progress: Progress) async throws -> UndoReport {
        // A module may have come, and got its part, while we waited for our turn.
        guard let update = try await all().first(where: { $0.id == known.id }) else {
            throw Failure(
                "update \(known.id.prefix(12)) is not applied", status: .no, hint: "git ksplice status")
        }
        let leaving = try await leaving(update)
        guard update.isInEffect else {
            // What an interrupted command has left is taken away.
            for part in leaving.reversed() where part.mayGo {
                try await refuseUsed(update)
                try await host.unload(module: Applier.moduleName(part.id))
            }
            throw Failure(
                "update \(update.id.prefix(12)) is not applied", status: .no, hint: "git ksplice status")
        }
        try await refuseUsed(update)
        try await refuseAwaited(update)
        let steps = update.undoSteps
        let (pause, tries) = try await Transition(host, steps, patience).make(progress: progress.step)
        return try await finish(update, leaving, pause, tries, progress)
    }

    /// A module of an update that is undone, and whether it can be unloaded then.
    struct Leaving {
        var id: String
        var mayGo: Bool
    }

    /// Asked before undo. A resident module can go only if it was never applied.
    func leaving(_ update: LoadedUpdate) async throws -> [Leaving] {
        var result: [Leaving] = []
        for part in update.parts {
            let isResident = try await UpdateSysfs(host: host, id: part.id).number("resident") != 0
            result.append(
                Leaving(id: part.id, mayGo: !isResident || part.state == "loaded" || part.state == "lost"))
        }
        return result
    }

    /// ksplice.ko keeps in order what is loaded; it does not know what that which waits was made on.
    func refuseAwaited(_ update: LoadedUpdate, undoing others: Set<String> = []) async throws {
        guard let late else { return }
        for id in Set(try await HostRecords(host).awaited.map(\.update)) where id != update.id {
            // An archive that is gone says nothing; the module is refused then, and undo is the way out.
            guard !others.contains(id), let waiting = try? late.update(id),
                waiting.manifest.depends.contains(update.id)
            else { continue }
            throw Failure(
                "update \(id.prefix(12)), which waits for a module, was made on update \(update.id.prefix(12))",
                status: .busy, hint: "git ksplice undo \(id.prefix(12))")
        }
    }

    /// What comes after the pause: the journal, and the modules, which go if they may.
    func finish(
        _ update: LoadedUpdate, _ leaving: [Leaving], _ pause: Int, _ tries: Int,
        _ progress: Progress
    ) async throws -> UndoReport {
        do {
            try await host.appendToJournal(
                JournalLine.text(
                    "undo",
                    [
                        ("update", .string(update.id)), ("pause_ns", .number(pause)),
                        ("tries", .number(tries)), ("cause", .string(cause.rawValue)),
                    ]))
        } catch { progress.warn("the update is undone, but the journal cannot be written: \(error)") }
        try await late?.forget(update.id)
        var areGone = true
        for part in leaving.reversed() {
            let isGone = part.mayGo ? try await unload(part.id, progress) : false
            areGone = areGone && isGone
        }
        return UndoReport(id: update.id, pause: pause, tries: tries, unloaded: areGone)
    }

    /// Fails where a module uses an export of the update: it would go on with what the old code knows nothing of. Other
    /// updates are no such users.
    func refuseUsed(_ update: LoadedUpdate) async throws {
        let names = Set(update.parts.map { Applier.moduleName($0.id) })
        let users = try await host.modules().filter { names.contains($0.name) }.flatMap(\.users)
        let others = users.filter { !$0.hasPrefix("ksplice_") }.sorted()
        guard !others.isEmpty else { return }
        throw Failure(
            "update \(update.id.prefix(12)) exports symbols that are used by \(others.map { "'\($0)'" }.joined(separator: ", "))",
            status: .busy, hint: "rmmod \(others.joined(separator: " "))")
    }

    /// Whether the module is gone. It stays where another update, which may itself be inert, refers to it.
    private func unload(_ id: String, _ progress: Progress) async throws -> Bool {
        do { try await host.unload(module: Applier.moduleName(id)) } catch let failure as Failure
            where failure.status == .busy
        {
            progress.warn(failure.message)
            return false
        }
        return true
    }

    /// The commits that each update of the journal was made of.
    func journalCommits() async throws -> [String: [String]] {
        try await journalLast { $0["commits"]?.array?.compactMap(\.string) }
    }

    /// What the journal's lines say of each update.
    private func journalDescriptions() async throws -> [String: String] {
        try await journalLast { $0["description"]?.string }
    }

    /// What the last line that has something of it says of each update. A line that was not written to its end says nothing.
    private func journalLast<Value>(_ read: (JSON) -> Value?) async throws -> [String: Value] {
        guard try await host.exists(journal) else { return [:] }
        let text = String(decoding: try await host.read(journal), as: UTF8.self)
        var result: [String: Value] = [:]
        for line in text.lines {
            let event: JSON
            do { event = try JSON(parsing: String(line)) } catch { continue }
            if let id = event["update"]?.string, let value = read(event) { result[id] = value }
        }
        return result
    }
}
