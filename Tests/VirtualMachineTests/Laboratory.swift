// The one fixture of these tests: a kernel repository with a registered kernel, in which commits are made without a
// work tree, and the program as its user would run it. The workspace stays between runs, so that only the first
// create ever prepares it; commits, updates and notes of earlier runs are removed at the start.

import Glibc
import Testing

@testable import Core

struct Laboratory: Sendable {
    static let kernel = "test-old"

    /// The program under test.
    let program: String
    let repository = Material.repository
    /// The commit of the registered kernel's source.
    let base: String
    /// Files of the tests, below the repository's `.git`.
    let folder: String
    /// Bootable images of the registered kernel and of the newer one.
    let oldBootImage: String
    let newBootImage: String
    /// The registered kernel's modules.
    let modules: String
    /// Where create compiles.
    let workspace: String

    private static let made = Task { try await Laboratory() }

    static func shared() async throws -> Laboratory { try await made.value }

    private init() async throws {
        program = try Files.absolute("/proc/self/exe").directoryPart + "/git-ksplice"
        guard Files.exists(program) else {
            throw Failure("'\(program)' is missing", hint: "swift build --build-tests")
        }
        let git = try await Self.git(["rev-parse", "--path-format=absolute", "--git-common-dir"])
        folder = git + "/ksplice-test"
        try Files.createDirectory(folder)
        base = try await Self.git(["rev-parse", "HEAD^{commit}"])
        try await Self.removeTraces()
        let show = try await Self.register(program, base)
        oldBootImage = try Self.row("boot image", show)
        modules = try Self.row("modules", show)
        workspace = try "\(git)/ksplice/workspaces/\(Self.row("arch", show))-\(Self.row("build-id", show))"
        newBootImage = try await Self.unpackBootImage(Material.newImage, into: folder)
    }

    /// Where git keeps what is known of the registered kernel. Other tests register kernels of their own.
    var kernelRef: String {
        "refs/ksplice/kernels/" + workspace.lastPathComponent.replacing("x86_64-", with: "x86_64/")
    }

    // MARK: - Preparation

    static func git(_ arguments: [String], index: String? = nil, input: String = "") async throws -> String {
        let date = "1700000000 +0000"
        return try await Command(
            ["git"] + arguments, directory: Material.repository,
            environment: [
                "GIT_INDEX_FILE": index, "GIT_AUTHOR_NAME": "A U Thor",
                "GIT_AUTHOR_EMAIL": "author@example.com",
                "GIT_COMMITTER_NAME": "C O Mitter", "GIT_COMMITTER_EMAIL": "committer@example.com",
                "GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date,
            ], input: Array(input.utf8)
        ).check().text.trimmed
    }

    private static func removeTraces() async throws {
        let places = ["refs/ksplice/updates/", "refs/notes/ksplice/", "refs/heads/ksplice-test/"]
        let refs = try await git(["for-each-ref", "--format=delete %(refname)"] + places)
        if !refs.isEmpty { _ = try await git(["update-ref", "--stdin"], input: refs + "\n") }
    }

    /// Registers the kernel unless an earlier run has. Returns what `kernel show` says.
    private static func register(_ program: String, _ base: String) async throws -> String {
        let show = Command([program, "kernel", "show", kernel], directory: Material.repository)
        let before = try await show.run()
        if before.succeeded, (try? row("source", before.text)) == base,
            let image = try? row("boot image", before.text),
            Files.exists(image)
        {
            return before.text
        }
        let pieces = ([Material.oldImage] + Material.headers).flatMap { ["--from", $0] }
        try await Command(
            [program, "kernel", "add", kernel, "--source", base] + pieces, directory: Material.repository
        )
        .check("cannot register the kernel")
        return try await show.check().text
    }

    static func row(_ name: String, _ text: String) throws -> String {
        for line in text.lines.map({ String($0).trimmed }) where line.hasPrefix(name + "  ") {
            let value = String(line.dropFirst(name.count)).trimmed
            if value != "-" { return value }
        }
        throw Failure("'git ksplice kernel show' has no row '\(name)'\n\(text)")
    }

    private static func unpackBootImage(_ package: String, into folder: String) async throws -> String {
        let target = folder + "/" + package.lastPathComponent + ".vmlinuz"
        if Files.exists(target) { return target }
        let unpacked = folder + "/unpacked"
        try Files.remove(unpacked)
        try Files.createDirectory(unpacked)
        try await Command(["dpkg-deb", "-x", package, unpacked]).check()
        let names = try Files.list(unpacked + "/boot")
        guard let name = names.first(where: { $0.hasPrefix("vmlinuz-") }) else {
            throw Failure("no kernel in '\(package)'")
        }
        try Files.write(try Files.read("\(unpacked)/boot/\(name)"), to: target)
        try Files.remove(unpacked)
        return target
    }

    // MARK: - Commits

    /// Makes a commit with a change, by default on top of the kernel's source, and a branch for it.
    func commit(_ change: KernelChange, on parent: String? = nil) async throws -> String {
        let parent = parent ?? base
        // Suites make commits at the same time.
        let temporary = try Files.temporaryDirectory()
        defer { do { try Files.remove(temporary) } catch { Issue.record("\(error)") } }
        let index = temporary + "/index"
        _ = try await Self.git(["read-tree", parent], index: index)
        for (path, content) in try await change.files(self, parent) {
            let blob = try await Self.git(["hash-object", "-w", "--stdin"], input: content)
            _ = try await Self.git(
                ["update-index", "--add", "--cacheinfo", "100644,\(blob),\(path)"], index: index)
        }
        for path in change.removed {
            _ = try await Self.git(["update-index", "--force-remove", path], index: index)
        }
        let tree = try await Self.git(["write-tree"], index: index)
        let commit = try await Self.git(["commit-tree", tree, "-p", parent], input: change.name + "\n")
        _ = try await Self.git(["update-ref", "refs/heads/ksplice-test/" + change.branch, commit])
        return commit
    }

    /// The file of a module of the registered kernel, by its path below `kernel/`.
    func module(_ path: String) throws -> [UInt8] { try Files.read("\(modules)/kernel/\(path)") }

    func source(_ path: String, at commit: String) async throws -> String {
        try await Command(["git", "cat-file", "blob", "\(commit):\(path)"], directory: repository).check()
            .text
    }

    /// Everything that create may keep of a commit, or of the last one of a range: updates, and the lines of notes. Other
    /// commits become updates meanwhile. Empty for what names no commit.
    func traces(of commit: String) async throws -> String {
        let named = try await Command(
            ["git", "rev-parse", "-q", "--verify", "\(commit.split(separator: ".").last ?? "")^{commit}"],
            directory: repository
        ).run()
        guard named.succeeded else { return "" }
        let commit = named.text.trimmed
        let updates = try await Self.git([
            "for-each-ref", "--format=%(refname) %(objectname) %(trailers:key=Ksplice-Commits,separator=%2C)",
            "refs/ksplice/updates", "refs/ksplice-local",
        ])
        var traces = updates.lines.filter { $0.contains(commit) }.map { String($0) }
        let notes = try await Self.git(["for-each-ref", "--format=%(refname)", "refs/notes/ksplice"])
        for ref in notes.lines {
            let lines = try await Command(
                ["git", "notes", "--ref", String(ref), "show", commit], directory: repository
            ).run()
            // 1 is git's answer where there is none.
            guard lines.succeeded || lines.status == 1 else { throw Failure(lines.errorText) }
            if lines.succeeded { traces.append("\(ref): \(lines.text)") }
        }
        return traces.joined(separator: "\n")
    }

    // MARK: - The program

    func run(_ arguments: String..., environment: [String: String?] = [:]) async throws -> CommandResult {
        try await Command([program] + arguments, directory: repository, environment: environment).run()
    }

    /// All that is known of the registered kernel.
    func descriptor() async throws -> KernelDescriptor {
        let registry = KernelRegistry(try await Repository(directory: repository))
        return try await registry.descriptor(try await registry.summary(Self.kernel))
    }

    /// The update of a change for a registered kernel, made when first asked for.
    func update(_ change: KernelChange, for kernel: String = kernel) async throws -> TestUpdate {
        try await Updates.shared.update(change, kernel, self)
    }
}

/// An update that a test uses in a guest.
struct TestUpdate: Sendable {
    let id: String
    let commit: String
    /// What create printed.
    let output: String
    let archive: [UInt8]
}

private actor Updates {
    static let shared = Updates()
    private var made: [String: Task<TestUpdate, any Error>] = [:]

    func update(_ change: KernelChange, _ kernel: String, _ laboratory: Laboratory) async throws -> TestUpdate
    {
        let key = kernel + " " + change.name
        if let known = made[key] { return try await known.value }
        let task = Task { try await Self.make(change, kernel, laboratory) }
        made[key] = task
        return try await task.value
    }

    private static func make(_ change: KernelChange, _ kernel: String, _ laboratory: Laboratory) async throws
        -> TestUpdate
    {
        var options = change.options
        var parent: String?
        for older in change.ground {
            let update = try await laboratory.update(older, for: kernel)
            options += ["--on", update.id]
            parent = update.commit
        }
        let commit = try await laboratory.commit(change, on: parent)
        let created = try await Command(
            [laboratory.program, "create", "--kernel", kernel] + options + [commit],
            directory: laboratory.repository
        ).run()
        guard created.succeeded, let line = created.text.lines.first, line.hasPrefix("update ") else {
            throw Failure("create of '\(change.name)' ended with \(created.status)\n\(created.errorText)")
        }
        let id = String(line.split(separator: " ")[1])
        let file = "\(laboratory.folder)/\(kernel).\(change.branch).tar.gz"
        // Not by the commit, which may have updates for several kernels.
        let exported = try await laboratory.run("export", "--output", file, id)
        guard exported.succeeded else {
            throw Failure(
                "export of '\(change.name)' ended with \(exported.status)\n\(exported.errorText)\(created.text)"
            )
        }
        return TestUpdate(
            id: id, commit: commit, output: created.text, archive: try Files.read(file))
    }
}

// MARK: - Modules of others

extension Laboratory {
    /// A module of one source file, built by kbuild in the prepared tree of the kernel. `exports` are lines of
    /// `Module.symvers` besides those of the kernel.
    func buildModule(_ name: String, _ source: String, exports: String = "") async throws -> [UInt8] {
        // An update is made in it first, so that it is prepared.
        _ = try await update(.dumpable)
        let build = try Files.temporaryDirectory()
        defer { do { try Files.remove(build) } catch { Issue.record("\(error)") } }
        let known = try await self.source("exports", at: kernelRef)
        try Files.write(known + exports, to: build + "/symvers")
        try Files.write("obj-m := \(name).o\n", to: build + "/Makefile")
        try Files.write(source, to: "\(build)/\(name).c")
        // While create works there, its headers may be those of a change.
        try await Command([
            "flock", workspace + "/lock", "make", "-s", "-C", workspace + "/object", "M=" + build,
            "CC=gcc-12", "HOSTCC=gcc",
            "KERNELRELEASE=6.1.0-53-amd64", "KBUILD_EXTRA_SYMBOLS=" + build + "/symvers", "modules",
        ]).check("cannot build the module of the test")
        return try Files.read("\(build)/\(name).ko")
    }
}
