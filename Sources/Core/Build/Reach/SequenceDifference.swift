// What two lists of declarations do not have in common, where each may hold equal ones several times.

/// Which elements one list has more often than the other.
struct SequenceDifference {
    /// Indices in the first list: of equal elements the first ones.
    let removed: Set<Int>
    /// Indices in the second list.
    let added: Set<Int>
    /// Whether the others stand in the same order in both.
    let keepsOrder: Bool

    init<Element: Hashable>(_ before: [Element], _ after: [Element]) {
        var counts: [Element: Int] = [:]
        for element in before { counts[element, default: 0] += 1 }
        for element in after { counts[element, default: 0] -= 1 }
        removed = Self.excess(before, counts)
        added = Self.excess(after, counts.mapValues { -$0 })
        keepsOrder = Self.rest(before, removed) == Self.rest(after, added)
    }

    private static func excess<Element: Hashable>(_ elements: [Element], _ counts: [Element: Int]) -> Set<Int>
    {
        var counts = counts
        var found: Set<Int> = []
        for (index, element) in elements.enumerated() where counts[element, default: 0] > 0 {
            counts[element]! -= 1
            found.insert(index)
        }
        return found
    }

    private static func rest<Element>(_ elements: [Element], _ without: Set<Int>) -> [Element] {
        elements.indices.filter { !without.contains($0) }.map { elements[$0] }
    }
}
