// Where an update comes from that is to be applied, checked or tested: an archive, or this repository.

import Core

enum UpdateSource {
    /// Reads an update named by an archive's path, an identity, a ref or a commit.
    ///
    /// An identity, or a hole's name, that this repository does not know means an update that this host has fetched.
    ///
    /// - Parameters:
    ///   - kernel: for which kernel; of what was fetched, by default the running one.
    ///   - channel: from which channel it was fetched.
    static func load(_ spec: String, kernel: KernelIdentity? = nil, channel: String = "stable") async throws
        -> Update
    {
        if spec.hasSuffix(".tar.gz") || (spec.contains("/") && Files.isRegular(spec)) {
            return try archive(spec)
        }
        let store: UpdateStore
        do {
            store = UpdateStore(try await Repository())
        } catch let failure as Failure {
            if Files.isRegular(spec) { return try archive(spec) }
            if let update = try await fetched(spec, kernel, channel) { return update }
            // A host that only applies archives needs no git.
            let isWithoutGit = failure.message.hasPrefix("cannot run")
            throw Failure(
                isWithoutGit ? "no such archive: '\(spec)'" : failure.message,
                status: isWithoutGit ? .notFound : failure.status,
                hint: "outside of a repository, name an archive (ksplice-....tar.gz)")
        }
        do {
            return try await store.load(try await store.find(spec, kernel: kernel).ref)
        } catch let failure as Failure where failure.status == .notFound {
            if let update = try await fetched(spec, kernel, channel) { return update }
            throw failure
        }
    }

    /// An update that this host has fetched; nil where it has fetched nothing of that name.
    private static func fetched(_ spec: String, _ kernel: KernelIdentity?, _ channel: String) async throws
        -> Update?
    {
        let subscription = Locations.subscription
        guard try await subscription.repository() != nil else { return nil }
        let running: KernelIdentity? =
            if let kernel { kernel } else { await runningKernel(Locations.host) }
        guard let running else { return nil }
        let state: ChannelState
        do {
            state = try await subscription.state(channel: channel, kernel: running)
        } catch let failure as Failure where failure.status == .wrongKernel {
            return nil
        }
        let found = state.index.entries.filter { entry in
            spec.count >= 4 && entry.id.hasPrefix(spec.lowercased()) || entry.cves.contains(spec)
        }
        // Of several that close a hole, the one that is to be applied.
        let wanted = Set(try state.index.wanted().map(\.id))
        let best = found.count == 1 ? found : found.filter { wanted.contains($0.id) }
        guard best.count <= 1 else {
            throw Failure(
                "'\(spec)' is ambiguous; it may mean\n" + best.map { "  " + $0.id }.joined(separator: "\n"),
                hint: "name one by its identity")
        }
        guard let entry = best.first else { return nil }
        return try await subscription.load(entry, of: state)
    }

    /// An update from an archive; a failure names the file.
    private static func archive(_ path: String) throws -> Update {
        let bytes = try Files.read(path)
        do { return try Update(archive: bytes) } catch let failure as Failure {
            throw Failure(
                "'\(path)' holds no update that can be trusted: \(failure.message)", status: failure.status,
                hints: failure.hints + ["export or copy the update again"])
        }
    }

    /// The source before and after an update, where this is a repository that has it.
    static func texts(of update: Update) async throws -> (pre: SourceText, post: SourceText) {
        let repository: Repository
        do { repository = try await Repository() } catch { return (.none, .none) }
        func text(_ tree: String) throws -> SourceText {
            guard try repository.hasObject(tree) else { return .none }
            return SourceText { try repository.blob($0, tree: tree) }
        }
        return (try text(update.manifest.preTree), try text(update.manifest.postTree))
    }

    /// The identity of a machine's kernel, for the choice among several updates of one commit.
    static func runningKernel(_ host: any Host & Sendable) async -> KernelIdentity? {
        try? await host.identity()
    }
}
