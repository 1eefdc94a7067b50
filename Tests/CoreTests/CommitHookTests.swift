import Glibc
import Testing

@testable import Core

@Suite struct CommitHookTests {
    /// The hooks of a fixture, with a program that does not exist.
    private func hooks(_ fixture: GitFixture, _ program: String = "/nowhere/git 'ksplice") async throws
        -> CommitHooks
    {
        try await CommitHooks(try await fixture.repository, program: program)
    }

    /// Type, mode and content of everything in a folder.
    private func snapshot(_ folder: String) throws -> [String] {
        guard Files.isDirectory(folder) else { return [] }
        return try Files.list(folder).map { name in
            let path = "\(folder)/\(name)"
            var info = stat()
            lstat(path, &info)
            let content = try Files.linkTarget(path) ?? hex(Files.read(path))
            return "\(name) \(String(info.st_mode, radix: 8)) \(content)"
        }
    }

    private static let others: [(name: String, text: String, mode: mode_t)] = [
        ("none", "", 0),
        ("shell", "#!/bin/sh\necho \"old $*\" >>\"$OUT\"\nexit 3\n", 0o755),
        ("no newline at its end", "#! /usr/bin/env bash\nset -eu\necho \"old $*\" >>\"$OUT\"", 0o750),
        ("strict shell", "#!/bin/dash -eu\nset -C; PATH=; IFS=x\necho \"old $*\" >>\"$OUT\"\n", 0o700),
        ("perl", "#!/usr/bin/perl\nopen F,'>>',$ENV{OUT}; print F \"old @ARGV\\n\"; exit 3", 0o755),
        ("bytes", "#!/bin/sh\r\n\u{0}\r\n", 0o755), ("only a first line", "#!/bin/sh\n", 0o755),
        ("not executable", "#!/bin/sh\necho \"never\" >>\"$OUT\"\n", 0o644),
        ("link", "../../tool", 0o777),
    ]

    private func put(_ other: (name: String, text: String, mode: mode_t), _ folder: String, _ hook: String)
        throws
    {
        if other.name == "none" { return }
        try Files.createDirectory(folder)
        let path = "\(folder)/\(hook)"
        if other.name == "link" {
            try Files.write("#!/bin/sh\necho \"old $*\" >>\"$OUT\"\n", to: folder + "/../../tool")
            chmod(folder + "/../../tool", 0o755)
            symlink(other.text, path)
        } else {
            try Files.write(other.text, to: path)
            chmod(path, other.mode)
        }
    }

    @Test(arguments: others.map(\.name))
    func whatWasThereIsGivenBack(_ name: String) async throws {
        let other = try #require(Self.others.first { $0.name == name })
        let fixture = try await GitFixture()
        let folder = fixture.directory + "/.git/hooks"
        for hook in CommitHookText.names { try put(other, folder, hook) }
        let before = try snapshot(folder)
        let hooks = try await hooks(fixture)
        #expect(try hooks.states().allSatisfy { $0.state == .absent })
        #expect(try hooks.install().filter(\.changed).count == 4)
        let after = try snapshot(folder)
        #expect(try hooks.install().contains(where: \.changed) == false)
        #expect(try snapshot(folder) == after)
        #expect(try hooks.states().allSatisfy { $0.state == .installed || $0.state == .chained })

        // What was there runs as before, and the commit is queued.
        let out = fixture.directory + "/.git/out"
        let commit = try await Command(
            ["git", "commit", "--allow-empty", "-qm", "fix"], directory: fixture.directory,
            environment: ["OUT": out]
        ).run()
        #expect(commit.succeeded, "\(commit.errorText)")
        let runs = !["none", "bytes", "only a first line", "not executable"].contains(name)
        #expect((Files.exists(out) ? try Files.readText(out) : "") == (runs ? "old \n" : ""))
        if name != "bytes" { #expect(commit.errorText.isEmpty, "\(commit.errorText)") }
        let head = try await fixture.git("rev-parse", "HEAD")
        #expect(try BuildQueue(try await fixture.repository).entries().map(\.name) == [head])
        if name == "shell" || name == "perl" {
            let own = try await Command(
                [folder + "/post-merge", "a b"], directory: fixture.directory, environment: ["OUT": out]
            ).run()
            #expect(own.status == 3)
            #expect(try Files.readText(out).hasSuffix("old a b\n"))
        }

        #expect(try hooks.uninstall().count == 4)
        #expect(try snapshot(folder) == before)
        #expect(try hooks.uninstall().isEmpty)
    }

    @Test func whatWasAddedSinceStays() async throws {
        let fixture = try await GitFixture()
        let hooks = try await hooks(fixture)
        _ = try hooks.install()
        let path = fixture.directory + "/.git/hooks/post-commit"
        try Files.append("echo mine\n", to: path)
        // Another place of the program.
        let moved = try await self.hooks(fixture, "/elsewhere/git-ksplice")
        #expect(try moved.states()[0].state == .outdated)
        #expect(try moved.install().filter(\.changed).count == 4)
        #expect(try Files.readText(path).contains("'/elsewhere/git-ksplice'"))
        chmod(path, 0o644)
        #expect(try moved.states()[0].state == .notExecutable)
        _ = try moved.uninstall()
        #expect(try Files.readText(path) == "#!/bin/sh\necho mine\n")
        // Lines whose end is gone are not ours to cut.
        try Files.write("#!/bin/sh\n" + CommitHookText.begin + "echo mine\n", to: path)
        #expect(throws: Failure.self) { try moved.uninstall() }
        #expect(throws: Failure.self) { try moved.install() }
        // One that calls another hook and was changed is left alone.
        let chained = fixture.directory + "/.git/hooks/post-merge"
        try Files.remove(path)
        try Files.write("#!/usr/bin/perl\n", to: chained)
        chmod(chained, 0o755)
        _ = try moved.install()
        try Files.append("echo mine\n", to: chained)
        let refusal = #expect(throws: Failure.self) { try moved.uninstall() }
        #expect(refusal?.message.contains("was changed since") == true)
        #expect(Files.exists(chained + ".before-ksplice"))
    }

    @Test func anInstallationThatWasInterruptedIsTakenBack() async throws {
        let fixture = try await GitFixture()
        let folder = fixture.directory + "/.git/hooks"
        try put(Self.others[4], folder, "post-commit")
        let before = try snapshot(folder)
        let path = folder + "/post-commit"
        #expect(link(path, path + ".before-ksplice") == 0)
        let hooks = try await hooks(fixture)
        #expect(throws: Failure.self) { try hooks.install() }
        _ = try hooks.uninstall()
        #expect(try snapshot(folder) == before)
    }

    @Test func sharedHooksAreNotChangedUnasked() async throws {
        let fixture = try await GitFixture()
        let outside = try Files.temporaryDirectory("ksplice-test")
        defer { try? Files.remove(outside) }
        try Files.createDirectory(fixture.directory + "/.githooks")
        for (path, word) in [(outside, "outside of the repository"), (".githooks", "in the worktree")] {
            try await fixture.git("config", "core.hooksPath", path)
            let hooks = try await hooks(fixture)
            let folder = path.hasPrefix("/") ? path : fixture.directory + "/" + path
            #expect(hooks.folder == folder)
            let refusal = #expect(throws: Failure.self) { try hooks.install() }
            #expect(refusal?.message.contains(word) == true && refusal?.hints.count == 2)
            #expect(try Files.list(folder).isEmpty)
            #expect(try hooks.install(force: true).count == 4)
            try await fixture.commit("fix for \(word)", [:])
            let head = try await fixture.git("rev-parse", "HEAD")
            #expect(try BuildQueue(try await fixture.repository).entries().map(\.name).contains(head))
            #expect(try hooks.uninstall().count == 4)
            #expect(try Files.list(folder).isEmpty)
        }
        // One inside of the git directory is the repository's own; what is left elsewhere is taken out, too.
        try await fixture.git("config", "core.hooksPath", fixture.directory + "/.git/mine")
        #expect(try await hooks(fixture).install().count == 4)
        try await fixture.git("config", "--unset", "core.hooksPath")
        #expect(try await hooks(fixture).install().count == 4)
        try await fixture.git("config", "core.hooksPath", fixture.directory + "/.git/mine")
        #expect(try await hooks(fixture).uninstall().count == 8)
        try await fixture.git("config", "core.hooksPath", "/dev/null")
        let off = try await hooks(fixture)
        let refusal = #expect(throws: Failure.self) { try off.install(force: true) }
        #expect(refusal?.message == "hooks are switched off: core.hooksPath is '/dev/null'")
    }

    @Test func eachWayToMakeACommitQueuesIt() async throws {
        let fixture = try await GitFixture()
        let base = try await fixture.commit("base", ["f": "0\n"])
        _ = try await hooks(fixture).install()
        let queue = BuildQueue(try await fixture.repository)
        func queued(_ range: String) async throws -> Bool {
            let made = try await fixture.git("rev-list", "--no-merges", range).lines.map(String.init)
            let names = Set(try queue.entries().map(\.name))
            #expect(!made.isEmpty, "\(range)")
            return made.allSatisfy { names.contains($0) }
        }
        try await fixture.git("checkout", "-q", "-b", "side")
        for n in 1...3 { try await fixture.commit("side \(n)", ["s\(n)": "\(n)\n"]) }
        #expect(try await queued("\(base)..side"))
        try await fixture.git("checkout", "-q", "main")
        try await fixture.commit("main", ["m": "1\n"])
        for (branch, arguments) in [
            ("merged", ["rebase", "-q", "main"]), ("applied", ["rebase", "-q", "--apply", "main"]),
        ] {
            try await fixture.git("checkout", "-q", "-b", branch, "side")
            try await Command(["git"] + arguments, directory: fixture.directory).check()
            #expect(try await queued("main..\(branch)"), "\(branch)")
        }
        try await fixture.git("checkout", "-q", "-b", "picked", "main")
        try await fixture.git("cherry-pick", "side~1")
        try await fixture.git("commit", "-q", "--amend", "-m", "amended")
        try await fixture.git("revert", "--no-edit", "HEAD")
        #expect(try await queued("main..picked"))
        try await fixture.git("format-patch", "-q", "-o", ".git/patches", "\(base)..side")
        try await fixture.git("checkout", "-q", "-b", "mailed", "main")
        let patches = try Files.list(fixture.directory + "/.git/patches").map { ".git/patches/" + $0 }
        try await Command(["git", "am", "-q"] + patches, directory: fixture.directory).check()
        #expect(try await queued("main..mailed"))
        // A merge, and what it brings without a commit of its own.
        let main = try await fixture.git("rev-parse", "main")
        let side = try await fixture.git("rev-parse", "side")
        for arguments in [["--no-ff", "-m", "merge"], ["--ff-only"]] {
            try await fixture.git("checkout", "-q", "-B", "joined", arguments.count > 1 ? "main" : base)
            let before = try await fixture.git("rev-parse", "HEAD")
            try await Command(
                ["git", "merge", "-q"] + arguments + ["side"], directory: fixture.directory
            ).check()
            let after = try await fixture.git("rev-parse", "HEAD")
            #expect(try queue.entries().map(\.name).contains("\(before)..\(after)"))
            #expect(before == (arguments.count > 1 ? main : base) && (arguments.count > 1 || after == side))
        }
        let count = try queue.entries().count
        try await fixture.git("checkout", "-q", "-B", "joined", "main")
        try await fixture.git("merge", "-q", "--squash", "side")
        #expect(try queue.entries().count == count)
    }

    @Test func aRebaseStartsOneWorker() async throws {
        let fixture = try await GitFixture()
        let base = try await fixture.commit("base", ["f": "0\n"])
        for n in 1...3 { try await fixture.commit("side \(n)", ["s\(n)": "\(n)\n"]) }
        try await fixture.git("checkout", "-q", "-b", "other", base)
        try await fixture.commit("other", ["o": "1\n"])
        let calls = fixture.directory + "/.git/calls"
        let program = fixture.directory + "/.git/program"
        try Files.write(Array("#!/bin/sh\necho $1 >>'\(calls)'\n".utf8), to: program, mode: 0o755)
        _ = try await CommitHooks(try await fixture.repository, program: program).install()
        func starts() throws -> Int { Files.exists(calls) ? try Files.readText(calls).lines.count : 0 }
        // They are started and not waited for.
        func started(_ count: Int) async throws {
            for _ in 0..<500 where try starts() < count { try await Task.sleep(for: .milliseconds(20)) }
            try await Task.sleep(for: .milliseconds(300))
            #expect(try starts() == count)
        }
        try await fixture.git("rebase", "-q", "other", "main")
        try await started(1)
        try await fixture.commit("another", ["p": "1\n"])
        try await started(2)
    }

    @Test func worktreesAndBareRepositoriesHaveOneQueue() async throws {
        let fixture = try await GitFixture()
        try await fixture.commit("base", ["f": "0\n"])
        let outside = try Files.temporaryDirectory("ksplice test")
        defer { try? Files.remove(outside) }
        let bare = outside + "/a bare.git"
        try await fixture.git("clone", "-q", "--bare", "--template=", ".", bare)
        let top = try await Repository(directory: bare)
        #expect(top.isBare)
        _ = try await CommitHooks(top, program: "/nowhere").install()
        let tree = outside + "/a worktree"
        func git(_ arguments: String..., folder: String) async throws -> String {
            let who = ["-c", "user.name=A", "-c", "user.email=a@b"]
            return try await Command(["git"] + who + arguments, directory: folder).check().text.trimmed
        }
        _ = try await git("worktree", "add", "-q", "-b", "work", tree, folder: bare)
        try Files.createDirectory(tree + "/sub folder")
        _ = try await git("commit", "-q", "--allow-empty", "-m", "x", folder: tree + "/sub folder")
        let head = try await git("rev-parse", "HEAD", folder: tree)
        #expect(try BuildQueue(top).entries().map(\.name) == [head])
        // From the worktree it is the same queue, and its HEAD, on a branch or not, keeps the commit.
        let linked = try await Repository(directory: tree)
        #expect(try BuildQueue(linked).entries().map(\.name) == [head])
        _ = try await git("checkout", "-q", "--detach", folder: tree)
        _ = try await git("commit", "-q", "--allow-empty", "-m", "y", folder: tree)
        let detached = try await git("rev-parse", "HEAD", folder: tree)
        #expect(try await SettledHistory(top).standing(of: detached) == .settled)
        _ = try await git("checkout", "-q", "--detach", "HEAD^", folder: tree)
        #expect(try await SettledHistory(top).standing(of: detached) == .gone)
    }

    /// The program sleeps, and holds whatever it was given; who commits does not wait for it.
    @Test func nobodyWaitsForTheWorker() async throws {
        let fixture = try await GitFixture()
        let program = fixture.directory + "/.git/program"
        let said = fixture.directory + "/.git/said"
        try Files.write(
            "#!/bin/sh\necho \"$* $(ps -o sid= -p $$) $$ $PWD $(readlink /proc/$$/fd/[012] | tr '\\n' ' ')\" >'\(said).tmp'\n"
                + "mv '\(said).tmp' '\(said)'\nexec sleep 30\n", to: program)
        chmod(program, 0o755)
        _ = try await hooks(fixture, program).install()
        let start = ContinuousClock.now
        // The output is read to its end: whoever has the pipe holds this up.
        let result = try await Command(
            ["git", "commit", "-q", "--allow-empty", "-m", "x"], directory: fixture.directory
        ).run()
        #expect(ContinuousClock.now - start < .seconds(25))
        #expect(result.succeeded && result.output.isEmpty && result.errorOutput.isEmpty)
        for _ in 0..<200 where !Files.exists(said) { try await Task.sleep(for: .milliseconds(20)) }
        let words = try Files.readText(said).split(whereSeparator: \.isWhitespace).map(String.init)
        #expect(words[..<3] == ["hook", "run", "--background"])
        // Its session is its own, and it is where all worktrees meet.
        #expect(words[3] == words[4] && words[5] == fixture.directory + "/.git")
        #expect(words[6...] == ["/dev/null", "/dev/null", "/dev/null"])
    }
}
