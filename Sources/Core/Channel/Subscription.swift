// An administrator's host: what it has fetched of one publisher's channels, in a repository of its own. Nothing gets a name there
// before everything about it was checked; what is fetched lies under refs/ksplice-incoming until then. Who may write to the
// repository can still not make a host apply what nobody signed: everything is checked again when it is used.

import Glibc

/// A host's own copy of channels.
public struct Subscription: Sendable {
    /// Where a host keeps it.
    public static let usualFolder = "/var/lib/ksplice"
    /// Where its administrator says whom to trust.
    public static let usualAnchor = "/etc/ksplice/trust"

    public let folder: String
    let memory: TrustMemory
    private var repositoryPath: String { folder + "/repo.git" }

    public init(folder: String = Self.usualFolder, anchor: String = Self.usualAnchor) {
        self.folder = folder
        memory = TrustMemory(path: folder + "/trust", anchor: anchor)
    }

    /// What a fetch brought.
    public struct Fetched: Sendable {
        public var state: ChannelState
        /// Identities of the updates that were not here before.
        public var updates: [String]
        /// Whether the channel said something new.
        public var isNew: Bool
    }

    /// The repository; nil where nothing was ever fetched.
    public func repository() async throws -> Repository? {
        guard Files.isDirectory(repositoryPath) else { return nil }
        return try await Repository(only: repositoryPath)
    }

    /// Does something while nobody else changes anything here.
    public func exclusively<Result>(_ body: () async throws -> Result) async throws -> Result {
        try await DurableFolder(folder).locked(patience: 30, body)
    }

    /// - Parameter format: how what is to be fetched names its objects, where that is known.
    private func created(_ format: ObjectFormat? = nil) async throws -> Repository {
        let folder = DurableFolder(folder)
        try folder.create()
        try folder.refuseForeign(["repo.git"])
        if let present = try await repository() {
            guard let format, format != present.format else { return present }
            // It was made before anybody knew what there is to fetch.
            guard try await present.references([]).isEmpty else {
                throw OtherFormat(format).failure(
                    "what is to be fetched", present,
                    hint:
                        "remove '\(repositoryPath)' and fetch once more; what this host trusts and has accepted is kept elsewhere"
                )
            }
            try Files.remove(repositoryPath)
        }
        // An interrupted one has no name yet.
        let unfinished = repositoryPath + ".tmp"
        if Files.exists(unfinished) { try Files.remove(unfinished) }
        try await Command([
            "git", "init", "-q", "--bare", "--object-format=\((format ?? .sha1).rawValue)", "--template=",
            unfinished,
        ])
        .check("cannot make '\(repositoryPath)'")
        guard rename(unfinished, repositoryPath) == 0 else {
            throw Failure.system("make", repositoryPath, errno: errno)
        }
        return try await Repository(only: repositoryPath)
    }

    // MARK: - Fetching

    /// Gets the newest state of a channel for one kernel and the updates that are to be applied there, and nothing else.
    ///
    /// - Parameters:
    ///   - source: a URL, a path, or a bundle's file; nil for where it came from last time.
    ///   - channel: `stable`, ...
    ///   - release: also what this release has, for a host that is to have that.
    /// - Throws: `wrongKernel` where the source has no such channel for this kernel; `verificationRefused`; `stale` where
    ///   everything is in order, but too old: then it is stored all the same.
    public func fetch(
        from source: String?, channel: String, release: String? = nil, kernel: KernelIdentity,
        progress: (String) -> Void = { _ in }
    ) async throws -> Fetched {
        var repository = try await created()
        let name = try ChannelName(kernel, channel)
        return try await exclusively {
            let place: String
            if let source { place = source } else { place = try await knownSource(repository) }
            let fetched: Fetched
            do {
                fetched = try await fetch(place, name, release, repository, progress)
            } catch let other as OtherFormat {
                repository = try await created(other.format)
                fetched = try await fetch(place, name, release, repository, progress)
            }
            try await repository.setConfig("ksplice.source", place)
            try fetched.state.checkValidity()
            return fetched
        }
    }

    private func knownSource(_ repository: Repository) async throws -> String {
        guard let source = try await repository.config("ksplice.source") else {
            throw Failure(
                "this host does not know where to fetch from", status: .usage, hint: "git ksplice fetch URL")
        }
        return source
    }

    /// What was fetched and refused is there until it is swept.
    private func collectGarbage(_ repository: Repository) async throws {
        let packs = try Files.list(repository.commonDirectory + "/objects/pack").count {
            $0.hasSuffix(".pack")
        }
        guard packs > 20 else { return }
        try await repository.git(["gc", "-q", "--prune=now"]).check("cannot sweep '\(repositoryPath)'")
    }

    private func fetch(
        _ source: String, _ name: ChannelName, _ release: String?, _ repository: Repository,
        _ progress: (String) -> Void
    ) async throws -> Fetched {
        progress("fetching the policy of trust")
        let incoming = Incoming(repository, source)
        try await incoming.clear()
        try await collectGarbage(repository)
        // Whoever sends it decides how much that is, up to here.
        _ = try await incoming.fetchIfThere(TrustChain.ref, limit: 1 << 24)
        let root = try await repository.references([Incoming.prefix])[incoming.place(TrustChain.ref)]
        var policy = try memory.policy()
        var newest: String?
        if let root {
            let chain = TrustChain(repository)
            policy = try await chain.follow(from: policy, to: root)
            // An older one may be sent: it is passed over, and gets no name here.
            if try chain.policy(of: repository.signedCommit(root)) == policy { newest = root }
            // At once: a key that is revoked is so, whatever else is wrong with what was sent.
            try memory.learn(policy)
        }
        progress("fetching channel '\(name.name)'")
        _ = try await incoming.fetchIfThere(name.ref, limit: 1 << 26)
        guard let tip = try await repository.references([Incoming.prefix])[incoming.place(name.ref)] else {
            throw Failure(
                "'\(source)' has no channel '\(name.name)' for this kernel (\(name.arch), \(name.kernel.prefix(12)))",
                status: .wrongKernel, hint: "uname -r; git ksplice fetch --channel NAME")
        }
        let state = try ChannelState(tip, of: name, in: repository)
        try await policy.check(state, in: repository)
        try memory.checkProgress(state, in: repository)
        progress("fetching and checking updates")
        let updates = try await fetchUpdates(state, release, policy, incoming, repository)
        try await commit(state, root: newest, updates, incoming, repository)
        let isNew = try memory.accepted(name).map { $0.digest != state.digest } ?? true
        // Afterwards: what is not remembered is fetched again, what is remembered must be here.
        try memory.accept(state)
        return Fetched(state: state, updates: updates.map(\.id), isNew: isNew)
    }

    /// Those that are not here yet, each checked.
    private func fetchUpdates(
        _ state: ChannelState, _ release: String?, _ policy: TrustPolicy, _ incoming: Incoming,
        _ repository: Repository
    ) async throws -> [ChannelEntry] {
        let present = try await repository.references([
            "\(UpdateStore.prefix)\(state.name.arch)/\(state.name.kernel)"
        ])
        var wanted = try state.index.wanted()
        if let release {
            let known = Set(wanted.map(\.id))
            wanted += try state.index.wanted(release: release).filter { !known.contains($0.id) }
        }
        let missing = wanted.filter { present[state.name.ref(of: $0)] != $0.commit }
        if !missing.isEmpty {
            // Git compresses; what lies beside the files are a few objects each.
            let size = missing.reduce(0) { $0 + $1.size + 65536 }
            try await incoming.fetch(
                missing.map { "+\(state.name.ref(of: $0)):\(incoming.place(state.name.ref(of: $0)))" },
                limit: size + 1 << 20)
        }
        let now = try await repository.references([Incoming.prefix])
        for entry in missing {
            guard let id = now[incoming.place(state.name.ref(of: entry))] else {
                throw Failure("update \(entry.id.prefix(12)) was not sent", status: .notFound)
            }
            try await check(entry, commit: id, state, policy, repository)
        }
        return missing
    }

    /// Everything about one update, in the order of what is cheapest to say no; gives it.
    @discardableResult
    private func check(
        _ entry: ChannelEntry, commit id: String, _ state: ChannelState, _ policy: TrustPolicy,
        _ repository: Repository
    ) async throws -> Update {
        let commit = try repository.signedCommit(id)
        try await policy.check(commit, of: entry, name: state.name)
        let files: [String: [UInt8]]
        do { files = try repository.files(tree: commit.tree, limit: entry.size) } catch {
            throw Failure(
                "update \(entry.id.prefix(12)) is not what channel '\(state.name.name)' says: \(Failure(error).message)",
                status: .verificationRefused)
        }
        return try UpdateStore.update(files: files, ref: state.name.ref(of: entry))
    }

    private func commit(
        _ state: ChannelState, root: String?, _ updates: [ChannelEntry], _ incoming: Incoming,
        _ repository: Repository
    ) async throws {
        var values = [state.name.ref: state.commit.id]
        if let root { values[TrustChain.ref] = root }
        for entry in updates { values[state.name.ref(of: entry)] = entry.commit }
        let arrived = try await repository.references([Incoming.prefix])
        try await repository.changeReferences(Array(values.keys), reason: "ksplice: fetch") { now in
            values.sorted { $0.key < $1.key }.compactMap { ref, value in
                now[ref] == value ? nil : ReferenceUpdate(name: ref, new: value, old: now[ref])
            } + ReferenceUpdate.deletions(of: arrived)
        }
    }

    // MARK: - Using

    /// What this host trusts now.
    public func policy() throws -> TrustPolicy { try memory.policy() }

    /// Lets this host trust the signers of a policy, in place of what its administrator has said before.
    ///
    /// - Parameter replacing: also in place of a newer policy that was learned since.
    public func accept(_ policy: TrustPolicy, replacing: Bool = false) async throws {
        try DurableFolder(folder).create()
        try await exclusively {
            if let learned = try memory.learned(), learned.serial > policy.serial, learned != policy {
                guard replacing else {
                    throw Failure(
                        "this host has learned policy \(learned.serial) since, and follows that", status: .no,
                        hint:
                            "git ksplice trust show --host; --replace gives up what was learned, revocations, too"
                    )
                }
                try memory.forget()
            }
            let anchor = DurableFolder(memory.anchor.directoryPart)
            try anchor.create()
            try anchor.write(
                Array(policy.text.utf8), to: String(memory.anchor.split(separator: "/").last ?? "trust"))
        }
    }

    /// The newest state of a channel that was fetched, checked once more. Fails where there is none, and where it is out of date
    /// unless `mayBeOld`.
    public func state(channel: String, kernel: KernelIdentity, mayBeOld: Bool = false) async throws
        -> ChannelState
    {
        let name = try ChannelName(kernel, channel)
        guard let repository = try await repository(),
            let state = try await ChannelStore(repository).state(name)
        else {
            throw Failure(
                "nothing was fetched for this kernel from a channel '\(channel)'", status: .wrongKernel,
                hint: "git ksplice fetch URL")
        }
        try await memory.policy().check(state, in: repository)
        try memory.checkProgress(state, in: repository)
        if !mayBeOld { try state.checkValidity() }
        return state
    }

    /// An update that a channel lists, checked once more.
    public func load(_ entry: ChannelEntry, of state: ChannelState) async throws -> Update {
        guard entry.withdrawn == nil else {
            throw Failure(
                "update \(entry.id.prefix(12)) was withdrawn: \(entry.withdrawn ?? "")",
                status: .verificationRefused)
        }
        let ref = state.name.ref(of: entry)
        guard let repository = try await repository(), let id = try await repository.references([ref])[ref]
        else {
            throw Failure(
                "update \(entry.id.prefix(12)) is not here", status: .notFound,
                hint: "git ksplice fetch; for an older release, git ksplice fetch --release NAME")
        }
        return try await check(entry, commit: id, state, memory.policy(), repository)
    }
}

extension ChannelName {
    func ref(of entry: ChannelEntry) -> String { "\(UpdateStore.prefix)\(arch)/\(kernel)/\(entry.id)" }
}

/// Refs as they arrived, before anybody looked at them.
private struct Incoming: Sendable {
    /// In seconds.
    private static let patience = 1800
    static let prefix = "refs/ksplice-incoming/"
    let repository: Repository
    let source: String

    init(_ repository: Repository, _ source: String) { (self.repository, self.source) = (repository, source) }

    func place(_ ref: String) -> String { Self.prefix + ref.dropFirst("refs/".count) }

    /// Whether there is such a ref.
    func fetchIfThere(_ ref: String, limit: Int) async throws -> Bool {
        do {
            try await fetch(["+\(ref):\(place(ref))"], limit: limit)
            return true
        } catch let failure as Failure where failure.status == .notFound { return false }
    }

    func clear() async throws {
        try await repository.deleteReferences([Self.prefix], reason: "ksplice: fetch")
    }

    /// - Parameter limit: in bytes: a sender cannot fill the disk.
    func fetch(_ refspecs: [String], limit: Int) async throws {
        if let bundle = BundleHeader(of: source) {
            if bundle.format != repository.format { throw OtherFormat(bundle.format) }
            try bundle.refusePartial(source)
        }
        var command = repository.git(
            [
                "-c", "fetch.fsckObjects=true", "-c", "fetch.unpackLimit=1", "-c", "http.lowSpeedLimit=1000",
                "-c", "http.lowSpeedTime=60", "-c", "fetch.recurseSubmodules=no", "-c", "gc.auto=0", "fetch",
                "-q", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--refmap=", "--stdin",
                "--end-of-options", source,
            ], input: Array((refspecs.joined(separator: "\n") + "\n").utf8))
        // A shell's unit is half a kibibyte. Whoever sends nothing for ever is not waited for.
        command.arguments =
            [
                "timeout", "\(Self.patience)", "sh", "-c", "trap '' 25; ulimit -f \"$0\" && exec \"$@\"",
                "\(limit / 512 + 1)",
            ] + command.arguments
        let result = try await command.run()
        if result.succeeded { return }
        let said = Repository.words(of: result)
        if let other = OtherFormat(said: said, here: repository.format) { throw other }
        if result.status == 124 {
            throw Failure(
                "'\(source)' has not sent everything within \(Self.patience) seconds", status: .busy)
        }
        if result.status == 128 + SIGXFSZ || said.contains("signal 25") || said.contains("File too large") {
            throw Failure(
                "'\(source)' sends more than \(limit) bytes for what was asked", status: .verificationRefused,
                hint: "ask who publishes it")
        }
        throw Failure(
            "cannot fetch from '\(source)': \(said)",
            status: said.contains("couldn't find remote ref") ? .notFound : .fatal)
    }
}
