// C source as tokens with their lines, for remarks that machine code cannot give: macros and inline functions hide
// `spin_lock` and its like there. Nothing is preprocessed: both branches of an #if are read, macros stay names. That is
// enough to count calls and to follow braces, and it is how a reviewer reads.

/// One token. Comments and blanks are left out.
struct SourceToken: Sendable, Equatable {
    enum Kind: Sendable { case word, number, string, mark, directive }
    var kind: Kind
    /// A directive is one token, from `#` to the end of its last line.
    var text: String
    /// From 1.
    var line: Int

    func `is`(_ text: String) -> Bool { kind == .mark && self.text == text }
}

struct SourceLexer {
    private let bytes: [UInt8]
    private var position = 0
    private var line = 1
    private var isAtLineStart = true
    private var tokens: [SourceToken] = []

    /// Cuts a text into tokens. Never fails: what ends too early ends with the text.
    static func tokens(of bytes: [UInt8]) -> [SourceToken] {
        var lexer = SourceLexer(bytes: bytes)
        while lexer.position < bytes.count { lexer.next() }
        return lexer.tokens
    }

    private init(bytes: [UInt8]) { self.bytes = bytes }

    private func peek(_ distance: Int = 0) -> UInt8 {
        position + distance < bytes.count ? bytes[position + distance] : 0
    }

    private mutating func next() {
        let byte = peek()
        switch byte {
        case UInt8(ascii: "\n"):
            line += 1
            position += 1
            isAtLineStart = true
        case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\r"), 12:
            position += 1
        case UInt8(ascii: "\\") where peek(1) == UInt8(ascii: "\n"):
            position += 2
            line += 1
        case UInt8(ascii: "/") where peek(1) == UInt8(ascii: "*"):
            skipComment()
        case UInt8(ascii: "/") where peek(1) == UInt8(ascii: "/"):
            skipLine()
        case UInt8(ascii: "#") where isAtLineStart:
            take(.directive) { $0.skipLine() }
        case UInt8(ascii: "\""), UInt8(ascii: "'"):
            take(.string) { $0.skipString() }
        case _ where Self.isWordByte(byte):
            let isNumber = byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9")
            take(isNumber ? .number : .word) { lexer in
                while Self.isWordByte(lexer.peek()) { lexer.position += 1 }
            }
        default:
            take(.mark) { $0.position += 1 }
        }
    }

    private mutating func take(_ kind: SourceToken.Kind, _ skip: (inout SourceLexer) -> Void) {
        let (start, first) = (position, line)
        skip(&self)
        isAtLineStart = false
        tokens.append(
            SourceToken(
                kind: kind, text: String(decoding: bytes[start..<min(position, bytes.count)], as: UTF8.self),
                line: first))
    }

    /// To the end of the line, which a backslash continues. The line's end itself stays.
    private mutating func skipLine() {
        while position < bytes.count, peek() != UInt8(ascii: "\n") {
            if peek() == UInt8(ascii: "\\"), peek(1) == UInt8(ascii: "\n") {
                position += 2
                line += 1
            } else if peek() == UInt8(ascii: "/"), peek(1) == UInt8(ascii: "*") {
                skipComment()
            } else {
                position += 1
            }
        }
    }

    private mutating func skipComment() {
        position += 2
        while position < bytes.count, !(peek() == UInt8(ascii: "*") && peek(1) == UInt8(ascii: "/")) {
            if peek() == UInt8(ascii: "\n") { line += 1 }
            position += 1
        }
        position += 2
    }

    private mutating func skipString() {
        let quote = peek()
        position += 1
        while position < bytes.count, peek() != quote {
            if peek() == UInt8(ascii: "\\") { position += 1 }
            if peek() == UInt8(ascii: "\n") { line += 1 }
            position += 1
        }
        position += 1
    }

    static func isWordByte(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: "_") || byte >= 0x80
            || byte | 0x20 >= UInt8(ascii: "a") && byte | 0x20 <= UInt8(ascii: "z")
            || byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9")
    }
}
