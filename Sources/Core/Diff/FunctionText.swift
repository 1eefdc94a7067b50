// The text of C functions: where one ends, and which names stand in it. Not a parser: the compiler says where a function
// begins, and the rest follows from its braces. A brace in the first column ends it in any case, for branches of the
// preprocessor may hold braces that do not pair.

enum FunctionText {
    /// The lines of a function whose name stands on a line; nil where there is no such line.
    static func range(_ lines: [String], from first: Int) -> ClosedRange<Int>? {
        guard lines.indices.contains(first - 1) else { return nil }
        var scanner = BraceScanner()
        for number in first...lines.count {
            let line = lines[number - 1]
            if scanner.depth > 0 && line.hasPrefix("}") { return first...number }
            scanner.read(line)
            if scanner.isClosed { return first...number }
        }
        return first...first
    }

    /// The words that follow `->` or `.`.
    static func members(_ lines: ArraySlice<String>) -> Set<Substring> {
        var found: Set<Substring> = []
        for line in lines {
            var previous: Character?
            var index = line.startIndex
            while index < line.endIndex {
                let character = line[index]
                if isWord(character) {
                    let word = line[index...].prefix(while: isWord)
                    if previous == ">" || previous == "." { found.insert(word) }
                    index = word.endIndex
                    previous = "a"
                } else {
                    if character == ">" && previous != "-" { previous = nil } else { previous = character }
                    index = line.index(after: index)
                }
            }
        }
        return found
    }

    /// The words of some lines, comments and strings included.
    static func words(_ lines: ArraySlice<String>) -> Set<Substring> {
        Set(lines.flatMap { $0.split { !isWord($0) } })
    }
}

private struct BraceScanner {
    private(set) var depth = 0
    private(set) var isClosed = false
    private var inComment = false

    mutating func read(_ line: String) {
        var quote: UInt8?
        var previous: UInt8 = 0
        var isEscaped = false
        if !inComment, line.utf8.first(where: { $0 != 0x20 && $0 != 0x09 }) == UInt8(ascii: "#") { return }
        for byte in line.utf8 where !isClosed {
            defer { previous = byte }
            if inComment {
                if previous == UInt8(ascii: "*") && byte == UInt8(ascii: "/") { inComment = false }
            } else if let open = quote {
                if byte == open && !isEscaped { quote = nil }
                isEscaped = byte == UInt8(ascii: "\\") && !isEscaped
            } else if previous == UInt8(ascii: "/") && byte == UInt8(ascii: "*") {
                inComment = true
            } else if previous == UInt8(ascii: "/") && byte == UInt8(ascii: "/") {
                return
            } else {
                switch byte {
                case UInt8(ascii: "\""), UInt8(ascii: "'"): quote = byte
                case UInt8(ascii: "{"): depth += 1
                case UInt8(ascii: "}"):
                    depth -= 1
                    isClosed = depth <= 0
                // A definition that a macro makes without a body of its own.
                case UInt8(ascii: ";"): isClosed = depth == 0
                default: break
                }
            }
        }
    }
}
