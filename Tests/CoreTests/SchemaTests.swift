// What `--json` prints is as the published schemas say, and they name all of it.

import Testing

@testable import Core

@Suite struct SchemaTests {
    private let schemas = JSONSchema.published

    private func check(
        _ output: String, _ name: String, lines count: Int = 1,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        try schemas.check(output, name, lines: count, sourceLocation: sourceLocation)
    }

    private func check(_ json: JSON, _ name: String) throws { try check(json.text, name) }

    @Test func aSchemaIsHeldAgainstAValue() throws {
        let folder = try Files.temporaryDirectory("ksplice-test")
        defer { try? Files.remove(folder) }
        try Files.write(
            """
            {"type": "object", "required": ["a"], "properties": {"a": {"type": ["integer", "null"], "minimum": 2},
              "b": {"type": "array", "items": {"$ref": "#/$defs/word"}}, "c": {"oneOf": [{"const": 1}, {"const": 2}]}},
              "$defs": {"word": {"type": "string", "pattern": "^x+$"}}}
            """, to: folder + "/s.json")
        try Files.write("{\"maximum\": 3}", to: folder + "/t.json")
        let schema = JSONSchema(folder: folder)
        for (text, count) in [
            ("{\"a\": 2}", 0), ("{\"a\": null, \"b\": [\"x\", \"xx\"], \"c\": 2}", 0), ("{}", 1),
            ("{\"a\": 1}", 1),
            ("{\"a\": \"2\"}", 1), ("{\"a\": 2, \"b\": [\"y\", 1]}", 2), ("{\"a\": 2, \"c\": 3}", 1),
            ("{\"a\": 2, \"d\": 3}", 1), ("[]", 1),
        ] { #expect(try schema.problems(JSON(parsing: text), "s.json").count == count, "\(text)") }
        #expect(throws: Failure.self) { try schema.problems(.null, "t.json") }
    }

    @Test func inARepository() async throws {
        let program = try await ProgramFixture()
        let (_, update, commits) = try await program.populate()
        let archive = program.state + "/a.tar.gz"
        try await program.output("export", "-o", archive, update.id)
        try check(await program.output("list", "--json"), "list")
        try check(await program.output("kernel", "list", "--json"), "kernel-list")
        try check(await program.output("kernel", "show", "--json", "one"), "kernel-show")
        try check(await program.output("show", "--json", commits[0]), "show")
        try check(await program.output("verify", "--json", archive), "verify")
        let refusal = try await program.run(["create", "--json", "--kernel", "one", commits[1]])
        #expect(refusal.status == 6)
        try check(refusal.text, "create")
        try check(await program.output("log", "--json"), "log", lines: 4)
        try check(await program.run(["hook", "status", "--json"]).text, "hook-status")
        // It is for another kernel than the running one.
        try check(await program.run(["check", "--json", archive]).text, "check")
        // Damaged.
        try Files.write(Array(try Files.read(archive).dropLast(40)), to: archive)
        let damaged = try await program.run(["verify", "--json", archive])
        #expect(damaged.status == 1)
        try check(damaged.text, "verify")
    }

    @Test func anUpdateWithEverything() async throws {
        let program = try await ProgramFixture()
        let commit = try await program.fixture.commit("fix", ["f": "1\n"])
        var update = GitFixture.update(commits: [commit])
        var record = ChangeRecord(unit: "kernel/sys.c", function: "do_thing", kind: .changed)
        record.reasons = [
            .init(kind: .edited, text: "edited", place: SourceLine(file: "f", line: 1), callees: ["g"])
        ]
        record.post = .init(
            size: 4, declared: SourceLine(file: "f", line: 1), offset: 2, place: nil, inlined: ["h"],
            instructions: [.init(offset: 2, text: "ret")])
        var manifest = update.manifest
        manifest.constants = [.init(unit: 0, symbol: "names", preSymbol: 1, size: 8)]
        manifest.hooks = [.init(unit: 0, kind: .apply, symbol: "act")]
        manifest.depends = [update.id]
        manifest.forced = ["data-changed"]
        var files = update.files
        files[Update.Path.changes] = Array((record.json.text + "\n").utf8)
        update = Update(manifest: manifest, files: files)
        _ = try await UpdateStore(program.fixture.repository).store(update)
        try check(await program.output("show", "--json", update.id), "show")
        try check(await program.output("show", "--why", "--json", update.id), "show-why")
    }

    @Test func anUpdateThatIsThereAlready() async throws {
        let program = try await ProgramFixture()
        let (kernel, _, commits) = try await program.populate()
        let repository = try await program.fixture.repository
        let pre = try repository.tree(of: kernel.sourceCommit)
        let change = try repository.change(commit: commits[3])
        var manifest = Manifest(
            kernel: kernel.identity, sourceCommit: kernel.sourceCommit, preTree: pre,
            postTree: try repository.postTree(change, preTree: pre))
        manifest.description = change.description
        manifest.commits = [commits[3]]
        manifest.builder = try CreateOptions(kernelSources: SourceTree.root + "/kernel").builder()
        try await UpdateStore(repository).store(
            Update(manifest: manifest, files: ["update.ko": [1], "patch": []]))
        try check(await program.output("create", "--json", commits[3]), "create")
    }

    @Test func ofTheQueue() async throws {
        let program = try await ProgramFixture()
        let (_, _, commits) = try await program.populate()
        let fixture = program.fixture
        let refused = try await fixture.commit("refused", ["r": "1\n"])
        let queue = BuildQueue(try await fixture.repository)
        for commit in [commits[0], refused] { try queue.add(commit) }
        _ = try await fixture.worker(FakeBuilder(fixture)).run()
        try queue.add(commits[3])
        try Files.write("error: x\n", to: queue.log)
        let overview = try #require(try await QueueOverview(fixture.repository))
        #expect(overview.results.count == 1 && overview.waiting.count == 1)
        try check(await program.run(["hook", "status", "--json"]).text, "hook-status")
        try check(await program.output("status", "--json", "HEAD"), "status")
    }

    @Test func whatHasChangedTheKernel() throws {
        let id = String(repeating: "a", count: 64)
        let applied = ApplyReport(
            id: id, functions: ["f"], constants: ["c"], hooks: 1, statistics: .init(), pause: 5, tries: 1,
            waiting: ["dummy"])
        let undone = UndoReport(id: id, pause: 5, tries: 1, unloaded: true)
        try check(applied.json, "apply")
        try check(undone.json, "undo")
        try check(UpgradeReport(applied: [applied], undone: [undone], pause: 5, tries: 1).json, "upgrade")
        var failure = Failure("tasks are inside", status: .busy, hint: "wait")
        for name in ["apply", "undo", "upgrade"] { try check(failure.json(update: id), name) }
        failure.details = .array([.object([])])
        try check(failure.json(update: nil), "upgrade")
        let entry = LoadedUpdate(
            id: id, state: "applied", waiting: ["dummy"], parts: [], functions: ["f"], pause: 1,
            description: "d",
            overridden: [("f", "livepatch")])
        let standing = UpdateStanding(word: .ahead, id: id, description: "d")
        try check(
            .object([
                ("v", .number(1)), ("release", .string("6.1")), ("build_id", .string("ab")),
                ("updates", .array([entry.json])), ("boot", .array([])), ("channel", .null),
                ("standings", .array([standing.json])),
            ]), "status")
    }

    @Test func whatWasMatched() throws {
        try check(
            ObjectMatching(
                objects: [
                    .init(
                        path: "f.c", module: nil, functions: 1, bytes: 5, traced: ["f"], probed: ["g"],
                        absent: [],
                        failures: [], skipped: nil)
                ], statistics: .init()
            ).json, "match")
    }

    @Test func whatIsStored() async throws {
        let program = try await ProgramFixture()
        let (_, update, _) = try await program.populate()
        let listed = try await program.output("prune", "--keep", "0", "-v", "--json")
        #expect(listed.contains(update.id))
        try check(listed, "prune", lines: listed.lines.count)
        try await program.fixture.git("update-ref", "refs/ksplice/nonsense", "HEAD")
        let damaged = try await program.run(["fsck", "--json"])
        #expect(damaged.status == 0 || damaged.status == 1, "\(damaged.errorText)")
        #expect(damaged.text.contains("refs/ksplice/nonsense"))
        try check(damaged.text, "fsck", lines: damaged.text.lines.count)
    }

    @Test func everySchemaIsInstalledAndUsed() throws {
        let folder = SourceTree.root + "/Documentation/schemas"
        let own =
            try SourceTree.text("Tests/CoreTests/SchemaTests.swift")
            + SourceTree.text("Tests/CoreTests/HostStoryTests.swift")
        for name in try Files.list(folder) where name != "common.json" {
            #expect(own.contains("\"\(name.dropLast(5))\""), "\(name) is held against nothing")
            let json = try JSON(parsing: Files.readText("\(folder)/\(name)"))
            #expect(json["$schema"]?.string == "https://json-schema.org/draft/2020-12/schema")
        }
        // A command that prints JSON has one.
        for command in try CommandSource.all() where command.options.contains("json") {
            #expect(try Files.list(folder).contains { $0.hasPrefix(command.name) }, "\(command.name)")
        }
    }
}
