// A commit as its signature sees it: the bytes that are signed, and the signature, taken apart here. `git verify-commit` asks
// the repository's configuration which program checks a signature, and that program can say yes to anything.

/// A commit with its signature, if it has one.
public struct SignedCommit: Sendable {
    public var id: String
    public var tree: String
    public var parents: [String]
    /// Seconds since 1970, as its committer says.
    public var time: Int64
    public var message: String
    /// Armoured, as SSH or GPG made it; nil where there is none.
    var signature: String?
    /// What the signature is of: the commit without it.
    var payload: [UInt8]

    /// The trailers of the message that begin with `Ksplice-`, without that, in their order.
    public var trailers: [(key: String, value: String)] { Self.trailers(of: message) }

    /// The value of a trailer that stands there once. Fails where it is missing or there are several.
    public func trailer(_ key: String) throws -> String {
        let found = trailers.filter { $0.key == key }
        guard found.count == 1 else {
            throw Failure(
                "commit \(id.prefix(12)) has \(found.isEmpty ? "no" : "more than one") trailer 'Ksplice-\(key)'",
                status: .verificationRefused)
        }
        return found[0].value
    }

    static func trailers(of message: String) -> [(key: String, value: String)] {
        // Only the last paragraph: what stands in the text above is the author's own.
        let end = message.lines.map { String($0) }.reversed().drop { $0.trimmed.isEmpty }
        return end.prefix { !$0.trimmed.isEmpty }.reversed().compactMap { line in
            guard line.hasPrefix("Ksplice-"), let colon = line.firstIndex(of: ":") else { return nil }
            let key = line[..<colon].dropFirst("Ksplice-".count)
            return (String(key), String(line[line.index(after: colon)...]).trimmed)
        }
    }
}

extension SignedCommit {
    /// Takes the bytes of a commit object apart.
    ///
    /// - Parameter format: how the repository names objects: a commit may have a signature for each format, and what is signed
    ///   has the names of that.
    init(id: String, parsing bytes: [UInt8], format: ObjectFormat = .sha1) throws {
        let head = format == .sha1 ? "gpgsig" : "gpgsig-sha256"
        func damaged(_ what: String) -> Failure {
            Failure("commit \(id.prefix(12)) \(what)", status: .verificationRefused)
        }
        self.id = id
        (tree, parents, time, payload) = ("", [], 0, [])
        var signature: [String] = []
        var isSignature = false
        var rest = bytes[...]
        while true {
            guard let end = rest.firstIndex(of: 10) else { throw damaged("has no end of its head") }
            let line = String(decoding: rest[..<end], as: UTF8.self)
            let raw = rest[...end]
            rest = rest[(end + 1)...]
            if line.isEmpty {
                payload += raw + rest
                break
            }
            if line.hasPrefix(" "), isSignature {
                signature.append(String(line.dropFirst()))
                continue
            }
            let words = line.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: false)
            isSignature = words[0] == head
            if isSignature {
                guard signature.isEmpty, words.count == 2 else {
                    throw damaged("has more than one signature")
                }
                signature.append(String(words[1]))
                continue
            }
            payload += raw
            switch words[0] {
            case "tree":
                guard tree.isEmpty else { throw damaged("has more than one tree") }
                tree = words.count == 2 ? String(words[1]) : ""
            case "parent": parents.append(words.count == 2 ? String(words[1]) : "")
            case "committer": time = line.split(separator: " ").dropLast().last.flatMap { Int64($0) } ?? 0
            case "gpgsig", "gpgsig-sha256": throw damaged("has a signature of another format")
            default: break
            }
        }
        message = String(decoding: rest, as: UTF8.self)
        self.signature = signature.isEmpty ? nil : signature.joined(separator: "\n")
    }
}

extension Repository {
    /// Reads a commit with its signature. Objects that stand in the place of others (`git replace`) do not count.
    public func signedCommit(_ id: String) throws -> SignedCommit {
        guard let header = try store.header(of: id) else {
            throw try missing(id, "commit")
        }
        guard header.kind == .commit else {
            throw Failure("'\(id)' is no commit", status: .verificationRefused)
        }
        guard header.size <= 1 << 20 else {
            throw Failure(
                "commit \(id.prefix(12)) is larger than a commit can be", status: .verificationRefused)
        }
        return try SignedCommit(id: id, parsing: object(id, .commit, as: .stored), format: format)
    }

    /// Writes a commit that is signed as the user's git signs commits. Moves no ref.
    func writeSignedCommit(tree: String, message: String, parents: [String]) async throws -> String {
        var arguments = ["commit-tree", "-S", tree]
        for parent in parents { arguments += ["-p", parent] }
        let result = try await git(arguments + ["-F", "-"], input: Array(message.utf8)).run()
        guard result.succeeded else {
            throw Failure(
                "cannot sign: \(Self.words(of: result))",
                hints: [
                    "with SSH: git config gpg.format ssh; git config user.signingKey ~/.ssh/id_ed25519.pub",
                    "with GPG: git config user.signingKey KEY",
                ])
        }
        return result.text.trimmed
    }
}
