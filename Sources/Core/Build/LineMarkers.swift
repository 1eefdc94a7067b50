// `#line` directives for the post text, so that `__LINE__` stays what it was outside of the changed lines, and is what
// an editor shows inside of them.
//
// Without them a line added at the top of a file changes the code of every function below that holds a WARN, a
// might_sleep or a dynamic debug statement, and all of them would be replaced for nothing. After a hunk the text
// gets `#line N`, where N is the line's number in the pre text; before the next hunk it gets the number in the post
// text, so that a new WARN reports its own line.
//
// People want the true number: in debug information, and in the compiler's own messages. So each directive follows a
// pragma that holds both, which the preprocessor hands through; `withTrueLines` then moves the preprocessor's own
// markers, when every `__LINE__` has become a number already, and takes the pragmas out.
//
// A directive is a line of its own; it must not land in a comment, in a continued line, in a string or inside the
// parentheses of a macro call (undefined by the C standard there). It then moves down to the next line that is safe,
// with the number of that line. Known limit: parentheses that differ between the branches of an #if are counted twice;
// the count starts anew at each line that begins with a brace.
//
// A directive in a branch of an #if that the config leaves out has no effect. So behind each #else and #endif of an #if
// that holds one there is another.

/// A changed stretch of lines, without context. Line numbers start at 1; a start is the first line of the stretch,
/// or for an empty stretch the line before which it would stand.
public struct Hunk: Sendable, Equatable {
    public var preStart: Int
    public var preCount: Int
    public var postStart: Int
    public var postCount: Int

    public init(preStart: Int, preCount: Int, postStart: Int, postCount: Int) {
        self.preStart = preStart
        self.preCount = preCount
        self.postStart = postStart
        self.postCount = postCount
    }
}

/// The post text with line markers. Hunks are in order and do not overlap.
public func addLineMarkers(_ text: [UInt8], hunks: [Hunk]) -> [UInt8] {
    let newline = UInt8(ascii: "\n")
    var lines = text.split(separator: newline, omittingEmptySubsequences: false)[...]
    if lines.last?.isEmpty == true { lines = lines.dropLast() }
    var scanner = SafetyScanner()
    var out: [UInt8] = []
    out.reserveCapacity(text.count + hunks.count * 16)
    var next = 0
    var shift = 0  // the pre line is the post line plus this, from the last hunk passed
    var inEffect: Int? = 0  // what the compiler adds to the post line; nil where that depends on the config
    // For each open #if whether a marker stands inside: it counts only if its branch does.
    var branches: [Bool] = []
    for (index, line) in lines.enumerated() {
        let number = index + 1
        while next < hunks.count, hunks[next].postStart + hunks[next].postCount <= number {
            let hunk = hunks[next]
            let preEnd = hunk.preStart + hunk.preCount
            let postEnd = hunk.postStart + hunk.postCount
            shift = preEnd - postEnd
            next += 1
        }
        let insideHunk = next < hunks.count && number >= hunks[next].postStart
        let wanted = insideHunk ? 0 : shift
        if wanted != inEffect && scanner.isSafe {
            out += Array("\(truePragma)\(number) \(number + wanted)\n#line \(number + wanted)\n".utf8)
            inEffect = wanted
            for branch in branches.indices { branches[branch] = true }
        }
        out += line
        out.append(newline)
        if scanner.startsLine {
            switch conditional(line) {
            case .open: branches.append(false)
            case .next: if branches.last == true { inEffect = nil }
            case .close: if branches.popLast() == true { inEffect = nil }
            case nil: break
            }
        }
        scanner.read(line)
    }
    if text.last != newline && !out.isEmpty { out.removeLast() }
    return out
}

private enum Conditional { case open, next, close }

/// Which directive of conditional compilation a line is.
private func conditional(_ line: ArraySlice<UInt8>) -> Conditional? {
    let words = line.drop { $0 == 0x20 || $0 == 0x09 }
    guard words.first == UInt8(ascii: "#") else { return nil }
    let name = words.dropFirst().drop { $0 == 0x20 || $0 == 0x09 }.prefix { $0 >= 0x61 && $0 <= 0x7a }
    switch String(decoding: name, as: UTF8.self) {
    case "if", "ifdef", "ifndef": return .open
    case "else", "elif", "elifdef", "elifndef": return .next
    case "endif": return .close
    default: return nil
    }
}

private let truePragma = "#pragma ksplice_line "

/// Preprocessed text in which line markers name the true lines of the text that went through `addLineMarkers`.
public func withTrueLines(_ text: [UInt8]) -> [UInt8] {
    let pragma = Array(truePragma.utf8)
    var out: [UInt8] = []
    // What to add to the numbers of each file on the way to the present one, innermost last.
    var shifts = [0]
    var announced: (marker: Int, shift: Int)?
    var copied = 0
    var start = 0
    while start < text.count {
        let end = text[start...].firstIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? text.count
        defer { start = end }
        guard text[start] == UInt8(ascii: "#") else { continue }
        if text[start..<end].starts(with: pragma) {
            let numbers = text[start + pragma.count..<end - 1].split(separator: UInt8(ascii: " ")).compactMap
            {
                Int(String(decoding: $0, as: UTF8.self))
            }
            guard numbers.count == 2 else { continue }
            announced = (numbers[1], numbers[0] - numbers[1])
            out += text[copied..<start]
            copied = end
        } else if let marker = LineMarker(text[start..<end]) {
            if marker.isEntry { shifts.append(0) }
            if marker.isReturn && shifts.count > 1 { shifts.removeLast() }
            if let next = announced, next.marker == marker.number {
                shifts[shifts.count - 1] = next.shift
                announced = nil
            }
            guard let shift = shifts.last, shift != 0 else { continue }
            out += text[copied..<start]
            out += Array("# \(marker.number + shift)".utf8) + marker.rest
            copied = end
        }
    }
    if copied == 0 { return text }
    return out + text[copied...]
}

/// `# 12 "file.h" 1`, as the preprocessor writes it: 1 enters a file, 2 comes back to it.
private struct LineMarker {
    var number: Int
    var isEntry: Bool
    var isReturn: Bool
    /// Behind the number, with the newline.
    var rest: ArraySlice<UInt8>

    init?(_ line: ArraySlice<UInt8>) {
        let digits = line.dropFirst(2).prefix { $0 >= 0x30 && $0 <= 0x39 }
        guard line.dropFirst().first == UInt8(ascii: " "),
            let number = Int(String(decoding: digits, as: UTF8.self)),
            let quote = line.lastIndex(of: UInt8(ascii: "\""))
        else { return nil }
        self.number = number
        rest = line[digits.endIndex...]
        let flags = line[quote...].dropFirst().split { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\n") }
        isEntry = flags.contains { $0.elementsEqual([UInt8(ascii: "1")]) }
        isReturn = flags.contains { $0.elementsEqual([UInt8(ascii: "2")]) }
    }
}

/// Follows comments, strings, continued lines and parentheses from line to line.
private struct SafetyScanner {
    private var inComment = false
    private var isContinued = false
    private var depth = 0

    /// Whether a directive may stand before the next line.
    var isSafe: Bool { startsLine && depth == 0 }

    /// Whether the next line is the start of a line of code or of a directive.
    var startsLine: Bool { !inComment && !isContinued }

    mutating func read(_ line: ArraySlice<UInt8>) {
        let bytes = Array(line)
        var isDirective = false
        if startsLine {
            if let first = bytes.first(where: { $0 != 0x20 && $0 != 0x09 }) {
                isDirective = first == UInt8(ascii: "#")
            }
            if bytes.first == UInt8(ascii: "{") || bytes.first == UInt8(ascii: "}") { depth = 0 }
        }
        var index = 0
        var quote: UInt8?
        var counts = !isDirective && !inDirective
        while index < bytes.count {
            let c = bytes[index]
            let following = index + 1 < bytes.count ? bytes[index + 1] : 0
            if inComment {
                if c == UInt8(ascii: "*") && following == UInt8(ascii: "/") {
                    inComment = false
                    index += 1
                }
            } else if let open = quote {
                if c == UInt8(ascii: "\\") { index += 1 } else if c == open { quote = nil }
            } else if c == UInt8(ascii: "/") && following == UInt8(ascii: "*") {
                inComment = true
                index += 1
            } else if c == UInt8(ascii: "/") && following == UInt8(ascii: "/") {
                counts = false
                break
            } else if c == UInt8(ascii: "\"") || c == UInt8(ascii: "'") {
                quote = c
            } else if counts && c == UInt8(ascii: "(") {
                depth += 1
            } else if counts && c == UInt8(ascii: ")") {
                depth = max(0, depth - 1)
            }
            index += 1
        }
        isContinued = bytes.last == UInt8(ascii: "\\")
        inDirective = isContinued && (isDirective || inDirective)
    }

    /// Inside a continued directive: a macro's body may hold one-sided parentheses.
    private var inDirective = false
}
