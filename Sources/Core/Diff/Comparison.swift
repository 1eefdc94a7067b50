// Comparing correlated spans: bytes outside of relocated fields, relocations, and the table entries that describe the
// code. References count as equal when they lead to correlated spans, to the same external symbol, or to equal content.

/// What became of a post function.
struct FunctionChange: Sendable {
    /// Index in the post object's spans.
    var post: Int
    /// Index in the pre object's spans; nil for a new function.
    var pre: Int?
    var reason: ChangeReason
}

enum ChangeReason: Sendable, Equatable {
    case new
    case size(Int, Int)
    /// Offset of the first differing byte.
    case code(Int)
    /// Offset and text of the reference that leads elsewhere.
    case reference(Int, String)
    /// The table whose entry differs.
    case table(String)
    /// Another part of the same function differs.
    case part(String)
}

struct Comparison {
    let pre: ObjectSpans
    let post: ObjectSpans
    let correlation: Correlation
    /// Pairs of constants found equal, or assumed to be while they are compared.
    private var equalConstants: [Int: Bool] = [:]
    /// Post spans of constants that stay where they are whatever becomes of their content (ConstantReview.swift): what
    /// refers to them does not change with them.
    private var fixedConstants: Set<Int> = []

    init(
        pre: ObjectSpans, post: ObjectSpans,
        declarers: (pre: Declarers, post: Declarers) = (Declarers(), Declarers())
    ) {
        self.pre = pre
        self.post = post
        correlation = Correlation(pre: pre, post: post, declarers: declarers)
    }

    mutating func keep(_ constants: Set<Int>) {
        fixedConstants = constants
        equalConstants = [:]
    }

    /// New and changed functions of the running kernel, in the order of the post object; the other parts of a changed
    /// function count as changed.
    mutating func changedFunctions() -> [FunctionChange] {
        var changes: [Int: FunctionChange] = [:]
        let functions = post.spans.indices.filter {
            post.spans[$0].isFunction && post.spans[$0].role == .code && !post.spans[$0].names.isEmpty
        }
        for index in functions {
            guard let counterpart = correlation.preOfPost[index] else {
                changes[index] = FunctionChange(post: index, pre: nil, reason: .new)
                continue
            }
            if let reason = difference(counterpart, index) {
                changes[index] = FunctionChange(post: index, pre: counterpart, reason: reason)
            }
        }
        // The parts of one function (`f`, `f.cold`) jump into each other: all are replaced or none.
        let families = Dictionary(grouping: functions) { Self.family(post.spans[$0].name) }
        for members in families.values where members.count > 1 {
            guard let changed = members.first(where: { changes[$0] != nil }) else { continue }
            for member in members where changes[member] == nil {
                changes[member] = FunctionChange(
                    post: member, pre: correlation.preOfPost[member], reason: .part(post.spans[changed].name))
            }
        }
        return functions.compactMap { changes[$0] }
    }

    /// `f.cold` belongs to `f`, `f.isra.0.cold` to `f.isra.0`.
    static func family(_ name: String) -> String {
        if let cold = name.range(of: ".cold") { return String(name[..<cold.lowerBound]) }
        return name
    }

    static func isPart(_ name: String) -> Bool { family(name) != name }

    /// Why two spans differ; nil where they are equal.
    mutating func difference(_ a: Int, _ b: Int) -> ChangeReason? {
        let x = pre.spans[a]
        let y = post.spans[b]
        if x.range.count != y.range.count { return .size(x.range.count, y.range.count) }
        let left = Array(pre.relocations(of: x))
        let right = Array(post.relocations(of: y))
        if let offset = firstDifferentByte(x, y, left, right) { return .code(offset) }
        for (r, s) in zip(left, right) {
            let offset = s.offset - y.range.lowerBound
            guard r.offset - x.range.lowerBound == offset, r.type == s.type,
                sameTarget(r, x.section, s, y.section)
            else { return .reference(offset, describe(post.target(of: s, in: y.section))) }
        }
        if left.count != right.count { return .reference(0, "number of references") }
        if let table = differentTable(a, b) { return .table(table) }
        return nil
    }

    private func firstDifferentByte(
        _ x: ObjectSpan, _ y: ObjectSpan, _ left: [Relocation], _ right: [Relocation]
    ) -> Int? {
        var a = Array(pre.bytes(of: x))
        var b = Array(post.bytes(of: y))
        guard a.count == b.count else { return 0 }
        // RELA keeps nothing in the field; where the addend stands there it is compared with the target.
        for (list, base, isPre) in [(left, x.range.lowerBound, true), (right, y.range.lowerBound, false)] {
            for relocation in list {
                let start = relocation.offset - base
                for i in start..<min(start + 4, a.count) { if isPre { a[i] = 0 } else { b[i] = 0 } }
            }
        }
        return zip(a, b).enumerated().first { $0.element.0 != $0.element.1 }?.offset
    }

    /// Whether two references lead to the same place; outside of the object only the addend says where in a symbol.
    private mutating func sameTarget(_ r: Relocation, _ x: Int, _ s: Relocation, _ y: Int) -> Bool {
        let target = pre.target(of: r, in: x)
        if case .external = target, r.addend != s.addend { return false }
        return sameTarget(target, post.target(of: s, in: y))
    }

    private mutating func sameTarget(_ a: Target, _ b: Target) -> Bool {
        switch (a, b) {
        case (.external(let x), .external(let y)): return x == y
        case (.absolute(let x), .absolute(let y)): return x == y
        case (.content(let s, let i), .content(let t, let j)):
            return pre.content(section: s, offset: i) == post.content(section: t, offset: j)
                && pre.roles[s] == post.roles[t]
        case (.span(let x, let i), .span(let y, let j)):
            guard i == j else { return false }
            if pre.spans[x].names.isEmpty && post.spans[y].names.isEmpty { return equalContent(x, y) }
            guard correlation.preOfPost[y] == x else { return false }
            return post.isReplaceableConstant(y) && !fixedConstants.contains(y) ? equalContent(x, y) : true
        // A symbol that was defined elsewhere and now is here, or the other way round.
        default: return false
        }
    }

    /// Whether two read-only spans hold the same.
    mutating func equalContent(_ a: Int, _ b: Int) -> Bool {
        if let known = equalConstants[b] { return known }
        equalConstants[b] = true
        let equal = difference(a, b) == nil
        // What was found equal while this one was taken for equal is not known any more.
        if !equal { equalConstants = equalConstants.filter { !$0.value } }
        equalConstants[b] = equal
        return equal
    }

    private mutating func differentTable(_ a: Int, _ b: Int) -> String? {
        let left = Self.codeEntries(pre, a)
        let right = Self.codeEntries(post, b)
        for (x, y) in zip(left, right) where !sameEntry(x, y) { return post.object.sections[y.section].name }
        if left.count != right.count {
            return
                (left.count > right.count
                ? left.last.map { pre.object.sections[$0.section].name }
                : right.last.map { post.object.sections[$0.section].name }) ?? ""
        }
        return nil
    }

    /// The entries that describe a span, by table: the assembler puts sections in the order of their first use.
    private static func codeEntries(_ object: ObjectSpans, _ index: Int) -> [TableEntry] {
        let entries = (object.entries[index] ?? []).filter { object.roles[$0.section] == .codeTable }
        let tables = Dictionary(grouping: entries) { object.object.sections[$0.section].name }
        return tables.keys.sorted().flatMap { tables[$0]! }
    }

    private mutating func sameEntry(_ x: TableEntry, _ y: TableEntry) -> Bool {
        let a = pre.object.sections[x.section]
        let b = post.object.sections[y.section]
        guard a.name == b.name, x.offset == y.offset, x.range.count == y.range.count,
            Array(a.contents[x.range]) == Array(b.contents[y.range])
        else { return false }
        let left = Array(a.relocations(in: x.range))
        let right = Array(b.relocations(in: y.range))
        guard left.count == right.count else { return false }
        for (r, s) in zip(left, right) {
            guard r.offset - x.range.lowerBound == s.offset - y.range.lowerBound, r.type == s.type else {
                return false
            }
            let t = pre.target(of: r, in: x.section)
            let u = post.target(of: s, in: y.section)
            // The first field is the owner itself; references inside the same pair are compared by offset alone.
            if case .content(let m, let i) = t, case .content(let n, let j) = u,
                pre.roles[m] == .replacementCode
            {
                if !sameReplacement(x, m, i, y, n, j) { return false }
            } else if !sameTarget(r, x.section, s, y.section) {
                return false
            }
        }
        return true
    }

    /// Compares the pieces of replacement code that two entries of `.altinstructions` name. Their length is not needed:
    /// the bytes up to the smaller end of what follows are compared with their references.
    private mutating func sameReplacement(
        _ x: TableEntry, _ m: Int, _ i: Int, _ y: TableEntry, _ n: Int, _ j: Int
    ) -> Bool {
        let size = pre.replacementSize(x)
        guard size == post.replacementSize(y) else { return false }
        let a = pre.object.sections[m]
        let b = post.object.sections[n]
        guard i >= 0, j >= 0, i + size <= a.contents.count, j + size <= b.contents.count,
            a.contents[i..<i + size] == b.contents[j..<j + size]
        else { return false }
        let left = Array(a.relocations(in: i..<i + size))
        let right = Array(b.relocations(in: j..<j + size))
        guard left.count == right.count else { return false }
        for (r, s) in zip(left, right) {
            guard r.offset - i == s.offset - j, r.type == s.type,
                sameTarget(r, m, s, n)
            else { return false }
        }
        return true
    }

    func describe(_ target: Target) -> String {
        switch target {
        case .external(let name): name
        case .span(let index, _):
            post.spans[index].names.isEmpty
                ? post.object.sections[post.spans[index].section].name : post.spans[index].name
        case .content(let section, let offset):
            "\"" + String(decoding: post.content(section: section, offset: offset).dropLast(), as: UTF8.self)
                + "\""
        case .absolute(let value): hex(value)
        }
    }
}

extension ObjectSpans {
    /// Whether a span is read-only data that nobody outside of the object can know by name: a changed one may be
    /// shipped as a new copy for the functions that use it.
    func isReplaceableConstant(_ index: Int) -> Bool {
        let span = spans[index]
        return span.role == .data && !object.sections[span.section].isWritable && !span.isGlobal
    }

    /// The number of bytes of replacement code of an `.altinstructions` entry: the last byte of `struct alt_instr`
    /// (`replacementlen`; `arch/x86/include/asm/alternative.h`, Linux 5.19 and later; before, `padlen` followed it).
    func replacementSize(_ entry: TableEntry) -> Int {
        let section = object.sections[entry.section]
        let position = entry.range.count == 13 ? entry.range.upperBound - 2 : entry.range.upperBound - 1
        if entry.range.count == 14 {
            // Linux 6.3 and later: 32-bit flags, then the two lengths.
            return Int(section.contents[entry.range.upperBound - 1])
        }
        return Int(section.contents[position])
    }
}
