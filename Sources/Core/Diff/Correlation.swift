// Which post span is which pre span. A ladder from certain to less certain; what no rung decides is ambiguous and
// reported:
//
// 1. the same name, once on each side: `do_exit`, or `count.12` and `count.7`, the only `count` of the file
// 2. the same name several times: equal content and equal references
// 3. ... referred to by the same functions (`__key.3` of `init_a`, `__key.9` of `init_a`)
// 4. ... referred to by the same functions next to the same strings and functions (`_rs.24` of a rate-limited
//    message, of which smb3_receive_transform has nine, all alike)
// 5. ... referred to by the same functions equally often, in the order in which they are referred to
// 6. another name in common: an alias came or went
//
// A variable of a function is only ever taken for one that the same function declares, whoever uses it after inlining;
// what is left of those is the subject of MovedVariables.swift.
//
// Strings and nameless constants need no correlation: their content is their identity.

struct Correlation {
    /// For each post span its pre span.
    private(set) var preOfPost: [Int: Int] = [:]
    private(set) var postOfPre: [Int: Int] = [:]
    /// Canonical names under which spans are left on both sides that nothing tells apart.
    private(set) var ambiguous: [String] = []
    /// Variables of post of which nothing tells whether they are others of pre.
    var moved: [MovedVariable] = []

    let pre: ObjectSpans
    let post: ObjectSpans
    let declarers: (pre: Declarers, post: Declarers)
    private let preUses: [Int: [Use]]
    private let postUses: [Int: [Use]]

    /// A reference to a span.
    struct Use {
        /// In the order of the object.
        var position: Int
        var user: Int
        /// Index into the relocations of the user's section.
        var relocation: Int
    }

    init(
        pre: ObjectSpans, post: ObjectSpans,
        declarers: (pre: Declarers, post: Declarers) = (Declarers(), Declarers())
    ) {
        self.pre = pre
        self.post = post
        self.declarers = declarers
        preUses = Self.uses(pre)
        postUses = Self.uses(post)
        let preGroups = Self.groups(pre)
        let postGroups = Self.groups(post)
        var undecided: [(String, [Int], [Int])] = []
        for (key, posts) in postGroups.sorted(by: { $0.key < $1.key }) {
            let left = Dictionary(grouping: preGroups[key] ?? []) { declarers.pre[$0] ?? "" }
            let right = Dictionary(grouping: posts) { declarers.post[$0] ?? "" }
            for (declarer, posts) in right.sorted(by: { $0.key < $1.key }) {
                guard let pres = left[declarer] else { continue }
                if pres.count == 1 && posts.count == 1 {
                    // A rate limit with other numbers is another rate limit, of which nothing is kept.
                    if !Self.isHarmless(key) || sameBytes(pres[0], posts[0]) { pair(pres[0], posts[0]) }
                } else {
                    undecided.append((key, pres, posts))
                }
            }
        }
        for (key, pres, posts) in undecided { decide(key, pres, posts) }
        decideMoved()
        pairAliases()
    }

    /// Pairs what has a name in common but not the first one: an alias came or went, or a symbol became local.
    private mutating func pairAliases() {
        var owners: [String: Int?] = [:]
        for (index, span) in pre.spans.enumerated() where postOfPre[index] == nil {
            for name in span.names { owners.updateValue(owners[name] == nil ? index : nil, forKey: name) }
        }
        for (index, span) in post.spans.enumerated() where preOfPost[index] == nil {
            let found = Set(span.names.compactMap { owners[$0] ?? nil })
            if found.count == 1, let only = found.first, postOfPre[only] == nil,
                pre.spans[only].isFunction == span.isFunction,
                // Equal first names have been looked at above.
                canonicalName(pre.spans[only].name) != canonicalName(span.name)
            {
                pair(only, index)
            }
        }
    }

    mutating func pair(_ a: Int, _ b: Int) {
        preOfPost[b] = a
        postOfPre[a] = b
    }

    private func sameBytes(_ a: Int, _ b: Int) -> Bool {
        pre.spans[a].range.count == post.spans[b].range.count
            && pre.bytes(of: pre.spans[a]) == post.bytes(of: post.spans[b])
    }

    /// Spans with names, by canonical name and kind. A function never correlates with data.
    private static func groups(_ object: ObjectSpans) -> [String: [Int]] {
        var result: [String: [Int]] = [:]
        for (index, span) in object.spans.enumerated() where !span.names.isEmpty {
            result[(span.isFunction ? "f " : "d ") + canonicalName(span.name), default: []].append(index)
        }
        return result
    }

    private mutating func decide(_ key: String, _ pres: [Int], _ posts: [Int]) {
        var pres = pres
        var posts = posts
        func match(_ signature: (ObjectSpans, Int) -> String, inOrder: Bool) -> [(Int, Int)] {
            let a = Dictionary(grouping: pres) { signature(pre, $0) }
            let b = Dictionary(grouping: posts) { signature(post, $0) }
            var found: [(Int, Int)] = []
            for (text, left) in a where !text.isEmpty {
                guard let right = b[text], left.count == right.count, inOrder || left.count == 1 else {
                    continue
                }
                found += zip(left.sorted(by: uses(pre)), right.sorted(by: uses(post)))
            }
            return found
        }
        func take(_ found: [(Int, Int)]) {
            for (a, b) in found { pair(a, b) }
            pres.removeAll { postOfPre[$0] != nil }
            posts.removeAll { preOfPost[$0] != nil }
        }
        take(match({ users($0, $1) + "|" + contentSignature($0, $1) }, inOrder: false))
        take(match(users, inOrder: false))
        take(match({ contentSignature($0, $1) }, inOrder: false))
        take(match({ following($0, $1, \.last) }, inOrder: false))
        take(match({ following($0, $1, \.first) }, inOrder: false))
        take(match({ preceding($0, $1) }, inOrder: false))
        take(match(users, inOrder: true))
        // Equal objects that nothing refers to, such as ids in sets: any of them is as good as any other.
        take(match({ users($0, $1).isEmpty ? "unused|" + contentSignature($0, $1) : "" }, inOrder: true))
        if !pres.isEmpty && !posts.isEmpty && !ambiguous.contains(key) { ambiguous.append(key) }
    }

    /// Order of the first use.
    private func uses(_ object: ObjectSpans) -> (Int, Int) -> Bool {
        let order = object === pre ? preUses : postUses
        return { (order[$0]?.first?.position ?? Int.max) < (order[$1]?.first?.position ?? Int.max) }
    }

    /// The canonical names of the spans that refer to a span.
    private func users(_ object: ObjectSpans, _ index: Int) -> String {
        let order = object === pre ? preUses : postUses
        return Set((order[index] ?? []).map { canonicalName(object.spans[$0.user].name) }).sorted().joined(
            separator: ",")
    }

    /// The users, and what stands behind the first or last reference.
    private func following(_ object: ObjectSpans, _ index: Int, _ which: (ArraySlice<Use>) -> Use?) -> String
    {
        guard let use = which(((object === pre ? preUses : postUses)[index] ?? [])[...]) else { return "" }
        let user = object.spans[use.user]
        let next = object.object.sections[user.section].relocations.dropFirst(use.relocation + 1).prefix(6)
        return next.filter { $0.offset < user.range.upperBound }.reduce(users(object, index)) {
            $0 + "|" + describe(object.target(of: $1, in: user.section), object)
        }
    }

    /// The users, and what stands before the first reference.
    private func preceding(_ object: ObjectSpans, _ index: Int) -> String {
        guard let use = (object === pre ? preUses : postUses)[index]?.first else { return "" }
        let user = object.spans[use.user]
        let last = object.object.sections[user.section].relocations.prefix(use.relocation).suffix(4)
        return last.filter { $0.offset >= user.range.lowerBound }.reduce(users(object, index)) {
            $0 + "|" + describe(object.target(of: $1, in: user.section), object)
        }
    }

    /// - Parameter subject: a span whose own name does not count.
    func contentSignature(_ object: ObjectSpans, _ index: Int, about subject: Int? = nil) -> String {
        let span = object.spans[index]
        var text = "\(span.range.count) " + hex(object.bytes(of: span))
        for relocation in object.relocations(of: span) {
            text += " \(relocation.offset - span.range.lowerBound):"
            switch object.target(of: relocation, in: span.section) {
            case .span(index, let offset): text += "itself+\(offset)"
            case .span(let other, let offset) where other == subject: text += "subject+\(offset)"
            case .external(let name): text += "\(name)+\(relocation.addend)"
            case let target: text += describe(target, object)
            }
        }
        return text
    }

    /// The spans that refer to a span.
    func users(of index: Int, in object: ObjectSpans) -> Set<Int> {
        Set(((object === pre ? preUses : postUses)[index] ?? []).map(\.user))
    }

    private func describe(_ target: Target, _ object: ObjectSpans) -> String {
        switch target {
        case .external(let name): name
        case .span(let other, let offset): canonicalName(object.spans[other].name) + "+\(offset)"
        case .content(let section, let offset): hex(object.content(section: section, offset: offset))
        case .absolute(let value): "\(value)"
        }
    }

    /// The references to each span, in the order of the object.
    private static func uses(_ object: ObjectSpans) -> [Int: [Use]] {
        var result: [Int: [Use]] = [:]
        var position = 0
        for (user, span) in object.spans.enumerated() where !span.names.isEmpty {
            let relocations = object.relocations(of: span)
            for index in relocations.indices {
                position += 1
                if case .span(let target, _) = object.target(of: relocations[index], in: span.section) {
                    result[target, default: []].append(Use(position: position, user: user, relocation: index))
                }
            }
        }
        return result
    }

    /// Whether a group holds only what keeps no state that matters: what was printed once already, rate limits,
    /// descriptors of debug messages, lock classes, what tracers print strings by. A new copy of such an object is harmless.
    static func isHarmless(_ key: String) -> Bool {
        let names = [
            "_rs", "__already_done", "__print_once", "__warned", "___done", "__key", "__UNIQUE_ID_ddebug",
            "descriptor", "___tp_str",
        ]
        return names.contains { key == "d " + $0 + ".#" || key == "d " + $0 + "#" || key == "d " + $0 }
    }
}
