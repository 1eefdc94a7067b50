// What somebody may try who can write to the server, or send what a host fetches. Each attempt is refused for its own reason, and
// leaves the host with what it had.

import Glibc
import Testing

@testable import Core

@Suite struct ChannelAttackTests {
    /// A host that has fetched one update, and a server on which something is done then.
    private func attack(
        _ what: String, status: Core.ExitStatus = .verificationRefused,
        keeps: Bool = true,
        _ body: (TrustFixture, StoredUpdate) async throws -> Void
    ) async throws {
        let fixture = try await TrustFixture()
        try await fixture.accept()
        let one = try await fixture.list("one")
        try await fixture.publish()
        try await fixture.fetch()
        try await body(fixture, one)
        let before = try await #require(fixture.host.repository()).references(["refs/ksplice/"])
        let refused = await TrustFixture.failure { try await fixture.fetch() }
        #expect(refused.status == status && refused.message.contains(what), "\(what): \(refused)")
        // Nothing has changed, but where it is only old.
        guard status == .verificationRefused else { return }
        let after = try await #require(fixture.host.repository()).references(["refs/ksplice/"])
        #expect(after == before)
        // A policy that wants more than what is here has counts for that, too.
        guard keeps else { return }
        let state = try await fixture.host.state(channel: "stable", kernel: fixture.kernel)
        #expect(state.index.entries.map(\.id) == [one.id])
        _ = try await fixture.host.load(state.index.entries[0], of: state)
    }

    @Test func unsigned() async throws {
        try await attack("it is not signed") { fixture, _ in
            let ref = try fixture.channel.ref
            try await fixture.forge(ref, parents: [fixture.onServer("rev-parse", ref)]) {
                $0.replacing("Serial: 1", with: "Serial: 2")
            }
        }
    }

    @Test func signatureOfAnotherCommit() async throws {
        try await attack("not one of this commit") { fixture, _ in
            let ref = try fixture.channel.ref
            let raw = try await fixture.onServer("cat-file", "commit", ref)
            let text = raw.replacing("ksplice: stable: add", with: "ksplice: stable: bad") + "\n"
            let made = try await Command(
                ["git", "--git-dir=" + fixture.server, "hash-object", "-t", "commit", "-w", "--stdin"],
                input: Array(text.utf8)
            ).check()
            try await fixture.onServer("update-ref", ref, made.text.trimmed)
        }
    }

    @Test func signedBySomebodyElse() async throws {
        try await attack("nobody here knows its key") { fixture, _ in
            try await fixture.sign(as: "eve")
            try await fixture.list("two")
            try await fixture.publish()
        }
    }

    @Test func signedByOneWhoOnlyRenews() async throws {
        try await attack("0 of 1 signers") { fixture, _ in
            let robot = try await fixture.signer("robot", [.renew])
            try await fixture.chain { $0.signers.append(robot) }
            try await fixture.sign(as: "robot")
            try await fixture.list("two")
            try await fixture.publish()
        }
    }

    @Test func signedWithARevokedKey() async throws {
        try await attack("was revoked (lost with a laptop)") { fixture, _ in
            let bob = try await fixture.signer("bob", [.release])
            try await fixture.chain {
                $0.signers.append(bob)
                $0.revoked[bob.key.fingerprint] = "lost with a laptop"
            }
            try await fixture.sign(as: "bob")
            try await fixture.list("two")
            try await fixture.publish()
        }
    }

    @Test func tooFewHaveAgreed() async throws {
        try await attack("1 of 2 signers", keeps: false) { fixture, _ in
            let bob = try await fixture.signer("bob", [.release])
            try await fixture.chain {
                $0.signers.append(bob)
                $0.thresholds[.release] = 2
            }
            try await fixture.list("two")
            try await fixture.publish()
        }
    }

    @Test("once enough have agreed, it counts; and one who renews can keep it alive")
    func enoughHaveAgreed() async throws {
        let fixture = try await TrustFixture()
        try await fixture.accept()
        let (bob, robot) = try await (fixture.signer("bob", [.release]), fixture.signer("robot", [.renew]))
        try await fixture.chain {
            $0.signers += [bob, robot]
            $0.thresholds[.release] = 2
        }
        let one = try await fixture.list("one")
        try await fixture.sign(as: "bob")
        try await fixture.store.renew(fixture.channel, cosign: true)
        try await fixture.sign(as: "robot")
        try await fixture.store.renew(fixture.channel)
        try await fixture.publish()
        let fetched = try await fixture.fetch()
        #expect(fetched.state.serial == 3 && fetched.updates == [one.id])
    }

    @Test func frozen() async throws {
        try await attack("out of date", status: .stale) { fixture, _ in
            var store = try await fixture.store
            store.validity = -10
            try await store.renew(fixture.channel)
            try await fixture.publish()
        }
    }

    @Test("what is out of date is not applied, either, until somebody renews it")
    func frozenLater() async throws {
        let fixture = try await TrustFixture()
        try await fixture.accept()
        var store = try await fixture.store
        store.validity = -10
        let stored = try await UpdateStore(fixture.publisher.repository).store(GitFixture.update())
        try await store.add([stored], to: fixture.channel)
        try await fixture.publish()
        _ = await TrustFixture.failure { try await fixture.fetch() }
        let old = await TrustFixture.failure {
            try await fixture.host.state(channel: "stable", kernel: fixture.kernel)
        }
        #expect(old.status == .stale, "\(old)")
        try await fixture.store.renew(fixture.channel)
        try await fixture.publish()
        try await fixture.fetch()
        #expect(try await fixture.host.state(channel: "stable", kernel: fixture.kernel).serial == 2)
    }

    @Test func rolledBack() async throws {
        let fixture = try await TrustFixture()
        try await fixture.accept()
        try await fixture.list("one")
        try await fixture.publish()
        let old = try await fixture.onServer("rev-parse", fixture.channel.ref)
        try await fixture.list("two")
        try await fixture.publish()
        try await fixture.fetch()
        try await fixture.onServer("update-ref", fixture.channel.ref, old)
        let refused = await TrustFixture.failure { try await fixture.fetch() }
        #expect(
            refused.status == .verificationRefused && refused.message.contains("rolled back"), "\(refused)")
        // Also where the repository itself is made to forget.
        try Files.remove(fixture.folder + "/host/repo.git")
        let again = await TrustFixture.failure { try await fixture.fetch() }
        #expect(again.message.contains("rolled back"), "\(again)")
    }

    @Test("an older policy of trust takes nothing back, and is not kept, signed or not")
    func olderPolicy() async throws {
        let fixture = try await TrustFixture()
        try await fixture.accept()
        try await fixture.list("one")
        try await fixture.publish()
        let old = try await fixture.onServer("rev-parse", TrustChain.ref)
        let bob = try await fixture.signer("bob", [.release])
        try await fixture.chain { $0.signers.append(bob) }
        try await fixture.list("two")
        try await fixture.publish()
        try await fixture.fetch()
        let repository = try #require(try await fixture.host.repository())
        let newest = try await fixture.onServer("rev-parse", TrustChain.ref)
        for attack in ["signed", "forged"] {
            try await fixture.onServer("update-ref", TrustChain.ref, old)
            if attack == "forged" { try await fixture.forge(TrustChain.ref) }
            try await fixture.fetch()
            #expect(try fixture.host.policy().signers.map(\.name) == ["alice", "bob"], "\(attack)")
            let kept = try await repository.references([TrustChain.ref])
            #expect(kept == [TrustChain.ref: newest], "\(attack)")
        }
    }

    @Test("the same state with its signature written in another way hides nothing that follows")
    func anotherCommitOfTheSame() async throws {
        let fixture = try await TrustFixture()
        try await fixture.accept()
        try await fixture.list("one")
        try await fixture.publish()
        let ref = try fixture.channel.ref
        let genuine = try await fixture.onServer("rev-parse", ref)
        let raw = try await fixture.onServer("cat-file", "commit", ref)
        let made = try await Command(
            ["git", "--git-dir=" + fixture.server, "hash-object", "-t", "commit", "-w", "--stdin"],
            input: Array(
                (raw.replacing("END SSH SIGNATURE-----\n", with: "END SSH SIGNATURE----- \n") + "\n").utf8)
        ).check().text.trimmed
        #expect(made != genuine)
        try await fixture.onServer("update-ref", ref, made)
        _ = await TrustFixture.failure { try await fixture.fetch() }
        try await fixture.onServer("update-ref", ref, genuine)
        let two = try await fixture.list("two")
        try await fixture.publish()
        #expect(try await fixture.fetch().state.index.entries.map(\.id).contains(two.id))
    }

    @Test("a key that was revoked is so, whatever else is wrong with what was sent")
    func revocationsAreLearnedFirst() async throws {
        let fixture = try await TrustFixture()
        try await fixture.accept()
        try await fixture.list("one")
        try await fixture.publish()
        try await fixture.fetch()
        let bob = try await fixture.signer("bob", [.root, .release])
        try await fixture.chain { $0.signers.append(bob) }
        try await fixture.sign(as: "bob")
        try await fixture.chain { $0.revoked[$0.signers[0].key.fingerprint] = "lost" }
        try await fixture.publish()
        let refused = await TrustFixture.failure { try await fixture.fetch() }
        #expect(refused.message.contains("was revoked"), "\(refused)")
        let used = await TrustFixture.failure {
            try await fixture.host.state(channel: "stable", kernel: fixture.kernel)
        }
        #expect(used.message.contains("was revoked"), "\(used)")
        // What the administrator said first does not silently count again.
        let first = try TrustPolicy(parsing: Files.readText(fixture.folder + "/etc/trust"))
        let accepted = await TrustFixture.failure { try await fixture.host.accept(first) }
        #expect(accepted.status == .no, "\(accepted)")
        try await fixture.host.accept(first, replacing: true)
        #expect(try fixture.host.policy() == first)
    }

    @Test func anotherHistoryOfTheSameLength() async throws {
        try await attack("does not go on from what was seen") { fixture, one in
            // As with alice's key: number 1 and 2 once more.
            let name = try fixture.channel
            try await fixture.publisher.git("update-ref", "-d", name.ref)
            try await fixture.store.add([one], to: name, release: "other")
            try await fixture.store.renew(name)
            try await fixture.onServer("update-ref", "-d", name.ref)
            try await fixture.publish()
        }
    }

    @Test func theChannelOfAnotherKernel() async throws {
        try await attack("is one of 'refs/ksplice/channels/x86_64/cd34/stable'") { fixture, _ in
            let other = GitFixture.update(buildID: "cd34", functions: ["other"])
            let stored = try await UpdateStore(fixture.publisher.repository).store(other)
            let name = try ChannelName(other.manifest.kernel, "stable")
            try await fixture.store.add([stored], to: name)
            try await fixture.publish()
            try await fixture.onServer(
                "update-ref", fixture.channel.ref, fixture.onServer("rev-parse", name.ref))
        }
    }

    @Test func anUpdateUnderAnothersName() async throws {
        try await attack("is not the one that channel 'stable' lists") { fixture, _ in
            let (two, three) = try await (fixture.list("two"), fixture.list("three"))
            try await fixture.publish()
            try await fixture.onServer("update-ref", two.ref, three.commit)
        }
    }

    @Test("a channel that lists an update under another identity, signed by one who may")
    func listedUnderAnotherName() async throws {
        try await attack("says that it is another one") { fixture, _ in
            let update = GitFixture.update(functions: ["two"])
            let two = try await UpdateStore(fixture.publisher.repository).store(update)
            let identity = String(repeating: "7", count: 64)
            try await fixture.store.append(to: fixture.channel, "wrong", signing: [two]) { index, commits in
                index.entries.append(ChannelEntry(id: identity, commit: commits[two.id] ?? "", size: 1 << 20))
            }
            let tip = try await fixture.publisher.git("rev-parse", fixture.channel.ref)
            let signed = try await fixture.publisher.git("rev-parse", two.ref)
            let place = try fixture.channel.ref(of: ChannelEntry(id: identity, commit: "", size: 0))
            try await fixture.publisher.git(
                "push", "-q", fixture.server, "\(tip):\(fixture.channel.ref)", "\(signed):\(place)")
        }
    }

    @Test("another file in an update: its manifest says what it must be")
    func replacedBlob() async throws {
        try await attack("'update.ko' was altered") { fixture, _ in
            let update = GitFixture.update(functions: ["two"])
            let repository = try await fixture.publisher.repository
            let two = try await UpdateStore(repository).store(update)
            var files = update.files
            files["manifest"] = Array(update.manifestText.utf8)
            files["update.ko"] = [6, 6, 6]
            let message = try repository.signedCommit(two.commit).message
            let commit = try await repository.writeSignedCommit(
                tree: repository.writeTree(files: files), message: message, parents: [])
            try await fixture.store.append(to: fixture.channel, "wrong") { index, _ in
                index.entries.append(ChannelEntry(id: two.id, commit: commit, size: 1 << 20))
            }
            let tip = try await fixture.publisher.git("rev-parse", fixture.channel.ref)
            try await fixture.publisher.git(
                "push", "-q", fixture.server, "\(tip):\(fixture.channel.ref)", "\(commit):\(two.ref)")
        }
    }

    @Test("an update that is larger than the channel says is not read")
    func oversize() async throws {
        try await attack("is not what channel 'stable' says") { fixture, _ in
            let update = GitFixture.update(functions: ["two"])
            let two = try await UpdateStore(fixture.publisher.repository).store(update)
            try await fixture.store.append(to: fixture.channel, "small", signing: [two]) { index, commits in
                index.entries.append(ChannelEntry(id: two.id, commit: commits[two.id] ?? "", size: 10))
            }
            try await fixture.publish()
        }
    }

    @Test("a sender that does not stop is stopped")
    func endless() async throws {
        try await attack("sends more than") { fixture, _ in
            // What cannot be compressed, where an update of a few bytes was promised.
            let file = fixture.folder + "/noise"
            try await Command(["sh", "-c", "head -c 8000000 /dev/urandom > " + file]).check()
            let blob = try await fixture.onServer("hash-object", "-w", file)
            let tree = try await Command(
                ["git", "--git-dir=" + fixture.server, "mktree"],
                input: Array("100644 blob \(blob)\tmanifest\n".utf8)
            ).check().text.trimmed
            let two = try await fixture.list("two")
            try await fixture.publish()
            try await fixture.forge(two.ref, tree: tree)
        }
    }

    @Test("a checker that the repository's configuration names is not asked")
    func ownChecker() async throws {
        try await attack("it is not signed") { fixture, _ in
            let repository = try #require(try await fixture.host.repository())
            for key in ["gpg.ssh.program", "gpg.program"] { try await repository.setConfig(key, "/bin/true") }
            try await repository.setConfig("gpg.format", "ssh")
            let ref = try fixture.channel.ref
            try await fixture.forge(ref, parents: [fixture.onServer("rev-parse", ref)]) {
                $0.replacing("Serial: 1", with: "Serial: 2")
            }
        }
    }

    @Test("an object in the place of another (git replace) does not count")
    func replacedCommit() async throws {
        let fixture = try await TrustFixture()
        try await fixture.accept()
        let one = try await fixture.list("one")
        try await fixture.publish()
        try await fixture.fetch()
        let repository = try #require(try await fixture.host.repository())
        let tree = try repository.writeTree(files: ["manifest": [1]])
        let commit = try repository.writeCommit(
            tree: tree, message: "eve", parents: [], identity: ("e <e> 1 +0000", "e <e> 1 +0000"))
        try await repository.git(["replace", "-f", one.commit, commit]).check()
        let state = try await fixture.host.state(channel: "stable", kernel: fixture.kernel)
        #expect(try await fixture.host.load(state.index.entries[0], of: state).id == one.id)
    }

    @Test func aHostThatTrustsNobodyFetchesNothing() async throws {
        let fixture = try await TrustFixture()
        try await fixture.list("one")
        try await fixture.publish()
        let nobody = await TrustFixture.failure { try await fixture.fetch() }
        #expect(
            nobody.status == .verificationRefused && nobody.message.contains("trusts nobody"), "\(nobody)")
        try await fixture.accept()
        chmod(fixture.folder + "/etc/trust", 0o666)
        let open = await TrustFixture.failure { try await fixture.fetch() }
        #expect(open.message.contains("others than root may write"), "\(open)")
        // Nor where somebody could put another file in its place.
        chmod(fixture.folder + "/etc/trust", 0o644)
        chmod(fixture.folder + "/etc", 0o777)
        let folder = await TrustFixture.failure { try await fixture.fetch() }
        #expect(folder.message.contains("may write to '\(fixture.folder)/etc'"), "\(folder)")
        chmod(fixture.folder + "/etc", 0o755)
        try await fixture.fetch()
    }
}
