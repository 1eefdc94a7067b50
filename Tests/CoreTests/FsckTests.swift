// fsck finds every kind of damage, says it by its code, and says nothing else of it; of a repository that is in order it
// says nothing.

import Glibc
import Testing

@testable import Core

@Suite struct FsckTests {
    @Test func whatIsInOrderIsNotComplainedOf() async throws {
        let fixture = try await StorageFixture()
        #expect(try await fixture.problems() == [])
        // Nor is it when all objects are in packs, and refs in one file.
        try await fixture.git("gc", "-q", "--prune=now")
        #expect(try await fixture.problems() == [])
    }

    @Test(arguments: Damage.all.map(\.name)) func damageIsFound(_ name: String) async throws {
        let damage = try #require(Damage.all.first { $0.name == name })
        let fixture = try await StorageFixture()
        try await damage.make(fixture)
        let found = try await fixture.problems { if damage.isLater { $0.now += 400 * 86400 } }
        #expect(Set(found.map(\.code)) == damage.codes, "\(found.map(\.text))")
        for problem in found {
            #expect(!problem.message.isEmpty && !problem.message.contains("\n") && !problem.hint.isEmpty)
        }
        // Nothing was changed by looking.
        #expect(try await fixture.codes { if damage.isLater { $0.now += 400 * 86400 } } == damage.codes)
    }

    @Test func everyCodeHasItsDamageAndItsExplanation() throws {
        let made = Damage.all.reduce(into: Set<StorageProblem.Code>()) { $0.formUnion($1.codes) }
        let onHosts: Set<StorageProblem.Code> = [.hostMemory, .hostRollback]
        #expect(made.union(onHosts) == Set(StorageProblem.Code.allCases))
        let page = try SourceTree.text("Documentation/man/git-ksplice-fsck.1")
        for code in StorageProblem.Code.allCases {
            #expect(page.contains(".It Cm \(code.rawValue)\n"), "\(code.rawValue)")
        }
    }

    @Test func whatIsStillUsedIsNotComplainedOf() async throws {
        let fixture = try await StorageFixture()
        // A lock of a git that is at work, and a file that this process is writing.
        try Files.write("", to: "\(fixture.directory)/.git/\(fixture.ref(fixture.one)).lock")
        try Files.write("", to: "\(fixture.stateFolder)/import/x.tmp.\(getpid())")
        StorageFixture.age("\(fixture.stateFolder)/import/x.tmp.\(getpid())")
        // A workspace that is being written to.
        try Files.remove(fixture.stateFolder + "/workspaces/x86_64-ab12/tree")
        let lock = try Workspace(root: fixture.stateFolder + "/workspaces/x86_64-ab12").lock { _ in }
        #expect(try await fixture.problems() == [])
        _ = consume lock
        #expect(try await fixture.codes() == [.workspaceUnfinished])
    }

    @Test func onlyWhatIsNamedIsLookedAt() async throws {
        let fixture = try await StorageFixture()
        try await fixture.rewrite(fixture.ref(fixture.three), files: ["update.ko": "x"])
        try await fixture.git("update-ref", "refs/ksplice/strange", fixture.commits[0])
        var check = StorageCheck(try await fixture.repository)
        for (spec, codes) in [
            (fixture.one, []), (String(fixture.three.prefix(12)), [.updateFile]),
            (fixture.ref(fixture.three), [.updateFile]),
            ("refs/ksplice/strange", [.refUnknown]), ("HEAD", []), (StorageFixture.channel, []),
            ("refs/ksplice/updates", [.updateFile]),
        ] as [(String, [StorageProblem.Code])] {
            #expect(try await check.run(only: check.refs([spec])).map(\.code) == codes, "\(spec)")
        }
        for spec in ["refs/ksplice/nothing", "nothing", "ksplice-00000000"] {
            await #expect(throws: Failure.self) { try await check.refs([spec]) }
        }
    }

    @Test func whatWasWithdrawnMayBeGone() async throws {
        let fixture = try await StorageFixture()
        let store = ChannelStore(try await fixture.repository)
        let name = try #require(ChannelName(ref: StorageFixture.channel))
        try await store.withdraw(fixture.two, from: name, reason: "test")
        try await fixture.git("update-ref", "-d", fixture.ref(fixture.two))
        #expect(try await fixture.codes() == [.noteDangling])
    }

    @Test func whatAHostHasFetchedIsLookedAt() async throws {
        let fixture = try await TrustFixture()
        #expect(try await fixture.host.problems() == nil)
        let old = try await fixture.list("f")
        try await fixture.list("g")
        try await fixture.publish()
        try await fixture.accept()
        try await fixture.fetch()
        #expect(try await fixture.host.problems() == [])
        let repository = try #require(try await fixture.host.repository())
        let channel = try fixture.channel
        let memory = "\(fixture.folder)/host/trust/channels/\(channel.arch).\(channel.kernel).stable"
        let said = try Files.readText(memory)
        // The repository was put back to an older state.
        try await repository.git(["update-ref", channel.ref, channel.ref + "^"]).check()
        #expect(try await fixture.host.problems()?.map(\.code) == [.hostRollback])
        #expect(try await fixture.host.problems([channel.ref])?.map(\.code) == [])
        try await repository.git(["update-ref", "-d", channel.ref]).check()
        #expect(try await fixture.host.problems()?.map(\.code) == [.hostRollback])
        try await fixture.fetch()
        try Files.write("three\n", to: memory)
        #expect(try await fixture.host.problems()?.map(\.code) == [.hostMemory])
        try Files.write(said, to: memory)
        try Files.write(said, to: memory + ".more")
        #expect(try await fixture.host.problems()?.map(\.code) == [.hostMemory])
        try Files.remove(memory + ".more")
        #expect(try await fixture.host.problems() == [])
        // Whom the host trusts counts, not whom the repository says.
        try Files.remove(fixture.folder + "/etc/trust")
        #expect(try await fixture.host.problems()?.map(\.code) == [.hostMemory])
        try await fixture.accept()
        try await repository.git(["update-ref", "-d", old.ref]).check()
        #expect(try await fixture.host.problems()?.map(\.code) == [.channelUpdateMissing])
    }
}
