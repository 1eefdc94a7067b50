// Names that a macro puts together (`sys_##name`) stand nowhere in a source. Whoever looks for the users of a name must
// know which macros can make it, and from what.

/// What one `##` of a macro makes: its pieces in order, nil for one that comes from outside.
struct PastePattern: Hashable, Sendable {
    var macro: String
    var pieces: [String?]

    /// Whether words can stand for the missing pieces so that the whole is a name.
    func makes(_ name: String, from words: Set<String>) -> Bool {
        Self.fits(Array(name.utf8)[...], pieces[...], words)
    }

    /// Whether any words could.
    func canMake(_ name: String) -> Bool { Self.fits(Array(name.utf8)[...], pieces[...], nil) }

    private static func fits(_ name: ArraySlice<UInt8>, _ pieces: ArraySlice<String?>, _ words: Set<String>?)
        -> Bool
    {
        guard let piece = pieces.first else { return name.isEmpty }
        let rest = pieces.dropFirst()
        if let piece {
            return name.starts(with: piece.utf8) && fits(name.dropFirst(piece.utf8.count), rest, words)
        }
        // A piece may be empty: an argument that is left out.
        for end in name.startIndex...name.endIndex {
            if let words, end > name.startIndex,
                !words.contains(String(decoding: name[name.startIndex..<end], as: UTF8.self))
            {
                continue
            }
            if fits(name[end...], rest, words) { return true }
        }
        return false
    }
}

/// The patterns of all macros of a tree that paste.
struct PastePatterns {
    private(set) var patterns: [PastePattern] = []

    /// - Parameter macros: all function-like macros of the files that hold `##`.
    init(_ macros: [HeaderItem.Macro]) {
        let operators = Self.operators(macros)
        for macro in macros where !operators.contains(macro.name) {
            for pieces in Self.chains(macro, operators) where pieces.count > 1 {
                patterns.append(PastePattern(macro: macro.name, pieces: pieces))
            }
        }
        patterns = Array(Set(patterns))
    }

    /// Those that can make a name.
    func making(_ name: String) -> [PastePattern] { patterns.filter { $0.canMake(name) } }

    /// The function-like macros of a text whose definitions paste. Only their lines are read.
    static func definitions(in text: [UInt8]) -> [HeaderItem.Macro] {
        var found: [HeaderItem.Macro] = []
        text.withUnsafeBufferPointer { bytes in
            var start = 0
            while start < bytes.count {
                var end = start
                var (isDirective, isPasting) = (false, false)
                var first: UInt8 = 0
                while end < bytes.count {
                    let c = bytes[end]
                    if c == UInt8(ascii: "\n") && (end == start || bytes[end - 1] != UInt8(ascii: "\\")) {
                        break
                    }
                    if first == 0 && c > 0x20 {
                        first = c
                        isDirective = c == UInt8(ascii: "#")
                    } else if c == UInt8(ascii: "#") && bytes[end - 1] == c {
                        isPasting = true
                    }
                    end += 1
                }
                let line = bytes[start..<end]
                if isDirective && (isPasting || namesOperator(line)) {
                    found += HeaderItem.items(of: Array(line)).compactMap(\.macro)
                }
                start = end + 1
            }
        }
        return found
    }

    /// Whether a line may hold the name of an operator, as they are called.
    private static func namesOperator(_ line: Slice<UnsafeBufferPointer<UInt8>>) -> Bool {
        ["PASTE", "CONCAT", "paste", "concat"].contains { word in
            let word = Array(word.utf8)
            guard line.count > word.count else { return false }
            return (line.startIndex...(line.endIndex - word.count)).contains { position in
                line[position] == word[0] && line[position..<(position + word.count)].elementsEqual(word)
            }
        }
    }

    /// Macros whose whole body pastes two parameters (`__PASTE`, `CONCATENATE`), or hands them to one that does: they are
    /// read as the operator itself where they are used.
    private static func operators(_ macros: [HeaderItem.Macro]) -> Set<String> {
        var found: Set<String> = []
        var isGrowing = true
        while isGrowing {
            isGrowing = false
            for macro in macros where !found.contains(macro.name) {
                let words = macro.body.map(\.text)
                let isPaste =
                    words.count == 4 && macro.parameters.contains(words[0]) && words[1...2] == ["#", "#"]
                    && macro.parameters.contains(words[3])
                let isCall =
                    words.count == 6 && found.contains(words[0]) && macro.parameters.contains(words[2])
                    && macro.parameters.contains(words[4])
                if isPaste || isCall {
                    found.insert(macro.name)
                    isGrowing = true
                }
            }
        }
        return found
    }

    /// The runs of pieces that `##`, or an operator, joins.
    private static func chains(_ macro: HeaderItem.Macro, _ operators: Set<String>) -> [[String?]] {
        let body = macro.body
        var found: [[String?]] = []
        var index = 0
        func piece(_ position: Int) -> String?? {
            guard position < body.count, body[position].kind == .word || body[position].kind == .number else {
                return nil
            }
            let text = body[position].text
            return .some(macro.parameters.contains(text) ? nil : text)
        }
        while index < body.count {
            if operators.contains(body[index].text) {
                // Nested ones are flattened: what matters is the order of the pieces.
                var (pieces, depth, at): ([String?], Int, Int) = ([], 0, index + 1)
                while at < body.count {
                    if body[at].is("(") { depth += 1 }
                    if body[at].is(")") { depth -= 1 }
                    if let found = piece(at), !operators.contains(body[at].text) { pieces.append(found) }
                    at += 1
                    if depth == 0 { break }
                }
                found.append(pieces)
                index = at
                continue
            }
            guard let first = piece(index) else {
                index += 1
                continue
            }
            var pieces = [first]
            var at = index + 1
            while at + 1 < body.count, body[at].is("#"), body[at + 1].is("#"), let next = piece(at + 2) {
                pieces.append(next)
                at += 3
            }
            found.append(pieces)
            index = at
        }
        return found
    }
}
