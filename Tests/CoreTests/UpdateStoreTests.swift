import Testing

@testable import Core

@Suite struct UpdateStoreTests {
    private func note(_ fixture: GitFixture, _ name: String, _ commit: String) async throws -> String {
        try await fixture.git("notes", "--ref=ksplice/" + name, "show", commit)
    }

    @Test func updatesAreStoredNotedAndVerified() async throws {
        let fixture = try await GitFixture()
        let id = try await fixture.commit("fix", ["f": "1\n"])
        let store = UpdateStore(try await fixture.repository)
        let update = GitFixture.update(
            description: "fix \"it\"\nnow", commits: [id], functions: ["f", "g", "f"])
        let stored = try await store.store(update)
        #expect(stored.ref == "refs/ksplice/updates/x86_64/ab12/" + update.id)
        #expect(
            stored.commits == [id] && stored.description == "fix \"it\" now" && stored.release == "6.1.0-1")
        #expect(stored.preTree == update.manifest.preTree && stored.postTree == update.manifest.postTree)
        let loaded = try await store.load(stored.ref)
        #expect(loaded.id == update.id && loaded.files == update.files)
        let trailers = try await fixture.git("log", "-1", "--format=%an%n%P%n%(trailers)", stored.commit)
        #expect(trailers.contains("Ann Author"))
        #expect(trailers.contains("Ksplice-Manifest: sha256:" + update.id))
        #expect(trailers.contains("Ksplice-Ref: " + stored.ref))
        #expect(try await fixture.git("rev-list", "--count", stored.commit) == "1")
        let people = "6.1.0-1 (x86_64): update \(update.id.prefix(12)), 2 functions: f, g"
        #expect(try await note(fixture, "updates", id) == people)
        #expect(try await note(fixture, "builds", id).hasPrefix("{\"v\":1,\"event\":\"created\""))
        // Again: nothing moves.
        let before = try await fixture.git("for-each-ref")
        try await store.store(update)
        #expect(try await fixture.git("for-each-ref") == before)
        #expect(try await fixture.git("fsck", "--strict").contains("error") == false)
    }

    @Test func whatIsAppliedIsComparedWithTheHistoryOfARef() async throws {
        let fixture = try await GitFixture()
        let base = try await fixture.commit("base", ["f": "0\n"])
        let one = try await fixture.commit("one", ["f": "1\n"])
        let two = try await fixture.commit("two", ["f": "2\n"])
        try await fixture.git("checkout", "-q", "-b", "side", base)
        let side = try await fixture.commit("side", ["g": "1\n"])
        try await fixture.git("checkout", "-q", "main")
        let store = UpdateStore(try await fixture.repository)
        func stored(_ name: String, _ commits: [String], _ post: String, buildID: String = "ab12")
            async throws
            -> String
        {
            try await store.store(
                GitFixture.update(description: name, commits: commits, post: post, buildID: buildID)
            ).id
        }
        let first = try await stored("one", [one], "2")
        let second = try await stored("two", [two], "3")
        let secondAgain = try await stored("two, made again", [two], "4")
        let other = try await stored("side", [side], "5")
        let nowhere = try await stored(
            "of a commit that is not here", [String(repeating: "9", count: 40)], "6")
        // Another kernel's updates say nothing.
        _ = try await stored("two for another kernel", [two], "3", buildID: "cd34")
        let kernel = GitFixture.update().manifest.kernel
        func standing(_ ref: String, _ applied: String...) async throws -> [String] {
            let loaded = applied.map {
                LoadedUpdate(
                    id: $0, state: "applied", waiting: [], parts: [], functions: [], pause: 0, description: ""
                )
            }
            return try await store.standing(of: loaded, to: ref, kernel: kernel).map {
                "\($0.word) \($0.id == secondAgain ? second : $0.id)"
            }.sorted()
        }
        let foreign = String(repeating: "a", count: 64)
        #expect(try await standing("main") == ["behind \(first)", "behind \(second)"].sorted())
        #expect(
            try await standing("main", first, foreign, other)
                == ["ahead \(other)", "behind \(second)", "current \(first)", "unknown \(foreign)"])
        // So is one of several commits.
        let range = try await stored("one and two", [one, two], "7")
        #expect(try await standing("main", range) == ["current \(range)"])
        // One of two updates of the same commit is enough.
        #expect(
            try await standing("main", first, secondAgain)
                == ["current \(first)", "current \(second)"].sorted())
        #expect(try await standing(one, first, second) == ["ahead \(second)", "current \(first)"])
        #expect(try await standing("side", nowhere) == ["ahead \(nowhere)", "behind \(other)"])
        await #expect(throws: Failure.self) { try await standing("nowhere") }
    }

    @Test func notesNameWhatElseAnUpdateHas() {
        var manifest = GitFixture.update(description: "d", commits: [], functions: []).manifest
        manifest.constants = [.init(unit: 0, symbol: "names", preSymbol: 1, size: 8)]
        manifest.hooks = [
            .init(unit: 0, kind: .apply, symbol: "act"), .init(unit: 0, kind: .reverse, symbol: "back"),
        ]
        #expect(
            UpdateStore.peopleLine(manifest, id: "0123456789abcdef")
                == "6.1.0-1 (x86_64): update 0123456789ab, 1 constant: names, 2 hooks: act, back")
    }

    @Test func aManifestOfAnOlderFormatIsNotComparedWith() async throws {
        let fixture = try await GitFixture()
        let id = try await fixture.commit("fix", ["f": "1\n"])
        let store = UpdateStore(try await fixture.repository)
        var stored = try await store.store(
            GitFixture.update(description: "d", commits: [id], functions: ["f"]))
        #expect(try await store.readableManifest(stored)?.commits == [id])
        stored.commit = try await fixture.commit("old", ["manifest": "ksplice-update 1\n"])
        #expect(try await store.readableManifest(stored) == nil)
        stored.commit = try await fixture.commit("new", ["manifest": "ksplice-update 99\n"])
        await #expect(throws: Failure.self) { try await store.readableManifest(stored) }
    }

    @Test func existingNotesAreKeptAlsoBehindFolders() async throws {
        let fixture = try await GitFixture()
        var ids: [String] = []
        for n in 1...3 { ids.append(try await fixture.commit("c\(n)", ["f": "\(n)\n"])) }
        try await fixture.git("notes", "--ref=ksplice/updates", "add", "-m", "mine", ids[0])
        // git makes folders in a notes tree when there are many.
        var blob = "blob\nmark :1\ndata 2\nx\n\n"
        for n in 0..<400 { blob += "N :1 \(sha256("\(n)").prefix(40))\n" }
        let script =
            "blob\nmark :1\ndata 2\nx\n\ncommit refs/notes/ksplice/builds\ncommitter A <a> 1 +0000\ndata 0\n"
            + (0..<400).map { n in
                let name = sha256("\(n)").prefix(40)
                return "M 644 :1 \(name.prefix(2))/\(name.dropFirst(2))\n"
            }.joined()
        try await Command(
            ["git", "fast-import", "--quiet"], directory: fixture.directory, input: Array(script.utf8)
        ).check()
        let store = UpdateStore(try await fixture.repository)
        let update = GitFixture.update(commits: [ids[0], ids[2]])
        let stored = try await store.store(update)
        #expect(try await note(fixture, "updates", ids[0]).hasPrefix("mine\n6.1.0-1"))
        for id in [ids[0], ids[2]] { #expect(try await note(fixture, "builds", id).contains(update.id)) }
        #expect(try await fixture.git("notes", "--ref=ksplice/builds", "list").lines.count == 402)
        #expect(
            try await fixture.git("ls-tree", "--name-only", "refs/notes/ksplice/builds").lines.allSatisfy {
                $0.count == 2
            })
        try await store.store(update)
        #expect(try await note(fixture, "updates", ids[0]).lines.count == 2)
        try await store.remove([stored])
        #expect(try await note(fixture, "updates", ids[0]) == "mine")
        #expect(try await fixture.git("notes", "--ref=ksplice/builds", "list").lines.count == 400)
        #expect(try await store.list().isEmpty)
        await #expect(throws: Failure.self) { try await store.load(stored.ref) }
    }

    @Test func concurrentStoresLoseNothing() async throws {
        let fixture = try await GitFixture()
        let id = try await fixture.commit("fix", ["f": "1\n"])
        try await withThrowingTaskGroup(of: Void.self) { group in
            for n in 0..<8 {
                group.addTask { @concurrent in
                    let store = UpdateStore(try await fixture.repository)
                    try await store.store(GitFixture.update(description: "update \(n)", commits: [id]))
                }
            }
            try await group.waitForAll()
        }
        let repository = try await fixture.repository
        #expect(try await UpdateStore(repository).list().count == 8)
        #expect(try await note(fixture, "updates", id).lines.count == 8)
        #expect(try await note(fixture, "builds", id).lines.count == 8)
    }

    @Test func interruptedStoresAreCompleted() async throws {
        let fixture = try await GitFixture()
        let id = try await fixture.commit("fix", ["f": "1\n"])
        let store = UpdateStore(try await fixture.repository)
        let update = GitFixture.update(commits: [id])
        try await store.store(update)
        try await fixture.git("update-ref", "-d", "refs/notes/ksplice/builds")
        try await store.store(update)
        #expect(try await note(fixture, "builds", id).lines.count == 1)
        #expect(try await note(fixture, "updates", id).lines.count == 1)
    }

    @Test func ofEqualChangesTheOneStoredLastIsMeant() async throws {
        let fixture = try await GitFixture()
        let id = try await fixture.commit("one", ["f": "1\n"])
        let store = UpdateStore(try await fixture.repository)
        let stored = [
            try await store.store(GitFixture.update(description: "by the old program", commits: [id])),
            try await store.store(GitFixture.update(description: "by the new program", commits: [id])),
        ]
        let last = stored.max { ($0.time, $0.id) < ($1.time, $1.id) }
        #expect(try await store.find("HEAD") == last)
    }

    @Test func updatesAreFound() async throws {
        let fixture = try await GitFixture()
        let one = try await fixture.commit("one", ["f": "1\n"])
        let two = try await fixture.commit("two", ["f": "2\n"])
        let store = UpdateStore(try await fixture.repository)
        let first = try await store.store(GitFixture.update(description: "first", commits: [one, two]))
        let second = try await store.store(GitFixture.update(description: "second", commits: [two], pre: "3"))
        let other = try await store.store(
            GitFixture.update(description: "other", commits: [one], buildID: "ff00"))
        let kernel = GitFixture.update().manifest.kernel
        for spec in [
            first.id, String(first.id.prefix(9)), "ksplice-" + first.id.prefix(8).uppercased(), first.ref,
        ] {
            #expect(try await store.find(spec) == first)
        }
        #expect(try await store.find("HEAD~1", kernel: kernel) == first)
        let ambiguous = await #expect(throws: Failure.self) { try await store.find("HEAD", kernel: kernel) }
        #expect(ambiguous?.message.contains(second.id.prefix(12)) == true)
        await #expect(throws: Failure.self) { try await store.find("HEAD~1") }
        var third = kernel
        third.buildID = "00"
        let wrong = await #expect(throws: Failure.self) { try await store.find("HEAD", kernel: third) }
        #expect(wrong?.status == .wrongKernel)
        for spec in ["nothing", "ksplice-0000000000", "refs/ksplice/updates/x/y/z"] {
            let failure = await #expect(throws: Failure.self) { try await store.find(spec) }
            #expect(failure?.status == .notFound)
        }
        #expect(
            try await Set(store.list(arch: "x86_64", buildID: "ab12").map(\.id)) == [first.id, second.id])
        #expect(try await store.list(arch: "x86_64", buildID: "ab1").isEmpty)
        #expect(try await store.list(arch: "x86_64").count == 3)
        #expect(
            try await store.find(kernel: kernel, preTree: second.preTree, postTree: second.postTree) == [
                second
            ])
        try await store.remove([second])
        #expect(
            try await store.find(kernel: kernel, preTree: second.preTree, postTree: second.postTree) == [])
        #expect(try await store.find("HEAD", kernel: kernel) == first)
        #expect(try await store.list(arch: "x86_64", buildID: "ff00") == [other])
    }

    @Test func notesFollowRewordedCommitsButNotAlteredOnes() async throws {
        let fixture = try await GitFixture()
        let repository = try await fixture.repository
        _ = try await Initialisation(repository).run()
        let base = try await fixture.commit("base", ["f": "1\n"])
        let fix = try await fixture.commit("fix", ["f": "2\n"])
        let store = UpdateStore(repository)
        let update = GitFixture.update(
            commits: [fix], pre: try repository.tree(of: base), post: try repository.tree(of: fix))
        let stored = try await store.store(update)
        try await fixture.git("commit", "-q", "--amend", "-m", "reworded")
        #expect(try await fixture.git("rev-parse", "HEAD") != fix)
        #expect(try await store.find("HEAD") == stored)
        try fixture.write("f", "3\n")
        try await fixture.git("commit", "-q", "-a", "--amend", "-m", "altered")
        let failure = await #expect(throws: Failure.self) { try await store.find("HEAD") }
        #expect(failure?.status == .stale)
    }

    @Test func alteredUpdatesAreRefused() async throws {
        let fixture = try await GitFixture()
        let repository = try await fixture.repository
        let store = UpdateStore(repository)
        let stored = try await store.store(GitFixture.update())
        var files = try repository.files(tree: repository.tree(of: stored.commit))
        files["update.ko"] = [1, 2, 4]
        let forged = try await repository.commitTree(repository.writeTree(files: files), message: "x")
        try await fixture.git("update-ref", stored.ref, forged)
        let failure = await #expect(throws: Failure.self) { try await store.load(stored.ref) }
        #expect(failure?.status == .verificationRefused)
        let moved = stored.ref.replacing("ab12", with: "ab13")
        try await fixture.git("update-ref", moved, stored.commit)
        await #expect(throws: Failure.self) { try await store.load(moved) }
        await #expect(throws: Failure.self) { try await store.store(GitFixture.update()) }
    }

    @Test func kernelsAreKept() async throws {
        let fixture = try await GitFixture()
        let store = KernelStore(try await fixture.repository)
        let files: [String: [UInt8]] = ["descriptor": [1], "config": .init(repeating: 65, count: 6 << 20)]
        try await store.save(arch: "x86_64", refName: "ab12", subject: "kernel one", files: files)
        #expect(try await store.load(arch: "x86_64", refName: "ab12") == files)
        let first = try await store.list()
        #expect(first.map(\.subject) == ["kernel one"] && first[0].refName == "ab12")
        try await store.save(arch: "x86_64", refName: "ab12", subject: "kernel one", files: files)
        #expect(try await store.list() == first)
        try await store.save(
            arch: "x86_64", refName: "ab12", subject: "kernel two", files: ["descriptor": [2]])
        #expect(try await store.load(arch: "x86_64", refName: "ab12") == ["descriptor": [2]])
        try await store.remove(arch: "x86_64", refName: "ab12")
        #expect(try await store.list().isEmpty)
        await #expect(throws: Failure.self) { try await store.load(arch: "x86_64", refName: "ab12") }
    }
}
