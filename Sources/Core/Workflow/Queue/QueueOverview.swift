// The queue as people and programs see it: what is being built, what waits and for what, what became of the last ones.

import Glibc

/// What a queue holds at one moment.
public struct QueueOverview: Sendable {
    /// A commit, or what a merge has brought, that waits.
    public struct Waiting: Sendable, Equatable {
        public var name: String
        public var subject: String
        /// What it waits for besides its turn, such as `a rebase is in progress`.
        public var reason: String?
    }

    public var building: BuildQueue.Building?
    /// Seconds since it was begun.
    public var seconds = 0
    public var waiting: [Waiting] = []
    /// Whether a worker is there. Where something waits and none is, the next commit starts one.
    public var isWorkedOn = false
    /// The newest first.
    public var results: [BuildRecord] = []
    /// What the last worker said, if it ended with an error.
    public var trouble: String?

    private static let shown = 10

    /// Nil where the repository has no queue.
    public init?(_ repository: Repository) async throws {
        let queue = BuildQueue(repository)
        guard queue.exists else { return nil }
        isWorkedOn = try queue.isWorkedOn()
        building = try queue.building()
        if let building { seconds = max(time(nil) - building.since, 0) }
        results = try queue.results().filter { !$0.isByHand }.suffix(Self.shown).reversed()
        let said = Files.exists(queue.log) ? try Files.readText(queue.log).trimmed : ""
        trouble = said.isEmpty ? nil : said
        let entries = try queue.entries().filter { $0.name != building?.commit }
        if entries.isEmpty { return }
        let history = try await SettledHistory(repository)
        for entry in entries {
            let standing = try await history.standing(of: entry.commit)
            if standing == .gone { continue }
            var item = Waiting(name: entry.name, subject: try repository.commit(entry.commit).subject)
            if case .moving(let words) = standing { item.reason = words }
            waiting.append(item)
        }
    }

    /// Rows for people: what it is, the commit, the kernel, and the rest.
    public var rows: [[String]] {
        var rows: [[String]] = []
        if let building {
            rows.append(["building", Self.short(building.commit), building.kernel, "for \(seconds) s"])
        }
        for item in waiting {
            let reason = item.reason.map { " (\($0))" } ?? (isWorkedOn ? "" : " (no worker is there)")
            rows.append(["waiting", Self.short(item.name), "", item.subject + reason])
        }
        for record in results {
            let kernel = record.kernel.isEmpty ? "all" : record.kernel
            rows.append([
                record.state.rawValue, Self.short(record.commit), kernel,
                record.words.isEmpty ? record.subject : "\(record.words)  \(record.subject)",
            ])
        }
        return rows
    }

    /// Of a range, its last commit.
    private static func short(_ name: String) -> String {
        String((name.split(separator: "..").last ?? "").prefix(12))
    }

    public var json: JSON {
        let current = building.map { building in
            JSON.object([
                ("commit", .string(building.commit)), ("kernel", .string(building.kernel)),
                ("seconds", .number(seconds)), ("tries", .number(building.tries)),
            ])
        }
        let queued = waiting.map { item in
            JSON.object([
                ("commits", .string(item.name)), ("subject", .string(item.subject)),
                ("reason", item.reason.map { .string($0) } ?? .null),
            ])
        }
        return .object([
            ("building", current ?? .null), ("waiting", .array(queued)), ("worker", .bool(isWorkedOn)),
            ("results", .array(results.map(\.json))), ("trouble", trouble.map { .string($0) } ?? .null),
        ])
    }
}
