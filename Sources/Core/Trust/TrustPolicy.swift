// Who may say what: signers with their keys and roles, how many of them must agree, and which keys are trusted no more. A
// host's first policy is a file that its administrator put there; a newer one comes through git, signed by enough of those whom
// the one before it names (TrustChain.swift).
//
//     ksplice-trust 1
//     serial 4
//     threshold root 2
//     threshold release 1
//     signer alice root,release ssh ssh-ed25519 AAAA...
//     signer robot renew ssh ssh-ed25519 AAAA...
//     signer carol release gpg FINGERPRINT BASE64-OF-THE-EXPORTED-KEY
//     revoked SHA256:... lost with a laptop

/// What a signer's word counts for.
public enum TrustRole: String, Sendable, CaseIterable {
    /// Changes of the policy itself.
    case root
    /// Updates, and what channels say of them.
    case release
    /// That a channel still stands as it is: its end of validity, and nothing else. For a key on a machine that does it daily.
    case renew
}

/// A key that signatures are checked with.
public enum TrustKey: Sendable, Hashable {
    case ssh(SSHKey)
    /// The fingerprint of the primary key, 40 upper-case hexadecimal digits, and the exported public key.
    case gpg(fingerprint: String, key: [UInt8])

    /// What revocations name it by.
    public var fingerprint: String {
        switch self {
        case .ssh(let key): key.fingerprint
        case .gpg(let fingerprint, _): fingerprint
        }
    }
}

/// One whose signatures count.
public struct Signer: Sendable, Hashable {
    /// One word.
    public var name: String
    public var roles: [TrustRole]
    public var key: TrustKey

    public init(name: String, roles: [TrustRole], key: TrustKey) {
        (self.name, self.roles, self.key) = (name, roles, key)
    }
}

/// A policy of trust.
public struct TrustPolicy: Sendable, Equatable {
    static let formatVersion = 1

    /// Greater than that of the policy before it.
    public var serial: Int
    /// How many different signers must agree; 1 where nothing is said.
    public var thresholds: [TrustRole: Int] = [:]
    public var signers: [Signer] = []
    /// By fingerprint, with the reason.
    public var revoked: [String: String] = [:]

    public init(serial: Int) { self.serial = serial }

    public func threshold(_ role: TrustRole) -> Int { thresholds[role] ?? 1 }

    /// Reads the text above. Fails on a line that it does not know.
    public init(parsing text: String) throws {
        func wrong(_ line: some StringProtocol) -> Failure {
            Failure(
                "a policy of trust has a line that is not understood: '\(line.prefix(80))'",
                status: .verificationRefused)
        }
        var lines = text.lines.map { String($0) }.filter { !$0.trimmed.isEmpty && !$0.hasPrefix("#") }
        guard lines.first == "ksplice-trust \(Self.formatVersion)" else {
            throw Failure(
                "not a policy of trust, or one of a newer format", status: .verificationRefused,
                hint: "it begins with 'ksplice-trust \(Self.formatVersion)'")
        }
        lines.removeFirst()
        var serial: Int?
        var policy = TrustPolicy(serial: 0)
        for line in lines {
            let words = line.split(separator: " ").map { String($0) }
            switch (words[0], words.count) {
            case ("serial", 2):
                guard let number = Int(words[1]), (1...1 << 32).contains(number), serial == nil else {
                    throw wrong(line)
                }
                serial = number
            case ("threshold", 3):
                guard let role = TrustRole(rawValue: words[1]), let count = Int(words[2]), count > 0 else {
                    throw wrong(line)
                }
                policy.thresholds[role] = count
            case ("signer", 5...6): policy.signers.append(try Self.signer(words) ?? { throw wrong(line) }())
            case ("revoked", 2...): policy.revoked[words[1]] = words.dropFirst(2).joined(separator: " ")
            default: throw wrong(line)
            }
        }
        guard let serial else { throw wrong("serial is missing") }
        policy.serial = serial
        self = policy
    }

    private static func signer(_ words: [String]) throws -> Signer? {
        let roles = words[2].split(separator: ",").compactMap { TrustRole(rawValue: String($0)) }
        guard roles.count == words[2].split(separator: ",").count, words.count == 6 else { return nil }
        switch words[3] {
        case "ssh":
            return Signer(name: words[1], roles: roles, key: .ssh(try SSHKey(words[4] + " " + words[5])))
        case "gpg":
            guard words[4].count == 40, words[4].allSatisfy({ $0.isHexDigit && !$0.isLowercase }),
                let key = Base64.decode(Array(words[5].utf8))
            else { return nil }
            return Signer(name: words[1], roles: roles, key: .gpg(fingerprint: words[4], key: key))
        default: return nil
        }
    }

    /// The text that `init(parsing:)` reads.
    public var text: String {
        var text = "ksplice-trust \(Self.formatVersion)\nserial \(serial)\n"
        for role in TrustRole.allCases {
            if let count = thresholds[role] { text += "threshold \(role.rawValue) \(count)\n" }
        }
        for signer in signers {
            let key =
                switch signer.key {
                case .ssh(let key): "ssh \(key.text)"
                case .gpg(let fingerprint, let key): "gpg \(fingerprint) \(Base64.word(key))"
                }
            text += "signer \(signer.name) \(signer.roles.map(\.rawValue).joined(separator: ",")) \(key)\n"
        }
        for (key, reason) in revoked.sorted(by: { $0.key < $1.key }) {
            text += "revoked \(key)\(reason.isEmpty ? "" : " " + reason)\n"
        }
        return text
    }

    /// Fails where nobody could ever change this policy, or sign an update.
    public func validate() throws {
        for role in [TrustRole.root, .release] {
            let able = signers.filter { $0.roles.contains(role) && revoked[$0.key.fingerprint] == nil }
            let keys = Set(able.map(\.key.fingerprint))
            guard keys.count >= threshold(role), Set(able.map(\.name)).count >= threshold(role) else {
                throw Failure(
                    "\(threshold(role)) signer(s) must agree for '\(role.rawValue)', and \(keys.count) can",
                    hint: "git ksplice trust add NAME --role \(role.rawValue) --key FILE")
            }
        }
    }
}
