// The instructions around the place where pre and run part, in two columns. Up to that place both sides agree, so that their
// instructions pair one by one from there backwards; behind it they are paired by likeness, as sdiff does it, for the
// kernel's side may have an instruction more or a longer one.

/// One instruction as a line of a window.
public struct WindowLine: Sendable, Equatable {
    /// From the function's start, in bytes.
    public var offset: Int
    public var bytes: [UInt8]
    /// In AT&T syntax, with names in place of addresses: of the symbol on the pre side, of what kallsyms has there on the run
    /// side; a place of the function itself is `+0x12`.
    public var text: String
    /// What the operand refers to; nil where it refers to nothing by address.
    public var symbol: String?
    /// On the pre side: the patch site that the instruction is in, whose bytes the kernel itself rewrites.
    public var site: String?

    init(offset: Int, bytes: [UInt8], text: String, symbol: String?, site: String? = nil) {
        (self.offset, self.bytes, self.text, self.symbol, self.site) = (offset, bytes, text, symbol, site)
    }

    /// The text where the name has found no place in it.
    var full: String { symbol.map { text.contains($0) ? text : "\(text)  # \($0)" } ?? text }

    var json: JSON {
        .object([
            ("offset", .number(offset)), ("bytes", .string(hex(bytes[...]))), ("text", .string(text)),
            ("symbol", symbol.map { .string($0) } ?? .null), ("site", site.map { .string($0) } ?? .null),
        ])
    }
}

/// Both sides around the first difference.
public struct MismatchWindow: Sendable {
    public struct Row: Sendable {
        public var pre: WindowLine?
        public var run: WindowLine?
    }

    /// Instructions before and behind the first difference.
    static let before = 4
    static let behind = 8

    public private(set) var rows: [Row] = []
    /// The row of the first difference.
    public private(set) var first = 0

    /// Nothing to show.
    public init() {}

    /// `preFirst` and `runFirst` are the positions of the first difference in the two lists.
    init(_ pre: [WindowLine], _ run: [WindowLine], _ preFirst: Int, _ runFirst: Int) {
        for distance in (1...Self.before).reversed() {
            let mine =
                preFirst >= distance && preFirst - distance < pre.count ? pre[preFirst - distance] : nil
            let its = runFirst >= distance && runFirst - distance < run.count ? run[runFirst - distance] : nil
            if mine != nil || its != nil { rows.append(Row(pre: mine, run: its)) }
        }
        first = rows.count
        let mine = pre.dropFirst(preFirst)
        let its = run.dropFirst(runFirst)
        if mine.first != nil || its.first != nil { rows.append(Row(pre: mine.first, run: its.first)) }
        rows += Self.paired(
            Array(mine.dropFirst().prefix(Self.behind - 1)), Array(its.dropFirst().prefix(Self.behind - 1)))
    }

    public var preLines: [WindowLine] { rows.compactMap(\.pre) }
    public var runLines: [WindowLine] { rows.compactMap(\.run) }
    /// The two instructions that differ first.
    var pre: WindowLine? { rows.indices.contains(first) ? rows[first].pre : nil }
    var run: WindowLine? { rows.indices.contains(first) ? rows[first].run : nil }

    /// Pairs equal lines in order, as many as possible; between them what differs stands side by side.
    private static func paired(_ pre: [WindowLine], _ run: [WindowLine]) -> [Row] {
        // How many lines pair up from two positions to the ends.
        var best = [[Int]](repeating: .init(repeating: 0, count: run.count + 1), count: pre.count + 1)
        for i in pre.indices.reversed() {
            for j in run.indices.reversed() {
                best[i][j] =
                    pre[i].text == run[j].text
                    ? best[i + 1][j + 1] + 1 : max(best[i + 1][j], best[i][j + 1])
            }
        }
        var rows: [Row] = []
        var (left, right): ([WindowLine], [WindowLine]) = ([], [])
        func flush() {
            for index in 0..<max(left.count, right.count) {
                rows.append(
                    Row(
                        pre: index < left.count ? left[index] : nil,
                        run: index < right.count ? right[index] : nil))
            }
            (left, right) = ([], [])
        }
        var (i, j) = (0, 0)
        while i < pre.count && j < run.count {
            if pre[i].text == run[j].text {
                flush()
                rows.append(Row(pre: pre[i], run: run[j]))
                (i, j) = (i + 1, j + 1)
            } else if best[i + 1][j] >= best[i][j + 1] {
                left.append(pre[i])
                i += 1
            } else {
                right.append(run[j])
                j += 1
            }
        }
        left += pre[i...]
        right += run[j...]
        flush()
        return rows
    }

    /// In two columns under a title; no line is longer than 76. `>` marks the first difference; in the middle `|` stands where
    /// both sides differ, and `~` where they may, because the kernel rewrites a patch site.
    var lines: [String] {
        guard !rows.isEmpty else { return [] }
        let side = 33
        func cell(_ line: WindowLine?) -> String {
            guard let line else { return "" }
            let offset = String(line.offset, radix: 16)
            let padded = String(repeating: " ", count: max(0, 4 - offset.count)) + offset
            return "\(padded)  \(Self.shortened(line.full, to: side - 6))"
        }
        let title = "  pre (what was compiled)".padded(to: 3 + side) + "   run (what the kernel has)"
        return [title]
            + rows.enumerated().map { index, row in
                let isEqual = row.pre?.text == row.run?.text
                let sign = index == first ? "|" : isEqual ? " " : row.pre?.site != nil ? "~" : "|"
                let mark = index == first ? ">" : " "
                return "\(mark) \(cell(row.pre).padded(to: side)) \(sign) \(cell(row.run))".trimmedRight
            }
    }

    static func shortened(_ text: String, to count: Int) -> String {
        text.count <= count ? text : text.prefix(count - 2) + ".."
    }
}

extension String {
    fileprivate func padded(to width: Int) -> String {
        self + String(repeating: " ", count: max(0, width - count))
    }

    fileprivate var trimmedRight: String {
        var text = self[...]
        while text.last == " " { text.removeLast() }
        return String(text)
    }
}
