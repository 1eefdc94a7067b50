// The change of the source text as differencing needs it: which lines of which file, and the text itself, so that a
// difference in machine code can be told by the lines that it comes from.

/// The changed files of the source, with their lines.
public struct SourceChange: Sendable {
    public struct File: Sendable {
        /// In order.
        public var hunks: [Hunk]
        var pre: [String]
        var post: [String]
        /// The post text for the compiler; nil where the file is deleted.
        let marked: [UInt8]?

        /// The texts are nil where the file is new or deleted. `marked` is the post text for the compiler, where its lines
        /// are to have other numbers than those of pre.
        public init(hunks: [Hunk], pre: [UInt8]?, post: [UInt8]?, marked: [UInt8]? = nil) {
            self.hunks = hunks
            self.pre = SourceChange.lines(pre ?? [])
            self.post = SourceChange.lines(post ?? [])
            self.marked = marked ?? post.map { addLineMarkers($0, hunks: pre == nil ? [] : hunks) }
        }
    }

    /// By path in the kernel's tree.
    public var files: [String: File]
    /// The text of a file that does not change.
    private let unchanged: @Sendable (String) throws -> [UInt8]?
    /// The macros whose definitions change, in the order of their files and lines.
    private(set) var macros: [Macro] = []

    public init(
        _ files: [String: File] = [:],
        unchanged: @escaping @Sendable (String) throws -> [UInt8]? = { _ in nil }
    ) {
        self.files = files
        self.unchanged = unchanged
        macros = changedMacros()
    }

    /// The post text of all changed files with line markers, for the compiler.
    var markedFiles: [String: [UInt8]?] { files.mapValues(\.marked) }

    private static func lines(_ text: [UInt8]) -> [String] {
        text.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).map {
            String(decoding: $0, as: UTF8.self)
        }
    }

    /// The lines of a file's post text.
    func preLines(_ path: String) throws -> [String] {
        if let file = files[path] { return file.pre }
        return try unchanged(path).map { Self.lines($0) } ?? []
    }

    func postLines(_ path: String) throws -> [String] {
        if let file = files[path] { return file.post }
        return try unchanged(path).map { Self.lines($0) } ?? []
    }

    /// The first changed line of a stretch, as its number in post; in pre and post the stretch has other numbers. Nil
    /// where nothing in it changes.
    func edit(_ path: String, pre: ClosedRange<Int>?, post: ClosedRange<Int>?) -> SourceLine? {
        guard let file = files[path] else { return nil }
        for hunk in file.hunks {
            let old = hunk.preStart..<hunk.preStart + hunk.preCount
            let new = hunk.postStart..<hunk.postStart + hunk.postCount
            if let post, let first = new.first(where: { post.contains($0) && !isEmpty(file.post, $0) }) {
                return SourceLine(file: path, line: first)
            }
            if let pre, let first = old.first(where: { pre.contains($0) && !isEmpty(file.pre, $0) }) {
                return SourceLine(
                    file: path, line: min(hunk.postStart + first - hunk.preStart, new.upperBound))
            }
        }
        return nil
    }

    private func isEmpty(_ lines: [String], _ number: Int) -> Bool {
        lines.indices.contains(number - 1)
            && lines[number - 1].allSatisfy { $0 == " " || $0 == "\t" || $0 == "\r" }
    }

    /// A macro whose definition changes.
    struct Macro: Sendable {
        var name: String
        var place: SourceLine
    }

    private func changedMacros() -> [Macro] {
        files.sorted { $0.key < $1.key }.flatMap { path, file in
            var found: [Macro] = []
            for (name, lines) in Self.definitions(file.post) {
                guard let place = edit(path, pre: nil, post: lines) else { continue }
                found.append(Macro(name: name, place: place))
            }
            for (name, lines) in Self.definitions(file.pre) where !found.contains(where: { $0.name == name })
            {
                guard let place = edit(path, pre: lines, post: nil) else { continue }
                found.append(Macro(name: name, place: place))
            }
            return found
        }
    }

    private static func definitions(_ lines: [String]) -> [(String, ClosedRange<Int>)] {
        var result: [(String, ClosedRange<Int>)] = []
        var index = 0
        while index < lines.count {
            let words = lines[index].drop { $0 == " " || $0 == "\t" }
            guard words.first == "#",
                case let rest = words.dropFirst().drop(while: { $0 == " " || $0 == "\t" }),
                rest.hasPrefix("define")
            else {
                index += 1
                continue
            }
            let name = rest.dropFirst("define".count).drop { $0 == " " || $0 == "\t" }.prefix(while: isWord)
            let start = index
            while lines[index].hasSuffix("\\") && index + 1 < lines.count { index += 1 }
            if !name.isEmpty { result.append((String(name), start + 1...index + 1)) }
            index += 1
        }
        return result
    }
}

/// Whether a character can stand in a name of C.
func isWord(_ character: Character) -> Bool {
    character == "_" || character.isASCII && (character.isLetter || character.isNumber)
}
