// `#line` directives for the post text, so that `__LINE__` stays what it was outside of the changed lines.
//
// Without them a line added at the top of a file changes the code of every function below that holds a WARN, a
// might_sleep or a dynamic debug statement, and all of them would be replaced for nothing. After each hunk the text
// gets `#line N`, where N is the line's number in the pre text.
//
// A directive is a line of its own; it must not land in a comment, in a continued line, in a string or inside the
// parentheses of a macro call (undefined by the C standard there). It then moves down to the next line that is safe,
// with the number of that line. Known limit: parentheses that differ between the branches of an #if are counted twice;
// the count starts anew at each line that begins with a brace.

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
    var shift: Int?  // the pre line is the post line plus this, from the last hunk passed
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
        if let pending = shift, scanner.isSafe, !insideHunk {
            out += Array("#line \(number + pending)\n".utf8)
            shift = nil
        }
        out += line
        out.append(newline)
        scanner.read(line)
    }
    if text.last != newline && !out.isEmpty { out.removeLast() }
    return out
}

/// Follows comments, strings, continued lines and parentheses from line to line.
private struct SafetyScanner {
    private var inComment = false
    private var isContinued = false
    private var depth = 0

    /// Whether a directive may stand before the next line.
    var isSafe: Bool { !inComment && !isContinued && depth == 0 }

    mutating func read(_ line: ArraySlice<UInt8>) {
        let bytes = Array(line)
        var isDirective = false
        if !inComment && !isContinued {
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
