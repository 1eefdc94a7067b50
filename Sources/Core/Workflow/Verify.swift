// Verifying a stored update. The first question is whether it is still what was stored: manifest, files, and the ref
// that names it. The second, harder one is whether it is what it says: it is made anew from what its manifest records
// (trees, commits or patch, kernel, what its author let through), and each file is compared. Since the same inputs give
// the same bytes, whoever has the kernel's source and compiler can find out without trusting who made it.
//
// The workspace is used as it is prepared; nothing that was compiled earlier is taken, unless the caller allows it.
// Nothing is stored.

import Glibc

/// A file of an update that is not what it should be.
public struct VerifiedFile: Sendable, Equatable {
    public enum State: String, Sendable {
        case differs
        /// In the stored update only.
        case extra
        /// In the one that was made anew only.
        case missing
    }
    public var path: String
    public var state: State
}

/// What making an update anew gave.
public struct Rebuild: Sendable {
    /// Sorted by path; none where both are equal, byte by byte.
    public var differences: [VerifiedFile]
    /// What may have led to the differences.
    public var causes: [String]
}

public struct Verifier: Sendable {
    let repository: Repository
    let kernelSources: String
    /// Whether objects that were compiled earlier may be taken.
    public var usesCache = false
    let progress: Progress

    public init(
        repository: Repository, kernelSources: String, progress: Progress
    ) {
        self.repository = repository
        self.kernelSources = kernelSources
        self.progress = progress
    }

    /// Trees of source that the manifest names and that this repository does not have. The one after the change is
    /// often made in memory only, and an update can be fetched without any source.
    public static func missingTrees(_ update: Update, in repository: Repository) throws -> [String] {
        try [update.manifest.preTree, update.manifest.postTree].filter { try !repository.hasObject($0) }
    }

    /// Makes an update anew and compares. Fails where something that it takes is not here.
    public func rebuild(_ update: Update) async throws -> Rebuild {
        let manifest = update.manifest
        let registry = KernelRegistry(repository)
        guard let summary = try await registry.all().first(where: { $0.identity == manifest.kernel }) else {
            let kernel = manifest.kernel
            throw Failure(
                "the kernel of the update is not registered here: \(kernel.release) (\(kernel.arch), \(kernel.refName.prefix(12)))",
                status: .notFound,
                hint:
                    "git ksplice kernel add NAME --source \(manifest.sourceCommit.prefix(12)) --from PACKAGE")
        }
        let tree = manifest.depends.isEmpty ? manifest.preTree : manifest.sourceCommit
        guard try repository.hasObject(tree) else {
            throw Failure(
                "the source of the update's kernel is not in this repository: tree \(tree)",
                status: .notFound, hint: "fetch commit \(manifest.sourceCommit.prefix(12))")
        }
        let ground = try await ground(manifest)
        let change = try await change(update)
        let postTree = try repository.postTree(change, preTree: manifest.preTree)
        guard postTree == manifest.postTree else {
            throw Failure(
                "the update is not made from what it records: that gives the source tree \(postTree.prefix(12)), "
                    + "the manifest names \(manifest.postTree.prefix(12))", status: .no)
        }
        var options = CreateOptions(kernelSources: kernelSources)
        options.description = manifest.description
        options.force = Set(manifest.forced)
        options.replacedConstants = Set(manifest.constants.map(\.symbol))
        options.maximumUnits = Int.max
        var workspace = Workspace(root: try registry.workspaceRoot(summary.identity))
        let scratch = workspace.root + "/verify.\(getpid())"
        defer {
            do { try Files.remove(scratch) } catch {
                progress.warn("cannot remove '\(scratch)': \(Failure(error).message)")
            }
        }
        if !usesCache { workspace.scratch = scratch }
        let job = CreateJob(
            creator: Creator(repository: repository, options: options, progress: progress.step),
            kernel: try await registry.descriptor(summary), change: change, ground: ground,
            postTree: postTree, workspace: workspace, clock: PhaseClock())
        let made = try await job.make()
        return Rebuild(
            differences: Self.differences(update, made.update),
            causes: try causes(manifest, options, isProven: made.proof != nil))
    }

    /// What the update was made on. Fails where an update that it depends on is not here.
    private func ground(_ manifest: Manifest) async throws -> Ground {
        let store = UpdateStore(repository)
        var updates: [Update] = []
        for id in manifest.depends { updates.append(try await store.load(try await store.find(id).ref)) }
        let ground = try await Ground(
            repository, kernel: manifest.kernel, sourceCommit: manifest.sourceCommit, updates: updates)
        guard ground.tree == manifest.preTree else {
            throw Failure(
                "the update is not made on what it records: that is the source tree \(ground.tree.prefix(12)), "
                    + "the manifest names \(manifest.preTree.prefix(12))", status: .no)
        }
        return ground
    }

    /// The change as it is recorded. One commit is asked itself; what a range was, and a patch, stands in the update.
    private func change(_ update: Update) async throws -> Change {
        let manifest = update.manifest
        if manifest.commits.count == 1, try repository.hasObject(manifest.commits[0]) {
            do { return try await repository.change(manifest.commits[0]) } catch let failure as Failure
                where failure.status == .notFound
            { progress.warn(failure.message + "; taking the patch instead") }
        }
        var change = try await repository.change(
            patch: update.file(Update.Path.patch), name: Update.Path.patch, tree: manifest.preTree)
        change.commits = manifest.commits
        return change
    }

    /// The manifest comes first: where it differs in more than its list of files, that is the cause.
    static func differences(_ stored: Update, _ made: Update) -> [VerifiedFile] {
        var found: [VerifiedFile] = []
        func bare(_ manifest: Manifest) -> String {
            var manifest = manifest
            manifest.files = []
            return manifest.text
        }
        if bare(stored.manifest) != bare(made.manifest) {
            found.append(VerifiedFile(path: Update.Path.manifest, state: .differs))
        }
        for path in Set(stored.files.keys).union(made.files.keys).sorted() {
            switch (stored.files[path], made.files[path]) {
            case (nil, _): found.append(VerifiedFile(path: path, state: .missing))
            case (_, nil): found.append(VerifiedFile(path: path, state: .extra))
            case (let a, let b): if a != b { found.append(VerifiedFile(path: path, state: .differs)) }
            }
        }
        return found
    }

    private func causes(_ manifest: Manifest, _ options: CreateOptions, isProven: Bool) throws -> [String] {
        var causes: [String] = []
        let builder = try options.builder()
        if builder != manifest.builder {
            causes.append("it was made by git-ksplice \(manifest.builder); this is \(builder)")
        }
        if !isProven {
            causes.append(
                "the kernel's image is not at hand, so findings that follow from addresses are not made")
        }
        return causes
    }
}
