// A repository that has one of everything that the project stores, to be damaged. It is made once and copied.

import Glibc

@testable import Core

/// A copy of the repository, in a folder of its own.
final class StorageFixture: Sendable {
    let directory: String
    /// Identities: the second stands on the first, and both are listed; the third is neither.
    let one, two, three: String
    let commits: [String]

    private static let template = Task { try await Template() }

    init() async throws {
        let template = try await Self.template.value
        directory = try Files.temporaryDirectory("ksplice-test")
        (one, two, three) = (template.updates[0].id, template.updates[1].id, template.updates[2].id)
        commits = template.commits
        try await Command(["cp", "-a", template.trust.publisher.directory + "/.", directory]).check()
        try writePaths()
    }

    /// Another copy, of what was done to one.
    init(copying other: StorageFixture) async throws {
        directory = try Files.temporaryDirectory("ksplice-test")
        (one, two, three, commits) = (other.one, other.two, other.three, other.commits)
        try await Command(["cp", "-a", other.directory + "/.", directory]).check()
        try writePaths()
    }

    private func writePaths() throws {
        let image = stateFolder + "/import/image"
        try Files.write("", to: image)
        try Files.write("image \(image)\n", to: stateFolder + "/kernels/x86_64-ab12")
    }

    deinit { try? Files.remove(directory) }

    /// What is signed there, alice has signed; bob's key is there, too.
    static var trust: TrustFixture { get async throws { try await template.value.trust } }

    var repository: Repository { get async throws { try await Repository(directory: directory) } }
    var stateFolder: String { directory + "/.git/ksplice" }
    static let kernels = "refs/ksplice/updates/x86_64/ab12/"
    static let channel = "refs/ksplice/channels/x86_64/ab12/stable"

    func ref(_ id: String) -> String { Self.kernels + id }

    @discardableResult
    func git(_ arguments: String..., input: String = "") async throws -> String {
        try await Command(["git"] + arguments, directory: directory, input: Array(input.utf8)).check().text
            .trimmed
    }

    /// The codes of all problems, those that are told several times once.
    func codes(_ change: (inout StorageCheck) -> Void = { _ in }) async throws -> Set<StorageProblem.Code> {
        try await Set(problems(change).map(\.code))
    }

    func problems(_ change: (inout StorageCheck) -> Void = { _ in }) async throws -> [StorageProblem] {
        var check = StorageCheck(try await repository)
        change(&check)
        return try await check.run()
    }

    /// Puts another commit in the place of the one that a ref names: that one with other files (nil removes one), another
    /// message and other parents.
    @discardableResult
    func rewrite(
        _ ref: String, files: [String: String?] = [:], parents: [String] = [], isSigned: Bool = false,
        _ message: (String) -> String = { $0 }
    ) async throws -> String {
        let repository = try await repository
        let old = try repository.signedCommit(try await git("rev-parse", ref))
        var content = try repository.files(tree: old.tree)
        for (path, text) in files { content[path] = text.map { Array($0.utf8) } }
        let tree = try repository.writeTree(files: content)
        let new =
            isSigned
            ? try await repository.writeSignedCommit(
                tree: tree, message: message(old.message), parents: parents)
            : try await repository.commitTree(tree, message: message(old.message), parents: parents)
        try await git("update-ref", ref, new)
        return new
    }

    /// The file of an object, which may be written to then.
    func file(of object: String) throws -> String {
        let path = "\(directory)/.git/objects/\(object.prefix(2))/\(object.dropFirst(2))"
        chmod(path, 0o644)
        return path
    }

    /// Adds a state to the channel, signed, whose index is another text.
    func appendState(
        isSigned: Bool = true, serial: Int? = nil, _ change: (String) -> String = { $0 }
    ) async throws {
        let repository = try await repository
        let old = try repository.signedCommit(try await git("rev-parse", Self.channel))
        let text = change(
            String(decoding: try repository.files(tree: old.tree)["channel"] ?? [], as: UTF8.self))
        let number = try Int(old.trailer("Serial")) ?? 0
        try await rewrite(
            Self.channel, files: ["channel": text], parents: [old.id], isSigned: isSigned
        ) { message in
            message.lines.map { line in
                if line.hasPrefix("Ksplice-Serial") { return "Ksplice-Serial: \(serial ?? number + 1)" }
                return line.hasPrefix("Ksplice-Index")
                    ? "Ksplice-Index: sha256:\(sha256(text))" : String(line)
            }.joined(separator: "\n") + "\n"
        }
    }

    /// Makes a file look as if it had been written long ago.
    static func age(_ path: String, seconds: Int = 100_000) {
        var times = [timespec(), timespec()]
        for place in 0...1 { times[place].tv_sec = time(nil) - seconds }
        utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW)
    }
}

/// Two updates in a channel, one that is not, their kernel with a workspace, notes, a policy of trust, a queue.
private struct Template: Sendable {
    let trust: TrustFixture
    let updates: [StoredUpdate]
    let commits: [String]

    init() async throws {
        trust = try await TrustFixture()
        // Tests that run at the same time do not make it twice.
        _ = try await trust.key("bob")
        let fixture = trust.publisher
        var commits = [try await fixture.commit("base", ["f": "1\n"])]
        try await fixture.register("kernel", source: commits[0], buildID: "ab12")
        for n in 2...3 { commits.append(try await fixture.commit("fix \(n)", ["f": "\(n)\n"])) }
        let repository = try await fixture.repository
        _ = try await Initialisation(repository).run()
        let store = UpdateStore(repository)
        func update(_ name: String, _ sources: [String], on grounds: [String] = []) -> Update {
            let made = GitFixture.update(description: name, commits: sources, functions: [name])
            var manifest = made.manifest
            manifest.depends = grounds
            return Update(manifest: manifest, files: made.files)
        }
        let first = try await store.store(update("one", [commits[1]]))
        let second = try await store.store(update("two", [commits[2]], on: [first.id]))
        let third = try await store.store(update("three", []))
        let channel = try ChannelName(trust.kernel, "stable")
        try await ChannelStore(repository).add([first, second], to: channel, release: "v1")
        updates = [first, second, third]
        self.commits = commits
        let state = repository.stateDirectory
        let workspace = state + "/workspaces/x86_64-ab12"
        for folder in ["source", "object", "cache", "work"] {
            try Files.createDirectory(workspace + "/" + folder)
        }
        for file in ["tree", "prepared", "lock"] { try Files.write("1\n", to: "\(workspace)/\(file)") }
        for folder in ["import", "kernels"] { try Files.createDirectory("\(state)/\(folder)") }
        let queue = BuildQueue(repository)
        try queue.add(commits[1])
        try queue.keep(BuildRecord(commit: commits[1], subject: "s", kernel: nil, builder: "b", time: 1))
    }
}
