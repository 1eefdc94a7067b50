// Lines for scripts, names from standard input, and every way to name commits.

import Testing

@testable import Core

@Suite struct ScriptOutputTests {
    @Test func linesForScriptsStay() async throws {
        let program = try await ProgramFixture()
        let (_, update, commits) = try await program.populate()
        let list = "update \(update.id) x86_64 ab12 6.1.0-1 \(commits[0]) fix a bug"
        #expect(try await program.output("list", "--porcelain") == list + "\n")
        #expect(try await program.output("list", "-z") == list + "\0")
        let log = """
            commit \(commits[3]) new
            kernel one x86_64 ab12 untried - -\u{20}
            commit \(commits[2]) words
            kernel one x86_64 ab12 untried - -\u{20}
            commit \(commits[1]) an odd file
            kernel one x86_64 ab12 untried - -\u{20}
            commit \(commits[0]) fix a bug
            kernel one x86_64 ab12 update \(update.id) -\u{20}

            """
        #expect(try await program.output("log", "--porcelain") == log)
        #expect(try await program.output("log", "--null", "-n", "4") == log.replacing("\n", with: "\0"))
        #expect(try await program.output("status", "--porcelain").hasPrefix("kernel "))
    }

    @Test func fieldsHoldNoBlanks() {
        let form = Porcelain(endsWithNull: false)
        #expect(form.line(["a b", "", "-", "c\n%"]) == "a%20b - %2d c%0a%25\n")
        #expect(form.line(["a"], text: "two words\nand more") == "a two words and more\n")
        #expect(Porcelain(endsWithNull: true).line(["a"], text: "") == "a \0")
    }

    @Test func namesComeFromStandardInput() async throws {
        let program = try await ProgramFixture()
        let (kernel, first, commits) = try await program.populate()
        let second = try await program.fixture.storeUpdate(commits[3], for: kernel)
        let both = "\(first.id)\n\(second.id)\n"
        func identities(_ text: String) -> [String] {
            text.lines.filter { $0.hasPrefix("update ") }.map { String($0.split(separator: " ")[1]) }
        }
        #expect(
            try await identities(program.output("show", "--stdin", input: both)) == [first.id, second.id])
        let nulls = "\(commits[3])\0\n\(first.id)\0"
        // Names may hold line feeds there, and this one is none.
        #expect(try await program.run(["show", "--stdin", "-z"], input: nulls).status == 2)
        let proper = "\(commits[3])\0\(first.id)\0"
        #expect(
            try await identities(program.output("show", "--stdin", "-z", input: proper)) == [
                second.id, first.id,
            ])
        // A range, and a set: what has no update is passed over.
        for input in ["HEAD~4..HEAD\n", "HEAD\n^HEAD~4\n"] {
            #expect(
                try await identities(program.output("show", "--stdin", input: input)) == [
                    first.id, second.id,
                ])
            let listed = try await program.output("list", "--stdin", "--porcelain", input: input)
            #expect(Set(identities(listed)) == [first.id, second.id])
        }
        #expect(
            try await identities(program.output("list", "--stdin", "--porcelain", input: "HEAD\n")) == [
                second.id
            ])
        #expect(try await program.output("verify", "--stdin", input: both).matches(of: /intact/).count == 2)
        #expect(try await program.output("export", "--stdin", input: both).lines.count == 2)
        // The others are done all the same.
        let partly = try await program.run(
            ["show", "--stdin"], input: "\(first.id)\nnowhere\n\(second.id)\n")
        #expect(partly.status == 2 && identities(partly.text) == [first.id, second.id])
        #expect(partly.errorText.hasPrefix("error: 'nowhere': no such update or commit: 'nowhere'\n"))
        #expect(try await program.run(["show"]).status == 129)
        #expect(try await program.run(["show", "-z", first.id]).status == 129)
        #expect(try await program.output("show", "--stdin", input: "\n\n") == "")
    }

    @Test func createTakesNamesFromStandardInput() async throws {
        let program = try await ProgramFixture()
        let (_, _, commits) = try await program.populate()
        let result = try await program.run(["create", "--stdin"], input: "\(commits[1])\n\(commits[2])\n")
        #expect(result.status == 6, "\(result.errorText)")
        #expect(result.errorText.contains("error: '\(commits[1])': the change cannot be made"))
        #expect(result.errorText.contains("error: '\(commits[2])': the change touches no code"))
        let set = try await program.run(["create", "--stdin"], input: "^\(commits[1])\n\(commits[2])\n")
        #expect(set.status == 8, "\(set.errorText)")
    }

    @Test func everyWayToNameACommit() async throws {
        let program = try await ProgramFixture()
        let fixture = program.fixture
        let (_, update, commits) = try await program.populate()
        try await fixture.git("tag", "light", commits[0])
        try await fixture.git("tag", "-a", "-m", "heavy", "heavy", commits[0])
        try await fixture.git("branch", "side", commits[0])
        try await fixture.git("reset", "-q", "--hard", commits[0])
        try await fixture.git("reset", "-q", "--hard", commits[3])
        for name in [
            commits[0], String(commits[0].prefix(8)), "HEAD~3", "HEAD^^^", "light", "heavy",
            "refs/tags/heavy", "side",
            "heads/side", ":/fix a", "HEAD^{/fix a}", "HEAD@{1}", "main@{1}", "light^{commit}", "heavy~0",
        ] {
            #expect(try await program.output("show", name).contains("update \(update.id)"), "\(name)")
            // Behind `:/` all belongs to the text; and log takes revisions as git does, to which a stored update is a commit, too.
            if name.hasPrefix(":/") { continue }
            #expect(
                try await program.output("log", "-n", "1", "--porcelain", name).contains(commits[0]),
                "\(name)")
            let said = try await program.run(["create", name + "^"])
            #expect(
                said.status == 128 && said.errorText.contains("is a root commit"),
                "\(name): \(said.errorText)")
        }
        // Several commits.
        for arguments in [
            ["light..HEAD"], ["^light", "HEAD"], ["HEAD", "--not", "light"], ["light...HEAD"], ["-n", "3"],
            ["--", "odd", "a.txt", "n.c"],
        ] {
            let result = try await program.run(["log", "--porcelain"] + arguments)
            let found = result.text.lines.filter { $0.hasPrefix("commit ") }.map {
                String($0.split(separator: " ")[1])
            }
            #expect(found == [commits[3], commits[2], commits[1]], "\(arguments): \(result.errorText)")
        }
        for (arguments, status, words) in [
            (["create", "light...HEAD"], 129, "is not a range that has one change"),
            (["create", "HEAD..light"], 128, "is not a line of history"),
            (["create", "light..light"], 2, "no commit"),
            (["create", "nowhere"], 2, "no such commit"),
            (["show", "nowhere"], 2, "no such update or commit"),
            (["log", "nowhere"], 2, "nowhere"), (["show", "HEAD"], 2, "has no update"),
        ] as [([String], Int32, String)] {
            let result = try await program.run(arguments)
            #expect(
                result.status == status && result.errorText.contains(words),
                "\(arguments): \(result.errorText)")
        }
    }

    @Test func anotherFolderAndRepository() async throws {
        let program = try await ProgramFixture()
        let (_, update, _) = try await program.populate()
        let folder = program.fixture.directory
        try program.fixture.write("sub/x", "")
        let bin = program.state + "/bin"
        try Files.createDirectory(bin)
        let path = "ln -s \"$P\" '\(bin)/git-ksplice'; PATH='\(bin)':$PATH;"
        for command in [
            "git -C '\(folder)' ksplice list", "git -C '\(folder)/sub' ksplice list",
            "git --git-dir='\(folder)/.git' ksplice list", "GIT_DIR='\(folder)/.git' git ksplice list",
            "cd '\(folder)/sub' && git -C .. ksplice list",
        ] {
            let result = try await program.shell("\(path) \(command)", in: "/")
            #expect(
                result.status == 0 && result.text.hasPrefix(update.id.prefix(12)),
                "\(command): \(result.errorText)")
            try Files.remove(bin + "/git-ksplice")
        }
    }
}
