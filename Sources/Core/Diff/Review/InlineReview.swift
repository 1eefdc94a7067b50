// New static data in inline functions of headers. Each unit that is compiled anew gets a copy of its own, and the units
// that did not change have none: what is meant to be one counter, or one key, is several.

struct InlineReview {
    let pre: SourceFile?
    let post: SourceFile

    /// Macros that hide static data whose sharing matters, and those where a copy only means another message.
    private static let shared: Set = [
        "DO_ONCE", "DO_ONCE_SLEEPABLE", "net_get_random_once", "get_random_once",
    ]

    func findings() -> [Finding] {
        guard post.path.hasSuffix(".h") else { return [] }
        return post.functions.filter(\.isInline).flatMap { after -> [Finding] in
            let before = pre?[after.name]
            if before?.hasSameText(as: after) == true { return [] }
            return statics(before, after) + helpers(before, after)
        }
    }

    private func statics(_ before: SourceFunction?, _ after: SourceFunction) -> [Finding] {
        let known = Set(before.map(Self.variables)?.map(\.text) ?? [])
        return Self.variables(after).filter { !known.contains($0.text) }.map { variable in
            finding(
                .warning, after, variable.line,
                "the inline function '\(after.name)' gets the static variable '\(variable.text)'")
        }
    }

    /// The names that `static` declarations of a body end with.
    private static func variables(_ function: SourceFunction) -> [SourceToken] {
        let body = function.body
        return body.indices.filter { body[$0].kind == .word && body[$0].text == "static" }.compactMap {
            start in
            let rest = body[(start + 1)...]
            let end =
                rest.firstIndex { $0.is("=") || $0.is(";") || $0.is("[") || $0.is("(") } ?? rest.endIndex
            // DEFINE_MUTEX(name) names it in parentheses.
            if end + 1 < body.count, body[end].is("("), body[end + 1].kind == .word { return body[end + 1] }
            return body[(start + 1)..<end].last { $0.kind == .word }
        }
    }

    private func helpers(_ before: SourceFunction?, _ after: SourceFunction) -> [Finding] {
        let known = Dictionary(grouping: before?.calls ?? [], by: \.name).mapValues(\.count)
        let calls = Dictionary(grouping: after.calls.filter { Self.isOnce($0.name) }, by: \.name)
        return calls.keys.sorted().compactMap { name in
            guard calls[name]!.count > known[name] ?? 0, let last = calls[name]!.last else { return nil }
            return finding(
                Self.shared.contains(name) ? .warning : .note, after, last.line,
                "the inline function '\(after.name)' gets a '\(name)', which holds static data")
        }
    }

    private static func isOnce(_ name: String) -> Bool {
        shared.contains(name)
            || name.hasSuffix("_once")
                && (name.hasPrefix("pr_") || name.contains("print") || name.contains("warn"))
    }

    private func finding(
        _ severity: Finding.Severity, _ function: SourceFunction, _ line: Int, _ message: String
    )
        -> Finding
    {
        Finding(
            "static-in-inline", severity, file: post.path, line: line, symbol: function.name, message,
            advice:
                "each source file of the update gets a copy of its own, and the rest of the kernel has none; put the data into one .c file"
        )
    }
}
