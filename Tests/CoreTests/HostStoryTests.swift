// A maintainer and a host, as users meet them: the program alone, on the kernel that runs the tests, which nothing changes.

import Testing

@testable import Core

@Suite struct HostStoryTests {
    private let schemas = JSONSchema.published

    private func check(
        _ output: String, _ name: String, lines count: Int = 1,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        try schemas.check(output, name, lines: count, sourceLocation: sourceLocation)
    }

    /// Whether this kernel says which build it is.
    private static func kernel() async -> KernelIdentity? {
        guard let kernel = try? await LocalHost().identity(), !kernel.buildID.isEmpty, kernel.arch == "x86_64"
        else {
            return nil
        }
        return kernel
    }

    @Test func aChannelFromItsMakerToAHost() async throws {
        guard let kernel = await Self.kernel() else { return }
        let program = try await ProgramFixture()
        let fixture = program.fixture
        try await fixture.git("config", "gpg.format", "ssh")
        let key = program.state + "/key"
        try await Command(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "alice", "-f", key]).check()
        try await fixture.git("config", "user.signingKey", key + ".pub")
        try await program.output("trust", "init", "alice")
        try check(await program.output("trust", "show", "--json"), "trust-show")

        let commit = try await fixture.commit("fix CVE-2026-1234", ["f": "1\n"])
        var manifest = GitFixture.update(description: "fix it", commits: [commit], buildID: kernel.buildID)
            .manifest
        manifest.kernel.release = kernel.release
        let update = Update(manifest: manifest, files: GitFixture.update().files)
        try await UpdateStore(fixture.repository).store(update)
        try await program.output("tag", "v1", "--stdin", input: update.id + "\n")
        // A signed tag is good for the name that stands in it.
        try await fixture.git("tag", "-a", "-m", "the second", "v2")
        let tag = try await fixture.git("rev-parse", "refs/tags/v2")
        try await fixture.git("update-ref", "refs/tags/v3", tag)
        let other = try await program.run(["tag", "v3"])
        #expect(other.status == 4 && other.errorText.contains("says of itself that it is 'v2'"), "\(other)")
        let tagged = try await program.run(["tag", "v2"])
        #expect(tagged.status == 0 && !tagged.errorText.contains("no tag"), "\(tagged.errorText)")
        #expect(
            try await fixture.git("log", "-1", "--format=%B", "--glob=refs/ksplice/channels/*")
                .contains("Ksplice-Release-Tag: v2 \(tag)"))
        let untagged = try await program.run(["tag", "v4", update.id])
        #expect(untagged.errorText.hasSuffix("Ksplice-Channel: stable\nKsplice-Update: \(update.id)\n"))
        try check(await program.output("channel", "list", "--json"), "channel")
        try check(await program.output("channel", "show", "--json"), "channel")
        try check(await program.output("channel", "log", "--json"), "channel-log", lines: 3)
        let server = program.state + "/server.git"
        try await fixture.git("init", "-q", "--bare", "--template=", server)
        try check(await program.output("publish", "--json", "-n", server), "publish")
        #expect(try await fixture.git("--git-dir=" + server, "for-each-ref").isEmpty)
        try check(await program.output("publish", "--json", server), "publish")
        try check(await program.output("publish", "--json", server), "publish")

        // On the host.
        let policy = try await program.output("trust", "show")
        try await program.output("trust", "accept", "-", input: policy)
        try check(await program.output("trust", "show", "--host", "--json"), "trust-show")
        try check(await program.output("fetch", "--json", server), "fetch")
        let status = try await program.output("status", "--json")
        try check(status, "status")
        #expect(try JSON(parsing: status.trimmed)["channel"]?["available"]?.array?.count == 1)
        let lines = try await program.output("status", "--porcelain").lines
        #expect(lines.contains("kernel x86_64 \(kernel.buildID) \(kernel.release)"), "\(lines)")
        #expect(lines.contains { $0.hasPrefix("channel stable 3 ") && $0.hasSuffix(" valid -") }, "\(lines)")
        #expect(lines.contains("available \(update.id) "), "\(lines)")
        #expect(try await program.output("status", "-z").split(separator: "\0").count >= lines.count)

        // What was fetched is found everywhere, also in a repository that has nothing of it.
        let elsewhere = try await GitFixture()
        for folder in [elsewhere.directory, program.state + "/../../.."] {
            for name in [String(update.id.prefix(10)), "CVE-2026-1234"] {
                let shown = try await program.run(["show", name], in: folder)
                #expect(shown.text.contains("update \(update.id)"), "\(folder) \(name): \(shown.errorText)")
            }
            let none = try await program.run(["show", "CVE-2026-9"], in: folder)
            #expect(none.status != 0 && none.text.isEmpty, "\(folder)")
        }
        let here = try await program.run(["show", "0123456789"], in: elsewhere.directory)
        #expect(here.status == 2 && here.errorText.contains("no such"), "\(here.errorText)")

        let archive = program.state + "/a.tar.gz"
        try await program.output("export", "-o", archive, update.id)
        try await program.output("boot", "add", archive)
        try check(await program.output("boot", "list", "--json"), "boot-list")
        try check(await program.output("status", "--json"), "status")

        // A withdrawal, which is fetched, and a forged channel, which is not.
        try await program.output(
            "withdraw", "--reason", "it oopses", "--stdin", "-z", input: update.id + "\0")
        try await program.output("publish", "--progress", server)
        try await program.output("fetch")
        let ref = try await fixture.git("for-each-ref", "--format=%(refname)", "refs/ksplice/channels")
        let forged = try await fixture.git("commit-tree", "-p", ref, "-m", "forged", ref + "^{tree}")
        try await Command(
            ["git", "push", "-q", "-f", server, "\(forged):\(ref)"], directory: fixture.directory
        ).check()
        #expect(try await program.run(["fetch"]).status == 4)
        let journal = try await program.output("journal", "--json")
        try check(journal, "journal", lines: 3)
        let words = try await program.output("journal")
        #expect(
            words.contains("stable  number 3, 1 new update(s)") && words.contains("refused: "), "\(words)")

        // What a report says of it, and what not.
        let report = try await program.output("bug-report", "-o", "-")
        #expect(
            report.contains("- stable of x86_64 \(kernel.buildID.prefix(12)): number 4, 1 update(s)"),
            "\(report)")
        // It was kept for the next boot, and is not tried there any more.
        #expect(
            report.contains("- \(update.id) for \(kernel.release): held: withdrawn: it oopses"), "\(report)")
        for secret in [server, fixture.directory, "PRIVATE KEY", "alice", "ssh-ed25519", "ann@example.org"] {
            #expect(!report.contains(secret), "\(secret)")
        }
    }
}
