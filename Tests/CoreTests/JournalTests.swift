// The journal of a host, and what a report of a bug says.

import Testing

@testable import Core

@Suite struct JournalTests {
    private static let id = String(repeating: "a", count: 64)

    private static let lines = """
        {"v":1,"event":"apply","update":"\(id)","description":"fix it","pause_ns":5,"tries":1}
        {"v":1,"event":"undo","time":1000000,"update":"\(id)","pause_ns":5,"tries":1,"cause":"upgrade"}
        {"v":1,"event":"boot","time":2000000,"update":"\(id)","description":"fix it","state":"held","reason":"why"}
        {"v":1,"event":"fetch","time":3000000,"channel":"stable","serial":4,"updates":["x"],"refused":null}
        {"v":1,"event":"la
        """

    @Test func theNewestComesFirst() async throws {
        let host = FakeHost(["/journal": Self.lines])
        let journal = Journal(host: host, path: "/journal")
        let events = try await journal.events()
        #expect(events.map(\.event) == ["fetch", "boot", "undo", "apply"])
        #expect(events.map(\.time) == [3_000_000, 2_000_000, 1_000_000, nil])
        #expect(events.map(\.words.event) == ["fetch", "boot (held)", "undo (upgrade)", "apply"])
        // An undo says only which one.
        #expect(events[2].description == "fix it" && events[1].words.rest == "fix it: why")
        #expect(try await journal.events(limit: 2).map(\.event) == ["fetch", "boot"])
        #expect(try await journal.events(since: 2_000_000).map(\.event) == ["fetch", "boot"])
        #expect(try await Journal(host: host, path: "/none").events().isEmpty)
    }

    @Test func theCommandShowsIt() async throws {
        let program = try await ProgramFixture()
        #expect(try await program.output("journal") == "")
        try Files.write(Self.lines, to: program.state + "/journal")
        let text = try await program.output("journal")
        #expect(
            text.lines.first
                == "1970-02-04T17:20:00Z  fetch           stable        number 4, 1 new update(s)", "\(text)")
        #expect(text.lines.last == "-                     apply           aaaaaaaaaaaa  fix it", "\(text)")
        #expect(try await program.output("journal", "-n", "1", "--json").lines.count == 1)
        #expect(try await program.output("journal", "--since", "1970-01-20 00:00:00 +0000").lines.count == 2)
        #expect(try await program.run(["journal", "--since=nonsense"]).status == 129)
        #expect(try await program.run(["journal", "-n", "-1"]).status == 129)
    }

    @Test func whatIsNotAppliedAtBootIsWrittenDown() async throws {
        let program = try await ProgramFixture()
        let path = program.state + "/journal"
        let entry = BootList.Entry(id: Self.id, description: "d", depends: [])
        var report = BootReport()
        report.results = [
            (entry, .applied(nil)), (entry, .held("it stands on another")),
            (entry, .refused(Failure("no\nmore"))),
        ]
        let journal = Journal(host: LocalHost(journal: path), path: path)
        try await journal.note(report)
        try await journal.note(Failure("forged", status: .verificationRefused), channel: "stable")
        let events = try await journal.events()
        #expect(events.map(\.words.event) == ["fetch", "boot (refused)", "boot (held)"])
        #expect(events[1].words.rest == "d: no" && events[0].words.rest == "refused: forged")
        #expect(events.allSatisfy { $0.time != nil })
        let schemas = JSONSchema.published
        for event in events { #expect(try schemas.problems(event.json, "journal.json") == []) }
    }

    @Test func aReportTellsNoSecrets() async throws {
        var program = try await ProgramFixture()
        let fixture = program.fixture
        _ = try await program.populate()
        try await fixture.git("config", "ksplice.hook.delay", "7")
        try await fixture.git("config", "ksplice.token", "hunter2")
        try await fixture.git("config", "remote.origin.url", "https://ann:hunter2@kernel.example.org/x.git")
        program.environment = ["GIT_KSPLICE_SECRET": "hunter3", "GIT_AUTHOR_NAME": "hunter4"]
        try Files.write(
            Self.lines.replacing(
                "why", with: "cannot read '/home/ann/key' at https://ann:hunter2@example.org/"),
            to: program.state + "/journal")
        let report = try await program.output("bug-report", "-o", "-")
        for title in [
            "# Bug report: git ksplice", "## What did you do before the bug happened?", "## Program",
            "## Kernel",
            "## Updates of the running kernel", "## Kept for the next boot",
            "## Channels that this host follows",
            "## Journal, the newest first", "## Repository", "## Configuration",
        ] { #expect(report.contains("\n" + title + "\n") || report.hasPrefix(title), "\(title)") }
        for word in [
            "git ksplice \(programVersion)", "ksplice.hook.delay = 7", "ksplice.token is set",
            "1 registered kernel(s)",
            "1 update(s)", "kernel 6.1.0-1 (x86_64), build-id ab12", "cannot read '<path>' at <url>",
            "lockdown ",
        ] { #expect(report.contains(word), "\(word): \(report)") }
        for secret in ["hunter", "ann@", "ann:", "/ann", fixture.directory, program.state] {
            #expect(!report.contains(secret), "\(secret): \(report)")
        }
        // Outside of a repository, into a file, which is not written over.
        let folder = try Files.temporaryDirectory("ksplice-test")
        defer { try? Files.remove(folder) }
        let first = try await program.run(["bug-report"], in: folder)
        #expect(first.status == 0 && first.text.hasPrefix("git-ksplice-bug-report-2"), "\(first.errorText)")
        #expect(try Files.readText("\(folder)/\(first.text.trimmed)").contains("written outside of one"))
        #expect(try await program.run(["bug-report", "-o", "r.md"], in: folder).status == 0)
        #expect(try await program.run(["bug-report", "-o", "r.md"], in: folder).status == 128)
    }

    @Test func pathsAndURLsAreShortened() {
        let discretion = Discretion([("/srv/ann", "<home>"), ("/srv/ann/linux/.git", "<git directory>")])
        #expect(
            discretion.applied(to: "'/srv/ann/linux/.git/x' /srv/ann/y git+ssh://a@b/c?d=e /root/z /boot/w")
                == "'<git directory>/x' <home>/y <url> <path> /boot/w")
        #expect(
            discretion.applied(
                to: "HTTPS://b/c ann@b.example:linux <ann@b.example> b.example:~/x 'b.example:/srv/x'")
                == "<url> <address> <<address>> <url> '<url>'")
        let named = Discretion([("myhost", "<host>"), ("/srv/ann", "<home>")])
        #expect(
            named.applied(
                to:
                    "ann@myhost:/srv/x myhost.example:/srv/x ann@b.example:/srv/ann/linux b_c.example:2024/l.git"
                    + " error:https://x/y myhost /srv/ann/z")
                == "<address> <url> <address> <url> error:<url> <host> <home>/z")
        let lines = "kernel/sys.c:12 2026-11-27T10:00:00Z x86_64: 6.1.0-53-amd64 sha256:ab libgit2 1.5.1:"
        #expect(discretion.applied(to: lines) == lines)
    }
}
