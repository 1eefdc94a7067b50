// A repository with registered kernels that have no image, a queue, and a stand-in for the builder.

import Synchronization

@testable import Core

extension GitFixture {
    /// Registers a kernel that was built from a commit.
    @discardableResult
    func register(_ name: String, source: String, buildID: String) async throws -> KernelSummary {
        let config = "CONFIG_X86_64=y\n"
        let identity = KernelIdentity(
            arch: "x86_64", buildID: buildID, release: "6.1.0-1", version: "#1", compiler: "gcc (GCC) 12",
            configDigest: sha256(Array(config.utf8)))
        let kernel = KernelDescriptor(
            name: name, identity: identity, sourceCommit: source, config: config,
            symbols: try KernelSymbols(text: Array("ffffffff81000000 T _text\n".utf8), name: "symbols"),
            exports: [])
        let repository = try await repository
        try await KernelStore(repository).save(
            arch: identity.arch, refName: identity.refName, subject: "kernel \(name)", files: kernel.files())
        return try await KernelRegistry(repository).summary(name)
    }

    /// An update of a commit for a kernel, with its true trees and patch, stored.
    @discardableResult
    func storeUpdate(_ commit: String, for kernel: KernelSummary, post: String? = nil) async throws
        -> StoredUpdate
    {
        let repository = try await repository
        let pre = try repository.tree(of: kernel.sourceCommit)
        let change = try repository.change(commit: commit)
        let made = try repository.postTree(change, preTree: pre)
        var manifest = Manifest(
            kernel: kernel.identity, sourceCommit: kernel.sourceCommit, preTree: pre, postTree: post ?? made)
        manifest.description = change.description
        manifest.commits = [commit]
        let patch = try await repository.patchText(pre: pre, post: made)
        return try await UpdateStore(repository).store(
            Update(manifest: manifest, files: ["update.ko": [1], "patch": patch]))
    }

    /// Whether a git command succeeds; for those that are to fail.
    func tries(_ arguments: String..., environment: [String: String?] = [:]) async throws -> Bool {
        try await Command(["git"] + arguments, directory: directory, environment: environment).run().succeeded
    }
}

/// Stands in for create: what becomes of a commit is said by its subject.
final class FakeBuilder: Sendable {
    private let fixture: GitFixture
    private let log = Mutex<[String]>([])
    /// Called before each build.
    let before: @Sendable (String) async throws -> Void

    init(_ fixture: GitFixture, before: @escaping @Sendable (String) async throws -> Void = { _ in }) {
        self.fixture = fixture
        self.before = before
    }

    /// `SUBJECT for KERNEL`, in the order of building.
    var calls: [String] { log.withLock { $0 } }

    func builder(_ name: String = "fake 1") -> QueueBuilder {
        QueueBuilder(name: name) { commit, kernel in
            let subject = try await self.fixture.repository.commit(commit).subject
            self.log.withLock { $0.append("\(subject) for \(kernel.name)") }
            try await self.before(subject)
            if subject.hasPrefix("refused") {
                throw Refusal(findings: [
                    Finding("type-layout", .error, file: "f", "the type changes", advice: "none"),
                    Finding("data-changed", .error, file: "f", "the variable changes", advice: "none"),
                    Finding("makefile", .warning, file: "f", "a remark", advice: "none"),
                ])
            }
            if subject.hasPrefix("nothing") { throw Failure("no code\nor so", status: .noChange) }
            if subject.hasPrefix("broken") { throw Failure("it does not compile") }
            return try await self.fixture.storeUpdate(commit, for: kernel)
        }
    }
}

extension GitFixture {
    /// A worker that waits for nothing.
    func worker(
        _ builder: FakeBuilder, name: String = "fake 1", options: QueueOptions? = nil,
        queue: BuildQueue? = nil
    ) async throws -> QueueWorker {
        var calm = QueueOptions()
        calm.waits = false
        let repository = try await repository
        return QueueWorker(
            repository, queue: queue ?? BuildQueue(repository), options: options ?? calm,
            builder: builder.builder(name)
        ) { _ in }
    }

    /// Each result as `STATE WORDS`, by the subject of its commit.
    func results() async throws -> [String: String] {
        let records = try BuildQueue(try await repository).results()
        return Dictionary(
            records.map { ("\($0.subject) for \($0.kernel)", "\($0.state.rawValue) \($0.words)") },
            uniquingKeysWith: { $1 })
    }
}
