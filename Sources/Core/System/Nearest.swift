// What a user who mistyped a word may have meant.

/// The words that are like a given one, the most alike first, at most three: those that differ in a third of their
/// letters at most (inserted, left out, exchanged), and those that begin or end with it.
public func nearest(to word: String, in known: some Sequence<String>) -> [String] {
    let found = known.compactMap { candidate -> (distance: Int, word: String)? in
        let distance = editDistance(Array(word.utf8), Array(candidate.utf8))
        let isPart = word.utf8.count >= 3 && (candidate.hasPrefix(word) || candidate.hasSuffix(word))
        guard isPart || distance * 3 <= max(word.utf8.count, candidate.utf8.count) else { return nil }
        return (distance, candidate)
    }
    return found.sorted { ($0.distance, $0.word) < ($1.distance, $1.word) }.prefix(3).map(\.word)
}

/// The least number of letters to insert, leave out or exchange to make one word of the other.
func editDistance(_ a: [UInt8], _ b: [UInt8]) -> Int {
    // A row of the table: the distances of a prefix of `a` to all prefixes of `b`.
    var row = Array(0...b.count)
    for (i, x) in a.enumerated() {
        var diagonal = row[0]
        row[0] = i + 1
        for (j, y) in b.enumerated() {
            let above = row[j + 1]
            row[j + 1] = min(diagonal + (x == y ? 0 : 1), above + 1, row[j] + 1)
            diagonal = above
        }
    }
    return row[b.count]
}
