// The pages that explain findings and mismatches, one for each code: `CODE.md`, with `# CODE: SUMMARY` as its first line.

/// Folders of pages.
public struct FindingPages: Sendable {
    let folders: [String]

    public init(folders: [String]) { self.folders = folders }

    /// All codes that have a page, sorted within each folder, each with a line that says what it means.
    public func summaries() throws -> [(code: String, summary: String)] {
        try pages().map { code, path in
            let title = try Files.readText(path).lines.first ?? ""
            let head = "# \(code): "
            guard title.hasPrefix(head) else { throw Failure("'\(path)' is not the page of a code") }
            return (code, String(title.dropFirst(head.count)))
        }
    }

    /// The text of a page. Fails with the codes that look most like it where there is none.
    public func page(_ code: String) throws -> String {
        let known = try pages()
        // Only what the folders list: the code is no path.
        guard let found = known.first(where: { $0.code == code }) else {
            let nearest = nearest(to: code, in: known.map(\.code))
            throw Failure(
                "no finding and no mismatch has the code '\(code)'", status: .notFound,
                hints: nearest.map { "git ksplice explain \($0)" }
                    + (nearest.isEmpty ? ["git ksplice explain lists all"] : []))
        }
        return try Files.readText(found.path)
    }

    private func pages() throws -> [(code: String, path: String)] {
        try folders.flatMap { folder in
            try Files.list(folder).filter { $0.hasSuffix(".md") }.sorted()
                .map { (String($0.dropLast(3)), "\(folder)/\($0)") }
        }
    }
}
