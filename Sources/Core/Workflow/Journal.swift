// The journal of a host: one JSON object a line, appended by whoever changes the kernel, fetches, or refuses at boot what is
// kept. A line that was not written to its end says nothing. Lines of older versions of this program have no time.

/// What was done to a host.
public struct JournalEvent: Sendable {
    /// Why something was applied or undone.
    public enum Cause: String, Sendable {
        /// Somebody, or a unit of systemd, has asked for exactly that.
        case command
        /// It takes part in the pause of an upgrade.
        case upgrade
        case boot
    }

    /// `apply`, `late`, `undo`, `fetch` or `boot`; newer versions may have others.
    public var event: String
    /// Seconds since 1970; nil where it was not written down.
    public var time: Int64?
    /// The update's identity; empty where it is not about one.
    public var update: String
    /// Of the update: as its own line says it, or an earlier one.
    public var description: String
    /// The line.
    public var json: JSON

    init?(line: some StringProtocol, descriptions: inout [String: String]) {
        guard let json = try? JSON(parsing: String(line)), let event = json["event"]?.string else {
            return nil
        }
        self.json = json
        self.event = event
        time = json["time"]?.number.map(Int64.init)
        update = json["update"]?.string ?? ""
        if let own = json["description"]?.string { descriptions[update] = own }
        description = descriptions[update] ?? ""
    }

    /// For people: what happened, to what, and the rest.
    public var words: (event: String, subject: String, rest: String) {
        func names(_ key: String) -> [String] { json[key]?.array?.compactMap(\.string) ?? [] }
        let cause = json["cause"]?.string ?? Cause.command.rawValue
        let what = cause == Cause.command.rawValue ? event : "\(event) (\(cause))"
        switch event {
        case "fetch":
            let channel = json["channel"]?.string ?? ""
            if let refusal = json["refused"]?.string { return (what, channel, "refused: \(refusal)") }
            let count = names("updates").count
            return (what, channel, "number \(json["serial"]?.number ?? 0), \(count) new update(s)")
        case "boot":
            let reason = json["reason"]?.string ?? ""
            return (
                "\(event) (\(json["state"]?.string ?? ""))", String(update.prefix(12)),
                "\(description): \(reason)"
            )
        case "late":
            return (what, String(update.prefix(12)), "\(description) (\(json["module"]?.string ?? ""))")
        default: return (what, String(update.prefix(12)), description)
        }
    }
}

/// Lines of the journal as they are written.
enum JournalLine {
    static func text(_ event: String, _ members: [(String, JSON)]) -> String {
        JSON.object(
            [("v", .number(1)), ("event", .string(event)), ("time", .number(Int(CalendarTime.now)))] + members
        ).text
    }
}

/// The journal of a host.
public struct Journal: Sendable {
    let host: any Host & Sendable
    let path: String

    public init(host: any Host & Sendable, path: String) { (self.host, self.path) = (host, path) }

    /// The events, the newest first.
    ///
    /// - Parameters:
    ///   - since: seconds since 1970; those before it, and those without a time, are left out.
    ///   - limit: most of them; nil for all.
    public func events(since: Int64? = nil, limit: Int? = nil) async throws -> [JournalEvent] {
        guard try await host.exists(path) else { return [] }
        let text = String(decoding: try await host.read(path), as: UTF8.self)
        var descriptions: [String: String] = [:]
        var events = text.lines.compactMap { JournalEvent(line: $0, descriptions: &descriptions) }
        if let since { events = events.filter { event in event.time.map { $0 >= since } ?? false } }
        return Array(events.suffix(limit ?? events.count).reversed())
    }

    /// Writes down what was fetched.
    public func note(_ fetched: Subscription.Fetched) async throws {
        try await host.appendToJournal(
            JournalLine.text(
                "fetch",
                [
                    ("channel", .string(fetched.state.name.name)), ("serial", .number(fetched.state.serial)),
                    ("updates", .strings(fetched.updates)), ("refused", .null),
                ]))
    }

    /// Writes down that what was sent is not to be trusted.
    public func note(_ refusal: Failure, channel: String) async throws {
        try await host.appendToJournal(
            JournalLine.text(
                "fetch",
                [
                    ("channel", .string(channel)), ("serial", .null), ("updates", .array([])),
                    ("refused", .string(refusal.message.lines.first.map(String.init) ?? "")),
                ]))
    }

    /// Writes down what was not applied at a boot.
    public func note(_ report: BootReport) async throws {
        for (entry, result) in report.results {
            let state: String
            let reason: String
            switch result {
            case .applied, .present: continue
            case .held(let why): (state, reason) = ("held", why)
            case .refused(let failure):
                (state, reason) = ("refused", failure.message.lines.first.map(String.init) ?? "")
            }
            try await host.appendToJournal(
                JournalLine.text(
                    "boot",
                    [
                        ("update", .string(entry.id)), ("description", .string(entry.description)),
                        ("state", .string(state)), ("reason", .string(reason)),
                    ]))
        }
    }
}
