// Channels in git: refs/ksplice/channels/<arch>/<build-id>/<name>, a chain of signed commits that only grows. Each has the
// whole index as its tree and says in trailers where it stands and how long it may be believed.

import Glibc

/// Which channel.
public struct ChannelName: Sendable, Hashable {
    static let prefix = "refs/ksplice/channels/"

    public var arch: String
    /// The build-id, or what stands for it (`KernelIdentity.refName`).
    public var kernel: String
    /// `stable`, `testing`, or another word.
    public var name: String

    /// Fails where the name cannot be a part of a ref's.
    public init(arch: String, kernel: String, name: String) throws {
        let isWord =
            name.first?.isLetter == true
            && name.utf8.allSatisfy {
                (97...122).contains($0) || (65...90).contains($0) || (48...57).contains($0) || $0 == 45
                    || $0 == 95
            }
        guard isWord, name.utf8.count <= 64 else {
            throw Failure(
                "'\(name)' cannot be the name of a channel", status: .usage,
                hint: "letters, digits, '-' and '_', such as stable")
        }
        (self.arch, self.kernel, self.name) = (arch, kernel, name)
    }

    public init(_ identity: KernelIdentity, _ name: String) throws {
        try self.init(arch: identity.arch, kernel: identity.refName, name: name)
    }

    /// Takes a ref's name apart.
    public init?(ref: String) {
        let parts = ref.dropFirst(Self.prefix.count).split(separator: "/", omittingEmptySubsequences: false)
        guard ref.hasPrefix(Self.prefix), parts.count == 3 else { return nil }
        try? self.init(arch: String(parts[0]), kernel: String(parts[1]), name: String(parts[2]))
    }

    public var ref: String { "\(Self.prefix)\(arch)/\(kernel)/\(name)" }
}

/// One commit of a channel.
public struct ChannelState: Sendable {
    public var name: ChannelName
    public var commit: SignedCommit
    public var index: ChannelIndex
    /// One more than the commit before.
    public var serial: Int
    /// Seconds since 1970: from then on it is not believed any more.
    public var validUntil: Int64

    init(name: ChannelName, index: ChannelIndex, serial: Int, validUntil: Int64) {
        (self.name, self.index, self.serial, self.validUntil) = (name, index, serial, validUntil)
        commit = SignedCommit(
            id: "", tree: "", parents: [], time: 0, message: "", signature: nil, payload: [])
    }

    /// SHA-256 of what was signed.
    var digest: String { sha256(commit.payload) }

    /// The first line of its message.
    public var subject: String { commit.message.lines.first.map(String.init) ?? "" }

    static let formatVersion = 1

    /// Reads one and checks what it says of itself: its ref, its index, its numbers. Not who signed it.
    init(_ id: String, of name: ChannelName, in repository: Repository) throws {
        func wrong(_ what: String) -> Failure {
            Failure("commit \(id.prefix(12)) of '\(name.ref)' \(what)", status: .verificationRefused)
        }
        let commit = try repository.signedCommit(id)
        guard try commit.trailer("Format") == "\(Self.formatVersion)" else {
            throw Failure(
                "'\(name.ref)' has a format that this program does not know",
                hint: "install a newer git ksplice")
        }
        guard try commit.trailer("Channel") == name.ref else {
            throw wrong("is one of '\(try commit.trailer("Channel"))'")
        }
        guard
            let bytes = try repository.onlyFile(
                ChannelIndex.path, tree: commit.tree, limit: ChannelIndex.limit)
        else { throw wrong("holds no index") }
        guard try commit.trailer("Index") == "sha256:" + sha256(bytes) else {
            throw wrong("holds another index than it says")
        }
        guard let serial = Int(try commit.trailer("Serial")), (1...1 << 32).contains(serial) else {
            throw wrong("has no serial number")
        }
        guard let until = CalendarTime.parse(try commit.trailer("Valid-Until")) else {
            throw wrong("does not say how long it is valid")
        }
        guard commit.parents.count == (serial == 1 ? 0 : 1) else {
            throw wrong("is not the next one of a chain")
        }
        self.name = name
        self.commit = commit
        index = try ChannelIndex(parsing: String(decoding: bytes, as: UTF8.self))
        self.serial = serial
        validUntil = until
    }

    static func message(
        _ subject: String, name: ChannelName, index: ChannelIndex, serial: Int, validUntil: Int64,
        extra: [(String, String)]
    ) -> String {
        let trailers =
            [
                ("Format", "\(formatVersion)"), ("Channel", name.ref), ("Serial", "\(serial)"),
                ("Valid-Until", CalendarTime.text(validUntil)), ("Index", "sha256:" + sha256(index.text)),
            ] + extra
        return "ksplice: \(name.name): \(subject)\n\n"
            + trailers.map { "Ksplice-\($0.0): \($0.1)\n" }.joined()
    }
}

/// Moments as text: `2026-11-27T12:00:00Z`.
public enum CalendarTime {
    public static func text(_ time: Int64) -> String {
        var (seconds, parts) = (time_t(time), tm())
        gmtime_r(&seconds, &parts)
        var buffer = [CChar](repeating: 0, count: 32)
        strftime(&buffer, buffer.count, "%Y-%m-%dT%H:%M:%SZ", &parts)
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Seconds since 1970; nil where it is not such a text.
    public static func parse(_ text: String) -> Int64? {
        guard
            let match = text.wholeMatch(
                of: /([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})Z/)
        else {
            return nil
        }
        var parts = tm()
        (parts.tm_year, parts.tm_mon, parts.tm_mday) = (
            Int32(match.1)! - 1900, Int32(match.2)! - 1, Int32(match.3)!
        )
        (parts.tm_hour, parts.tm_min, parts.tm_sec) = (Int32(match.4)!, Int32(match.5)!, Int32(match.6)!)
        let time = Int64(timegm(&parts))
        return self.text(time) == text ? time : nil
    }

    public static var now: Int64 { Int64(time(nil)) }
}
