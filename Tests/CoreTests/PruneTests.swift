// prune: what is chosen and not needed goes, with its lines, in one transaction; what something needs stays.

import Glibc
import Testing

@testable import Core

@Suite struct PruneTests {
    /// A policy that chooses every update.
    private static func everything(_ change: (inout PrunePolicy) -> Void = { _ in }) -> PrunePolicy {
        var policy = PrunePolicy(expire: 0)
        policy.keep = 0
        change(&policy)
        return policy
    }

    /// The descriptions of what goes, and the reasons of what stays by description.
    private func plan(_ fixture: GitFixture, _ policy: PrunePolicy, inUse: [String: String] = [:])
        async throws
        -> (goes: [String], stays: [String: String])
    {
        let plan = try await Pruner(try await fixture.repository, policy: policy, inUse: inUse).plan()
        return (
            plan.updates.map(\.update.description).sorted(),
            Dictionary(uniqueKeysWithValues: plan.kept.map { ($0.update.description, $0.reason) })
        )
    }

    /// Stores an update as if that had been so many days ago.
    @discardableResult
    private func store(
        _ name: String, _ fixture: GitFixture, commits: [String] = [], days: Int = 0,
        buildID: String = "ab12",
        on grounds: [String] = []
    ) async throws -> StoredUpdate {
        let made = GitFixture.update(description: name, commits: commits, buildID: buildID, functions: [name])
        var manifest = made.manifest
        manifest.depends = grounds
        let store = UpdateStore(try await fixture.repository)
        let stored = try await store.store(Update(manifest: manifest, files: made.files))
        let time = "\(Int(CalendarTime.now) - days * 86400) +0000"
        let commit = try await Command(
            ["git", "commit-tree", stored.commit + "^{tree}", "-F", "-"], directory: fixture.directory,
            environment: ["GIT_AUTHOR_DATE": time, "GIT_COMMITTER_DATE": time],
            input: Array(try await fixture.git("log", "-1", "--format=%B", stored.commit).utf8)
        ).check().text.trimmed
        try await fixture.git("update-ref", stored.ref, commit)
        return try #require(try await store.list(pattern: stored.ref).first)
    }

    @Test("a channel that git passes over may list anything: nothing goes") func brokenChannel() async throws
    {
        let fixture = try await GitFixture()
        try await store("one", fixture)
        #expect(try await plan(fixture, Self.everything()).goes == ["one"])
        let folder = fixture.directory + "/.git/refs/ksplice/channels/x86_64/ab12"
        try Files.createDirectory(folder)
        try Files.write("", to: folder + "/stable")
        let failure = await TrustFixture.failure {
            _ = try await Pruner(try await fixture.repository, policy: Self.everything(), inUse: [:]).plan()
        }
        #expect(failure.status == .verificationRefused && failure.message.contains("x86_64/ab12/stable"))
    }

    @Test func withoutAPolicyNoUpdateGoes() async throws {
        let fixture = try await GitFixture()
        try await store("one", fixture, days: 1000)
        var policy = PrunePolicy(expire: 0)
        #expect(try await plan(fixture, policy).goes == [])
        // A kernel alone chooses nothing.
        policy.kernel = ("x86_64", "ab12")
        #expect(try await plan(fixture, policy).goes == [])
    }

    @Test func theNewestOfEachKernelStay() async throws {
        let fixture = try await GitFixture()
        for days in 1...4 { try await store("day \(days)", fixture, days: days) }
        for days in 5...6 { try await store("day \(days)", fixture, days: days, buildID: "cd34") }
        #expect(try await plan(fixture, Self.everything { $0.keep = 2 }).goes == ["day 3", "day 4"])
        #expect(
            try await plan(fixture, Self.everything { $0.keep = 1 }).goes == [
                "day 2", "day 3", "day 4", "day 6",
            ])
        #expect(
            try await plan(fixture, Self.everything { $0.kernel = ("x86_64", "cd34") }).goes == [
                "day 5", "day 6",
            ])
        let moment = CalendarTime.now - 86400 * 7 / 2
        #expect(
            try await plan(fixture, Self.everything { $0.before = moment }).goes == [
                "day 4", "day 5", "day 6",
            ])
        // Each of them only narrows it.
        let narrow = Self.everything { ($0.keep, $0.before, $0.kernel) = (1, moment, ("x86_64", "ab12")) }
        #expect(try await plan(fixture, narrow).goes == ["day 4"])
    }

    @Test func whatNewerOnesReplaceGoes() async throws {
        let fixture = try await GitFixture()
        let commits = try await [fixture.commit("1", ["f": "1\n"]), fixture.commit("2", ["f": "2\n"])]
        try await store("first", fixture, commits: [commits[0]], days: 9)
        try await store("made anew", fixture, commits: [commits[0]], days: 5)
        try await store("second", fixture, commits: [commits[1]], days: 3)
        try await store("other kernel", fixture, commits: [commits[0]], days: 9, buildID: "cd34")
        try await store("from a patch", fixture, days: 9)
        var policy = PrunePolicy(expire: 0)
        policy.superseded = true
        #expect(try await plan(fixture, policy).goes == ["first"])
        try await store("both", fixture, commits: commits, days: 20)
        #expect(try await plan(fixture, policy).goes == ["first", "made anew", "second"])
    }

    @Test func whatAChannelListsStaysUntilItIsWithdrawn() async throws {
        let trust = try await TrustFixture()
        let fixture = trust.publisher
        let channel = try trust.channel.ref
        let one = try await trust.list("f")
        try await trust.list("g")
        let all = try await plan(fixture, Self.everything())
        #expect(all.goes == [] && all.stays["fix f"] == "listed in '\(channel)'")
        // Also in the channel of another repository.
        try await fixture.git(
            "update-ref", "refs/remotes/origin/ksplice/channels/x86_64/ab12/stable", channel)
        try await fixture.git("update-ref", "-d", channel)
        #expect(try await plan(fixture, Self.everything()).goes == [])
        try await fixture.git(
            "update-ref", channel, "refs/remotes/origin/ksplice/channels/x86_64/ab12/stable")
        try await fixture.git("update-ref", "-d", "refs/remotes/origin/ksplice/channels/x86_64/ab12/stable")
        try await trust.store.withdraw(one.id, from: trust.channel, reason: "test")
        try await store("unlisted", fixture)
        var policy = PrunePolicy(expire: 0)
        policy.withdrawn = true
        #expect(try await plan(fixture, policy).goes == ["fix f"])
        #expect(try await plan(fixture, Self.everything()).goes == ["fix f", "unlisted"])
        let pruner = Pruner(try await fixture.repository, policy: policy)
        try await pruner.run(try await pruner.plan())
        #expect(try await StorageCheck.errors(fixture) == [])
        // What a channel that cannot be read lists, nobody knows.
        let tip = try await fixture.git("rev-parse", channel)
        try await fixture.git("update-ref", channel, TrustChain.ref)
        let failure = await TrustFixture.failure { try await self.plan(fixture, Self.everything()) }
        #expect(
            failure.status == .verificationRefused
                && failure.hints == ["git ksplice fsck \(channel)"])
        try await fixture.git("update-ref", channel, tip)
        #expect(try await plan(fixture, Self.everything()).goes == ["unlisted"])
    }

    @Test func whatIsNeededStays() async throws {
        let fixture = try await GitFixture()
        try await fixture.commit("base", ["f": "1\n"])
        let bottom = try await store("bottom", fixture, days: 9)
        let middle = try await store("middle", fixture, days: 8, on: [bottom.id])
        let top = try await store("top", fixture, days: 7, on: [middle.id])
        let tagged = try await store("tagged", fixture, days: 6)
        try await fixture.git("tag", "mine", tagged.commit)
        #expect(try await plan(fixture, Self.everything()).goes == ["bottom", "middle", "top"])
        #expect(try await plan(fixture, Self.everything()).stays == ["tagged": "'refs/tags/mine' names it"])
        // What is applied stays, and what that stands on.
        let applied = try await plan(fixture, Self.everything(), inUse: [middle.id: "loaded on this machine"])
        #expect(applied.goes == ["top"] && applied.stays["middle"] == "loaded on this machine")
        #expect(applied.stays["bottom"] == "update \(middle.id.prefix(12)) stands on it")
        // So does what one stands on that the policy does not choose.
        #expect(try await plan(fixture, Self.everything { $0.keep = 2 }).goes == [])
        // What something damaged stands on, nobody knows; it may go itself.
        let other = try await fixture.git("commit-tree", "HEAD^{tree}", "-m", "no update")
        try await fixture.git("update-ref", top.ref, other)
        #expect(try await plan(fixture, Self.everything()).goes.count == 3)
        let failure = await TrustFixture.failure {
            try await self.plan(fixture, Self.everything { $0.keep = 1 })
        }
        #expect(failure.status == .verificationRefused)
    }

    @Test func refsMarksAndLinesGoTogether() async throws {
        let fixture = try await GitFixture()
        _ = try await Initialisation(try await fixture.repository).run()
        let commit = try await fixture.commit("fix", ["f": "1\n"])
        let old = try await store("old", fixture, commits: [commit], days: 9)
        let new = try await store("new", fixture, commits: [commit], days: 1)
        try await fixture.git("notes", "--ref=ksplice/updates", "append", "-m", "words of my own", commit)
        try await fixture.git("update-ref", ChannelMark.ref(of: old.ref), old.commit)
        // The lines stand beside the amended commit, too.
        try await fixture.git("commit", "-q", "--amend", "-m", "reworded")
        let repository = try await fixture.repository
        let pruner = Pruner(repository, policy: Self.everything { $0.keep = 1 })
        let plan = try await pruner.plan()
        #expect(plan.updates.map(\.update.id) == [old.id])
        #expect(plan.updates[0].bytes > 1000 && (plan.freed ?? 0) > 0)
        let before = try await repository.references(["refs/"])
        _ = try await pruner.plan()
        #expect(try await repository.references(["refs/"]) == before)
        try await pruner.run(plan)
        let after = try await repository.references(["refs/"])
        #expect(Set(before.keys).subtracting(after.keys) == [old.ref, ChannelMark.ref(of: old.ref)])
        for name in ["updates", "builds"] {
            for source in [commit, "HEAD"] {
                let text = try await fixture.git("notes", "--ref=ksplice/" + name, "show", source)
                #expect(text.contains(new.id.prefix(12)) && !text.contains(old.id.prefix(12)), "\(text)")
                #expect(text.contains("words of my own") == (name == "updates"))
            }
        }
        #expect(try await StorageCheck.errors(fixture) == [])
        #expect(try await pruner.plan().updates.isEmpty)
    }

    @Test func nothingGoesWhereAChannelHasMoved() async throws {
        let trust = try await TrustFixture()
        let fixture = trust.publisher
        try await trust.list("f")
        let free = try await store("free", fixture)
        let repository = try await fixture.repository
        let pruner = Pruner(repository, policy: Self.everything())
        let plan = try await pruner.plan()
        #expect(plan.updates.map(\.update.id) == [free.id])
        // It is listed between looking and removing.
        try await trust.store.add([free], to: trust.channel)
        let failure = await TrustFixture.failure { try await pruner.run(plan) }
        #expect(failure.status == .busy)
        #expect(try await UpdateStore(repository).list().count == 2)
        #expect(try await StorageCheck.errors(fixture) == [])
    }

    @Test func theConfigurationChooses() async throws {
        let fixture = try await GitFixture()
        let repository = try await fixture.repository
        #expect(try await PrunePolicy.configured(repository).isEmpty)
        let usual = try await PrunePolicy.configured(repository).expire
        #expect(abs(CalendarTime.now - 92 * 86400 - usual) < 4 * 86400)
        for (key, value) in [
            ("keep", "3"), ("olderThan", "2.weeks"), ("superseded", "yes"), ("expire", "never"),
        ] {
            try await fixture.git("config", "ksplice.prune." + key, value)
        }
        let policy = try await PrunePolicy.configured(repository)
        #expect(policy.keep == 3 && policy.superseded && !policy.withdrawn && policy.expire == 0)
        #expect(abs((policy.before ?? 0) - (CalendarTime.now - 14 * 86400)) < 100)
        for (key, value) in [("keep", "-1"), ("olderThan", "nonsense"), ("withdrawn", "perhaps")] {
            try await fixture.git("config", "ksplice.prune." + key, value)
            await #expect(throws: Failure.self, "\(key)") { try await PrunePolicy.configured(repository) }
            try await fixture.git("config", "--unset", "ksplice.prune." + key)
        }
    }

    @Test func stateThatNobodyUsesGoes() async throws {
        let fixture = try await StorageFixture()
        let state = fixture.stateFolder
        let repository = try await fixture.repository
        func plan(_ expire: Int64) async throws -> Set<String> {
            let plan = try await Pruner(repository, policy: PrunePolicy(expire: expire)).plan()
            return Set(plan.state.map { String($0.path.dropFirst(state.count + 1)) })
        }
        let workspace = "workspaces/x86_64-ab12"
        let later = CalendarTime.now + 1000
        #expect(try await plan(CalendarTime.now - 1000) == [])
        #expect(try await plan(later) == [workspace])
        // Compiled code grows old in a workspace that is used.
        try Files.write("x", to: "\(state)/\(workspace)/cache/a.o")
        try Files.write("x", to: "\(state)/\(workspace)/cache/b.o")
        StorageFixture.age("\(state)/\(workspace)/cache/a.o")
        #expect(try await plan(CalendarTime.now - 1000) == [workspace + "/cache/a.o"])
        StorageFixture.age("\(state)/\(workspace)/lock")
        #expect(try await plan(CalendarTime.now - 1000) == [workspace])
        // What no kernel names goes at once; of what is unpacked, only what no kernel's record names.
        try Files.createDirectory(state + "/workspaces/x86_64-ff/source")
        try Files.write("image /nowhere\n", to: state + "/kernels/x86_64-ff")
        // Put there by somebody: no workspace.
        try Files.write("", to: state + "/workspaces/x86_64-fe")
        try Files.write("", to: state + "/import/vmlinux-1")
        let lost = state + "/import/x.deb-1.tmp.99999999"
        try Files.createDirectory(lost)
        StorageFixture.age(lost)
        let orphans: Set = [
            "workspaces/x86_64-ff", "workspaces/x86_64-fe", "kernels/x86_64-ff",
            "import/x.deb-1.tmp.99999999",
        ]
        #expect(try await plan(0) == orphans)
        #expect(try await plan(later) == orphans.union([workspace, "import/vmlinux-1"]))
        // What is held is not touched, neither when it is looked at nor when it is removed.
        let pruner = Pruner(repository, policy: PrunePolicy(expire: later))
        let all = try await pruner.plan()
        let lock = try Workspace(root: "\(state)/\(workspace)").lock { _ in }
        #expect(try await plan(later) == orphans.union(["import/vmlinux-1"]))
        let done = try await pruner.run(all)
        #expect(Files.exists("\(state)/\(workspace)/tree") && Files.exists(state + "/import/image"))
        #expect(
            all.state.map(\.path).filter { !done.state.map(\.path).contains($0) } == ["\(state)/\(workspace)"]
        )
        _ = consume lock
        for path in orphans.union(["import/vmlinux-1"]) {
            #expect(!Files.exists("\(state)/\(path)"), "\(path)")
        }
        try await pruner.run(try await pruner.plan())
        #expect(!Files.exists("\(state)/\(workspace)"))
        #expect(try await fixture.problems() == [])
    }

    @Test(
        "who waits for a workspace that is removed meanwhile holds the new one",
        .enabled(if: Workspace.processors > 1, "waiting takes a processor's only thread"))
    func removedWhileWaitedFor() async throws {
        let root = try Files.temporaryDirectory("ksplice-test")
        defer { try? Files.remove(root) }
        let workspace = Workspace(root: root + "/workspace")
        let first = try workspace.lock { _ in Issue.record("nobody holds it") }
        let (waits, says) = AsyncStream<Int32?>.makeStream()
        let second = Task.detached {
            let lock = try workspace.lock { says.yield($0) }
            let isHeld = StateFolder.isLocked(workspace.root + "/lock")
            _ = consume lock
            return isHeld
        }
        for await holder in waits {
            #expect(holder == getpid())
            break
        }
        try Files.remove(workspace.root)
        _ = consume first
        #expect(try await second.value)
        #expect(!StateFolder.isLocked(workspace.root + "/lock"))
    }

    @Test func momentsAreGits() async throws {
        let fixture = try await GitFixture()
        let repository = try await fixture.repository
        #expect(try await repository.moment("never") == 0)
        #expect(try await repository.moment("now") >= CalendarTime.now)
        let yesterday = try await repository.moment("1.day")
        #expect(abs(yesterday - (CalendarTime.now - 86400)) < 100)
        #expect(try await repository.moment("2026-11-01 00:00 +0000") == 1_793_491_200)
        await #expect(throws: Failure.self) { try await repository.moment("nonsense") }
    }
}

extension StorageCheck {
    /// The errors in a repository.
    static func errors(_ fixture: GitFixture) async throws -> [String] {
        var check = StorageCheck(try await fixture.repository)
        return try await check.run().filter { $0.severity == .error }.map(\.text)
    }
}
