// Why each function of a unit changed. The order of the questions is that of certainty: are its own lines in the
// change; those of what is inlined into it; a macro that it names? What is left comes from types, from the compiler's
// decisions or from data, and the first differing instruction tells which.

/// A function that goes into the update, with what debug information and source say of it.
struct ShippedFunction {
    /// Index into the post object's spans.
    var span: Int
    var record: ChangeRecord
    /// In post's debug information.
    var function: Int?
    /// The types of its variables, parameters and inlined callees, and of the variables that it refers to.
    var types: Set<Int> = []
    /// Member names in its own lines and in those of what is inlined into it: what follows `->` or `.`.
    var members: Set<Substring> = []
}

struct Explainer {
    private var comparison: Comparison
    private let pre: UnitFunctions
    private let post: UnitFunctions
    private let source: SourceChange
    private let types: [TypeChange]
    private let path: String
    private let variables: [String: Set<Int>]
    private var texts: [String: [String]] = [:]

    init(
        _ comparison: Comparison, pre: DebugInformation, post: DebugInformation, source: SourceChange,
        types: [TypeChange], path: String
    ) {
        self.comparison = comparison
        self.pre = UnitFunctions(pre)
        self.post = UnitFunctions(post)
        self.source = source
        self.types = types
        self.path = path
        variables = post.variables.reduce(into: [:]) { known, variable in
            if let type = variable.type { known[variable.name, default: []].insert(type) }
        }
    }

    mutating func explain(_ changes: [FunctionChange]) throws -> [ShippedFunction] {
        try changes.filter { !Comparison.isPart(comparison.post.spans[$0.post].name) }.map { change in
            // Where only the other part differs, the difference is there.
            var shown = change
            if case .part(let name) = change.reason,
                let part = changes.first(where: { comparison.post.spans[$0.post].name == name })
            {
                shown = part
            }
            return try explain(change, shown: shown)
        }
    }

    /// Functions that the post object has no longer.
    func removed() -> [ChangeRecord] {
        comparison.pre.spans.indices.compactMap { index in
            let span = comparison.pre.spans[index]
            guard span.isFunction, span.role == .code, !span.names.isEmpty, !Comparison.isPart(span.name),
                comparison.correlation.postOfPre[index] == nil
            else { return nil }
            var record = ChangeRecord(unit: path, function: span.name, kind: .removed)
            record.pre = code(comparison.pre, pre, index)
            record.reasons = appearance(span.name, other: comparison.post, debug: post, isNew: false)
            return record
        }
    }

    private mutating func explain(_ change: FunctionChange, shown: FunctionChange) throws -> ShippedFunction {
        let span = comparison.post.spans[change.post]
        let function = functionIndex(comparison.post, post, change.post)
        var shipped = ShippedFunction(
            span: change.post,
            record: ChangeRecord(unit: path, function: span.name, kind: change.pre == nil ? .new : .changed),
            function: function)
        try readSource(&shipped)
        shipped.record.post = code(comparison.post, post, change.post)
        guard let counterpart = change.pre else {
            shipped.record.reasons = appearance(span.name, other: comparison.pre, debug: pre, isNew: true)
            return shipped
        }
        shipped.record.pre = code(comparison.pre, pre, counterpart)
        let difference = FirstDifference(comparison, shown)
        show(difference, shown, in: &shipped.record)
        var reasons = try edits(shipped, functionIndex(comparison.pre, pre, counterpart))
        if reasons.isEmpty { reasons = machineReasons(shown, difference, shipped) }
        shipped.record.reasons = reasons
        return shipped
    }

    // MARK: - What the source says

    private func functionIndex(_ object: ObjectSpans, _ side: UnitFunctions, _ span: Int) -> Int? {
        side.function(at: object.address(span, in: side.debug))
    }

    private mutating func readSource(_ shipped: inout ShippedFunction) throws {
        let span = comparison.post.spans[shipped.span]
        for relocation in comparison.post.relocations(of: span) {
            switch comparison.post.target(of: relocation, in: span.section) {
            case .external(let name): shipped.types.formUnion(variables[name] ?? [])
            case .span(let index, _):
                let name = comparison.post.spans[index].name.prefix { $0 != "." }
                shipped.types.formUnion(variables[String(name)] ?? [])
            default: break
            }
        }
        guard let function = shipped.function else { return }
        shipped.types.formUnion(post.types(function))
        for index in Set([function] + post.debug.functions[function].inlined.map(\.function)) {
            shipped.members.formUnion(FunctionText.members(try lines(index)))
        }
    }

    /// The lines of a function in post.
    private mutating func lines(_ function: Int) throws -> ArraySlice<String> {
        guard let place = post.place(function) else { return [] }
        if texts[place.file] == nil { texts[place.file] = try source.postLines(place.file) }
        guard let all = texts[place.file], let range = FunctionText.range(all, from: place.line) else {
            return []
        }
        return all[range.lowerBound - 1..<range.upperBound]
    }

    /// Edits of the function itself, of inlined callees, and of macros.
    private mutating func edits(_ shipped: ShippedFunction, _ old: Int?) throws -> [ChangeRecord.Reason] {
        var reasons: [ChangeRecord.Reason] = []
        if let place = edit(shipped.function.map(post.name) ?? old.map(pre.name)) {
            reasons.append(.init(kind: .edited, text: "its own lines change", place: place))
        }
        var seen: Set<String> = []
        for (side, function) in [(post, shipped.function), (pre, old)] {
            guard let function else { continue }
            for (position, call) in side.debug.functions[function].inlined.enumerated() {
                let name = side.name(call.function)
                guard seen.insert(name).inserted, let place = edit(name) else { continue }
                let isHeader = place.file != path
                reasons.append(
                    .init(
                        kind: isHeader ? .header : .inlined,
                        text: "'\(name)' is inlined and changes", place: place,
                        callees: side.chain(position, in: function)))
            }
        }
        return try reasons + macroEdits(shipped)
    }

    private mutating func macroEdits(_ shipped: ShippedFunction) throws -> [ChangeRecord.Reason] {
        guard !source.macros.isEmpty, let function = shipped.function else { return [] }
        var words: Set<Substring> = []
        for index in Set([function] + post.debug.functions[function].inlined.map(\.function)) {
            words.formUnion(FunctionText.words(try lines(index)))
        }
        return source.macros.filter { words.contains($0.name[...]) }.map {
            .init(kind: .macro, text: "the macro '\($0.name)' changes", place: $0.place)
        }
    }

    /// The first changed line of a function, by its name in the source.
    private func edit(_ name: String?) -> SourceLine? {
        guard let name else { return nil }
        let new = post.byName[name].flatMap { post.place($0) }
        let old = pre.byName[name].flatMap { pre.place($0) }
        guard let path = new?.file ?? old?.file, let file = source.files[path] else { return nil }
        return source.edit(
            path,
            pre: old.flatMap { $0.file == path ? FunctionText.range(file.pre, from: $0.line) : nil },
            post: new.flatMap { $0.file == path ? FunctionText.range(file.post, from: $0.line) : nil })
    }

    // MARK: - What the machine code says

    private mutating func machineReasons(
        _ change: FunctionChange, _ difference: FirstDifference?, _ shipped: ShippedFunction
    ) -> [ChangeRecord.Reason] {
        if case .table(let name) = change.reason {
            return [.init(kind: .table, text: "an entry of the table '\(name)' differs")]
        }
        if let (text, place) = difference.flatMap({ layout($0, shipped) }) {
            return [.init(kind: .layout, text: text, place: place)]
        }
        if let difference, let reason = difference.reference { return [reason] }
        if case .reference(_, let name) = change.reason {
            return [.init(kind: .data, text: "the content of \(name) changes")]
        }
        if let text = inlining(shipped, change) { return [.init(kind: .inlining, text: text)] }
        return [.init(kind: .compiler, text: "the compiler arranges its code in another way")]
    }

    /// Two equal instructions but for a distance or a number that a changed type explains.
    private func layout(_ difference: FirstDifference, _ shipped: ShippedFunction) -> (String, SourceLine?)? {
        guard let (a, b) = difference.pair else { return nil }
        var candidates: [(type: TypeChange, text: String)] = []
        for type in types {
            if let x = a.displacement, let y = b.displacement, x != y,
                let member = type.movedMember(from: x, to: y)
            {
                candidates.append(
                    (type, "'\(member)' of '\(type.key)' moves from offset \(x) to offset \(y)"))
            } else if type.old.size != type.new.size, a.immediate == type.old.size,
                b.immediate == type.new.size
            {
                candidates.append(
                    (type, "the size of '\(type.key)' grows from \(type.old.size) to \(type.new.size) bytes"))
            }
        }
        let named = candidates.first { $0.type.isNamed(by: shipped.types) } ?? candidates.first
        return named.map { ($0.text.replacing("grows", with: "changes"), $0.type.place) }
    }

    private func inlining(_ shipped: ShippedFunction, _ change: FunctionChange) -> String? {
        guard let new = shipped.function, let counterpart = change.pre,
            let old = functionIndex(comparison.pre, pre, counterpart)
        else { return nil }
        let before = Set(pre.debug.functions[old].inlined.map { pre.name($0.function) })
        let after = Set(post.debug.functions[new].inlined.map { post.name($0.function) })
        let more = after.subtracting(before).sorted()
        let fewer = before.subtracting(after).sorted()
        guard !more.isEmpty || !fewer.isEmpty else { return nil }
        func list(_ names: [String]) -> String { names.map { "'\($0)'" }.joined(separator: ", ") }
        return [
            more.isEmpty ? nil : "the compiler now inlines \(list(more))",
            fewer.isEmpty ? nil : "the compiler no longer inlines \(list(fewer))",
        ].compactMap { $0 }.joined(separator: "; ")
    }

    /// Why a function is on one side only although the source has it on both.
    private func appearance(_ name: String, other: ObjectSpans, debug: UnitFunctions, isNew: Bool)
        -> [ChangeRecord.Reason]
    {
        let base = String(name.prefix { $0 != "." })
        let relatives = other.spans.filter { $0.isFunction && !Comparison.isPart($0.name) }.map(\.name).filter
        {
            $0 == base || $0.hasPrefix(base + ".")
        }
        if let relative = relatives.first, relative != name {
            let text =
                isNew
                ? "the compiler makes it of '\(base)', where it had '\(relative)'"
                : "the compiler makes '\(relative)' instead"
            return [.init(kind: .clone, text: text)]
        }
        guard let index = debug.byName[base], !debug.debug.functions[index].isDeclaration else { return [] }
        return [
            .init(
                kind: .inlining,
                text: isNew
                    ? "the compiler had inlined it into all of its callers"
                    : "the compiler inlines it into all of its callers")
        ]
    }

    // MARK: - Code to show

    private func code(_ object: ObjectSpans, _ side: UnitFunctions, _ span: Int) -> ChangeRecord.Code {
        let symbol = object.object.symbols[object.spans[span].symbol]
        return ChangeRecord.Code(
            size: symbol.size > 0 ? Int(symbol.size) : object.spans[span].range.count,
            declared: functionIndex(object, side, span).flatMap { side.place($0) })
    }

    private func show(_ difference: FirstDifference?, _ change: FunctionChange, in record: inout ChangeRecord)
    {
        guard let difference, let counterpart = change.pre else { return }
        if let old = record.pre {
            record.pre = shown(old, difference.pre, difference.position, comparison.pre, pre, counterpart)
        }
        if let new = record.post {
            record.post = shown(new, difference.post, difference.position, comparison.post, post, change.post)
        }
    }

    private func shown(
        _ code: ChangeRecord.Code, _ instructions: [InstructionText], _ position: Int, _ object: ObjectSpans,
        _ side: UnitFunctions, _ index: Int
    ) -> ChangeRecord.Code {
        var code = code
        let window = max(0, position - 2)..<max(0, min(position + 4, instructions.count))
        guard !window.isEmpty else { return code }
        code.instructions = instructions[window].map { .init(offset: $0.offset, text: $0.full) }
        guard position < instructions.count else { return code }
        let span = object.spans[index]
        let offset = instructions[position].offset
        code.offset = offset
        let address = side.debug.address(section: span.section, offset: span.range.lowerBound + offset)
        code.place = side.debug.source(side.debug.line(at: address))
        if let function = side.function(at: address) {
            code.inlined = side.inlined(at: address, in: function).map { call in
                let place = side.debug.source(call.call)
                return side.name(call.function) + (place.map { " (called at \($0.text))" } ?? "")
            }
        }
        return code
    }
}

/// Where two versions of a function part.
private struct FirstDifference {
    let pre: [InstructionText]
    let post: [InstructionText]
    let position: Int

    init?(_ comparison: Comparison, _ change: FunctionChange) {
        guard let counterpart = change.pre else { return nil }
        pre = InstructionComparison.list(comparison.pre, counterpart)
        post = InstructionComparison.list(comparison.post, change.post)
        if let found = InstructionComparison.firstDifference(pre, post) {
            position = found
        } else if case .reference(let offset, _) = change.reason,
            let found = post.lastIndex(where: { $0.offset <= offset })
        {
            position = found
        } else {
            return nil
        }
    }

    var pair: (InstructionText, InstructionText)? {
        guard position < pre.count, position < post.count else { return nil }
        return (pre[position], post[position])
    }

    /// The cause where the two instructions are equal but for what they refer to.
    var reference: ChangeRecord.Reason? {
        guard let (a, b) = pair, !a.reference.isEmpty, !b.reference.isEmpty, a.reference != b.reference,
            a.text == b.text
        else { return nil }
        if a.reference.hasPrefix("\"") && b.reference.hasPrefix("\"") {
            return .init(kind: .data, text: "the string \(a.reference) becomes \(b.reference)")
        }
        if a.reference.prefix(while: { $0 != "." }) == b.reference.prefix(while: { $0 != "." }) {
            return .init(kind: .clone, text: "it uses '\(b.reference)' instead of '\(a.reference)'")
        }
        return .init(kind: .data, text: "it refers to '\(b.reference)' instead of '\(a.reference)'")
    }
}
