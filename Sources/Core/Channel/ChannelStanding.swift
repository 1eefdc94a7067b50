// How what is applied on a host stands to what its channel says.

/// What a host has of a channel, and what it lacks.
public struct ChannelStanding: Sendable {
    public var state: ChannelState
    /// To be applied, and not applied.
    public var available: [ChannelEntry] = []
    /// Applied, and withdrawn since.
    public var withdrawn: [ChannelEntry] = []
    /// Applied, though something newer takes their place.
    public var replaced: [ChannelEntry] = []
    /// The newest release of which this host has everything; nil where there is none.
    public var release: String?
    /// Holes that are closed by what is applied.
    public var cves: [String] = []
    /// Whether nobody has said for too long that this is so.
    public var isOutOfDate: Bool

    /// - Parameter applied: identities of the applied updates.
    public init(_ state: ChannelState, applied: [String], now: Int64 = CalendarTime.now) throws {
        self.state = state
        let isApplied = Set(applied)
        let wanted = try state.index.wanted()
        let isWanted = Set(wanted.map(\.id))
        available = wanted.filter { !isApplied.contains($0.id) }
        for entry in state.index.entries where isApplied.contains(entry.id) {
            if entry.withdrawn != nil {
                withdrawn.append(entry)
            } else {
                for name in entry.cves where !cves.contains(name) { cves.append(name) }
                if !isWanted.contains(entry.id) { replaced.append(entry) }
            }
        }
        // What replaces an update has what it had.
        var has = isApplied
        for entry in state.index.entries.reversed() where has.contains(entry.id) {
            has.formUnion(entry.supersedes)
        }
        for name in state.index.releases.map(\.name) {
            if try state.index.wanted(release: name).allSatisfy({ has.contains($0.id) }) { release = name }
        }
        isOutOfDate = now >= state.validUntil
    }

    public var json: JSON {
        func ids(_ entries: [ChannelEntry]) -> JSON { .strings(entries.map(\.id)) }
        return .object([
            ("name", .string(state.name.name)), ("serial", .number(state.serial)),
            ("valid_until", .string(CalendarTime.text(state.validUntil))),
            ("out_of_date", .bool(isOutOfDate)),
            ("release", release.map { .string($0) } ?? .null), ("available", ids(available)),
            ("withdrawn", ids(withdrawn)), ("replaced", ids(replaced)), ("cves", .strings(cves)),
        ])
    }
}
