// Macros that hand words on to others: lists (`#define EACH(op) op(read) op(write)`), and other names for something
// (`#define NAME read`). Where such a one stands beside a macro that pastes, what it holds may be what is pasted.

/// The lines of a text that are for the preprocessor, continued ones as one.
enum Directive {
    /// Tells each with whether it holds `##`.
    static func forEach(in text: [UInt8], _ body: (ArraySlice<UInt8>, Bool) -> Void) {
        var start = 0
        while start < text.count {
            var end = start
            var (isDirective, isPasting) = (false, false)
            var first: UInt8 = 0
            text.withUnsafeBufferPointer { bytes in
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
            }
            if isDirective { body(text[start..<end], isPasting) }
            start = end + 1
        }
    }
}

/// The macros of one text that hand words on.
struct MacroLists: Sendable {
    /// Their names, and where their words are in `words`.
    private(set) var macros: [(name: Word, words: Range<Int>)] = []
    private(set) var words: [Word] = []
    /// What the words of all macros are where one stands behind an arrow (`Word.member`).
    private(set) var members: [Word] = []
    /// Macros that take the name of a member first (`#define P(field) show(p->field)`).
    private(set) var takingMember: [Word] = []

    init(_ text: [UInt8]) {
        Directive.forEach(in: text) { line, _ in add(line) }
    }

    /// Hands `members` out, each once, and keeps none.
    mutating func takeMembers() -> Set<Word> {
        defer { members = [] }
        return Set(members)
    }

    private mutating func add(_ line: ArraySlice<UInt8>) {
        var rest = line.drop { $0 != UInt8(ascii: "#") }.dropFirst()
        guard Self.word(&rest)?.elementsEqual("define".utf8) == true, let name = Self.word(&rest) else {
            return
        }
        var parameters: Set<Word> = []
        var first: Word?
        let isCalled = rest.first == UInt8(ascii: "(")
        if isCalled {
            var list = rest.prefix { $0 != UInt8(ascii: ")") }
            rest = rest.dropFirst(list.count)
            while let parameter = Self.word(&list) {
                if parameters.isEmpty { first = Word(parameter) }
                parameters.insert(Word(parameter))
            }
        }
        let start = words.count
        var isList = !isCalled
        var takesMember = false
        while let text = Self.word(&rest) {
            let word = Word(text)
            words.append(word)
            members.append(Word([UInt8(ascii: ".")] + text))
            let before = line[..<text.startIndex].last { $0 > 0x20 }
            takesMember =
                takesMember || word == first && (before == UInt8(ascii: ">") || before == UInt8(ascii: "."))
            // A parameter that is called is a macro that the caller names.
            isList = isList || parameters.contains(word) && rest.first == UInt8(ascii: "(")
        }
        if takesMember { takingMember.append(Word(name)) }
        if isList && words.count > start {
            macros.append((Word(name), start..<words.count))
        } else {
            words.removeSubrange(start...)
        }
    }

    /// Takes the next word off, with all in front of it and the blanks behind it that do not belong to the next one.
    private static func word(_ rest: inout ArraySlice<UInt8>) -> ArraySlice<UInt8>? {
        rest = rest.drop { !SourceLexer.isWordByte($0) }
        if rest.isEmpty { return nil }
        let word = rest.prefix(while: SourceLexer.isWordByte)
        rest = rest.dropFirst(word.count)
        return word
    }
}
