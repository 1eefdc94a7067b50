// Repositories of all kinds that git has. In each, all is done that is done with updates; what is special about a kind is looked at
// in its own test.

import Glibc
import Testing

@testable import Core

/// What is done with updates in every repository.
enum EveryDay {
    /// Two commits in a repository: the source of a kernel, and a change of it.
    static func history(_ fixture: GitFixture) async throws -> (source: String, fix: String) {
        try await fixture.commit("root", ["README": "readme\n"])
        let source = try await fixture.commit(
            "source", ["kernel/sys.c": GitFixture.lines(1...40), "fs/open.c": "open\n", "Makefile": "all:\n"])
        let fix = try await fixture.commit(
            "fix", ["kernel/sys.c": GitFixture.lines(1...40, [20: "fixed"])])
        return (source, fix)
    }

    /// Prepares, registers, stores, finds, notes, exports, sends and removes.
    static func run(_ fixture: GitFixture, _ source: String, _ fix: String) async throws {
        let repository = try await fixture.repository
        _ = try await Initialisation(repository).run()
        #expect(try await Initialisation(repository).run().allSatisfy { !$0.changed })
        let kernel = try await fixture.register("one", source: source, buildID: "ab12")
        #expect(try await KernelRegistry(repository).all().map(\.name) == ["one"])
        let stored = try await fixture.storeUpdate(fix, for: kernel)
        let store = UpdateStore(repository)
        #expect(try await store.list().map(\.id) == [stored.id])
        #expect(try await store.find(fix).ref == stored.ref)
        #expect(try await store.find(String(stored.id.prefix(12))).ref == stored.ref)
        #expect(try await store.find("main").commits == [fix])
        let update = try await store.load(stored.ref)
        #expect(try Update(archive: update.archive()).id == stored.id)
        #expect(try await repository.noteLines(UpdateStore.programNotes, commit: fix).count == 1)
        try await writesSources(repository, stored)
        try await sends(fixture, stored)
        try await store.remove([stored])
        #expect(try await store.list().isEmpty)
        #expect(try await repository.noteLines(UpdateStore.programNotes, commit: fix).isEmpty)
    }

    private static func writesSources(_ repository: Repository, _ stored: StoredUpdate) async throws {
        let place = try Files.temporaryDirectory("ksplice-test")
        defer { try? Files.remove(place) }
        try await repository.exportTree(stored.postTree, to: place + "/tree", index: place + "/index")
        #expect(
            try Files.readText(place + "/tree/kernel/sys.c") == GitFixture.lines(1...40, [20: "fixed"]))
        #expect(try Files.readText(place + "/tree/fs/open.c") == "open\n")
        let patch = try await repository.patchText(pre: stored.preTree, post: stored.postTree)
        let change = try await repository.change(patch: patch, name: "patch", tree: stored.preTree)
        #expect(change.changeTree == stored.postTree)
    }

    /// To another repository, from where a third fetches.
    private static func sends(_ fixture: GitFixture, _ stored: StoredUpdate) async throws {
        let format = try await fixture.repository.format
        let server = try await GitFixture(bare: true, format: format, store: fixture.store)
        try await fixture.git("push", "-q", "file://" + server.directory, "refs/ksplice/*:refs/ksplice/*")
        #expect(try await UpdateStore(server.repository).load(stored.ref).id == stored.id)
        let client = try await GitFixture(format: format, store: fixture.store)
        try await client.git("fetch", "-q", "file://" + server.directory, "\(stored.ref):\(stored.ref)")
        #expect(try await UpdateStore(client.repository).load(stored.ref).id == stored.id)
    }
}

@Suite struct RepositoryKindTests {
    /// The usual way to objects, and that by the git program.
    private static let ways: [StoreChoice?] = [nil, .git]

    @Test(arguments: ways) func ordinary(_ store: StoreChoice?) async throws {
        let fixture = try await GitFixture(store: store)
        let (source, fix) = try await EveryDay.history(fixture)
        try await EveryDay.run(fixture, source, fix)
        if getenv(StoreChoice.variable) == nil {
            #expect(try await fixture.repository.store is LibraryStore == (store == nil))
        }
    }

    @Test(arguments: ways) func linkedWorktree(_ store: StoreChoice?) async throws {
        let fixture = try await GitFixture()
        let (source, fix) = try await EveryDay.history(fixture)
        try await fixture.git("worktree", "add", "-q", "--detach", "other")
        let other = try await GitFixture(at: fixture.directory + "/other", of: fixture, store: store)
        try await EveryDay.run(other, source, fix)
        // What belongs to all worktrees is in one place.
        #expect(Files.isDirectory(fixture.directory + "/.git/ksplice"))
    }

    @Test(arguments: ways) func bare(_ store: StoreChoice?) async throws {
        let fixture = try await GitFixture()
        let (source, fix) = try await EveryDay.history(fixture)
        try await fixture.git("clone", "-q", "--bare", ".", "bare.git")
        let bare = try await GitFixture(at: fixture.directory + "/bare.git", of: fixture, store: store)
        try await EveryDay.run(bare, source, fix)
        #expect(try await bare.repository.isBare)
    }

    @Test(arguments: ways) func submodule(_ store: StoreChoice?) async throws {
        let fixture = try await GitFixture()
        let (source, fix) = try await EveryDay.history(fixture)
        let above = try await GitFixture()
        try await above.git(
            "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "file://" + fixture.directory,
            "linux")
        let inside = try await GitFixture(at: above.directory + "/linux", of: above, store: store)
        try await EveryDay.run(inside, source, fix)
        #expect(Files.isDirectory(above.directory + "/.git/modules/linux/ksplice"))
    }

    @Test(arguments: ways) func shallow(_ store: StoreChoice?) async throws {
        let fixture = try await GitFixture()
        let (source, fix) = try await EveryDay.history(fixture)
        try await fixture.git("clone", "-q", "--depth=2", "file://" + fixture.directory, "shallow")
        let shallow = try await GitFixture(at: fixture.directory + "/shallow", of: fixture, store: store)
        try await EveryDay.run(shallow, source, fix)
        // What is cut off is missing, and how to get it is said.
        let cut = await TrustFixture.failure { try await shallow.repository.change(source) }
        #expect(cut.message.contains("shallow") && cut.hints == ["git fetch --deepen=1"], "\(cut)")
        let root = try await fixture.git("rev-parse", "main~2")
        let missing = await TrustFixture.failure { try await shallow.repository.tree(of: root) }
        #expect(missing.status == .notFound && missing.hints.first?.contains("--unshallow") == true)
    }

    @Test(arguments: ways) func sparse(_ store: StoreChoice?) async throws {
        let fixture = try await GitFixture(store: store)
        let (source, fix) = try await EveryDay.history(fixture)
        try await fixture.git("sparse-checkout", "set", "--cone", "--sparse-index", "kernel")
        #expect(!Files.exists(fixture.directory + "/fs"))
        let before = try await fixture.userState()
        try await EveryDay.run(fixture, source, fix)
        #expect(try await fixture.userState() == before)
    }

    @Test(arguments: ["blob:none", "tree:0"]) func partial(_ filter: String) async throws {
        let fixture = try await GitFixture()
        let (source, fix) = try await EveryDay.history(fixture)
        // On a branch that nobody asks for.
        try await fixture.commit("side", ["unasked": "never\n"])
        try await fixture.git("branch", "side")
        try await fixture.git("reset", "-q", "--hard", "HEAD~1")
        try await fixture.git("config", "uploadpack.allowFilter", "true")
        try await fixture.git(
            "clone", "-q", "--no-checkout", "--filter=" + filter, "file://" + fixture.directory, "partial")
        let partial = try await GitFixture(at: fixture.directory + "/partial", of: fixture)
        func lacking() async throws -> Int {
            try await partial.git("rev-list", "--objects", "--missing=print", "--all").lines.count {
                $0.hasPrefix("?")
            }
        }
        #expect(try await lacking() > 0)
        #expect(try await partial.repository.store is ProgramStore)
        try await EveryDay.run(partial, source, fix)
        let unasked = try await fixture.git("rev-parse", "side:unasked")
        try await partial.git("config", "remote.origin.url", "file:///nowhere")
        let repository = try await partial.repository
        #expect(try await lacking() > 0)
        #expect(try !repository.hasObject(unasked))
        let gone = await TrustFixture.failure { try repository.object(unasked, .blob, as: .meant) }
        #expect(gone.status == .notFound && gone.hints.first?.contains("partial clone") == true, "\(gone)")
        // The program that could not fetch has ended, and another one answers.
        #expect(try repository.commit(fix).subject == "fix")
    }

    @Test func manyMissingFilesComeWithOneCall() async throws {
        let fixture = try await GitFixture()
        let files = Dictionary(
            uniqueKeysWithValues: (0..<50).map { ("d\($0 % 5)/f\($0)", "\($0)\n" as String?) })
        let commit = try await fixture.commit("many", files)
        try await fixture.git("config", "uploadpack.allowFilter", "true")
        try await fixture.git(
            "clone", "-q", "--no-checkout", "--filter=blob:none", "file://" + fixture.directory, "partial")
        let partial = try await GitFixture(at: fixture.directory + "/partial", of: fixture)
        func packs() throws -> Int {
            try Files.list(partial.directory + "/.git/objects/pack").count { $0.hasSuffix(".pack") }
        }
        let (before, repository) = (try packs(), try await partial.repository)
        try await repository.fetchMissing(below: repository.tree(of: commit))
        #expect(try packs() == before + 1)
        #expect(try repository.files(tree: repository.tree(of: commit)).count == 50)
        #expect(try packs() == before + 1)
    }

    @Test func sha256() async throws {
        let fixture = try await GitFixture(format: .sha256)
        let (source, fix) = try await EveryDay.history(fixture)
        #expect(fix.count == 64)
        try await EveryDay.run(fixture, source, fix)
        let repository = try await fixture.repository
        #expect(try await repository.revisions(["-1"]).map(\.id) == [fix])
        #expect(try await repository.identities(of: [fix])[fix]?.patchID.isEmpty == false)
    }

    /// Debian 12 has git 2.39, which has no tables of refs; git 2.45 has.
    private static func gitHasReftable() async throws -> Bool {
        let folder = try Files.temporaryDirectory("ksplice-test")
        defer { try? Files.remove(folder) }
        return try await Command(["git", "init", "-q", "--ref-format=reftable", folder]).run().succeeded
    }

    @Test(.enabled("this git has no reftable") { try await Self.gitHasReftable() })
    func reftable() async throws {
        let fixture = try await GitFixture(options: ["--ref-format=reftable"])
        let (source, fix) = try await EveryDay.history(fixture)
        try await EveryDay.run(fixture, source, fix)
    }

    @Test(arguments: ways) func alternates(_ store: StoreChoice?) async throws {
        let fixture = try await GitFixture()
        let (source, fix) = try await EveryDay.history(fixture)
        let folder = try Files.temporaryDirectory("ksplice-test")
        defer { try? Files.remove(folder) }
        try await fixture.git("clone", "-q", "--shared", ".", folder + "/clone")
        let clone = try await GitFixture(at: folder + "/clone", of: fixture, store: store)
        #expect(Files.exists(clone.directory + "/.git/objects/info/alternates"))
        try await EveryDay.run(clone, source, fix)
    }

    @Test(arguments: ways) func worktreeConfiguration(_ store: StoreChoice?) async throws {
        let fixture = try await GitFixture(store: store)
        let (source, fix) = try await EveryDay.history(fixture)
        try await fixture.git("config", "extensions.worktreeConfig", "true")
        try await fixture.git("worktree", "add", "-q", "--detach", "other")
        try await fixture.git("-C", "other", "config", "--worktree", "core.abbrev", "9")
        let other = try await GitFixture(at: fixture.directory + "/other", of: fixture, store: store)
        try await EveryDay.run(other, source, fix)
        #expect(try await other.repository.config("core.abbrev") == "9")
        #expect(try await fixture.repository.config("core.abbrev") == nil)
    }

    @Test(.enabled(if: geteuid() == 0, "only root can give a repository away"))
    func somebodyElses() async throws {
        let fixture = try await GitFixture()
        try await fixture.commit("one", ["f": "1\n"])
        try await Command(["chown", "-R", "12345:12345", fixture.directory]).check()
        let refused = await TrustFixture.failure { try await fixture.repository }
        #expect(refused.message.contains("dubious ownership"), "\(refused)")
        #expect(refused.message.contains("git config --global --add safe.directory"))
        // Git's own hint is the one that helps.
        #expect(refused.hints.isEmpty)
    }
}
