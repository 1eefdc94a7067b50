// Public keys from files and from git's configuration.

extension TrustKey {
    /// Reads a key.
    ///
    /// - Parameter file: a `.pub` file of SSH, or an exported public key of GPG; nil for the key that the user's git signs with.
    public static func load(file: String?, repository: Repository) async throws -> TrustKey {
        guard let file else { return try await own(repository) }
        let bytes = try Files.read(file)
        let text = String(decoding: bytes, as: UTF8.self).trimmed
        if text.hasPrefix("ssh-") || text.hasPrefix("ecdsa-") || text.hasPrefix("sk-") {
            return .ssh(try SSHKey(text))
        }
        return try await gpg(bytes, from: file)
    }

    /// What `user.signingKey` names: a file, a key as text, or a key that GPG has.
    private static func own(_ repository: Repository) async throws -> TrustKey {
        let format = try await repository.config("gpg.format") ?? "openpgp"
        let name = try await repository.config("user.signingKey")
        let hint = "git config user.signingKey KEY, or name a file with --key"
        if format == "ssh" {
            guard let name else { throw Failure("your git does not know which key to sign with", hint: hint) }
            for prefix in ["key::", ""]
            where name.hasPrefix(prefix + "ssh-") || name.hasPrefix(prefix + "ecdsa-") {
                return .ssh(try SSHKey(name.dropFirst(prefix.count)))
            }
            let path = try await repository.expanded(name)
            // It may name the private half.
            return .ssh(
                try SSHKey(Files.readText(Files.exists(path + ".pub") ? path + ".pub" : path).trimmed))
        }
        guard format == "openpgp" else {
            throw Failure(
                "keys of the kind '\(format)' are not known here",
                hint: "git config gpg.format ssh, or openpgp")
        }
        let program = try await repository.config("gpg.program") ?? "gpg"
        let wanted: String
        if let name { wanted = name } else { wanted = try await repository.config("user.email") ?? "" }
        let exported = try await Command([
            program, "--batch", "--export", "--export-options", "export-minimal", wanted,
        ])
        .check("cannot export the key '\(wanted)'")
        return try await gpg(exported.output, from: wanted)
    }

    /// A key in the binary form that gpgv reads, with the fingerprint of its primary key.
    private static func gpg(_ bytes: [UInt8], from place: String) async throws -> TrustKey {
        let folder = try Files.temporaryDirectory()
        defer { try? Files.remove(folder) }
        // Also takes off the armour.
        let isArmoured = String(decoding: bytes.prefix(40), as: UTF8.self).contains("BEGIN PGP")
        var binary = bytes
        if isArmoured {
            binary = try await Command(["gpg", "--batch", "--homedir", folder, "--dearmor"], input: bytes)
                .check("cannot read '\(place)'").output
        }
        let shown = try await Command(
            ["gpg", "--batch", "--homedir", folder, "--with-colons", "--show-keys"], input: binary
        ).check("'\(place)' holds no public key")
        let fields = shown.text.lines.map {
            $0.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        }
        let prints = fields.filter { $0[0] == "fpr" && $0.count > 9 }.map { $0[9] }
        guard fields.filter({ $0[0] == "pub" }).count == 1, let first = prints.first, first.count == 40 else {
            throw Failure(
                "'\(place)' does not hold one public key",
                hint: "gpg --export --export-options export-minimal KEY")
        }
        return .gpg(fingerprint: first, key: binary)
    }
}

extension Repository {
    /// A path from the configuration, in which `~` is somebody's home.
    func expanded(_ path: String) async throws -> String {
        let result = try await git([
            "-c", "ksplice.path=" + path, "config", "--type=path", "--get", "ksplice.path",
        ])
        .check("cannot read the path '\(path)'")
        return result.text.trimmed
    }
}
