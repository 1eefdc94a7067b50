// What differs between two versions of a header, as far as its text tells.

struct HeaderChange: Sendable {
    /// Names by which what changed is reached from elsewhere.
    private(set) var names: Set<String> = []
    /// Whether something changed that has no such names: whoever includes the header may be reached.
    private(set) var isOpaque = false
    /// Structs and unions that declare other members than before, by their keys.
    private(set) var aggregates: [String: Aggregate] = [:]

    /// A struct or union some of whose members differ. If all others are where they were, and it has its size, only who
    /// names one that differs is reached.
    struct Aggregate: Sendable, Equatable {
        /// The names that lead to the type.
        var names: Set<String>
        /// The names of members that are declared otherwise, or only before or after.
        var members: Set<String>

        func united(with other: Aggregate) -> Aggregate {
            Aggregate(names: names.union(other.names), members: members.union(other.members))
        }
    }

    init(pre: [UInt8], post: [UInt8]) {
        let before = HeaderItem.items(of: pre).filter { !$0.isCondition }
        let after = HeaderItem.items(of: post).filter { !$0.isCondition }
        let difference = SequenceDifference(before.map(\.key), after.map(\.key))
        // What is in both must stand in the same order: a macro can be defined anew in between.
        guard difference.keepsOrder else {
            isOpaque = true
            return
        }
        var rest = difference.added.sorted().map { after[$0] }
        for item in difference.removed.sorted().map({ before[$0] }) {
            if let index = rest.firstIndex(where: { Self.isVersion($0, of: item) }),
                let members = Self.changedMembers(item, rest[index])
            {
                let key = item.aggregate!.key
                let found = Aggregate(
                    names: (item.names ?? []).union(rest[index].names ?? []), members: members)
                aggregates[key] = aggregates[key]?.united(with: found) ?? found
                rest.remove(at: index)
            } else {
                add(item)
            }
        }
        for item in rest { add(item) }
        for (key, type) in aggregates where !Self.isSingle(key, before) || !Self.isSingle(key, after) {
            aggregates[key] = nil
            names.formUnion(type.names)
        }
    }

    /// Whether all who include a header see the same type of a name: of several, only the config chooses one.
    private static func isSingle(_ key: String, _ items: [HeaderItem]) -> Bool {
        let frames = items.compactMap(\.aggregate).filter { $0.key == key }.map(\.frame)
        // The last line is the declaration's own.
        return frames.count <= 1
            || frames.allSatisfy { frame in
                frame.lines.dropLast().map { String($0).trimmed }.allSatisfy {
                    $0.isEmpty || $0 == "else" || isOfConfig($0) || isGuard($0)
                }
            }
    }

    /// `#ifndef NAME_H` around a whole header.
    private static func isGuard(_ condition: String) -> Bool {
        condition.hasPrefix("ifndef ") && ["_H", "_H_", "_H__"].contains(where: condition.hasSuffix)
    }

    private static func isOfConfig(_ condition: String) -> Bool {
        ["CONFIG_", "BITFIELD", "ENDIAN", "BITS_PER_LONG"].contains { condition.contains($0) }
    }

    private mutating func add(_ item: HeaderItem) {
        if let own = item.names { names.formUnion(own) } else { isOpaque = true }
    }

    private static func isVersion(_ item: HeaderItem, of other: HeaderItem) -> Bool {
        guard let new = item.aggregate, let old = other.aggregate else { return false }
        return new.key == old.key && new.frame == old.frame
    }

    /// Whether one unit can speak for all: a condition is the config's or the processor's, and no type with a name, whose own
    /// members nobody compares, is defined inside.
    private static func isFollowed(_ member: String) -> Bool {
        if member.hasPrefix("#if") || member.hasPrefix("#elif") {
            return isOfConfig(member)
        }
        let tokens = member.split(separator: " ")
        return !(tokens.count == 2 && ["struct", "union", "enum"].contains(tokens[0]))
    }

    /// The names of members that are not declared in both; nil where a declaration does not tell them.
    private static func changedMembers(_ old: HeaderItem, _ new: HeaderItem) -> Set<String>? {
        let (before, after) = (old.aggregate?.members ?? [], new.aggregate?.members ?? [])
        guard (before + after).allSatisfy(isFollowed) else { return nil }
        var names: Set<String> = []
        for change in after.difference(from: before) {
            let declaration =
                switch change {
                case .insert(_, let element, _), .remove(_, let element, _): element
                }
            guard let own = HeaderItem.Aggregate.declaredNames(declaration) else { return nil }
            names.formUnion(own)
        }
        return names
    }
}

extension HeaderItem.Aggregate {
    /// Of one member's declaration, its tokens with blanks between them; nil where it does not tell.
    static func declaredNames(_ declaration: String) -> Set<String>? {
        let tokens = declaration.split(separator: " ").map(String.init)
        // A nameless struct or union begins; what it holds are members of their own.
        if tokens == ["union"] || tokens == ["struct"] { return [] }
        if declaration.hasPrefix("#") { return nil }
        if let star = tokens.indices.dropLast().first(where: { tokens[$0] == "(" && tokens[$0 + 1] == "*" }) {
            // A pointer to a function, and no other declarator beside it.
            guard star + 3 < tokens.count, tokens[star + 3] == ")", !hasOuterComma(tokens) else { return nil }
            return [tokens[star + 2]]
        }
        guard !tokens.contains("("), !tokens.contains("=") else { return nil }
        var names: Set<String> = []
        for declarator in tokens.split(separator: ",") {
            let end = declarator.firstIndex { $0 == "[" || $0 == ":" } ?? declarator.endIndex
            guard end > declarator.startIndex else { return nil }
            names.insert(declarator[end - 1])
            // What looks like a name may be an attribute.
            if declarator[end - 1].hasPrefix("__"), end - 1 > declarator.startIndex {
                names.insert(declarator[end - 2])
            }
        }
        return names
    }

    private static func hasOuterComma(_ tokens: [String]) -> Bool {
        var depth = 0
        return tokens.contains { token in
            depth += token == "(" ? 1 : token == ")" ? -1 : 0
            return depth == 0 && token == ","
        }
    }
}
