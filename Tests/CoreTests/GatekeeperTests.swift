// What a server takes.

import Testing

@testable import Core

@Suite struct GatekeeperTests {
    private static let zero = String(repeating: "0", count: 40)

    /// Pushes into the server what a publisher has, judged as the update hook would.
    private func judge(_ fixture: TrustFixture, _ ref: String, old: String? = nil, new: String? = nil)
        async throws
    {
        let server = try await Repository(directory: fixture.server)
        let present = try await server.references([ref])[ref]
        var value = try await fixture.publisher.repository.references([ref])[ref] ?? Self.zero
        if let new { value = new }
        if value != Self.zero {
            // The objects arrive before the hook is asked.
            try await fixture.publisher.git(
                "push", "-q", fixture.server, "+\(value):refs/quarantine/\(value)")
        }
        try await Gatekeeper(server).judge(ref, old: old ?? present ?? Self.zero, new: value)
    }

    @Test func whatIsSignedIsTakenAndWhatIsNotIsRefused() async throws {
        let fixture = try await TrustFixture()
        let one = try await fixture.list("one")
        let nobody = await TrustFixture.failure { try await judge(fixture, one.ref) }
        #expect(nobody.message.contains("trusts nobody"), "\(nobody)")
        try await judge(fixture, TrustChain.ref)
        try await fixture.publish()
        let two = try await fixture.list("two")
        try await judge(fixture, two.ref)
        try await judge(fixture, fixture.channel.ref)
        // Refs of others are nobody's business.
        try await judge(fixture, "refs/heads/main", new: two.commit)
        try await judge(fixture, "refs/notes/ksplice/updates", new: two.commit)
        // Unsigned.
        let plain = try await UpdateStore(fixture.publisher.repository).store(
            GitFixture.update(functions: ["three"]))
        let unsigned = await TrustFixture.failure { try await judge(fixture, plain.ref) }
        #expect(unsigned.message.contains("it is not signed"), "\(unsigned)")
        // Under another's name.
        let moved = await TrustFixture.failure { try await judge(fixture, plain.ref, new: two.commit) }
        #expect(moved.message.contains("says that it is another one"), "\(moved)")
        // By somebody whom nobody knows.
        try await fixture.sign(as: "eve")
        try await fixture.list("four")
        let foreign = await TrustFixture.failure { try await judge(fixture, fixture.channel.ref) }
        #expect(foreign.message.contains("nobody here knows"), "\(foreign)")
    }

    @Test func nothingGoesBackOrChanges() async throws {
        let fixture = try await TrustFixture()
        let one = try await fixture.list("one")
        let first = try await fixture.publisher.git("rev-parse", fixture.channel.ref)
        try await fixture.list("two")
        try await fixture.publish()
        let cases: [(ref: String, new: String, words: String)] = [
            (one.ref, Self.zero, "cannot be deleted"), (try fixture.channel.ref, first, "only grows"),
            (TrustChain.ref, Self.zero, "cannot be deleted"), (one.ref, first, "never changes"),
            ("refs/ksplice/somewhere/else", first, "is not a ref that is published"),
            ("refs/ksplice-local/a", first, "is not a ref that is published"),
        ]
        for (ref, new, words) in cases {
            let refused = await TrustFixture.failure { try await judge(fixture, ref, new: new) }
            #expect(
                refused.status == .verificationRefused && refused.message.contains(words),
                "\(ref): \(refused)")
        }
    }

    @Test("a policy of an older number is none that goes on, whoever made it")
    func anOlderPolicyIsRefused() async throws {
        let fixture = try await TrustFixture()
        try await fixture.list("one")
        let bob = try await fixture.signer("bob", [.release])
        let second = try await fixture.chain { $0.signers.append(bob) }
        try await fixture.publish()
        let eve = try await fixture.signer("eve", TrustRole.allCases)
        var forged = TrustPolicy(serial: 1)
        forged.signers = [eve]
        let repository = try await fixture.publisher.repository
        func commit(_ parents: [String]) throws -> String {
            try repository.writeCommit(
                tree: repository.writeTree(files: ["policy": Array(forged.text.utf8)]), message: "eve",
                parents: parents, identity: ("e <e> 1 +0000", "e <e> 1 +0000"))
        }
        let tip = try await fixture.publisher.git("rev-parse", TrustChain.ref)
        let child = await TrustFixture.failure {
            try await judge(fixture, TrustChain.ref, new: commit([tip]))
        }
        #expect(child.status == .verificationRefused && child.message.contains("goes back"), "\(child)")
        // The same as the first one of a server whose administrator has said whom to trust.
        let anchor = fixture.folder + "/anchor"
        try Files.write(second.text, to: anchor)
        let first = try commit([])
        try await fixture.publisher.git("push", "-q", fixture.server, "\(first):refs/quarantine/\(first)")
        let gate = Gatekeeper(try await Repository(directory: fixture.server), anchor: anchor)
        let early = await TrustFixture.failure {
            try await gate.judge(TrustChain.ref, old: Self.zero, new: first)
        }
        #expect(early.status == .verificationRefused && early.message.contains("goes back"), "\(early)")
    }

    @Test func whatIsSignedAnewMayTakeItsPlace() async throws {
        let fixture = try await TrustFixture()
        let one = try await fixture.list("one")
        let bob = try await fixture.signer("bob", [.root, .release])
        try await fixture.chain { $0.signers.append(bob) }
        try await fixture.publish()
        try await fixture.sign(as: "bob")
        let repository = try await fixture.publisher.repository
        let old = try repository.signedCommit(one.commit)
        func anew(_ message: String) async throws -> String {
            try await repository.writeSignedCommit(tree: old.tree, message: message, parents: [])
        }
        // Alice's still counts.
        let early = await TrustFixture.failure { try await judge(fixture, one.ref, new: anew(old.message)) }
        #expect(early.message.contains("never changes"), "\(early)")
        try await fixture.chain { $0.revoked[$0.signers[0].key.fingerprint] = "lost" }
        try await fixture.publisher.git("push", "-q", fixture.server, TrustChain.ref)
        let other = await TrustFixture.failure {
            try await judge(fixture, one.ref, new: anew(old.message + "x\n"))
        }
        #expect(other.message.contains("never changes"), "\(other)")
        try await judge(fixture, one.ref, new: anew(old.message))
    }

    @Test func aPolicyNobodySignedIsRefused() async throws {
        let fixture = try await TrustFixture()
        try await fixture.list("one")
        try await fixture.publish()
        let bob = try await fixture.signer("bob", [.release])
        try await fixture.chain { $0.signers.append(bob) }
        try await judge(fixture, TrustChain.ref)
        try await fixture.publish()
        try await fixture.sign(as: "bob")
        let eve = try await fixture.signer("eve", TrustRole.allCases)
        try await fixture.chain { $0.signers.append(eve) }
        let refused = await TrustFixture.failure { try await judge(fixture, TrustChain.ref) }
        #expect(
            refused.status == .verificationRefused && refused.message.contains("may not sign as 'root'"),
            "\(refused)")
    }
}
