// Locks, references and memory whose balance moves between functions.
//
// All functions of an update change in one pause, and no task is inside of one then. So a call that is added on an
// error path, or a lock and its release that are added together, is safe. What is not: one function takes and *another*
// gives back, and both change. An object that the old code took nothing for meets the new code that gives back: a use
// after free; or the other way round, a leak. So the remark wants two functions whose balance moves in opposite
// directions, and which do not belong to one run: neither names the other, and nobody calls both. Two functions
// that each move calls into a helper are not remarked.
//
// Calls are read from the source: in machine code most of them are inlined. A function that has calls of both sides of
// a pair is left out, because which belong together is not known. A function alone that only takes, or only gives back,
// is not remarked either: tried on real fixes, that was a mended leak or a lock with a wrapper each time.

struct BalanceReview {
    let pre: SourceFile
    let post: SourceFile

    /// How a function's calls of one pair change.
    private struct Shift {
        var pair: Int
        var name: String
        var line: Int
        var before: SourceFunction?
        var after: SourceFunction?
        /// Above 0: takes more, or gives back less.
        var amount: Int
        /// The calls that remain in post, or were in pre.
        var calls: [SourceCall]
        var isOnlySide: Bool
    }

    func findings() -> [Finding] {
        let all = changed().flatMap { shifts($0.0, $0.1) }
        let byPair = Dictionary(grouping: all, by: \.pair)
        return byPair.keys.sorted().compactMap { pair in
            remarks(CallPair.all[pair], byPair[pair]!)
        }
    }

    private func changed() -> [(SourceFunction?, SourceFunction?)] {
        let kept = post.functions.compactMap { after -> (SourceFunction?, SourceFunction?)? in
            let before = pre[after.name]
            return before?.hasSameText(as: after) == true ? nil : (before, after)
        }
        return kept + pre.functions.filter { post[$0.name] == nil }.map { ($0, nil) }
    }

    private func shifts(_ before: SourceFunction?, _ after: SourceFunction?) -> [Shift] {
        let (old, new) = (sides(before), sides(after))
        return Set(old.keys).union(new.keys).sorted().compactMap { pair in
            let (a, b) = (old[pair] ?? ([], []), new[pair] ?? ([], []))
            let taken = b.taking.count - a.taking.count
            let given = b.giving.count - a.giving.count
            guard taken != given else { return nil }
            let isOnlySide =
                taken == 0 ? (a.taking + b.taking).isEmpty : given == 0 && (a.giving + b.giving).isEmpty
            let calls =
                taken != 0
                ? (b.taking.isEmpty ? a.taking : b.taking) : (b.giving.isEmpty ? a.giving : b.giving)
            return Shift(
                pair: pair, name: (after ?? before)!.name, line: after?.line ?? 0, before: before,
                after: after,
                amount: taken - given, calls: calls, isOnlySide: isOnlySide)
        }
    }

    private func sides(_ function: SourceFunction?) -> [Int: (taking: [SourceCall], giving: [SourceCall])] {
        var result: [Int: (taking: [SourceCall], giving: [SourceCall])] = [:]
        for call in function?.calls ?? [] {
            guard let (pair, takes) = CallPair.byCall[call.name] else { continue }
            var entry = result[pair] ?? ([], [])
            if takes { entry.taking.append(call) } else { entry.giving.append(call) }
            result[pair] = entry
        }
        return result
    }

    private func remarks(_ pair: CallPair, _ shifts: [Shift]) -> Finding? {
        let single = shifts.filter(\.isOnlySide)
        let helped = Set(
            single.indices.filter { hasHelper(single[$0], among: single) }.map { single[$0].name })
        for up in single where up.amount > 0 {
            for down in single where down.amount < 0 {
                // A new function has no objects of the old code; with one that is gone it is a function renamed.
                let isRenamed = up.before == nil && down.after == nil || up.after == nil && down.before == nil
                if isRenamed || up.before == nil && down.before == nil || isOneRun(up, down) { continue }
                if helped.contains(up.name) && helped.contains(down.name) { continue }
                return finding(
                    pair, at: up.after != nil ? up : down,
                    "the balance of \(pair.title) moves between '\(up.name)' (\(describe(up))) and '\(down.name)' (\(describe(down)))",
                    "objects that the old code has treated the one way meet the new code of the other function: think of each object that exists when the update is applied, and of undo; where that fails, let the new code know which objects are its own"
                )
            }
        }
        return nil
    }

    /// Whether what a function gains or loses is what another one of the same run loses or gains.
    private func hasHelper(_ one: Shift, among shifts: [Shift]) -> Bool {
        shifts.contains { $0.amount == -one.amount && isConnected(one, $0) }
    }

    private func finding(_ pair: CallPair, at shift: Shift, _ message: String, _ advice: String) -> Finding {
        // A call that is gone has no line in post.
        let last = shift.calls.last { call in
            shift.after?.calls.contains { $0.line == call.line && $0.name == call.name } == true
        }
        return Finding(
            "lock-imbalance", .warning, file: post.path, line: last?.line ?? shift.after?.line,
            symbol: shift.name,
            message, advice: advice)
    }

    private func describe(_ shift: Shift) -> String {
        let names = Set(shift.calls.map(\.name)).sorted().joined(separator: ", ")
        let count = abs(shift.amount)
        let takes = shift.calls.first.map { CallPair.all[shift.pair].taking.contains($0.name) } ?? true
        let isMore = takes == (shift.amount > 0)
        let lines = isMore ? " in line " + shift.calls.map { "\($0.line)" }.joined(separator: ", ") : ""
        return "\(count) \(isMore ? "more" : "fewer") \(names)\(lines)"
    }

    /// Whether one function names the other: then it calls it or hands it on.
    private func isConnected(_ a: Shift, _ b: Shift) -> Bool {
        func names(_ shift: Shift, _ word: String) -> Bool {
            shift.before?.names(word) == true || shift.after?.names(word) == true
        }
        return names(a, b.name) || names(b, a.name)
    }

    private func isOneRun(_ a: Shift, _ b: Shift) -> Bool {
        isConnected(a, b)
            || post.functions.contains { function in
                let called = function.calls.map(\.name)
                return called.contains(a.name) && called.contains(b.name)
            }
    }
}
