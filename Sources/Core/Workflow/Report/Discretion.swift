// What a report must not tell: where things lie on the reporter's machine, and who that is.

import Glibc

/// Replaces paths of the user's, and what URLs have of secrets.
struct Discretion: Sendable {
    /// The longest first, so that no beginning of another is replaced before it.
    private let replaced: [(text: String, by: String)]

    init(_ repository: Repository?) {
        var found: [(String, String)] = []
        if let repository {
            found.append((repository.gitDirectory, "<git directory>"))
            found.append((repository.commonDirectory, "<git directory>"))
            if let worktree = repository.worktree { found.append((worktree, "<worktree>")) }
        }
        if let home = getenv("HOME").map({ String(cString: $0) }) { found.append((home, "<home>")) }
        var name = [CChar](repeating: 0, count: 256)
        if gethostname(&name, name.count - 1) == 0 {
            found.append(
                (
                    String(decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self),
                    "<host>"
                ))
        }
        // `/`, the home of some services, and one letter would be everywhere.
        self.init(found.filter { $0.0.count > 2 })
    }

    init(_ replaced: [(String, String)]) {
        self.replaced = replaced.map { (text: $0.0, by: $0.1) }.sorted { $0.text.count > $1.text.count }
    }

    func applied(to text: String) -> String {
        // What is known here comes later: a word in its place would hide the rest of an address.
        var text = text.replacing(
            /\b[A-Za-z][A-Za-z0-9+.\-]*:\/\/[^\s'"]+/.wordBoundaryKind(.simple), with: "<url>")
        // Git's other way to write one, SERVER:PATH, and addresses of people. A number alone is a line of a file.
        text = text.replacing(/[A-Za-z0-9._%+\-]+@[A-Za-z0-9._\-]+(?::[^\s'">]+)?/, with: "<address>")
        text = text.replacing(
            /\b[A-Za-z0-9_\-]+(?:\.[A-Za-z0-9_\-]+)+:(?!\d+(?:[:,\s]|$))[^\s'"]+/.wordBoundaryKind(.simple),
            with: "<url>")
        for (secret, word) in replaced { text = text.replacing(secret, with: word) }
        return text.replacing(/\/(?:home|root|Users)\/[^\s'"]*/, with: "<path>")
    }
}
