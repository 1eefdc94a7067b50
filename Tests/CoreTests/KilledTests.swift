// Killed at any moment: each command that changes what is stored is killed with all its processes before its first call
// of git, behind it, before its second, and so on to the end. After each, nothing is damaged, and the same command run again
// gives what it would have given.
//
// The command runs in a process of its own: this program once more, with nothing but the test `child`.

import Glibc
import Testing

@testable import Core

@Suite struct KilledTests {
    enum Scenario: String, CaseIterable, Sendable {
        case store, list, withdraw, publish, prune, kernel, policy
    }

    private static func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

    /// Does what the environment says; no test of its own.
    @Test(.enabled(if: variable("KSPLICE_TEST_SCENARIO") != nil)) func child() async throws {
        let scenario = try #require(Self.variable("KSPLICE_TEST_SCENARIO").flatMap { Scenario(rawValue: $0) })
        try await Self.perform(scenario, try #require(Self.variable("KSPLICE_TEST_FOLDER")))
    }

    private static func perform(_ scenario: Scenario, _ folder: String) async throws {
        let repository = try await Repository(directory: folder)
        let channels = ChannelStore(repository)
        let name = try #require(ChannelName(ref: StorageFixture.channel))
        switch scenario {
        case .store:
            let commit = try await repository.resolveCommit("HEAD")
            try await UpdateStore(repository).store(
                GitFixture.update(description: "four", commits: [commit], functions: ["four"]))
        case .list:
            let three = try #require(
                try await UpdateStore(repository).list().first { $0.description == "three" })
            try await channels.add([three], to: name, release: "v2")
        case .withdraw:
            let entry = try #require(try await channels.state(name)?.index.entries.last)
            do { try await channels.withdraw(entry.id, from: name, reason: "test") } catch let failure
                as Failure
                where failure.status == .no
            {}
        case .publish: try await Publisher(repository, remote: folder + "/server.git").publish()
        case .prune:
            var policy = PrunePolicy(expire: 0)
            policy.keep = 0
            let pruner = Pruner(repository, policy: policy)
            try await pruner.run(try await pruner.plan())
        case .kernel:
            _ = try await KernelRegistry(repository).add(
                name: "second", source: "HEAD", paths: [folder + "/build"], release: "6.1.0-2")
        case .policy: try await TrustChain(repository).append("test") { $0.thresholds[.release] = 1 }
        }
    }

    /// A repository in which a scenario can run: with a server that has other notes, a kernel's build, and what can be pruned.
    private func prepared() async throws -> StorageFixture {
        let fixture = try await StorageFixture()
        try Files.createDirectory(fixture.stateFolder + "/workspaces/x86_64-ff/source")
        try Files.createDirectory(fixture.directory + "/build")
        try Files.write(
            "VERSION = 6\nPATCHLEVEL = 1\nSUBLEVEL = 187\n", to: fixture.directory + "/Makefile")
        try await fixture.git("add", "Makefile")
        try await fixture.git("commit", "-q", "-m", "a kernel's source")
        try Files.write(KernelFixture.config, to: fixture.directory + "/build/.config")
        try Files.write("ffffffff81000000 T _text\n", to: fixture.directory + "/build/System.map")
        let server = fixture.directory + "/server.git"
        try await fixture.git("init", "-q", "--bare", "--template=", server)
        try await fixture.git("push", "-q", server, "\(TrustChain.ref):\(TrustChain.ref)")
        let other = try await fixture.git("commit-tree", "HEAD^{tree}", "-m", "other")
        try await fixture.git("notes", "--ref=ksplice/server", "add", "-m", "of another", other)
        try await fixture.git("push", "-q", server, "refs/notes/ksplice/server:refs/notes/ksplice/updates")
        try await fixture.git("update-ref", "-d", "refs/notes/ksplice/server")
        return fixture
    }

    /// What there is, without what depends on the time.
    private func state(_ fixture: StorageFixture) async throws -> [String] {
        var found: [String] = []
        for repository in ["/.git", "/server.git"] {
            let git = ["git", "--git-dir=" + fixture.directory + repository]
            let refs = try await Command(
                git + [
                    "for-each-ref", "--format=%(refname) %(tree)", "refs/ksplice", "refs/ksplice-local",
                    "refs/notes",
                ]
            ).check().text.lines.map { repository + " " + $0 }
            found += refs.filter { !$0.contains("refs/ksplice/channels/") }
            for line in refs where line.contains("refs/ksplice/channels/") || line.contains(TrustChain.ref) {
                let ref = String(line.split(separator: " ")[1])
                if line.contains("refs/ksplice/channels/") {
                    // A commit that was signed on the way has the time of that.
                    let text = try await Command(git + ["show", ref + ":channel"]).check().text
                    found.append(ref + "\n" + text.replacing(#/ [0-9a-f]{40} /#, with: " COMMIT "))
                }
                found.append(
                    ref + " " + (try await Command(git + ["rev-list", "--count", ref]).check().text.trimmed))
            }
        }
        return found + (try Files.list(fixture.stateFolder + "/workspaces"))
            + (try Files.list(fixture.stateFolder + "/kernels"))
    }

    private func errors(_ fixture: StorageFixture) async throws -> [String] {
        var local = StorageCheck(try await fixture.repository)
        var server = StorageCheck(try await Repository(only: fixture.directory + "/server.git"))
        return try await (local.run() + server.run()).filter { $0.severity == .error }.map(\.text)
    }

    /// Runs a scenario in a process group of its own with this program in the place of git. Returns how often that was called.
    private func run(_ scenario: Scenario, _ fixture: StorageFixture, killedAt moment: String) async throws
        -> Int
    {
        let folder = fixture.directory + "/.git/calls"
        try Files.createDirectory(folder + "/bin")
        let git = try await Command(["sh", "-c", "command -v git"]).check().text.trimmed
        try Files.write(
            """
            #!/bin/sh
            echo "$@" >>"$KSPLICE_TEST_CALLS/calls"
            n=$(wc -l <"$KSPLICE_TEST_CALLS/calls")
            stop() { [ "$1 $n" != "$KSPLICE_TEST_MOMENT" ] || { : >"$KSPLICE_TEST_CALLS/killed"; kill -KILL 0; }; }
            stop before
            \(git) "$@"
            status=$?
            stop behind
            exit $status

            """, to: folder + "/bin/git")
        chmod(folder + "/bin/git", 0o755)
        let result = try await Command(
            [
                "setsid", "-w", Files.absolute("/proc/self/exe"), "--filter", "CoreTests.KilledTests/child",
                "--testing-library", "swift-testing",
            ],
            environment: [
                "PATH": "\(folder)/bin:\(Self.variable("PATH") ?? "/usr/bin:/bin")",
                "KSPLICE_TEST_SCENARIO": scenario.rawValue, "KSPLICE_TEST_FOLDER": fixture.directory,
                "KSPLICE_TEST_CALLS": folder, "KSPLICE_TEST_MOMENT": moment,
            ]
        ).run()
        let wasKilled = Files.exists(folder + "/killed")
        #expect(
            wasKilled == (moment != "never") && result.succeeded != wasKilled,
            "\(result.text)\(result.errorText)")
        let calls = Files.exists(folder + "/calls") ? try Files.readText(folder + "/calls").lines.count : 0
        try Files.remove(folder)
        return calls
    }

    @Test(arguments: Scenario.allCases) func nothingIsDamaged(_ scenario: Scenario) async throws {
        // Commits have times: all copies have the same ones.
        let original = try await prepared()
        let whole = try await StorageFixture(copying: original)
        let before = try await state(whole)
        let calls = try await run(scenario, whole, killedAt: "never")
        let wanted = try await state(whole)
        #expect(wanted != before && calls >= 3)
        #expect(try await errors(whole) == [])
        var seen: Set<[String]> = []
        for moment in (1...max(calls, 1)).flatMap({ ["before \($0)", "behind \($0)"] }) {
            let fixture = try await StorageFixture(copying: original)
            _ = try await run(scenario, fixture, killedAt: moment)
            #expect(try await errors(fixture) == [], "\(scenario), killed \(moment)")
            seen.insert(try await state(fixture))
            try await Self.perform(scenario, fixture.directory)
            #expect(try await errors(fixture) == [], "\(scenario), killed \(moment), run again")
            let after = try await state(fixture)
            #expect(after.filter { !wanted.contains($0) } == [], "\(scenario), killed \(moment): too much")
            #expect(wanted.filter { !after.contains($0) } == [], "\(scenario), killed \(moment): too little")
        }
        // It was killed before and behind what it does.
        #expect(seen.count >= 2)
    }
}
