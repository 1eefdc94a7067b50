// Calls that may sleep where a task must not.
//
// The body is read from top to bottom with a list of what is held. A block that ends with a jump leaves what was held
// before it (an error path that unlocks and returns); what a block takes is not held behind it; behind a jump, at a label, nothing is known to be held. So the
// list may be too short, hardly ever too long. Only what is new is remarked, by call, arguments and lock, whether the
// call or the lock was added, and only where the lock is released further down: what is released elsewhere may be a
// lock that is held on one path alone.

struct AtomicReview {
    let pre: SourceFile
    let post: SourceFile

    /// A sleeping call and what was taken last of what is held there.
    private struct Place: Hashable {
        var call: String
        var arguments: [String]
        var lock: String
    }

    func findings() -> [Finding] {
        post.functions.flatMap { after -> [Finding] in
            guard let before = pre[after.name], !before.hasSameText(as: after) else {
                return pre[after.name] == nil ? remarks(after, known: [:]) : []
            }
            let known = Dictionary(grouping: places(before).map(\.place)) { $0 }.mapValues(\.count)
            return remarks(after, known: known)
        }
    }

    private func remarks(_ function: SourceFunction, known: [Place: Int]) -> [Finding] {
        var known = known
        return places(function).compactMap { place, call, lock in
            if let count = known[place], count > 0 {
                known[place] = count - 1
                return nil
            }
            return Finding(
                "sleeping-in-atomic", .warning, file: post.path, line: call.line, symbol: function.name,
                "'\(call.name)' may sleep, and it stands behind '\(lock.name)(\(lock.argumentTexts.joined(separator: ", ")))' in line \(lock.line)",
                advice:
                    "a task that sleeps there stops the machine; move it out, or allocate with GFP_ATOMIC; a kernel with CONFIG_DEBUG_ATOMIC_SLEEP would tell"
            )
        }
    }

    private func places(_ function: SourceFunction) -> [(place: Place, call: SourceCall, lock: SourceCall)] {
        var walk = AtomicWalk(function)
        return walk.run().map { call, lock in
            (Place(call: call.name, arguments: call.argumentTexts, lock: lock.name), call, lock)
        }
    }
}

/// Follows one body.
private struct AtomicWalk {
    private typealias Held = (pair: Int, call: SourceCall)

    private let body: [SourceToken]
    private let calls: [Int: SourceCall]
    /// Where each pair is given back last.
    private let lastRelease: [Int: Int]
    private var held: [Held] = []
    /// What was held when each open block began.
    private var blocks: [[Held]] = []
    private var statement = ""
    private var isStatementStart = true

    private static let jumps: Set = ["return", "goto", "break", "continue"]
    /// What a statement without braces behind one of these takes is held on one path only.
    private static let conditions: Set = ["if", "else"]

    init(_ function: SourceFunction) {
        body = function.body
        calls = Dictionary(function.calls.map { ($0.position, $0) }) { first, _ in first }
        var last: [Int: Int] = [:]
        for call in function.calls {
            if let (pair, takes) = CallPair.byCall[call.name], !takes { last[pair] = call.position }
        }
        lastRelease = last
    }

    /// The sleeping calls, each with the last lock that is held there.
    mutating func run() -> [(SourceCall, SourceCall)] {
        var found: [(SourceCall, SourceCall)] = []
        for index in body.indices {
            follow(index)
            guard let call = calls[index] else { continue }
            if let (pair, takes) = CallPair.byCall[call.name], CallPair.all[pair].isAtomic {
                change(pair, takes, call)
            } else if SleepingCalls.contains(call), let (pair, lock) = held.last,
                lastRelease[pair].map({ $0 > index }) == true
            {
                found.append((call, lock))
            }
        }
        return found
    }

    private mutating func change(_ pair: Int, _ takes: Bool, _ call: SourceCall) {
        if takes {
            if Self.conditions.contains(statement) { return }
            held.append((pair, call))
        } else if let last = held.lastIndex(where: { $0.pair == pair }) {
            held.remove(at: last)
        }
    }

    /// Blocks, statements and labels.
    private mutating func follow(_ index: Int) {
        let token = body[index]
        if token.is("{") {
            blocks.append(held)
            isStatementStart = true
            statement = ""
        } else if token.is("}") {
            let before = blocks.popLast() ?? []
            // What a block alone takes is held on one path only.
            let known = Set(before.map(\.call.position))
            held = Self.jumps.contains(statement) ? before : held.filter { known.contains($0.call.position) }
            isStatementStart = true
            statement = ""
        } else if token.is(";") || token.is(":") && (statement == "case" || statement == "default") {
            isStatementStart = true
        } else if isStatementStart {
            if token.kind == .word, index + 1 < body.count, body[index + 1].is(":"), token.text != "default" {
                // A label: the next token ends it.
                if Self.jumps.contains(statement) { held = [] }
                statement = "case"
            } else {
                statement = token.kind == .word ? token.text : ""
            }
            isStatementStart = false
        }
    }
}
