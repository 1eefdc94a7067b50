// Why the functions of an update changed, for people: the causes, and pre and post side by side where they part.

extension Update {
    /// The records of the functions with the given names, of all where none is given. A clone (`f.isra.0`) is found by
    /// the function's own name, too. Fails where the update has none of them.
    public func reasons(_ names: [String] = []) throws -> [ChangeRecord] {
        guard let file = files[Path.changes] else {
            throw Failure(
                "update \(id.prefix(12)) does not say why its functions changed: an earlier version of git-ksplice made it",
                status: .notFound, hint: "make it again from its commit with 'git ksplice create'")
        }
        let records = try ChangeRecord.read(String(decoding: file, as: UTF8.self))
        guard !names.isEmpty else { return records }
        return try names.flatMap { name in
            let found = records.filter { $0.function == name || $0.function.hasPrefix(name + ".") }
            guard !found.isEmpty else {
                let known = records.map(\.function)
                throw Failure(
                    "update \(id.prefix(12)) does not change '\(name)'", status: .notFound,
                    hint:
                        "it changes \(known.prefix(8).joined(separator: ", "))\(known.count > 8 ? ", ..." : "")"
                )
            }
            return found
        }
    }
}

/// Lines of the source, where they are at hand.
public struct SourceText: Sendable {
    private let read: @Sendable (String) throws -> [UInt8]?

    /// - Parameter read: the content of a file by its path in the tree.
    public init(_ read: @escaping @Sendable (String) throws -> [UInt8]?) { self.read = read }

    public static let none = SourceText { _ in nil }

    /// A line without the blanks around it; nil where it is not at hand.
    func line(_ place: SourceLine) throws -> String? {
        guard let text = try read(place.file) else { return nil }
        let lines = text.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        guard lines.indices.contains(place.line - 1) else { return nil }
        return String(decoding: lines[place.line - 1], as: UTF8.self).trimmed
    }
}

extension ChangeRecord {
    /// Several lines that say everything.
    public func description(pre preText: SourceText, post postText: SourceText) throws -> [String] {
        var lines = ["\(unit): \(function): \(kind.rawValue)\(sizes)"]
        for reason in reasons {
            let way = reason.callees.count > 1 ? " (\(reason.callees.joined(separator: " > ")))" : ""
            lines.append("  \(reason.kind.rawValue): \(reason.text)\(way)")
            if let place = reason.place { lines.append("    " + (try Self.quoted(place, postText))) }
        }
        if reasons.isEmpty, let declared = (kind == .removed ? pre : post)?.declared {
            lines.append("  declared at " + declared.text)
        }
        guard kind == .changed, let pre, let post, !pre.instructions.isEmpty || !post.instructions.isEmpty
        else { return lines }
        lines.append("  first difference:")
        for (title, code, text) in [("before", pre, preText), ("after ", post, postText)] {
            guard let place = code.place else { continue }
            let inlined = code.inlined.isEmpty ? "" : ", inlined: " + code.inlined.joined(separator: " > ")
            lines.append("    \(title) " + (try Self.quoted(place, text)) + inlined)
        }
        return lines + Self.sideBySide(pre, post)
    }

    private var sizes: String {
        switch (pre, post) {
        case (let a?, let b?): a.size == b.size ? ", \(a.size) bytes" : ", \(a.size) -> \(b.size) bytes"
        case (let code?, nil), (nil, let code?): ", \(code.size) bytes"
        case (nil, nil): ""
        }
    }

    private static func quoted(_ place: SourceLine, _ text: SourceText) throws -> String {
        try place.text + (text.line(place).map { ": " + $0 } ?? "")
    }

    private static func sideBySide(_ pre: Code, _ post: Code) -> [String] {
        func text(_ line: Code.Line) -> String { "+\(hex(UInt64(line.offset)))  \(line.text)" }
        let width = min(60, pre.instructions.map { text($0).count }.max() ?? 0)
        return (0..<max(pre.instructions.count, post.instructions.count)).map { row in
            let old = pre.instructions.indices.contains(row) ? pre.instructions[row] : nil
            let new = post.instructions.indices.contains(row) ? post.instructions[row] : nil
            let left = old.map(text) ?? ""
            let isFirst =
                old.map { $0.offset == pre.offset } ?? false || new.map { $0.offset == post.offset } ?? false
            let padding = String(repeating: " ", count: max(0, width - left.count))
            return "    \(isFirst ? ">" : " ") \(left)\(padding) | \(new.map(text) ?? "")"
        }
    }
}
