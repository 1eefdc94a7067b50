// Names that a macro puts together (`sys_##name`) stand nowhere in a source. Whoever looks for the users of a name must
// know which macros can make it, and from what.

/// What one `##` of a macro makes: its pieces in order.
struct PastePattern: Hashable, Sendable {
    enum Piece: Hashable, Sendable {
        case literal(String)
        /// A word that the macro is given.
        case word
        /// What another macro makes of something.
        case anything
    }

    var macro: String
    var pieces: [Piece]

    /// What makes a name: each is a set of words that must be there. Nil where it cannot be made; an empty set where nothing
    /// need be.
    static func ways(_ pieces: [Piece], to name: String) -> Set<Set<Word>>? {
        var ways: Set<Set<Word>> = []
        collect(pieces[...], Array(name.utf8)[...], [], &ways)
        // So many that words for one of them are everywhere.
        return ways.count > mostWays ? [[]] : ways.isEmpty ? nil : ways
    }

    private static let mostWays = 2000

    private static func collect(
        _ pieces: ArraySlice<Piece>, _ name: ArraySlice<UInt8>, _ words: Set<Word>,
        _ ways: inout Set<Set<Word>>
    ) {
        guard ways.count <= mostWays else { return }
        guard let piece = pieces.first else {
            if name.isEmpty { ways.insert(words) }
            return
        }
        let rest = pieces.dropFirst()
        if case .literal(let text) = piece {
            if name.starts(with: text.utf8) { collect(rest, name.dropFirst(text.utf8.count), words, &ways) }
            return
        }
        // A piece may be empty: an argument that is left out.
        for end in name.startIndex...name.endIndex {
            var needed = words
            if piece == .word && end > name.startIndex { needed.insert(Word(name[..<end])) }
            collect(rest, name[end...], needed, &ways)
        }
    }
}

/// The patterns of all macros of a tree that paste.
struct PastePatterns: Sendable {
    private(set) var patterns: [PastePattern] = []
    /// Macros that are read as `##` itself.
    let operators: Set<String>

    /// - Parameter macros: those of `definitions`.
    init(_ macros: [HeaderItem.Macro]) {
        operators = Self.operators(macros)
        var found: Set<PastePattern> = []
        for macro in macros where !operators.contains(macro.name) {
            for pieces in Self.chains(macro, operators) where pieces.count > 1 && Self.tells(pieces) {
                found.insert(PastePattern(macro: macro.name, pieces: pieces))
            }
        }
        patterns = Array(found)
    }

    /// Beside a piece that can be anything, one must be known: else every name could come of it.
    private static func tells(_ pieces: [PastePattern.Piece]) -> Bool {
        !pieces.contains(.anything) || pieces.contains { if case .literal = $0 { true } else { false } }
    }

    /// The macros of equal patterns.
    var macrosByPieces: [[PastePattern.Piece]: [String]] {
        Dictionary(grouping: patterns, by: \.pieces).mapValues { $0.map(\.macro) }
    }

    /// The macros of a text whose definitions hold `##` or one of some words. Only their lines are read.
    static func definitions(in text: [UInt8], using operators: WordSet) -> [HeaderItem.Macro] {
        var found: [HeaderItem.Macro] = []
        Directive.forEach(in: text) { line, isPasting in
            let isWanted =
                isPasting
                || !operators.isEmpty && Word.all(in: Array(line)).contains(where: operators.contains)
            if isWanted { found += HeaderItem.items(of: Array(line)).compactMap(\.macro) }
        }
        return found
    }

    /// Macros whose whole body pastes two parameters (`__PASTE`, `CONCATENATE`), or hands them to one that does: they are
    /// read as the operator itself where they are used.
    static func operators(_ macros: [HeaderItem.Macro]) -> Set<String> {
        var found: Set<String> = []
        var isGrowing = true
        while isGrowing {
            isGrowing = false
            for macro in macros where !found.contains(macro.name) {
                let words = macro.body.map(\.text)
                let parameters = macro.parameters ?? []
                let isPaste =
                    words.count == 4 && parameters.contains(words[0]) && words[1...2] == ["#", "#"]
                    && parameters.contains(words[3])
                let isCall =
                    words.count == 6 && found.contains(words[0]) && parameters.contains(words[2])
                    && parameters.contains(words[4])
                if isPaste || isCall {
                    found.insert(macro.name)
                    isGrowing = true
                }
            }
        }
        return found
    }

    /// The runs of pieces that `##`, or an operator, joins.
    private static func chains(_ macro: HeaderItem.Macro, _ operators: Set<String>) -> [[PastePattern.Piece]]
    {
        let body = macro.body
        var found: [[PastePattern.Piece]] = []
        var index = 0
        while index < body.count {
            if operators.contains(body[index].text) {
                found.append(joined(macro, operators, &index))
                continue
            }
            guard let first = piece(macro, index) else {
                index += 1
                continue
            }
            var pieces = [first]
            var at = index + 1
            while at + 1 < body.count, body[at].is("#"), body[at + 1].is("#"), let next = piece(macro, at + 2)
            {
                pieces.append(next)
                at += 3
            }
            found.append(pieces)
            index = at
        }
        return found
    }

    private static func piece(_ macro: HeaderItem.Macro, _ position: Int) -> PastePattern.Piece? {
        guard position < macro.body.count else { return nil }
        let token = macro.body[position]
        guard token.kind == .word || token.kind == .number else { return nil }
        return macro.parameters?.contains(token.text) == true ? .word : .literal(token.text)
    }

    /// The pieces that an operator's call joins; nested ones are flattened. The arguments are expanded before: what may be
    /// another macro becomes anything.
    private static func joined(_ macro: HeaderItem.Macro, _ operators: Set<String>, _ index: inout Int)
        -> [PastePattern.Piece]
    {
        let body = macro.body
        var pieces: [PastePattern.Piece] = []
        var depth = 0
        index += 1
        while index < body.count {
            let token = body[index]
            if token.is("(") { depth += 1 }
            if token.is(")") { depth -= 1 }
            if depth <= 0 { break }
            if let piece = piece(macro, index), !operators.contains(token.text) {
                let isCall = index + 1 < body.count && body[index + 1].is("(")
                pieces.append(isCall || mayBeMacro(token.text) && piece != .word ? .anything : piece)
                if isCall { skipCall(body, &index) }
            }
            index += 1
        }
        index += 1
        return pieces
    }

    /// To the parenthesis that closes a call.
    private static func skipCall(_ body: [SourceToken], _ index: inout Int) {
        var depth = 0
        index += 1
        while index < body.count {
            if body[index].is("(") { depth += 1 }
            if body[index].is(")") { depth -= 1 }
            if depth == 0 { return }
            index += 1
        }
    }

    /// A part of a name has small letters, or an underscore where it is joined.
    private static func mayBeMacro(_ text: String) -> Bool {
        !text.hasPrefix("_") && !text.hasSuffix("_") && !text.utf8.contains { (0x61...0x7a).contains($0) }
            && text.utf8.contains { (0x41...0x5a).contains($0) }
    }
}
