// Whether a commit was signed by somebody whose word counts.

extension TrustPolicy {
    /// Who signed a commit. Fails where nobody did, the signature is not one of this commit, or its key is not in this policy or was
    /// revoked.
    public func signer(of commit: SignedCommit, what: String) async throws -> Signer {
        func refusal(_ reason: String, _ hint: String) -> Failure {
            Failure("\(what) is not to be trusted: \(reason)", status: .verificationRefused, hint: hint)
        }
        guard let armoured = commit.signature else {
            throw refusal(
                "it is not signed", "ask who published it; signed ones are made with git ksplice tag")
        }
        let isSSH = armoured.hasPrefix(SSHSignature.opening)
        let fingerprint =
            isSSH ? try sshFingerprint(commit, armoured) : try await gpgFingerprint(commit, armoured)
        guard let fingerprint else {
            throw refusal(
                "its signature is not one of this commit", "it was altered; fetch it again from elsewhere")
        }
        if let reason = revoked[fingerprint] {
            throw refusal(
                "its key \(fingerprint) was revoked\(reason.isEmpty ? "" : " (\(reason))")",
                "it must be published again, signed with another key")
        }
        guard let signer = signers.first(where: { $0.key.fingerprint == fingerprint }) else {
            throw refusal(
                "nobody here knows its key\(fingerprint.isEmpty ? "" : " " + fingerprint)",
                "git ksplice trust show lists the signers")
        }
        return signer
    }

    /// The same, for one that must have a role.
    public func signer(of commit: SignedCommit, roles: [TrustRole], what: String) async throws -> Signer {
        let signer = try await signer(of: commit, what: what)
        guard signer.roles.contains(where: { roles.contains($0) }) else {
            throw Failure(
                "\(what) is not to be trusted: '\(signer.name)' may not sign as '\(roles[0].rawValue)'",
                status: .verificationRefused, hint: "git ksplice trust show lists the signers and their roles"
            )
        }
        return signer
    }

    /// The key that made a signature; nil where it is not one of this commit.
    private func sshFingerprint(_ commit: SignedCommit, _ armoured: String) throws -> String? {
        do {
            let signature = try SSHSignature(armoured: armoured)
            let fingerprint = signature.key.fingerprint
            // Keys of strangers are not computed with.
            guard
                signers.contains(where: { $0.key.fingerprint == fingerprint }) || revoked[fingerprint] != nil
            else {
                return fingerprint
            }
            return try signature.isGood(for: commit.payload) ? fingerprint : nil
        } catch {
            throw Failure(
                "the signature of \(commit.id.prefix(12)) cannot be read: \(Failure(error).message)",
                status: .verificationRefused)
        }
    }

    /// With gpgv, which knows no key but those that it is given, and no configuration. An unknown key gives "".
    private func gpgFingerprint(_ commit: SignedCommit, _ armoured: String) async throws -> String? {
        let keys = signers.compactMap { signer -> [UInt8]? in
            if case .gpg(_, let key) = signer.key { key } else { nil }
        }
        if keys.isEmpty { return "" }
        let folder = try Files.temporaryDirectory()
        defer { try? Files.remove(folder) }
        try Files.write(Array(keys.joined()), to: folder + "/keys.gpg")
        try Files.write(armoured + "\n", to: folder + "/signature")
        try Files.write(commit.payload, to: folder + "/commit")
        let result = try await Command(
            [
                "gpgv", "--homedir", folder, "--keyring", folder + "/keys.gpg", "--status-fd", "1",
                "--weak-digest", "SHA1",
                folder + "/signature", folder + "/commit",
            ]
        ).run()
        let lines = result.text.lines.map { $0.split(separator: " ").map { String($0) } }
            .filter { $0.count > 1 && $0[0] == "[GNUPG:]" }
        func word(_ name: String) -> [String]? { lines.first { $0[1] == name } }
        if word("NO_PUBKEY") != nil { return "" }
        // A key or a signature that is past its time says GOODSIG's cousins instead.
        let count = Dictionary(grouping: lines, by: { $0[1] }).mapValues(\.count)
        guard result.succeeded, ["NEWSIG", "GOODSIG", "VALIDSIG"].allSatisfy({ count[$0] == 1 }),
            !count.keys.contains(where: { $0.hasPrefix("EXP") || $0.hasPrefix("REV") || $0.hasPrefix("BAD") }
            ),
            let valid = word("VALIDSIG"), let primary = valid.last
        else {
            return nil
        }
        return primary
    }
}
