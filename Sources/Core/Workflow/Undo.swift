// Reversing updates, and telling which are applied.

/// An update that is loaded on a host.
public struct LoadedUpdate: Sendable {
    public let id: String
    /// `loaded`, `applied`, `undone`.
    public let state: String
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
            ("description", .string(description)),
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

    public init(host: any Host & Sendable, journal: String = LocalHost.journalPath) {
        self.host = host
        self.journal = journal
    }

    /// All loaded updates, in the order of loading.
    public func all() async throws -> [LoadedUpdate] {
        let descriptions = try await journalDescriptions()
        let order = try await host.modules().map(\.name).reversed().enumerated()
        let position = Dictionary(order.map { ($0.element, $0.offset) }) { first, _ in first }
        let livePatches = try await host.livePatches()
        var updates: [LoadedUpdate] = []
        for id in try await UpdateSysfs.loaded(host) {
            let sysfs = UpdateSysfs(host: host, id: id)
            guard let state = try await sysfs.state() else { continue }
            var update = LoadedUpdate(
                id: id, state: state, functions: try await sysfs.functions(),
                pause: try await sysfs.number("pause_ns"),
                description: descriptions[id] ?? "")
            for (patch, functions) in livePatches.sorted(by: { $0.key < $1.key }) where state == "applied" {
                update.overridden += update.functions.filter(functions.contains).map { ($0, patch) }
            }
            updates.append(update)
        }
        return updates.sorted {
            (position[Applier.moduleName($0.id)] ?? 0) < (position[Applier.moduleName($1.id)] ?? 0)
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
    public func undo(_ update: LoadedUpdate, progress: (String) -> Void) async throws -> UndoReport {
        let sysfs = UpdateSysfs(host: host, id: update.id)
        let isResident = try await sysfs.number("resident") != 0
        // A resident one can go only if it was never applied.
        let mayGo = !isResident || update.state == "loaded"
        guard update.state == "applied" else {
            // What an interrupted command has left is taken away.
            if mayGo {
                try await refuseUsed(update)
                try await host.unload(module: Applier.moduleName(update.id))
            }
            throw Failure(
                "update \(update.id.prefix(12)) is not applied", status: .no, hint: "git ksplice status")
        }
        try await refuseUsed(update)
        let (pause, tries) = try await sysfs.disable(patience, progress: progress)
        return try await finish(update, mayGo: mayGo, pause, tries, progress)
    }

    /// What comes after the pause: the journal, and the module, which goes if it may.
    func finish(
        _ update: LoadedUpdate, mayGo: Bool, _ pause: Int, _ tries: Int, _ progress: (String) -> Void
    ) async throws -> UndoReport {
        do {
            try await host.appendToJournal(
                JSON.object([
                    ("v", .number(1)), ("event", .string("undo")), ("update", .string(update.id)),
                    ("pause_ns", .number(pause)),
                    ("tries", .number(tries)),
                ]).text)
        } catch { progress("the update is undone, but the journal cannot be written: \(error)") }
        return UndoReport(
            id: update.id, pause: pause, tries: tries,
            unloaded: mayGo ? try await unload(update, progress) : false)
    }

    /// Fails where a module uses an export of the update: it would go on with what the old code knows nothing of. Other
    /// updates are no such users.
    func refuseUsed(_ update: LoadedUpdate) async throws {
        let name = Applier.moduleName(update.id)
        let users = try await host.modules().first { $0.name == name }?.users ?? []
        let others = users.filter { !$0.hasPrefix("ksplice_") }.sorted()
        guard !others.isEmpty else { return }
        throw Failure(
            "update \(update.id.prefix(12)) exports symbols that are used by \(others.map { "'\($0)'" }.joined(separator: ", "))",
            status: .busy, hint: "rmmod \(others.joined(separator: " "))")
    }

    /// Whether the module is gone. It stays where another update, which may itself be inert, refers to it.
    private func unload(_ update: LoadedUpdate, _ progress: (String) -> Void) async throws -> Bool {
        do { try await host.unload(module: Applier.moduleName(update.id)) } catch let failure as Failure
            where failure.status == .busy
        {
            progress(failure.message)
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
