// Variables of functions that are gone from one function while another one has gained one of the same name. It may be
// the same variable - the function got another name, or the code has gone into a helper - or another one. The first must
// keep its state, the second must not take it over, and neither mistake would be noticed. So:
//
// 1. constants have no state: equal ones are the same;
// 2. code that is exactly what it was, in the same functions, uses what it used;
// 3. a function that is gone and one that is new, with exactly the same code, are one function with another name.
//
// All else only the author knows, and is told so. A variable of the file counts as one that the file declares.

/// Which function declares each variable of an object, from its debug information. Those that use a variable say less:
/// they change with inlining.
struct Declarers: Sendable {
    private var functionOfSpan: [Int: String] = [:]
    /// The names of the functions that the unit defines.
    private(set) var functions: Set<String> = []

    /// Knows nothing.
    init() {}

    /// - Parameter debug: has the addresses of `object`.
    init(_ object: ObjectSpans, _ debug: DebugInformation) {
        functions = Set(debug.functions.filter { !$0.isDeclaration }.map(\.name))
        var names: [UInt64: String] = [:]
        for variable in debug.variables {
            guard let address = variable.address, let function = variable.function else { continue }
            names[address] = debug.functions[debug.abstract(function)].name
        }
        for (index, span) in object.spans.enumerated() where !span.names.isEmpty && !span.isFunction {
            functionOfSpan[index] = names[object.address(index, in: debug)]
        }
    }

    /// The function in whose body a span is declared; nil for what is declared outside of functions.
    subscript(_ span: Int) -> String? { functionOfSpan[span] }
}

/// A variable of post of which nothing tells whether it is one of pre.
struct MovedVariable: Sendable {
    /// As in the source.
    var name: String
    /// Of post.
    var symbol: String
    /// What declares it; nil for the file.
    var declarer: String?
    /// What declared those of its name that are gone, sorted.
    var before: [String?]

    func finding(_ path: String) -> Finding {
        let owners = before.map { $0.map { "of \($0)()" } ?? "of the file" }.joined(separator: " and that ")
        return Finding(
            "ambiguous", .error, file: path, symbol: symbol,
            "the variable '\(name)' \(owners) is gone and \(declarer.map { $0 + "()" } ?? "the file") has a new one: nothing tells whether it is the same",
            advice:
                "if it is another one, give it another name; if it is the same, whose state must be kept, leave it where it was declared and hand its address on"
        )
    }
}

extension Correlation {
    /// Pairs what is certainly the same among variables that another function declares now.
    mutating func decideMoved() {
        let left = leftOver(pre) { postOfPre[$0] == nil }
        let right = leftOver(post) { preOfPost[$0] == nil }
        for (name, posts) in right.sorted(by: { $0.key < $1.key }) {
            guard let pres = left[name], !Self.isHarmless("d " + name) else { continue }
            take(equal(pres, posts) { isConstant($0, $1) ? contentSignature($0, $1) : nil })
            take(equal(pres, posts) { userCode($0, $1, isNamed: true) })
            take(equal(pres, posts) { isOnThisSideOnly($0, $1) ? userCode($0, $1, isNamed: false) : nil })
            let gone = pres.filter { postOfPre[$0] == nil && !isConstant(pre, $0) }
            guard !gone.isEmpty, !ambiguous.contains("d " + name + ".#") else { continue }
            let before = Set(gone.map { declarers.pre[$0] }).sorted { ($0 ?? "") < ($1 ?? "") }
            for index in posts where preOfPost[index] == nil && !isConstant(post, index) {
                moved.append(
                    MovedVariable(
                        name: name, symbol: post.spans[index].name, declarer: declarers.post[index],
                        before: before))
            }
        }
    }

    /// Variables and constants that have no counterpart, by their names in the source.
    private func leftOver(_ object: ObjectSpans, _ isLeft: (Int) -> Bool) -> [String: [Int]] {
        var result: [String: [Int]] = [:]
        for (index, span) in object.spans.enumerated()
        where span.role == .data || span.role == .perCPU {
            guard !span.names.isEmpty, isLeft(index), !span.name.hasPrefix("__UNIQUE_ID_") else { continue }
            let name = canonicalName(span.name)
            result[name.hasSuffix(".#") ? String(name.dropLast(2)) : name, default: []].append(index)
        }
        return result
    }

    /// Those that have no counterpart yet, and of which exactly one on each side has a signature.
    private func equal(
        _ pres: [Int], _ posts: [Int], _ signature: (ObjectSpans, Int) -> String?
    ) -> [(Int, Int)] {
        let left = Dictionary(grouping: pres.filter { postOfPre[$0] == nil }) { signature(pre, $0) }
        let right = Dictionary(grouping: posts.filter { preOfPost[$0] == nil }) { signature(post, $0) }
        return left.compactMap { text, indices in
            guard text != nil, indices.count == 1, let others = right[text], others.count == 1 else {
                return nil
            }
            return (indices[0], others[0])
        }
    }

    private mutating func take(_ found: [(Int, Int)]) { for (a, b) in found { pair(a, b) } }

    /// Whether the function that declares a variable is not in the other object.
    private func isOnThisSideOnly(_ object: ObjectSpans, _ index: Int) -> Bool {
        let (own, others) =
            object === pre ? (declarers.pre, declarers.post) : (declarers.post, declarers.pre)
        return own[index].map { !others.functions.contains($0) } ?? false
    }

    private func isConstant(_ object: ObjectSpans, _ index: Int) -> Bool {
        !object.object.sections[object.spans[index].section].isWritable
    }

    /// The code that uses a variable; nil where nothing does.
    private func userCode(_ object: ObjectSpans, _ index: Int, isNamed: Bool) -> String? {
        let users = users(of: index, in: object)
        guard !users.isEmpty else { return nil }
        return users.map { user in
            (isNamed ? canonicalName(object.spans[user].name) + ":" : "")
                + contentSignature(object, user, about: index)
        }.sorted().joined(separator: "\n")
    }
}
