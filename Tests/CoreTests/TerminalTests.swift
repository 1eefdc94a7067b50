// What is only for a terminal: the pager, colours, and the steps of what takes long. `script` gives one.

import Testing

@testable import Core

@Suite(.enabled(if: Files.exists("/usr/bin/script"), "bsdutils is not installed")) struct TerminalTests {
    /// What a command prints on a terminal.
    private func terminal(_ program: ProgramFixture, _ command: String) async throws -> CommandResult {
        var result = try await program.shell("script -qec '\(command)' /dev/null </dev/null")
        result.output = Array(result.text.replacing("\r\n", with: "\n").utf8)
        return result
    }

    @Test func thePagerIsThatOfGit() async throws {
        let program = try await ProgramFixture()
        let (_, update, commits) = try await program.populate()
        let short = String(update.id.prefix(12))
        for command in ["list", "log -n1 \(commits[0])", "show --no-color \(short)"] {
            let result = try await terminal(program, "GIT_PAGER=\"sed s/^/paged_/\" \"$P\" \(command)")
            #expect(result.text.hasPrefix("paged_"), "\(command): \(result.text)")
        }
        // What administrators look at all day is not paged, and where the pager is missing there is none.
        #expect(
            !(try await terminal(program, "GIT_PAGER=\"sed s/^/paged_/\" \"$P\" status").text.contains(
                "paged_")))
        #expect(
            try await terminal(program, "GIT_PAGER=no-such-pager \"$P\" list; echo $?").text.hasSuffix(
                "\n0\n"))
        try await program.fixture.git("config", "core.pager", "sed s/^/core_/")
        #expect(try await terminal(program, "\"$P\" list").text.hasPrefix("core_"))
        #expect(try await terminal(program, "GIT_PAGER=cat \"$P\" --version").text.hasPrefix(programVersion))
        #expect(!(try await terminal(program, "GIT_PAGER=cat \"$P\" list").text.contains("core_")))
        #expect(!(try await terminal(program, "\"$P\" list --json").text.contains("core_")))
        #expect(!(try await program.output("list").contains("core_")))
        try await program.fixture.git("config", "pager.ksplice", "false")
        #expect(!(try await terminal(program, "\"$P\" list").text.contains("core_")))
        try await program.fixture.git("config", "pager.ksplice", "sed s/^/own_/")
        #expect(try await terminal(program, "\"$P\" list").text.hasPrefix("own_"))
        // Who leaves the pager early.
        let left = try await terminal(program, "GIT_PAGER=true \"$P\" list; echo $?")
        #expect(["0\n", "141\n"].contains(left.text), "\(left.text)")
        let less = try await terminal(program, "GIT_PAGER=\"echo \\$LESS\" \"$P\" list")
        #expect(less.text.contains("FRX"), "\(less.text)")
    }

    @Test func coloursAreThoseOfGit() async throws {
        var program = try await ProgramFixture()
        let (_, update, _) = try await program.populate()
        program.environment = ["GIT_PAGER": "cat"]
        let plain = try await program.output("list")
        let yellow = "\u{1b}[33m\(update.id.prefix(12))\u{1b}[m"
        #expect(plain.hasPrefix(update.id.prefix(12)))
        #expect(try await program.output("list", "--color").hasPrefix(yellow))
        #expect(try await program.output("list", "--color=always").hasPrefix(yellow))
        #expect(try await program.output("log", "--color", "HEAD").contains("\u{1b}["))
        #expect(try await terminal(program, "\"$P\" list").text.hasPrefix(yellow))
        #expect(try await terminal(program, "\"$P\" list --color=never").text == plain)
        #expect(try await terminal(program, "\"$P\" list --no-color").text == plain)
        #expect(try await terminal(program, "NO_COLOR=1 \"$P\" list").text == plain)
        #expect(try await terminal(program, "TERM=dumb \"$P\" list").text == plain)
        try await program.fixture.git("config", "color.ksplice", "false")
        #expect(try await terminal(program, "\"$P\" list").text == plain)
        try await program.fixture.git("config", "color.ksplice", "always")
        #expect(try await program.output("list").hasPrefix(yellow))
        #expect(try await program.run(["list", "--color=often"]).status == 129)
    }

    @Test func stepsAreToldOnATerminalOnly() async throws {
        let program = try await ProgramFixture()
        let fixture = program.fixture
        _ = try await fixture.commit("base", ["f": "1\n"])
        // What there is to say comes before there is no channel.
        #expect(try await program.run(["publish", "nowhere"]).status == 2)
        let say = "fetching the policy of trust ..."
        let none = try await program.run(["fetch", program.state + "/none"])
        #expect(!none.errorText.contains(say), "\(none.errorText)")
        let asked = try await program.run(["fetch", "--progress", program.state + "/none"])
        #expect(asked.errorText.hasPrefix(say), "\(asked.errorText)")
        let seen = try await terminal(program, "\"$P\" fetch \(program.state)/none")
        #expect(seen.text.hasPrefix(say), "\(seen.text)")
        for option in ["--no-progress", "-q", "--json"] {
            let quiet = try await terminal(program, "\"$P\" fetch \(option) \(program.state)/none")
            #expect(!quiet.text.contains(say), "\(option): \(quiet.text)")
        }
    }
}
