// What a host has to do to have what a channel wants.

/// The steps from what is applied to what is wanted. Each is one pause.
public struct ChannelPlan: Sendable, Equatable {
    public struct Step: Sendable, Equatable {
        /// To be applied, in this order.
        public var new: [ChannelEntry] = []
        /// Identities of what is to be undone in the same pause.
        public var old: Set<String> = []
    }

    public var steps: [Step] = []

    public var isEmpty: Bool { steps.isEmpty }

    /// - Parameters:
    ///   - applied: identities of the applied updates. Those that the channel does not list are nobody's business here.
    ///   - release: what this release has is wanted, and nothing newer.
    public init(_ index: ChannelIndex, applied: [String], release: String? = nil) throws {
        let wanted = try index.wanted(release: release)
        let isApplied = Set(applied)
        let isWanted = Set(wanted.map(\.id))
        let new = wanted.filter { !isApplied.contains($0.id) }
        let old = Set(index.entries.map(\.id).filter { isApplied.contains($0) && !isWanted.contains($0) })
        // What stands on another new one is matched with memory as that has left it.
        let names = Set(new.map(\.id))
        let first = new.filter { names.isDisjoint(with: $0.depends) }
        // What something later replaces stays until that comes.
        let later = new.filter { !names.isDisjoint(with: $0.depends) }
        let kept = old.intersection(later.flatMap(\.supersedes)).subtracting(first.flatMap(\.supersedes))
        if !first.isEmpty || old != kept { steps.append(Step(new: first, old: old.subtracting(kept))) }
        var rest = kept
        for entry in later {
            steps.append(Step(new: [entry], old: rest.intersection(entry.supersedes)))
            rest.subtract(entry.supersedes)
        }
    }
}
