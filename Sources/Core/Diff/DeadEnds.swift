// Functions that never return, as objtool finds them: there is no way through their code that leads back to the caller
// (`__dead_end_function` in tools/objtool/check.c of Linux 6.1). In a shipped object, objtool does not see those that stay
// where they are, would take what stands behind a call of one for its continuation, and must be told
// (`.discard.unreachable`).

struct DeadEnds {
    private let object: ObjectSpans
    /// By span. One that is being looked at counts as returning.
    private var known: [Int: Bool] = [:]

    init(_ object: ObjectSpans) { self.object = object }

    /// Whether a function (a span) never returns. Where that is not certain, it returns.
    mutating func contain(_ index: Int) -> Bool {
        if let known = known[index] { return known }
        // Another one may take its place.
        if object.spans[index].isWeak { return false }
        known[index] = false
        let result = !mayReturn(index)
        known[index] = result
        return result
    }

    private mutating func mayReturn(_ index: Int) -> Bool {
        let span = object.spans[index]
        let code = object.object.sections[span.section].contents
        let targets = object.relocations(of: span)
        var offset = span.range.lowerBound
        while offset < span.range.upperBound {
            let found = disassemble(
                code, at: offset, address: UInt64(offset), is64Bit: object.object.is64Bit)
            guard let (text, length) = found, length > 0 else { return true }
            let words = text.split(separator: " ")
            let isJump = words.contains { $0.hasPrefix("j") }
            if words.contains(where: { $0.hasPrefix("ret") || $0.hasPrefix("iret") || $0.hasPrefix("sysret") }
            ) {
                return true
            }
            if isJump {
                if text.contains("*") { return true }
                let target = targets.first { (offset..<offset + length).contains($0.offset) }
                if let target {
                    if leavesFamily(object.target(of: target, in: span.section), of: index) { return true }
                } else {
                    guard let place = words.last.flatMap({ UInt64($0.dropFirst(2), radix: 16) }),
                        span.range.contains(Int(truncatingIfNeeded: place))
                    else { return true }
                }
            }
            offset += length
        }
        return false
    }

    /// Whether a jump may lead to code that returns; one to another part of the same function is judged with that part.
    private mutating func leavesFamily(_ target: Target, of index: Int) -> Bool {
        guard case .span(let other, _) = target, object.spans[other].isFunction else { return true }
        if other == index { return false }
        let isPart =
            Comparison.family(object.spans[other].name) == Comparison.family(object.spans[index].name)
        // A part jumps back to its function.
        if isPart && !Comparison.isPart(object.spans[other].name) { return false }
        return !contain(other)
    }
}
