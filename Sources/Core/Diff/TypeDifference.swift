// What differs between two layouts of one type, in words, and how much it matters.

/// One remark about a type.
struct TypeDifference: Equatable, Sendable {
    enum Weight: Int, Comparable, Sendable {
        /// Old objects serve new code as well.
        case harmless
        /// The bits are where they were; whether they mean the same is for the author to say.
        case meaning
        /// Old objects do not fit new code.
        case layout

        static func < (a: Weight, b: Weight) -> Bool { a.rawValue < b.rawValue }
    }

    var text: String
    var weight: Weight
    /// Names, old or new, as they stand in the source.
    var members: [String] = []
    /// Whether it follows from the layout of a type that this one contains.
    var isConsequence = false

    static func between(_ old: TypeLayout, _ new: TypeLayout) -> [TypeDifference] {
        new.isEnum ? values(old, new) : Places(old, new).differences()
    }

    // MARK: - Enums

    private static func values(_ old: TypeLayout, _ new: TypeLayout) -> [TypeDifference] {
        let after = Dictionary(new.members.map { ($0.name, $0.position) }) { first, _ in first }
        let before = Set(old.members.map(\.name))
        let moved = old.members.filter { after[$0.name].map { [p = $0.position] in $0 != p } ?? false }
        let kept = old.members.filter { after[$0.name] == $0.position }
        let added = new.members.filter { !before.contains($0.name) }
        let isBound = bound(kept, added)
        var result: [TypeDifference] = moved.map { member in
            let value = after[member.name]!
            let text = "'\(member.name)' was \(member.position) and is \(value)"
            if isBound(member, value) {
                return .init(
                    text: text + " (it counts the others)", weight: .harmless, members: [member.name])
            }
            return .init(text: text, weight: .layout, members: [member.name])
        }
        let taken = Dictionary(old.members.map { ($0.position, $0.name) }) { first, _ in first }
        for member in added {
            let other = taken[member.position].flatMap { after[$0] == member.position ? nil : $0 }
            let isReused = other != nil && after[other!] == nil
            result.append(
                .init(
                    text: "new value '\(member.name)' = \(member.position)"
                        + (isReused ? ", which '\(other!)' had" : ""),
                    weight: isReused ? .meaning : .harmless, members: [member.name]))
        }
        if old.size != new.size {
            result.append(.init(text: "size was \(old.size) and is \(new.size) bytes", weight: .layout))
        }
        return result
    }

    /// Whether a value only says how many others there are: it was the largest, is the largest, and its name says so.
    /// Nobody stores it; arrays that it sizes are compared as data and as members.
    private static func bound(_ kept: [TypeLayout.Member], _ added: [TypeLayout.Member])
        -> (TypeLayout.Member, Int64) -> Bool
    {
        let words: Set<Substring> = [
            "MAX", "NUM", "NR", "LAST", "COUNT", "CNT", "END", "SIZE", "LEN", "N", "SENTINEL", "TOTAL",
            "BITS",
        ]
        let oldest = kept.map(\.position).max() ?? .min
        let newest = max(oldest, added.map(\.position).max() ?? .min)
        return { member, value in
            member.position >= oldest && value >= newest
                && member.name.uppercased().split(separator: "_").contains { words.contains($0) }
        }
    }
}

/// The comparison of two structs or unions.
private struct Places {
    let old: TypeLayout
    let new: TypeLayout
    private let before: [String: TypeLayout.Member]
    private let after: [String: TypeLayout.Member]

    init(_ old: TypeLayout, _ new: TypeLayout) {
        self.old = old
        self.new = new
        before = Dictionary(old.members.map { ($0.name, $0) }) { first, _ in first }
        after = Dictionary(new.members.map { ($0.name, $0) }) { first, _ in first }
    }

    func differences() -> [TypeDifference] {
        var result: [TypeDifference] = []
        let added = new.members.filter { before[$0.name] == nil }
        var gone = old.members.filter { after[$0.name] == nil }
        for member in added {
            if let index = gone.firstIndex(where: { isRenamed($0, member) }) {
                let was = gone.remove(at: index)
                result.append(
                    .init(
                        text: "member '\(was.name)' is now called '\(member.name)'", weight: .meaning,
                        members: [was.name, member.name]))
            } else if let other = old.members.first(where: { isRenamed($0, member) && after[$0.name] == $0 })
            {
                result.append(
                    .init(
                        text: "'\(member.name)' is another name for what '\(other.name)' is",
                        weight: .harmless, members: [member.name]))
            } else {
                result.append(
                    .init(
                        text: "new member '\(member.name)' at \(member.place)\(room(for: member))",
                        weight: .layout, members: [member.name]))
            }
        }
        result += gone.map {
            .init(text: "member '\($0.name)' at \($0.place) is gone", weight: .layout, members: [$0.name])
        }
        result += changed()
        let isRearranged = result.contains { $0.weight == .layout && !$0.isConsequence }
        result += moved(isRearranged)
        if old.size != new.size {
            result.append(
                .init(
                    text: "size was \(old.size) and is \(new.size) bytes", weight: .layout,
                    isConsequence: !isRearranged && contains))
        }
        return result
    }

    /// Whether it contains a type whose own layout may be the cause.
    private var contains: Bool { new.members.contains { $0.contained != nil } }

    private func isRenamed(_ a: TypeLayout.Member, _ b: TypeLayout.Member) -> Bool {
        a.position == b.position && a.size == b.size && a.type == b.type
    }

    /// Members in both that are of another size or kind.
    private func changed() -> [TypeDifference] {
        new.members.compactMap { member in
            guard let was = before[member.name] else { return nil }
            let name = [member.name]
            if was.type != member.type, was.size == member.size, isInteger(was), isInteger(member) {
                return .init(
                    text: "member '\(member.name)' was \(was.type) and is \(member.type)", weight: .meaning,
                    members: name)
            }
            if was.type != member.type {
                return .init(
                    text: "member '\(member.name)' was '\(was.type)' and is '\(member.type)'",
                    weight: .layout,
                    members: name)
            }
            if was.size != member.size {
                return .init(
                    text: "member '\(member.name)' had \(was.extent) and has \(member.extent)",
                    weight: .layout, members: name, isConsequence: member.contained != nil)
            }
            if was.signature != member.signature {
                return .init(
                    text:
                        "member '\(member.name)' pointed to a function '\(was.signature)' and points to '\(member.signature)'",
                    weight: .meaning, members: name)
            }
            return nil
        }
    }

    private func isInteger(_ member: TypeLayout.Member) -> Bool {
        member.type.hasSuffix("signed") || member.type == "bool" || member.type.hasPrefix("enum ")
    }

    /// Runs of members that move by the same distance are told as one.
    private func moved(_ isRearranged: Bool) -> [TypeDifference] {
        var runs: [[TypeLayout.Member]] = []
        var last: Int64?
        for member in new.members {
            guard let was = before[member.name] else { continue }
            let distance = member.position - was.position
            if distance != 0 && distance == last { runs[runs.count - 1].append(member) }
            if distance != 0 && distance != last { runs.append([member]) }
            last = distance
        }
        let isConsequence = !isRearranged && contains
        return runs.flatMap { run -> [TypeDifference] in
            if run.count < 4 {
                return run.map {
                    .init(
                        text: "member '\($0.name)' moves from \(before[$0.name]!.place) to \($0.place)",
                        weight: .layout, members: [$0.name], isConsequence: isConsequence)
                }
            }
            let (first, end) = (run[0], run[run.count - 1])
            let distance = first.position - before[first.name]!.position
            let bytes = distance % 8 == 0 ? "\(abs(distance) / 8) bytes" : "\(abs(distance)) bits"
            return [
                .init(
                    text:
                        "the \(run.count) members from '\(first.name)' (\(before[first.name]!.place)) to '\(end.name)' (\(before[end.name]!.place)) move \(bytes) \(distance > 0 ? "up" : "down")",
                    weight: .layout, members: run.map(\.name), isConsequence: isConsequence)
            ]
        }
    }

    /// What was in the old layout where a new member is.
    private func room(for member: TypeLayout.Member) -> String {
        let start = member.position
        let end = start + member.size
        guard member.size > 0, end <= old.size * 8 else { return "" }
        let taken = old.members.filter { $0.size > 0 }
        if let other = taken.first(where: { $0.position < end && start < $0.position + $0.size }) {
            return ", where '\(other.name)' was"
        }
        let from = taken.map { $0.position + $0.size }.filter { $0 <= start }.max() ?? 0
        let to = taken.map(\.position).filter { $0 >= end }.min() ?? old.size * 8
        let bits = to - from
        return ", which fits into a hole of "
            + (bits % 8 == 0
                ? "\(bits / 8) byte\(bits == 8 ? "" : "s")" : "\(bits) bit\(bits == 1 ? "" : "s")")
    }
}

extension TypeLayout.Member {
    fileprivate var place: String {
        "offset \(position / 8)" + (position % 8 == 0 ? "" : " bit \(position % 8)")
    }

    fileprivate var extent: String { size % 8 == 0 ? "\(size / 8) bytes" : "\(size) bits" }
}
