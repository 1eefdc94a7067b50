import Glibc

@testable import Core

/// A repository in a temporary folder, made with the git program; removed with the value.
final class GitFixture: Sendable {
    let directory: String
    /// The way to its objects that is tried; nil for the one that is usual.
    let store: StoreChoice?
    /// Whose folder it is in, or whose objects it has; nil where the folder is its own.
    private let keeper: GitFixture?
    var repository: Repository {
        get async throws {
            guard let store else { return try await Repository(directory: directory) }
            return try await Repository(directory: directory, store: store)
        }
    }

    /// A repository that is there already, and goes with another one.
    init(at directory: String, of keeper: GitFixture, store: StoreChoice? = nil) async throws {
        (self.directory, self.store, self.keeper) = (directory, store, keeper)
        try await git("config", "user.name", "Ann Author")
        try await git("config", "user.email", "ann@example.org")
    }

    init(
        bare: Bool = false, format: ObjectFormat = .sha1, store: StoreChoice? = nil, options: [String] = []
    ) async throws {
        directory = try Files.temporaryDirectory("ksplice-test")
        (self.store, keeper) = (store, nil)
        try await Command(
            ["git", "init", "-q", "-b", "main", "--template=", "--object-format=" + format.rawValue] + options
                + [directory]
        ).check()
        if bare { try await git("config", "core.bare", "true") }
        try await git("config", "user.name", "Ann Author")
        try await git("config", "user.email", "ann@example.org")
        try await git("config", "gc.auto", "0")
    }

    deinit { if keeper == nil { try? Files.remove(directory) } }

    @discardableResult
    func git(_ arguments: String...) async throws -> String {
        try await Command(["git"] + arguments, directory: directory).check().text.trimmed
    }

    func write(_ path: String, _ text: String) throws {
        let full = directory + "/" + path
        try Files.createDirectory(full.directoryPart)
        try Files.write(text, to: full)
    }

    /// Writes files (nil: removes) and commits them; returns the commit.
    @discardableResult
    func commit(_ subject: String, _ files: [String: String?]) async throws -> String {
        for (path, text) in files {
            if let text { try write(path, text) } else { try Files.remove(directory + "/" + path) }
        }
        try await git("add", "-A")
        try await git("commit", "-q", "--allow-empty", "-m", subject)
        return try await git("rev-parse", "HEAD")
    }

    /// Everything that must not change behind the user's back: HEAD, index, worktree.
    func userState() async throws -> String {
        try await git("rev-parse", "HEAD") + git("ls-files", "-s") + git("status", "--porcelain", "--ignored")
            + git("symbolic-ref", "HEAD")
    }

    static func lines(_ range: ClosedRange<Int>, _ changed: [Int: String] = [:]) -> String {
        range.map { (changed[$0] ?? "line \($0)") + "\n" }.joined()
    }

    static func update(
        description: String = "fix a bug", commits: [String] = [], pre: String = "1", post: String = "2",
        buildID: String = "ab12", functions: [String] = ["do_thing"]
    ) -> Update {
        let kernel = KernelIdentity(
            arch: "x86_64", buildID: buildID, release: "6.1.0-1", version: "#1", compiler: "gcc (GCC) 12",
            configDigest: "cd")
        var manifest = Manifest(
            kernel: kernel, sourceCommit: "5", preTree: String(repeating: pre, count: 40),
            postTree: String(repeating: post, count: 40))
        if pre.count == 40 { (manifest.preTree, manifest.postTree) = (pre, post) }
        manifest.description = description
        manifest.commits = commits
        manifest.units = [.init(path: "kernel/sys.c", module: nil, object: "pre/kernel/sys.o")]
        manifest.replacements = functions.map { .init(unit: 0, symbol: $0, preSymbol: 1, size: 10) }
        return Update(
            manifest: manifest,
            files: [
                "update.ko": [1, 2, 3], "patch": [], "pre/kernel/sys.o": [UInt8](repeating: 7, count: 1000),
            ])
    }
}

extension Sequence {
    /// One after the other.
    func asyncMap<Value>(_ body: (Element) async throws -> Value) async rethrows -> [Value] {
        var values: [Value] = []
        for element in self { values.append(try await body(element)) }
        return values
    }
}
