// Types whose layout differs between pre and post, and what that means for this unit.
//
// All units that know a changed type are compiled and compared. So every function whose code depends on the layout
// differs, and is either shipped or stands in a unit with findings of its own; a unit none of whose functions changes
// does not depend on it at all, whatever the type looks like. Where functions change, the finding names those that are
// seen to use the type: by a member in their lines, by the offset in their code, by the types of their variables.

/// A type that both objects know with different layouts.
struct TypeChange {
    var key: String
    var old: TypeLayout
    var new: TypeLayout
    var differences: [TypeDifference]
    /// In post.
    var place: SourceLine?
    /// The types in post's debug information by which it is named, directly or in another type.
    var named: Set<Int> = []
    /// Types that change only because they contain this one.
    var containers: [String] = []

    var weight: TypeDifference.Weight { differences.map(\.weight).max() ?? .harmless }
    var isConsequence: Bool { !differences.isEmpty && differences.allSatisfy(\.isConsequence) }

    func isNamed(by types: Set<Int>) -> Bool { !named.isDisjoint(with: types) }

    /// The member that is at one offset in old and at another in new, in bytes.
    func movedMember(from: Int64, to: Int64) -> String? {
        guard !old.isEnum else { return nil }
        return old.members.first { member in
            member.position == from * 8
                && new.members.contains { $0.name == member.name && $0.position == to * 8 }
        }?.name
    }

    /// The names under which its changed members stand in the source.
    var memberNames: Set<Substring> {
        Set(differences.flatMap(\.members).flatMap { TypeLayout.Member.parts(of: $0).suffix(1) })
    }
}

struct TypeReview {
    private var pre: TypeLayouts
    private var post: TypeLayouts
    private let path: String

    init(pre: DebugInformation, post: DebugInformation, path: String) {
        self.pre = TypeLayouts(pre)
        self.post = TypeLayouts(post)
        self.path = path
    }

    // MARK: - Changes

    /// The types that differ, sorted by key.
    mutating func changes() -> [TypeChange] {
        var changes: [TypeChange] = []
        for key in post.types.keys.sorted() {
            guard pre.types[key] != nil, let old = pre.layout(key), let new = post.layout(key), old != new
            else { continue }
            let differences = TypeDifference.between(old, new)
            guard !differences.isEmpty else { continue }
            let member = differences.lazy.flatMap(\.members).first.flatMap { post.place(key, member: $0) }
            changes.append(
                TypeChange(
                    key: key, old: old, new: new, differences: differences, place: member ?? post.place(key)))
        }
        guard !changes.isEmpty else { return [] }
        attribute(&changes)
        let names = Names(post)
        for index in changes.indices { changes[index].named = names.naming(changes[index].key) }
        return changes
    }

    /// A type that changes only because of one that it contains is told with that one.
    private func attribute(_ changes: inout [TypeChange]) {
        let positions = Dictionary(uniqueKeysWithValues: changes.enumerated().map { ($1.key, $0) })
        for index in changes.indices {
            let inner = changes[index].new.members.compactMap { $0.contained.flatMap { positions[$0] } }
            if inner.isEmpty {
                for i in changes[index].differences.indices {
                    changes[index].differences[i].isConsequence = false
                }
            }
        }
        for index in changes.indices where changes[index].isConsequence {
            for root in roots(index, changes, positions) {
                changes[root].containers.append(changes[index].key)
            }
        }
    }

    private func roots(_ index: Int, _ changes: [TypeChange], _ positions: [String: Int]) -> Set<Int> {
        var seen: Set<Int> = [index]
        var next = [index]
        var result: Set<Int> = []
        while let current = next.popLast() {
            for member in changes[current].new.members {
                guard let inner = member.contained.flatMap({ positions[$0] }), seen.insert(inner).inserted
                else {
                    continue
                }
                if changes[inner].isConsequence { next.append(inner) } else { result.insert(inner) }
            }
        }
        return result
    }

    // MARK: - Findings

    func findings(_ changes: [TypeChange], shipped: [ShippedFunction], stacks: StackObjects) -> [Finding] {
        changes.filter { !$0.isConsequence }.compactMap { finding($0, shipped, stacks) }
    }

    private func finding(_ change: TypeChange, _ shipped: [ShippedFunction], _ stacks: StackObjects)
        -> Finding?
    {
        let told = change.differences.filter { change.weight != .layout || $0.weight != .harmless }
        let text = told.map(\.text).joined(separator: "; ")
        switch change.weight {
        case .harmless:
            guard told.contains(where: { !$0.text.hasPrefix("new value") }) else { return nil }
            return note(
                change, "'\(change.key)' changes: \(text)",
                change.new.isEnum
                    ? "nobody stores such a value; arrays of that many elements are compared by themselves"
                    : "objects that exist serve new code as well")
        case .meaning:
            guard !shipped.isEmpty else { return nil }
            return make(
                change, .warning, "'\(change.key)' changes: \(text)",
                "objects that exist have at this place what the old code put there; make sure that it means the same to the new code",
                users(change, shipped))
        case .layout:
            let message = "the layout of '\(change.key)' changes: \(text)"
            guard !shipped.isEmpty else {
                return note(
                    change, message,
                    "no function of this file depends on it: none of them changes with the type")
            }
            if change.containers.isEmpty, let holders = stacks.holders(of: change.key) {
                return note(
                    change, message,
                    "its objects live only while \(list(holders)) \(holders.count > 1 ? "run" : "runs"), which the update replaces: none exists when it is applied or undone"
                )
            }
            return layoutFinding(change, message, shipped)
        }
    }

    private func layoutFinding(_ change: TypeChange, _ message: String, _ shipped: [ShippedFunction])
        -> Finding
    {
        let users = users(change, shipped)
        if users.isEmpty, !isReached(change, shipped) {
            return make(
                change, .warning, message,
                "no changed function of this file is seen to use the type: \(list(shipped.map(\.record.function)))",
                [])
        }
        var advice =
            change.old.isEnum
            ? "objects that exist when the update is applied hold the old values, and new code takes them for others; give new values numbers that were free"
            : "objects that exist when the update is applied have the old layout, and code for the new one corrupts them; attach new state as a shadow variable of ksplice.h (Documentation/hooks.md)"
        if change.differences.contains(where: { $0.text.contains("fits into a hole") }) {
            advice +=
                "; what stands in the hole of objects that exist is known only if they were cleared as a whole"
        }
        if !change.containers.isEmpty {
            advice += "; it is contained in \(list(change.containers)), which change with it"
        }
        return make(change, .error, message, advice, users)
    }

    private func note(_ change: TypeChange, _ message: String, _ advice: String) -> Finding {
        make(change, .note, message, advice, [])
    }

    private func make(
        _ change: TypeChange, _ severity: Finding.Severity, _ message: String, _ advice: String,
        _ functions: [String]
    ) -> Finding {
        var finding = Finding(
            "type-layout", severity, file: change.place?.file ?? path, line: change.place?.line,
            symbol: change.key, message, advice: advice)
        finding.functions = functions
        return finding
    }

    private func list(_ names: [String]) -> String {
        let most = 8
        let rest = names.count - most
        return names.prefix(most).map { "'\($0)'" }.joined(separator: ", ")
            + (rest > 0 ? " and \(rest) more" : "")
    }

    // MARK: - Who uses a type

    /// The shipped functions that use a changed type, each with the members where they are seen.
    private func users(_ change: TypeChange, _ shipped: [ShippedFunction]) -> [String] {
        let members = change.memberNames
        return shipped.compactMap { function in
            let name = function.record.function
            let isNamed = change.isNamed(by: function.types)
            let used = isNamed || change.named.isEmpty ? members.intersection(function.members).sorted() : []
            let inCode = function.record.reasons.first {
                $0.kind == .layout && $0.text.contains("'\(change.key)'")
            }
            if !used.isEmpty { return "\(name) (\(used.joined(separator: ", ")))" }
            if let inCode { return "\(name) (\(inCode.text))" }
            return isNamed ? name : nil
        }
    }

    /// Whether a shipped function may come to an object of the type in any way that its types or its lines show.
    private func isReached(_ change: TypeChange, _ shipped: [ShippedFunction]) -> Bool {
        let members = change.memberNames
        let names = Names(post)
        return shipped.contains { function in
            let isExplained = function.record.reasons.allSatisfy {
                [.edited, .inlined, .header, .macro, .data].contains($0.kind)
            }
            return !isExplained || !members.isDisjoint(with: function.members)
                || names.reaches(change.key, from: function.types)
        }
    }
}

/// Which types lead to which.
private struct Names {
    private let layouts: TypeLayouts
    private var users: [Int: [Int]] = [:]

    init(_ layouts: TypeLayouts) {
        self.layouts = layouts
        for (index, type) in layouts.debug.types.enumerated() {
            if let target = type.target { users[target, default: []].append(index) }
            for member in type.members {
                if let target = member.type { users[target, default: []].append(index) }
            }
        }
    }

    /// The type, what contains it, and pointers to these.
    func naming(_ key: String) -> Set<Int> {
        guard let start = layouts.types[key] else { return [] }
        var objects: Set<Int> = [start]
        var pointers: Set<Int> = []
        var next = [start]
        while let current = next.popLast() {
            for user in users[current] ?? [] {
                switch layouts.debug.types[user].kind {
                case .pointer:
                    if pointers.insert(user).inserted { next.append(user) }
                case .function: break
                case .structure, .union:
                    // A struct with a pointer to it does not contain it.
                    if !pointers.contains(current), objects.insert(user).inserted { next.append(user) }
                default:
                    let isNew =
                        pointers.contains(current)
                        ? pointers.insert(user).inserted : objects.insert(user).inserted
                    if isNew { next.append(user) }
                }
            }
        }
        return objects.union(pointers)
    }

    /// Whether a way leads from some types to another one, through members, pointers and functions.
    func reaches(_ key: String, from types: Set<Int>) -> Bool {
        guard let goal = layouts.types[key] else { return false }
        var seen: Set<Int> = [goal]
        var next = [goal]
        while let current = next.popLast() {
            if types.contains(current) { return true }
            for user in users[current] ?? [] where seen.insert(user).inserted { next.append(user) }
        }
        return false
    }
}
