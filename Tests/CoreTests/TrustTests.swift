// Signatures and the policy of trust.

import Testing

@testable import Core

@Suite struct TrustTests {
    private static func failure<Result>(_ body: () async throws -> Result) async -> Failure {
        await TrustFixture.failure(body)
    }

    @Test(
        "signatures of all kinds of keys are known, and only of what was signed",
        arguments: ["ed25519", "rsa", "ecdsa"])
    func kinds(_ type: String) async throws {
        let fixture = try await TrustFixture()
        try await fixture.sign(as: "bob", type: type)
        let bob = try await fixture.signer("bob", [.release], type: type)
        let repository = try await fixture.publisher.repository
        let tree = try repository.writeTree(files: ["a": [1]])
        let id = try await repository.writeSignedCommit(tree: tree, message: "signed\n", parents: [])
        var commit = try repository.signedCommit(id)
        #expect(commit.tree == tree && commit.message == "signed\n" && commit.parents == [])
        var policy = TrustPolicy(serial: 1)
        policy.signers = [bob]
        #expect(try await policy.signer(of: commit, what: "it") == bob)
        // git itself says the same.
        let allowed = fixture.folder + "/allowed"
        try await Files.write("bob " + Files.readText(fixture.key("bob", type: type)), to: allowed)
        try await fixture.publisher.git("-c", "gpg.ssh.allowedSignersFile=" + allowed, "verify-commit", id)
        commit.payload[commit.payload.count - 2] ^= 1
        let altered = await Self.failure { try await policy.signer(of: commit, what: "it") }
        #expect(
            altered.status == .verificationRefused && altered.message.contains("not one of this commit"),
            "\(altered)")
    }

    @Test func aSignatureForSomethingElseIsNone() async throws {
        let fixture = try await TrustFixture()
        let repository = try await fixture.publisher.repository
        let text =
            "tree \(String(repeating: "1", count: 40))\nauthor a <a> 1 +0000\ncommitter a <a> 1 +0000\n\nfile\n"
        let file = fixture.folder + "/text"
        try Files.write(text, to: file)
        for (namespace, isGood) in [("git", true), ("file", false)] {
            _ = try await Command(["rm", "-f", file + ".sig"]).run()
            try await Command([
                "ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", fixture.folder + "/alice", file,
            ]).check()
            let signature = try SSHSignature(armoured: Files.readText(file + ".sig").trimmed)
            #expect(try signature.isGood(for: Array(text.utf8)) == isGood)
        }
        _ = repository
    }

    @Test func gpgSignaturesAreKnown() async throws {
        let fixture = try await TrustFixture()
        let home = fixture.folder + "/gnupg"
        try Files.createDirectory(home)
        try await Command(["chmod", "700", home]).check()
        let gpg = ["gpg", "--homedir", home, "--batch"]
        try await Command(
            gpg + [
                "--passphrase", "", "--quick-generate-key", "carol@example.org", "ed25519", "sign", "never",
            ]
        ).check()
        let exported = fixture.folder + "/carol.gpg"
        try await Command(gpg + ["--armor", "-o", exported, "--export", "carol@example.org"]).check()
        let program = fixture.folder + "/gpg"
        try Files.write(
            Array("#!/bin/sh\nexec gpg --homedir \(home) \"$@\"\n".utf8), to: program, mode: 0o755)
        let git = fixture.publisher
        try await git.git("config", "gpg.format", "openpgp")
        try await git.git("config", "gpg.program", program)
        try await git.git("config", "user.signingKey", "carol@example.org")
        let repository = try await git.repository
        let key = try await TrustKey.load(file: exported, repository: repository)
        // The one that git signs with is the same.
        #expect(try await TrustKey.load(file: nil, repository: repository).fingerprint == key.fingerprint)
        let carol = Signer(name: "carol", roles: [.release], key: key)
        var policy = TrustPolicy(serial: 1)
        policy.signers = [carol]
        policy = try TrustPolicy(parsing: policy.text)
        let tree = try repository.writeTree(files: ["a": [1]])
        let id = try await repository.writeSignedCommit(tree: tree, message: "signed\n", parents: [])
        var commit = try repository.signedCommit(id)
        #expect(try await policy.signer(of: commit, what: "it").name == "carol")
        commit.payload[commit.payload.count - 2] ^= 1
        #expect(
            await Self.failure { try await policy.signer(of: commit, what: "it") }.message.contains(
                "not one of"))
        policy.signers = [try await fixture.signer("alice", [.release])]
        commit = try repository.signedCommit(id)
        #expect(
            await Self.failure { try await policy.signer(of: commit, what: "it") }.message.contains(
                "nobody here knows"))
        _ = try await Command(["gpgconf", "--homedir", home, "--kill", "all"]).run()
    }

    @Test func aPolicyIsReadAsItIsWritten() async throws {
        let fixture = try await TrustFixture()
        var policy = TrustPolicy(serial: 7)
        policy.thresholds = [.root: 2]
        policy.signers = [
            try await fixture.signer("alice", [.root, .release]), try await fixture.signer("robot", [.renew]),
        ]
        policy.revoked = ["SHA256:abc": "lost with a laptop"]
        #expect(try TrustPolicy(parsing: policy.text) == policy)
        for damaged in [
            policy.text.replacing("ksplice-trust 1", with: "ksplice-trust 2"),
            policy.text.replacing("serial 7\n", with: ""),
            policy.text.replacing("renew", with: "reknew"), policy.text + "something else\n",
            policy.text.replacing("threshold root 2", with: "threshold root 0"),
        ] {
            #expect(throws: Failure.self) { try TrustPolicy(parsing: damaged) }
        }
        // One who may change it is not enough for two.
        #expect(throws: Failure.self) { try policy.validate() }
    }

    @Test func keysAreExchangedThroughTheChain() async throws {
        let fixture = try await TrustFixture()
        let chain = TrustChain(try await fixture.publisher.repository)
        let first = try #require(try await chain.policy())
        func tip() async throws -> String { try await fixture.publisher.git("rev-parse", TrustChain.ref) }
        // Two must agree from now on.
        let bob = try await fixture.signer("bob", [.root, .release])
        try await fixture.chain {
            $0.signers.append(bob)
            $0.thresholds[.root] = 2
        }
        // Alice alone: the policy before wants one, its own signers must be two.
        let alone = await Self.failure { try await chain.follow(from: first, to: tip()) }
        #expect(alone.status == .verificationRefused && alone.message.contains("1 of 2"), "\(alone)")
        try await fixture.sign(as: "bob")
        try await chain.append("agreed", cosign: true) { _ in }
        let second = try await chain.follow(from: first, to: tip())
        #expect(second.serial == 2 && second.signers.count == 2)
        // Alice's key goes, by both.
        let carol = try await fixture.signer("carol", [.root, .release])
        try await fixture.chain { policy in
            policy.revoked[policy.signers[0].key.fingerprint] = "lost"
            policy.signers[0] = carol
        }
        try await fixture.sign(as: "alice")
        try await chain.append("agreed", cosign: true) { _ in }
        let mixed = await Self.failure { try await chain.follow(from: second, to: tip()) }
        // Of those who must agree in the new policy, bob alone has.
        #expect(mixed.message.contains("1 of 2"), "\(mixed)")
        try await fixture.sign(as: "carol")
        try await chain.append("agreed", cosign: true) { _ in }
        let third = try await chain.follow(from: first, to: tip())
        #expect(third.serial == 3 && third.signers.map(\.name) == ["carol", "bob"])
        // Somebody whom nobody named.
        try await fixture.sign(as: "eve")
        let eve = try await fixture.signer("eve", TrustRole.allCases)
        try await fixture.chain {
            $0.signers = [eve]
            $0.thresholds = [:]
        }
        let foreign = await Self.failure { try await chain.follow(from: third, to: tip()) }
        #expect(
            foreign.status == .verificationRefused && foreign.message.contains("nobody here knows"),
            "\(foreign)")
    }

    @Test func aCommitWithTwoSignaturesIsNone() throws {
        let head = "tree \(String(repeating: "1", count: 40))\n"
        let signature = "gpgsig -----BEGIN SSH SIGNATURE-----\n x\n -----END SSH SIGNATURE-----\n"
        let one = try SignedCommit(
            id: "12", parsing: Array("\(head)\(signature)\ntext\n\nKsplice-A: 1\nKsplice-B: 2\n".utf8))
        #expect(one.signature?.hasSuffix("END SSH SIGNATURE-----") == true)
        #expect(
            String(decoding: one.payload, as: UTF8.self) == head + "\ntext\n\nKsplice-A: 1\nKsplice-B: 2\n")
        #expect(try one.trailer("B") == "2")
        for text in [
            "\(head)\(signature)\(signature)\ntext\n", "\(head)gpgsig-sha256 x\n\ntext\n", head,
        ] {
            #expect(throws: Failure.self) { try SignedCommit(id: "12", parsing: Array(text.utf8)) }
        }
        let twice = try SignedCommit(
            id: "12", parsing: Array("\(head)\ntext\n\nKsplice-A: 1\nKsplice-A: 2\n".utf8))
        #expect(throws: Failure.self) { try twice.trailer("A") }
        // What the text above says is the author's own.
        let above = try SignedCommit(id: "12", parsing: Array("\(head)\nKsplice-A: 1\n\nKsplice-B: 2\n".utf8))
        #expect(above.trailers.map(\.key) == ["B"])
    }
}
