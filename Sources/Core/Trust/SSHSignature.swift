// Signatures as `ssh-keygen -Y sign` makes them and git puts them into commits (OpenSSH's PROTOCOL.sshsig). They are verified
// here and not with ssh-keygen, which a host need not have, and which the repository's configuration could replace.

import CShims

/// A public key as SSH writes it: `ssh-ed25519 AAAA...`.
public struct SSHKey: Sendable, Hashable {
    /// `ssh-ed25519`, `ssh-rsa`, `ecdsa-sha2-nistp256`, ...
    public var type: String
    /// The key in SSH's binary form, which begins with its type again.
    public var blob: [UInt8]

    /// Reads the first two words of a line of a `.pub` file.
    public init(_ text: some StringProtocol) throws {
        let words = text.split(separator: " ", omittingEmptySubsequences: true)
        guard words.count >= 2, let blob = Base64.decode(Array(words[1].utf8)) else {
            throw Failure("not a public key of SSH: '\(String(text).prefix(60))'")
        }
        try self.init(blob: blob)
        guard type == words[0] else {
            throw Failure("a public key says that it is '\(type)', and its line '\(words[0])'")
        }
    }

    init(blob: [UInt8]) throws {
        var reader = SSHReader(blob)
        type = String(decoding: try reader.string(), as: UTF8.self)
        self.blob = blob
        guard ["ssh-ed25519", "ssh-rsa"].contains(type) || Self.curves[type] != nil else {
            throw Failure("public keys of type '\(type.prefix(40))' are not known here")
        }
    }

    /// `SHA256:...`, as `ssh-keygen -l` prints it.
    public var fingerprint: String {
        var text = Base64.encode(unhex(sha256(blob)) ?? [])
        while text.hasSuffix("=") { text.removeLast() }
        return "SHA256:" + text
    }

    /// As a line of a `.pub` file has it, without a comment.
    public var text: String { "\(type) \(Base64.word(blob))" }

    /// By key type: the curve's name, and the hash that goes with it.
    fileprivate static let curves = [
        "ecdsa-sha2-nistp256": ("prime256v1", "SHA256"), "ecdsa-sha2-nistp384": ("secp384r1", "SHA384"),
        "ecdsa-sha2-nistp521": ("secp521r1", "SHA512"),
    ]

    /// Whether a signature in SSH's binary form is one of these bytes by this key.
    fileprivate func isSigned(_ data: [UInt8], by signature: [UInt8]) throws -> Bool {
        var key = SSHReader(blob)
        _ = try key.string()
        var reader = SSHReader(signature)
        let algorithm = String(decoding: try reader.string(), as: UTF8.self)
        let bytes = try reader.string()
        try reader.end()
        switch type {
        case "ssh-ed25519":
            let point = try key.string()
            try key.end()
            guard algorithm == type, point.count == 32, bytes.count == 64 else { return false }
            return ks_verify_ed25519(point, bytes, data, data.count) == 1
        case "ssh-rsa":
            let hashes = ["rsa-sha2-256": "SHA256", "rsa-sha2-512": "SHA512"]
            guard let hash = hashes[algorithm] else { return false }
            let (exponent, modulus) = try (key.string(), key.string())
            try key.end()
            return ks_verify_rsa(
                modulus, modulus.count, exponent, exponent.count, hash, bytes, bytes.count, data, data.count)
                == 1
        default:
            guard let (curve, hash) = Self.curves[type], algorithm == type else { return false }
            _ = try key.string()
            let point = try key.string()
            try key.end()
            var numbers = SSHReader(bytes)
            let (r, s) = try (numbers.string(), numbers.string())
            try numbers.end()
            return ks_verify_ecdsa(
                curve, hash, point, point.count, r, r.count, s, s.count, data, data.count) == 1
        }
    }
}

/// A signature, with the key that says it made it. Whether that key is anybody's, `TrustPolicy` knows.
public struct SSHSignature: Sendable {
    public var key: SSHKey
    /// What the signature is for: `git` for commits and tags.
    var namespace: String
    private var hash: String
    private var signature: [UInt8]

    static let opening = "-----BEGIN SSH SIGNATURE-----"

    /// Reads the armoured form.
    public init(armoured text: String) throws {
        let lines = text.split(separator: "\n").map { String($0).trimmed }
        guard lines.count >= 3, lines.first == Self.opening, lines.last == "-----END SSH SIGNATURE-----",
            let bytes = Base64.decode(Array(lines[1..<(lines.count - 1)].joined().utf8))
        else { throw Failure("not a signature of SSH") }
        var reader = SSHReader(bytes)
        guard try reader.take(6) == Array("SSHSIG".utf8), try reader.number() == 1 else {
            throw Failure("not a signature of SSH that is known here")
        }
        key = try SSHKey(blob: reader.string())
        namespace = String(decoding: try reader.string(), as: UTF8.self)
        guard try reader.string().isEmpty else {
            throw Failure("a signature of SSH has a part that is not known")
        }
        hash = String(decoding: try reader.string(), as: UTF8.self)
        signature = try reader.string()
        try reader.end()
    }

    /// Whether it is a signature of these bytes, in git's namespace, by the key that it names.
    public func isGood(for message: [UInt8]) throws -> Bool {
        guard namespace == "git" else { return false }
        let digest: [UInt8]
        switch hash {
        case "sha512": digest = sha512(message)
        case "sha256": digest = unhex(sha256(message)) ?? []
        default: return false
        }
        let data =
            Array("SSHSIG".utf8) + SSHReader.string(Array(namespace.utf8)) + SSHReader.string([])
            + SSHReader.string(Array(hash.utf8)) + SSHReader.string(digest)
        return try key.isSigned(data, by: signature)
    }
}

/// Reads SSH's binary form: strings behind their length, big-endian (RFC 4251, section 5).
private struct SSHReader {
    private var rest: ArraySlice<UInt8>

    init(_ bytes: [UInt8]) { rest = bytes[...] }

    mutating func take(_ count: Int) throws -> [UInt8] {
        guard count <= rest.count else { throw Failure("a key or a signature of SSH is cut off") }
        defer { rest = rest.dropFirst(count) }
        return Array(rest.prefix(count))
    }

    mutating func number() throws -> Int { try take(4).reduce(0) { $0 << 8 | Int($1) } }

    mutating func string() throws -> [UInt8] { try take(number()) }

    func end() throws {
        guard rest.isEmpty else { throw Failure("a key or a signature of SSH has something behind its end") }
    }

    static func string(_ bytes: [UInt8]) -> [UInt8] {
        [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: bytes.count >> $0) } + bytes
    }
}
