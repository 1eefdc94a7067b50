// The pages that explain findings, one for each code: `CODE.md`, with `# CODE: SUMMARY` as its first line.

/// A folder of pages.
public struct FindingPages: Sendable {
    let folder: String

    public init(folder: String) { self.folder = folder }

    /// All codes that have a page, sorted, each with a line that says what it means.
    public func summaries() throws -> [(code: String, summary: String)] {
        try codes().map { code in
            let title = try Files.readText(path(code)).lines.first ?? ""
            let head = "# \(code): "
            guard title.hasPrefix(head) else { throw Failure("'\(path(code))' is not the page of a finding") }
            return (code, String(title.dropFirst(head.count)))
        }
    }

    /// The text of a page. Fails with the codes that look most like it where there is none.
    public func page(_ code: String) throws -> String {
        let known = try codes()
        // Only what the folder lists: the code is no path.
        guard known.contains(code) else {
            let nearest = nearest(to: code, in: known)
            throw Failure(
                "no finding has the code '\(code)'", status: .notFound,
                hints: nearest.map { "git ksplice explain \($0)" }
                    + (nearest.isEmpty ? ["git ksplice explain lists all"] : []))
        }
        return try Files.readText(path(code))
    }

    private func codes() throws -> [String] {
        try Files.list(folder).filter { $0.hasSuffix(".md") }.map { String($0.dropLast(3)) }.sorted()
    }

    private func path(_ code: String) -> String { "\(folder)/\(code).md" }
}
