// What kind of repository one is, and how it is set up for updates.

/// The repository's part of a report of a bug.
struct RepositoryFacts: Sendable {
    let repository: Repository

    init(_ repository: Repository) { self.repository = repository }

    func lines() async throws -> [String] {
        var lines = [try await kind()]
        let kernels = try await KernelRegistry(repository).all()
        lines.append("\(kernels.count) registered kernel(s)")
        for kernel in kernels {
            let identity = kernel.identity
            let paths = try KernelRegistry(repository).localPaths(identity)
            let release = identity.release.isEmpty ? "of unknown release" : identity.release
            let compiler = identity.compiler.isEmpty ? "unknown compiler" : identity.compiler
            lines.append(
                "kernel \(release) (\(identity.arch)), build-id \(identity.refName), \(compiler), "
                    + "image \(paths.image == nil ? "unknown" : "known")"
            )
        }
        lines.append("\(try await UpdateStore(repository).list().count) update(s)")
        if let queue = try await QueueOverview(repository) {
            lines.append(
                "queue: \(queue.waiting.count) waiting, \(queue.isWorkedOn ? "a" : "no") worker, "
                    + "\(queue.results.count) result(s)")
            for record in queue.results.prefix(5) {
                lines.append(
                    "background: \(record.state.rawValue) \(record.codes.joined(separator: ", "))".trimmed)
            }
            if let trouble = queue.trouble { lines += trouble.lines.map { "last worker: \($0)" } }
        }
        return lines
    }

    private func kind() async throws -> String {
        var words = [repository.isBare ? "bare" : "with a worktree"]
        if repository.gitDirectory != repository.commonDirectory { words.append("a linked worktree") }
        let common = repository.commonDirectory
        for (path, word) in [
            ("shallow", "shallow"), ("objects/info/alternates", "with alternates"),
            ("refs/replace", "with replace refs"), ("rebase-merge", "a rebase is in progress"),
        ] where Files.exists("\(common)/\(path)") { words.append(word) }
        for (key, word) in [
            ("extensions.partialClone", "partial"), ("core.sparseCheckout", "sparse"),
            ("extensions.objectFormat", "object format set"), ("extensions.refStorage", "ref storage set"),
        ] where try await repository.config(key) != nil { words.append(word) }
        if repository.gitDirectory.contains("/modules/") { words.append("a submodule") }
        return words.joined(separator: ", ")
    }

    /// Variables whose values say nothing of anybody.
    private static let harmless: Set<String> = [
        "ksplice.hook.delay", "ksplice.hook.limit", "ksplice.repositoryformatversion", "color.ksplice",
    ]

    /// The project's variables; only harmless ones with their values.
    func configuration() async throws -> [String] {
        let result = try await repository.git([
            "config", "-z", "--get-regexp", "^(ksplice[.]|(color|pager)[.]ksplice$)",
        ])
        .run()
        guard result.succeeded else { return [] }
        return result.output.split(separator: 0).map { entry in
            let text = String(decoding: entry, as: UTF8.self)
            let name = String(text.prefix { $0 != "\n" })
            let value = text.dropFirst(name.count + 1)
            return Self.harmless.contains(name) ? "\(name) = \(value)" : "\(name) is set"
        }
    }
}
