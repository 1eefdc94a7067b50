// Channels: what a maintainer says in them, and what a host gets of it.

import Testing

@testable import Core

@Suite struct ChannelTests {
    @Test func anIndexIsReadAsItIsWritten() throws {
        let (a, b, c) = (
            String(repeating: "a", count: 64), String(repeating: "b", count: 64),
            String(repeating: "c", count: 64)
        )
        let commit = String(repeating: "1", count: 40)
        let text = """
            ksplice-channel 1
            update \(a) \(commit) 100
            cve \(a) CVE-2026-1234
            cve \(a) CVE-2026-5678
            withdrawn \(a) oopses with two sockets
            release v1
            update \(b) \(commit) 5
            release v2
            release v3
            update \(c) \(commit) 0
            supersedes \(c) \(b)
            depends \(c) \(a)

            """
        let index = try ChannelIndex(parsing: text)
        #expect(index.text == text)
        #expect(index.entries[0].cves.count == 2 && index.entries[0].withdrawn == "oopses with two sockets")
        // c stands on a, which is withdrawn, and so replaces nothing.
        #expect(try index.wanted().map(\.id) == [b])
        #expect(try index.wanted(release: "v1").map(\.id) == [])
        #expect(try index.wanted(release: "v3").map(\.id) == [b])
        #expect(throws: Failure.self) { try index.wanted(release: "v4") }
        for damaged in [
            text.replacing("ksplice-channel 1", with: "ksplice-channel 2"),
            text.replacing("withdrawn", with: "gone"),
            text.replacing("depends \(c)", with: "depends \(commit)"), text + "update \(a) \(commit) 1\n",
            text.replacing("update \(b)", with: "update ../\(b.dropFirst(3))"),
            text + "cve \(commit) CVE-1\n",
            text.replacing(" 100\n", with: " -1\n"),
        ] {
            #expect(throws: Failure.self, "\(damaged)") { try ChannelIndex(parsing: damaged) }
        }
        #expect(
            ChannelIndex.cves(in: "Fixes CVE-2024-12345 and CVE-2024-1, not cve-2024-1111; CVE-2024-12345.")
                == ["CVE-2024-12345"])
    }

    @Test func momentsAreReadAsTheyAreWritten() {
        for time in [0, 1, 951_782_399, 1_795_788_000, 4_102_444_799] as [Int64] {
            #expect(CalendarTime.parse(CalendarTime.text(time)) == time)
        }
        for text in [
            "2026-02-30T00:00:00Z", "2026-11-27", "2026-11-27T24:00:00Z", "2026-11-27T12:00:00+01:00", "",
            "٢٠٢٦-11-27T12:00:00Z",
        ] {
            #expect(CalendarTime.parse(text) == nil, "\(text)")
        }
    }

    @Test("what is published is fetched: the channel, its updates and nothing else")
    func wholeWay() async throws {
        let fixture = try await TrustFixture()
        try await fixture.accept()
        let one = try await fixture.list("one")
        // For another kernel.
        let other = GitFixture.update(buildID: "cd34", functions: ["other"])
        let stored = try await UpdateStore(fixture.publisher.repository).store(other)
        try await fixture.store.add([stored], to: ChannelName(other.manifest.kernel, "stable"))
        let sent = try await fixture.publish()
        #expect(sent.filter { $0.kind == "*" }.count == 5, "\(sent)")
        #expect(try await fixture.publish().allSatisfy { $0.kind == "=" })
        let fetched = try await fixture.fetch()
        #expect(fetched.isNew && fetched.updates == [one.id])
        let repository = try #require(try await fixture.host.repository())
        #expect(
            try await repository.references(["refs/"]).keys.sorted()
                == [try fixture.channel.ref, TrustChain.ref, one.ref].sorted())
        let again = try await fixture.fetch()
        #expect(!again.isNew && again.updates == [])
        let state = try await fixture.host.state(channel: "stable", kernel: fixture.kernel)
        let update = try await fixture.host.load(try #require(state.index.entry(one.id)), of: state)
        #expect(update.id == one.id)
        // A second one, and where it came from is known.
        let two = try await fixture.list("two", release: "v2")
        try await fixture.publish()
        let more = try await fixture.host.fetch(from: nil, channel: "stable", kernel: fixture.kernel)
        #expect(more.updates == [two.id] && more.state.serial == 2)
        #expect(try more.state.index.wanted(release: "v2").map(\.id) == [one.id, two.id])
        let none = await TrustFixture.failure {
            try await fixture.host.fetch(from: nil, channel: "testing", kernel: fixture.kernel)
        }
        #expect(none.status == .wrongKernel, "\(none)")
    }

    @Test("what no channel lists stays here, and what is there already is not sent again")
    func onlyWhatIsListed() async throws {
        let fixture = try await TrustFixture()
        for name in ["one", "two"] { try await fixture.list(name) }
        let store = UpdateStore(try await fixture.publisher.repository)
        let three = try await store.store(GitFixture.update(functions: ["three"]))
        func there() async throws -> Int {
            try await fixture.onServer("for-each-ref", UpdateStore.prefix).lines.count
        }
        try await fixture.publish()
        #expect(try await there() == 2)
        #expect(try await fixture.publish() == [])
        // Now all are listed, and one pattern means them.
        try await fixture.store.add([three], to: fixture.channel)
        let sent = try await fixture.publish()
        #expect(try await there() == 3)
        #expect(sent.filter { $0.kind == "*" }.map(\.ref) == [three.ref], "\(sent)")
        #expect(try await fixture.publish() == [])
        #expect(try await fixture.store.pull(from: fixture.server) == [])
        let left = ["refs/ksplice-incoming/", "refs/ksplice-local/", "refs/notes/ksplice-incoming/"]
        #expect(try await store.repository.references(left).isEmpty)
        // What the server has lost since is not missed, but where that is asked for.
        try await fixture.onServer("update-ref", "-d", three.ref)
        #expect(try await fixture.publish() == [])
        let publisher = Publisher(store.repository, remote: fixture.server)
        let again = try await publisher.publish(isRepair: true)
        #expect(again.filter { $0.kind == "*" }.map(\.ref) == [three.ref], "\(again)")
        #expect(try await there() == 3)
    }

    @Test("several exchange channels from one repository at once: one after the other, and nothing is mixed")
    func severalAtOnce() async throws {
        let fixture = try await TrustFixture()
        try await fixture.list("one")
        try await fixture.publish()
        let repository = try await fixture.publisher.repository
        let servers = try await (0..<3).map { "\(fixture.folder)/server-\($0).git" }.asyncMap { path in
            try await Command(["git", "clone", "-q", "--mirror", fixture.server, path]).check()
            return path
        }
        try await fixture.list("two")
        try await withThrowingTaskGroup(of: Void.self) { group in
            for server in servers {
                group.addTask { try await Publisher(repository, remote: server).publish() }
                group.addTask { _ = try await ChannelStore(repository).pull(from: server) }
            }
            try await group.waitForAll()
        }
        for server in servers {
            let refs = try await Command(["git", "--git-dir=" + server, "for-each-ref", "refs/ksplice"])
                .check().text
            let here = try await fixture.publisher.git("for-each-ref", "refs/ksplice")
            #expect(refs.trimmed == here)
        }
        // Whoever goes on for too long is named.
        let busy = await TrustFixture.failure {
            try await repository.exchanging {
                try await DurableFolder(repository.stateDirectory + "/exchange").locked(patience: 0.1) {}
            }
        }
        #expect(busy.status == .busy)
    }

    @Test func aBundleCrossesAnAirGap() async throws {
        let fixture = try await TrustFixture()
        try await fixture.accept()
        let one = try await fixture.list("one")
        let file = fixture.folder + "/update.bundle"
        let count = try await Publisher(fixture.publisher.repository, remote: "").bundle(
            [fixture.channel], into: file)
        #expect(count == 3)
        let fetched = try await fixture.host.fetch(from: file, channel: "stable", kernel: fixture.kernel)
        #expect(fetched.updates == [one.id])
        // Of one that leaves objects out, git keeps a pack, and takes the repository for a partial clone from then on.
        try await fixture.publisher.git(
            "bundle", "create", "-q", file, "--filter=blob:none", fixture.channel.ref, TrustChain.ref)
        let partial = await TrustFixture.failure {
            try await fixture.host.fetch(from: file, channel: "stable", kernel: fixture.kernel)
        }
        #expect(partial.message.contains("leaves objects out (blob:none)"), "\(partial)")
        #expect(try await fixture.host.repository()?.isPartial == false)
        let pulled = await TrustFixture.failure { try await fixture.store.pull(from: file) }
        #expect(pulled.message == partial.message)
    }

    @Test func whatWasWithdrawnIsNotUsed() async throws {
        let fixture = try await TrustFixture()
        try await fixture.accept()
        let (one, two) = try await (fixture.list("one"), fixture.list("two"))
        try await fixture.publish()
        try await fixture.fetch()
        try await fixture.store.withdraw(one.id, from: fixture.channel, reason: "oopses\nwith two sockets")
        try await fixture.publish()
        let state = try await fixture.fetch().state
        #expect(try state.index.wanted().map(\.id) == [two.id])
        let entry = try #require(state.index.entry(one.id))
        #expect(entry.withdrawn == "oopses with two sockets")
        let refused = await TrustFixture.failure { try await fixture.host.load(entry, of: state) }
        #expect(refused.message.contains("oopses"), "\(refused)")
        let twice = await TrustFixture.failure {
            try await fixture.store.withdraw(one.id, from: fixture.channel, reason: "once more")
        }
        #expect(twice.status == .no)
    }

    @Test func aCumulativeUpdateTakesThePlaceOfItsParts() async throws {
        let fixture = try await TrustFixture()
        let store = UpdateStore(try await fixture.publisher.repository)
        let commits = try await [
            fixture.publisher.commit("a: fix CVE-2026-1111", ["a": "1"]),
            fixture.publisher.commit("b", ["b": "1"]),
        ]
        var stored: [StoredUpdate] = []
        for (function, some) in [("one", [commits[0]]), ("two", [commits[1]]), ("both", commits)] {
            let update = GitFixture.update(commits: some, functions: [function])
            stored.append(try await store.store(update))
        }
        try await fixture.store.add([stored[0], stored[1]], to: fixture.channel, release: "v1")
        let state = try await fixture.store.add([stored[2]], to: fixture.channel, release: "v2")
        #expect(state.index.entries[2].supersedes == [stored[0].id, stored[1].id])
        #expect(
            state.index.entries[0].cves == ["CVE-2026-1111"]
                && state.index.entries[2].cves == ["CVE-2026-1111"])
        #expect(try state.index.wanted().map(\.id) == [stored[2].id])
        #expect(try state.index.wanted(release: "v1").count == 2)
        // The replacement is withdrawn: its parts are wanted again.
        let after = try await fixture.store.withdraw(stored[2].id, from: fixture.channel, reason: "wrong")
        #expect(try after.index.wanted().map(\.id) == [stored[0].id, stored[1].id])
        let late = await TrustFixture.failure {
            try await fixture.store.add([], to: fixture.channel, release: "v1")
        }
        #expect(late.status == .no, "\(late)")
    }

    @Test("two publish at once: the slower one is told, pulls, and nothing of either is lost")
    func twoPublishers() async throws {
        let fixture = try await TrustFixture()
        try await fixture.accept()
        try await fixture.list("one")
        try await fixture.publish()
        // Another clone of the same maintainers.
        let other = try await GitFixture()
        for (key, value) in [("gpg.format", "ssh"), ("user.signingKey", fixture.folder + "/alice.pub")] {
            try await other.git("config", key, value)
        }
        let theirs = ChannelStore(try await other.repository)
        #expect(try await theirs.pull(from: fixture.server).count == 3)
        let update = GitFixture.update(description: "theirs", functions: ["theirs"])
        let stored = try await UpdateStore(other.repository).store(update)
        try await theirs.add([stored], to: fixture.channel)
        let mine = try await fixture.list("mine")
        try await fixture.publish()
        let slow = await TrustFixture.failure {
            try await Publisher(other.repository, remote: fixture.server).publish()
        }
        #expect(slow.status == .stale && slow.hints.contains { $0.contains("channel pull") }, "\(slow)")
        #expect(try await theirs.pull(from: fixture.server).contains(fixture.channel.ref))
        try await Publisher(other.repository, remote: fixture.server).publish()
        let state = try await fixture.fetch().state
        #expect(state.index.entries.map(\.id).suffix(2) == [mine.id, stored.id])
        #expect(state.serial == 3)
        // These updates were made of no commits: nothing is noted beside any.
        #expect(try await fixture.onServer("for-each-ref", "refs/notes").lines.count == 0)
    }

    @Test("after a key was revoked, its updates are signed anew, and hosts go on")
    func revokedKeysAreReplaced() async throws {
        let fixture = try await TrustFixture()
        let bob = try await fixture.signer("bob", [.root, .release])
        try await fixture.chain { $0.signers.append(bob) }
        try await fixture.accept()
        let one = try await fixture.list("one")
        try await fixture.publish()
        try await fixture.fetch()
        try await fixture.sign(as: "bob")
        try await fixture.chain { $0.revoked[$0.signers[0].key.fingerprint] = "lost" }
        let early = await TrustFixture.failure { try await fixture.store.add([one], to: fixture.channel) }
        #expect(early.message.contains("0 of 1 signers") || early.message.contains("was revoked"), "\(early)")
        // Bob has looked at what the channel says.
        try await fixture.store.renew(fixture.channel, cosign: true)
        let stored = try #require(
            try await UpdateStore(fixture.publisher.repository).list(pattern: one.ref).first)
        try await fixture.store.add([stored], to: fixture.channel)
        let sent = try await fixture.publish()
        #expect(sent.contains { $0.ref == one.ref && $0.kind == "+" }, "\(sent)")
        let fetched = try await fixture.fetch()
        #expect(fetched.updates == [one.id])
        let state = try await fixture.host.state(channel: "stable", kernel: fixture.kernel)
        _ = try await fixture.host.load(state.index.entries[0], of: state)
    }

    @Test("what a server made up is not taken over, and not signed on the way")
    func pullBelievesNobody() async throws {
        let fixture = try await TrustFixture()
        try await fixture.list("one")
        try await fixture.publish()
        let ref = try fixture.channel.ref
        let before = try await fixture.publisher.git("rev-parse", ref)
        try await fixture.forge(ref, parents: [before]) { $0.replacing("Serial: 1", with: "Serial: 2") }
        let pulled = await TrustFixture.failure { try await fixture.store.pull(from: fixture.server) }
        #expect(pulled.message.contains("it is not signed"), "\(pulled)")
        #expect(try await fixture.publisher.git("rev-parse", ref) == before)
        // Also where it got there in another way.
        try await fixture.publisher.git("fetch", "-q", fixture.server, "+\(ref):\(ref)")
        let signed = await TrustFixture.failure { try await fixture.list("two") }
        #expect(signed.message.contains("it is not signed"), "\(signed)")
    }

    @Test func whatIsNeededMustBeListedFirst() async throws {
        let fixture = try await TrustFixture()
        var manifest = GitFixture.update(functions: ["two"]).manifest
        manifest.depends = [String(repeating: "9", count: 64)]
        let update = Update(manifest: manifest, files: GitFixture.update(functions: ["two"]).files)
        let stored = try await UpdateStore(fixture.publisher.repository).store(update)
        let refused = await TrustFixture.failure {
            try await fixture.store.add([stored], to: fixture.channel)
        }
        #expect(refused.message.contains("needs 999999999999"), "\(refused)")
    }
}

@Suite struct ChannelPlanTests {
    private static let digests = (0..<6).map { String(repeating: "\($0)", count: 64) }

    /// Entries a, b, c (replaces a), d (stands on c); v1 has a and b, v2 all.
    private func index(withdrawn: Int? = nil) -> ChannelIndex {
        var index = ChannelIndex()
        for id in Self.digests.prefix(4) {
            index.entries.append(ChannelEntry(id: id, commit: String(repeating: "1", count: 40), size: 1))
        }
        index.entries[0].cves = ["CVE-2026-1111"]
        index.entries[2].supersedes = [Self.digests[0]]
        index.entries[3].depends = [Self.digests[2]]
        index.releases = [("v1", 2), ("v2", 4)]
        if let withdrawn { index.entries[withdrawn].withdrawn = "wrong" }
        return index
    }

    private func steps(_ index: ChannelIndex, _ applied: [Int], _ release: String? = nil) throws -> [String] {
        try ChannelPlan(index, applied: applied.map { Self.digests[$0] }, release: release).steps.map {
            step in
            "+" + step.new.map { String($0.id.prefix(1)) }.joined() + "-"
                + step.old.map { String($0.prefix(1)) }.sorted().joined()
        }
    }

    @Test func aHostGetsWhatIsWanted() throws {
        #expect(try steps(index(), []) == ["+12-", "+3-"])
        #expect(try steps(index(), [0, 1]) == ["+2-0", "+3-"])
        #expect(try steps(index(), [1, 2, 3]) == [])
        // What somebody applied by hand stays.
        #expect(try steps(index(), [1, 2, 3, 5]) == [])
        #expect(try steps(index(), [], "v1") == ["+01-"])
        #expect(try steps(index(), [1, 2, 3], "v1") == ["+0-23"])
        #expect(try steps(index(withdrawn: 2), [1, 2, 3]) == ["+0-23"])
        #expect(try steps(index(withdrawn: 1), [1]) == ["+2-1", "+3-"])
        // What a later step replaces stays until then.
        var later = index()
        later.entries[3].supersedes = [Self.digests[1]]
        #expect(try steps(later, [0, 1]) == ["+2-0", "+3-1"])
    }

    @Test func aHostKnowsHowItStands() throws {
        func standing(_ index: ChannelIndex, _ applied: [Int]) throws -> ChannelStanding {
            let name = try ChannelName(arch: "x86_64", kernel: "ab", name: "stable")
            let state = ChannelState(name: name, index: index, serial: 4, validUntil: 100)
            return try ChannelStanding(state, applied: applied.map { Self.digests[$0] }, now: 100)
        }
        let first = try standing(index(), [0, 1])
        #expect(first.release == "v1" && first.cves == ["CVE-2026-1111"] && first.isOutOfDate)
        #expect(first.available.count == 2 && first.replaced.map(\.id) == [Self.digests[0]])
        let second = try standing(index(), [1, 2, 3])
        #expect(second.release == "v2" && second.available == [] && second.replaced == [])
        let third = try standing(index(withdrawn: 1), [0, 1])
        #expect(third.withdrawn.map(\.id) == [Self.digests[1]] && third.release == "v1")
        #expect(try standing(index(), [1]).release == nil)
    }
}
