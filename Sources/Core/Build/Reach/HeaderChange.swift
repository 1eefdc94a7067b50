// What differs between two versions of a header, as far as its text tells.

struct HeaderChange: Sendable {
    /// Names by which what changed is reached from elsewhere.
    private(set) var names: Set<String> = []
    /// Whether something changed that has no such names: whoever includes the header may be reached.
    private(set) var isOpaque = false
    /// Structs and unions that still hold all that they held and something more, by their keys, with the names that lead
    /// to them. If their members are where they were, only who names a new member is reached.
    private(set) var extended: [String: Set<String>] = [:]

    init(pre: [UInt8], post: [UInt8]) {
        let before = HeaderItem.items(of: pre).filter { !$0.isCondition }
        let after = HeaderItem.items(of: post).filter { !$0.isCondition }
        var counts: [String: Int] = [:]
        for item in before { counts[item.key, default: 0] += 1 }
        for item in after { counts[item.key, default: 0] -= 1 }
        let (removed, keptBefore) = Self.split(before, counts)
        let (added, keptAfter) = Self.split(after, counts.mapValues { -$0 })
        // What is in both must stand in the same order: a macro can be defined anew in between.
        guard keptBefore == keptAfter else {
            isOpaque = true
            return
        }
        var rest = added
        for item in removed {
            if let index = rest.firstIndex(where: { Self.extends($0, item) }) {
                extended[item.aggregate!.key] = (item.names ?? []).union(rest[index].names ?? [])
                rest.remove(at: index)
            } else {
                add(item)
            }
        }
        for item in rest { add(item) }
    }

    private mutating func add(_ item: HeaderItem) {
        if let own = item.names { names.formUnion(own) } else { isOpaque = true }
    }

    /// Items of which this side has more than the other one, and the keys of the rest.
    private static func split(_ items: [HeaderItem], _ counts: [String: Int]) -> ([HeaderItem], [String]) {
        var counts = counts
        var (more, kept): ([HeaderItem], [String]) = ([], [])
        for item in items {
            if counts[item.key, default: 0] > 0 {
                counts[item.key]! -= 1
                more.append(item)
            } else {
                kept.append(item.key)
            }
        }
        return (more, kept)
    }

    /// Whether a struct or union declares all members of another version of itself in their order, and others.
    private static func extends(_ item: HeaderItem, _ other: HeaderItem) -> Bool {
        guard let new = item.aggregate, let old = other.aggregate, new.frame == old.frame else {
            return false
        }
        var members = old.members[...]
        for member in new.members where members.first == member { members.removeFirst() }
        return members.isEmpty
    }
}
