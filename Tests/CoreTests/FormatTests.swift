// Repositories that name objects by SHA-256: what is signed and published there, and what cannot be brought to others.

import Testing

@testable import Core

@Suite struct FormatTests {
    @Test("a host follows a publisher whose repository names objects by SHA-256")
    func wholeWay() async throws {
        let fixture = try await TrustFixture(format: .sha256)
        try await fixture.accept()
        let one = try await fixture.list("one")
        #expect(one.commit.count == 64)
        try await fixture.publish()
        #expect(try await fixture.fetch().updates == [one.id])
        let repository = try #require(try await fixture.host.repository())
        #expect(repository.format == .sha256)
        let two = try await fixture.list("two")
        try await fixture.publish()
        #expect(try await fixture.fetch().updates == [two.id])
        let state = try await fixture.host.state(channel: "stable", kernel: fixture.kernel)
        #expect(state.commit.signature != nil)
        #expect(try await fixture.host.load(state.index.entries[1], of: state).id == two.id)
        // Somebody else's text behind alice's signature.
        let text = try await fixture.onServer("cat-file", "commit", state.commit.id)
        let forged = try await Command(
            ["git", "--git-dir=" + fixture.server, "hash-object", "-w", "-t", "commit", "--stdin"],
            input: Array((text.replacing("ksplice: stable", with: "ksplice: stables") + "\n").utf8)
        ).check().text.trimmed
        try await fixture.onServer("update-ref", fixture.channel.ref, forged)
        #expect(await TrustFixture.failure { try await fixture.fetch() }.status == .verificationRefused)
    }

    @Test func aBundleSaysHowItNamesObjects() async throws {
        let fixture = try await TrustFixture(format: .sha256)
        try await fixture.accept()
        let one = try await fixture.list("one")
        let file = fixture.folder + "/update.bundle"
        _ = try await Publisher(fixture.publisher.repository, remote: "").bundle(
            [fixture.channel], into: file)
        let fetched = try await fixture.host.fetch(from: file, channel: "stable", kernel: fixture.kernel)
        #expect(fetched.updates == [one.id])
        #expect(BundleHeader(of: file)?.format == .sha256)
        for none in [fixture.server + "/HEAD", fixture.folder, "https://x"] {
            #expect(BundleHeader(of: none) == nil, "\(none)")
        }
        #expect(BundleHeader("# v2 git bundle\n-12 subject\n") == BundleHeader("# v3 git bundle\n12 HEAD\n"))
        #expect(BundleHeader("# v3 git bundle\n@filter=blob:limit=1k\n12 HEAD\n")?.filter == "blob:limit=1k")
        #expect(BundleHeader("# v3 git bundle\n@object-format=sha3\n") == nil)
    }

    @Test func oneRepositoryCannotHaveBoth() async throws {
        let (old, new) = try await (TrustFixture(), TrustFixture(format: .sha256))
        for fixture in [old, new] {
            try await fixture.accept()
            try await fixture.list("one")
            try await fixture.publish()
        }
        try await old.fetch()
        let bundle = new.folder + "/b"
        _ = try await Publisher(new.publisher.repository, remote: "").bundle([new.channel], into: bundle)
        for source in [new.server, bundle] {
            let refused = await TrustFixture.failure {
                try await old.host.fetch(from: source, channel: "stable", kernel: old.kernel)
            }
            #expect(refused.message.contains("git brings nothing from one to the other"), "\(refused)")
            #expect(refused.hints.first?.contains("remove '\(old.host.folder)/repo.git'") == true)
        }
        // Nothing of what was there is lost.
        _ = try await old.host.state(channel: "stable", kernel: old.kernel)
        for (from, to) in [(old, new), (new, old)] {
            let push = await TrustFixture.failure {
                try await Publisher(from.publisher.repository, remote: to.server).publish()
            }
            #expect(push.message.contains("git brings nothing from one to the other"), "\(push)")
            let pull = await TrustFixture.failure {
                try await ChannelStore(from.publisher.repository).pull(from: to.server)
            }
            #expect(pull.message.contains("git brings nothing from one to the other"), "\(pull)")
        }
    }

    @Test func aSignatureOfTheOtherFormatDoesNotCount() throws {
        let names = [ObjectFormat.sha1: "gpgsig", .sha256: "gpgsig-sha256"]
        for (format, head) in names {
            for (other, _) in names {
                let text = "tree 1\n\(head) -----BEGIN\n x\n -----END\n\nm\n"
                if other == format {
                    let commit = try SignedCommit(id: "1", parsing: Array(text.utf8), format: other)
                    #expect(commit.signature == "-----BEGIN\nx\n-----END")
                    #expect(commit.payload == Array("tree 1\n\nm\n".utf8))
                } else {
                    #expect(throws: Failure.self) {
                        try SignedCommit(id: "1", parsing: Array(text.utf8), format: other)
                    }
                }
            }
        }
    }
}
