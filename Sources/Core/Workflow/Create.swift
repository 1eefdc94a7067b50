// From a commit to an update in git. The order is chosen so that the cheap refusals come first and nothing is stored
// before everything is proven: change and trees, files, workspace, pre and post, differencing, assembly, early proof,
// store.

/// What to make an update from.
public enum ChangeSource: Sendable {
    /// A commit or a range, in any form that git understands.
    case revision(String)
    /// A unified diff against the kernel's source.
    case patch(name: String, content: [UInt8])
}

/// The program's version.
public let programVersion = "0.1.0"

/// Findings of severity error that nobody let through, with all others that are known.
public struct Refusal: Error, Sendable {
    /// In the order of files and lines.
    public let findings: [Finding]
    /// What ended the work before all was looked at; nil where nothing did.
    public let interruption: Failure?

    init(findings: [Finding], interruption: Failure? = nil) {
        self.findings = Finding.sorted(findings)
        self.interruption = interruption
    }
}

public struct CreateOptions: Sendable {
    /// The registered kernel's name; nil for the only one.
    public var kernel: String?
    /// One line for people; nil for the commit's subject.
    public var description: String?
    /// Codes of findings to let through.
    public var force: Set<String> = []
    /// Names of constants whose content may be replaced where they stand.
    public var replacedConstants: Set<String> = []
    /// Updates that are applied before this one, in this order: identities, refs or commits.
    public var ground: [String] = []
    public var allowsOtherCompiler = false
    /// Most translation units that a changed header may affect.
    public var maximumUnits = 1000
    /// The folder with the sources of ksplice.ko.
    public var kernelSources: String

    public init(kernelSources: String) { self.kernelSources = kernelSources }

    /// Whether exactly these constants are to be replaced in place.
    func asksFor(_ constants: [String]) -> Bool {
        constants.allSatisfy { symbol in
            replacedConstants.contains { InPlaceConstant.matches(symbol, $0) }
        } && unknownConstants(constants).isEmpty
    }

    private func unknownConstants(_ constants: [String]) -> [String] {
        replacedConstants.sorted().filter { name in
            !constants.contains { InPlaceConstant.matches($0, name) }
        }
    }

    /// Fails where a constant is to be replaced that does not change.
    func checkConstants(_ constants: [String]) throws {
        guard let name = unknownConstants(constants).first else { return }
        throw Failure(
            "no constant '\(name)' is changed by this commit", status: .notFound,
            hint: "--replace-constant wants the name of a constant that exists before and after the change")
    }

    /// What the manifest records as the maker of an update.
    func builder() throws -> String {
        var sources: [UInt8] = []
        for name in try Files.list(kernelSources) where name.hasSuffix(".c") || name.hasSuffix(".h") {
            sources += Array(name.utf8) + (try Files.read(kernelSources + "/" + name))
        }
        return "\(programVersion)+\(sha256(sources).prefix(12))"
    }
}

public struct CreateOutcome: Sendable {
    public let stored: StoredUpdate
    public let manifest: Manifest
    public let findings: [Finding]
    /// Whether an equal update was there already, so that nothing had to be done.
    public let existed: Bool
    /// Functions proven against the kernel's image; nil where no image is at hand.
    public let proof: Proof?
    /// Milliseconds by phase: `compiler` and `objtool` are those programs, the rest is this one and small helpers.
    public let milliseconds: [(name: String, value: Int)]
}

public struct Creator: Sendable {
    public let repository: Repository
    let options: CreateOptions
    let progress: @Sendable (String) -> Void

    public init(
        repository: Repository, options: CreateOptions, progress: @escaping @Sendable (String) -> Void
    ) {
        self.repository = repository
        self.options = options
        self.progress = progress
    }

    /// Makes and stores an update, or finds the equal one that is stored already.
    public func create(_ source: ChangeSource) async throws -> CreateOutcome {
        let clock = PhaseClock()
        let registry = KernelRegistry(repository)
        let summary = try await registry.summary(options.kernel)
        let ground = try await ground(summary)
        let preTree = ground.tree
        let change: Change
        switch source {
        case .revision(let name): change = try await repository.change(name)
        case .patch(let name, let content):
            change = try await repository.change(patch: content, name: name, tree: preTree)
        }
        let postTree = try repository.postTree(change, preTree: preTree)
        guard postTree != preTree else {
            let place = ground.updates.isEmpty ? "the kernel's source" : "the source of the updates before it"
            throw Failure("the change is in \(place) already", status: .noChange)
        }
        if let outcome = try await existing(summary, change, ground, postTree, clock) { return outcome }
        let job = CreateJob(
            creator: self, kernel: try await registry.descriptor(summary), change: change, ground: ground,
            postTree: postTree, workspace: Workspace(root: try registry.workspaceRoot(summary.identity)),
            clock: clock)
        let made = try await job.make()
        let stored = try await clock.measure("store") { try await UpdateStore(repository).store(made.update) }
        return CreateOutcome(
            stored: stored, manifest: made.update.manifest, findings: made.findings, existed: false,
            proof: made.proof, milliseconds: clock.milliseconds)
    }

    private func ground(_ kernel: KernelSummary) async throws -> Ground {
        let store = UpdateStore(repository)
        var updates: [Update] = []
        for spec in options.ground {
            updates.append(
                try await store.load(try await store.find(spec, kernel: kernel.identity).ref))
        }
        return try await Ground(
            repository, kernel: kernel.identity, sourceCommit: kernel.sourceCommit, updates: updates)
    }

    private func existing(
        _ kernel: KernelSummary, _ change: Change, _ ground: Ground, _ postTree: String, _ clock: PhaseClock
    ) async throws -> CreateOutcome? {
        let store = UpdateStore(repository)
        let builder = try options.builder()
        for stored in try await store.find(kernel: kernel.identity, preTree: ground.tree, postTree: postTree)
        {
            guard let manifest = try await store.readableManifest(stored) else { continue }
            // A kernel without a build-id is told apart by all that is known of it.
            guard manifest.builder == builder, manifest.kernel == kernel.identity,
                manifest.commits == change.commits, manifest.depends == ground.updates.map(\.id),
                manifest.description == options.description ?? change.description,
                Set(manifest.forced).isSubset(of: options.force),
                options.asksFor(manifest.constants.map(\.symbol))
            else { continue }
            return CreateOutcome(
                stored: stored, manifest: manifest, findings: [], existed: true, proof: nil,
                milliseconds: clock.milliseconds)
        }
        return nil
    }
}
