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

/// Findings of severity error that nobody let through.
public struct Refusal: Error, Sendable {
    public let findings: [Finding]
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
    public var allowsOtherCompiler = false
    /// Most translation units that a changed header may affect.
    public var maximumUnits = 300
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
}

public struct Creator: Sendable {
    let repository: Repository
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
        let registry = KernelRegistry(repository)
        let summary = try await registry.summary(options.kernel)
        let preTree = try repository.tree(of: summary.sourceCommit)
        let change: Change
        switch source {
        case .revision(let name): change = try await repository.change(name)
        case .patch(let name, let content):
            change = try await repository.change(patch: content, name: name, tree: preTree)
        }
        let postTree = try repository.postTree(change, preTree: preTree)
        guard postTree != preTree else {
            throw Failure("the change is in the kernel's source already", status: .noChange)
        }
        if let outcome = try await existing(summary, change, preTree, postTree) { return outcome }
        let job = CreateJob(
            creator: self, kernel: try await registry.descriptor(summary), change: change, preTree: preTree,
            postTree: postTree, workspace: Workspace(root: registry.workspaceRoot(summary.identity)))
        return try await job.run()
    }

    private func existing(
        _ kernel: KernelSummary, _ change: Change, _ preTree: String, _ postTree: String
    ) async throws -> CreateOutcome? {
        let store = UpdateStore(repository)
        let builder = try options.builder()
        for stored in try await store.find(kernel: kernel.identity, preTree: preTree, postTree: postTree) {
            guard let manifest = try await store.readableManifest(stored) else { continue }
            // A kernel without a build-id is told apart by all that is known of it.
            guard manifest.builder == builder, manifest.kernel == kernel.identity,
                manifest.commits == change.commits,
                manifest.description == options.description ?? change.description,
                Set(manifest.forced).isSubset(of: options.force),
                options.asksFor(manifest.constants.map(\.symbol))
            else { continue }
            return CreateOutcome(stored: stored, manifest: manifest, findings: [], existed: true, proof: nil)
        }
        return nil
    }
}

/// One run of create, past the question whether there is anything to do.
struct CreateJob {
    let creator: Creator
    let kernel: KernelDescriptor
    let change: Change
    let preTree: String
    let postTree: String
    let workspace: Workspace

    private var repository: Repository { creator.repository }
    private var options: CreateOptions { creator.options }

    func run() async throws -> CreateOutcome {
        let changed = try repository.changedFiles(pre: preTree, post: postTree)
        var affected = AffectedFiles(
            changed, architecture: Workspace.sourceArchitecture(kernel.identity.arch))
        try refuse(affected.findings)
        guard !affected.sources.isEmpty || !affected.headers.isEmpty else {
            throw Failure("the change touches no code of the kernel", status: .noChange)
        }
        let toolchain = try await Toolchain.find(
            kernel.identity.compiler, allowOther: options.allowsOtherCompiler)
        let configuration = Workspace.Configuration(
            config: kernel.config, release: kernel.identity.release, arch: kernel.identity.arch,
            toolchain: toolchain,
            configCheck: Self.configDrift)
        let lock = try workspace.lock {
            creator.progress("waiting for another git-ksplice in this workspace")
        }
        defer { _ = lock }
        try await workspace.checkOut(tree: preTree) { folder, index in
            creator.progress("writing the kernel's source (once)")
            try await repository.exportTree(preTree, to: folder, index: index)
        }
        try await workspace.prepare(configuration, progress: creator.progress)
        if !affected.headers.isEmpty {
            affected.sources = try await withHeaderUsers(affected, changed)
        }
        let compiler = Compiler(
            workspace: workspace, configuration: configuration, headers: options.kernelSources)
        let (units, notBuilt) = try await compiler.units(for: affected.sources)
        guard !units.isEmpty else {
            let names = notBuilt.prefix(5).joined(separator: ", ") + (notBuilt.count > 5 ? ", ..." : "")
            throw Failure(
                "this kernel's config builds none of the changed files: \(names)", status: .noChange,
                hint: "the running kernel does not contain this code; there is nothing to update")
        }
        let source = try sourceChange(changed)
        let pairs = try await compile(units, compiler, source)
        let builder = ModuleBuilder(workspace: workspace, kernelSources: options.kernelSources)
        let objtool = units.first { !$0.command.objtool.isEmpty }?.command.objtool ?? []
        let parts = try await builder.parts(objtool: objtool, progress: creator.progress)
        return try await finish(pairs, source, builder, parts, affected.findings)
    }

    private static let configDrift: @Sendable (String, String) -> [String] = { before, after in
        do {
            return ConfigFile.differences(from: try ConfigFile(before), to: try ConfigFile(after))
                .filter { $0.cause != .harmless }.map(\.description)
        } catch {
            return ["\(error)"]
        }
    }

    /// Throws where a finding is an error that its author did not let through.
    private func refuse(_ findings: [Finding]) throws {
        if findings.contains(where: { $0.severity == .error && !options.force.contains($0.code) }) {
            throw Refusal(findings: findings)
        }
    }

    private func withHeaderUsers(_ affected: AffectedFiles, _ changed: [ChangedFile]) async throws -> [String]
    {
        creator.progress("looking for the users of \(affected.headers.count) changed header(s)")
        let users = try await AffectedFiles.users(of: affected.headers, in: workspace.source)
        let all = Set(affected.sources + users).sorted().filter { path in
            !path.hasPrefix("arch/")
                || path.hasPrefix("arch/\(Workspace.sourceArchitecture(kernel.identity.arch))/")
        }.filter { !$0.hasPrefix("tools/") && !$0.hasPrefix("samples/") && !$0.hasPrefix("scripts/") }
        guard all.count <= options.maximumUnits else {
            throw Refusal(findings: [
                Finding(
                    "too-many-units", .error, file: affected.headers[0],
                    "\(all.count) source files may include the changed header(s): \(affected.headers.joined(separator: ", "))",
                    advice: "move the change into the .c files that need it, or raise --max-units")
            ])
        }
        return all
    }

    // MARK: - Pre and post

    private struct Pair: Sendable {
        var unit: TranslationUnit
        var pre: String
        var post: String
    }

    /// Compiles the units whose preprocessed text differs.
    private func compile(_ units: [TranslationUnit], _ compiler: Compiler, _ source: SourceChange)
        async throws -> [Pair]
    {
        creator.progress("compiling \(units.count) file(s) before and after the change")
        let pre = try await compiler.preprocess(units, label: "pre")
        let post = try await workspace.withFiles(source.markedFiles) {
            try await compiler.preprocess(units, label: "post")
        }
        let different = units.indices.filter { pre[$0].codeDigest != post[$0].codeDigest }
        guard !different.isEmpty else {
            throw Failure(
                "the change does not change any code: only comments, blank lines, or parts that this config leaves out",
                status: .noChange)
        }
        let objects = try await compiler.compile(different.flatMap { [pre[$0], post[$0]] })
        return different.enumerated().map { position, index in
            Pair(unit: units[index], pre: objects[2 * position], post: objects[2 * position + 1])
        }
    }

    /// The C files that change, with the lines that do.
    private func sourceChange(_ changed: [ChangedFile]) throws -> SourceChange {
        var files: [String: SourceChange.File] = [:]
        for file in changed where file.path.hasSuffix(".c") || file.path.hasSuffix(".h") {
            let (pre, post) = try (
                repository.blob(file.path, tree: preTree), repository.blob(file.path, tree: postTree)
            )
            files[file.path] = .init(
                hunks: try repository.hunks(pre: pre ?? [], post: post ?? []), pre: pre, post: post)
        }
        let folder = workspace.source
        return SourceChange(files) { path in
            Files.isRegular("\(folder)/\(path)") ? try Files.read("\(folder)/\(path)") : nil
        }
    }

    // MARK: - The update

    private func finish(
        _ pairs: [Pair], _ source: SourceChange, _ builder: ModuleBuilder, _ parts: ModuleBuilder.Parts,
        _ known: [Finding]
    ) async throws -> CreateOutcome {
        let compared = try await inParallel(pairs) { pair in
            try UnitDifference.compare(
                path: pair.unit.path, module: pair.unit.module, prePath: pair.pre, postPath: pair.post,
                tables: parts.tables, replacing: options.replacedConstants, source: source)
        }
        let findings = Finding.merged(
            known + compared.flatMap(\.findings) + HookReview.findings(compared))
        try refuse(findings)
        try options.checkConstants(compared.flatMap { $0.constants.map(\.name) })
        let kept = compared.indices.filter { !compared[$0].isEmpty }
        guard kept.contains(where: { compared[$0].changesKernel }) else {
            throw Failure("the change does not change any function's code", status: .noChange)
        }
        let differences = kept.map { compared[$0] }
        creator.progress("building the update module")
        let exports = ExportIndex(kernel)
        let assembler = Assembler(
            builder: builder, isExported: exports.isExported, exportingModule: exports.module,
            workFolder: workspace.root + "/work", glue: parts.glue)
        let assembly = try await assembler.assemble(
            differences, objtool: kept.map { pairs[$0].unit.command.objtool })
        var files: [String: [UInt8]] = [
            Update.Path.patch: try await repository.patchText(pre: preTree, post: postTree),
            Update.Path.module: assembly.module, Update.Path.kernelModule: parts.kernelModule,
            Update.Path.findings: [],
            Update.Path.changes: Array(
                differences.flatMap(\.records).map { $0.json.text + "\n" }.joined().utf8),
        ]
        for (unit, difference) in zip(assembly.units, differences) {
            files[unit.object] = difference.preObjectBytes
        }
        let draft = try Update(manifest: makeManifest(assembly, parts, findings), files: files)
        let proof = try await EarlyProof(kernel: kernel, imported: assembly.imported)
            .run(draft, differences, progress: creator.progress)
        let all = findings + (proof?.findings ?? [])
        try refuse(all)
        files[Update.Path.findings] = Array(all.map { $0.json.text + "\n" }.joined().utf8)
        let update = try Update(manifest: makeManifest(assembly, parts, all), files: files)
        let stored = try await UpdateStore(repository).store(update)
        return CreateOutcome(
            stored: stored, manifest: update.manifest, findings: all, existed: false, proof: proof)
    }

    private func makeManifest(_ assembly: Assembly, _ parts: ModuleBuilder.Parts, _ findings: [Finding])
        throws -> Manifest
    {
        var manifest = Manifest(
            kernel: kernel.identity, sourceCommit: kernel.sourceCommit, preTree: preTree, postTree: postTree)
        manifest.builder = try options.builder()
        manifest.commits = change.commits
        manifest.description = options.description ?? change.description
        manifest.isResident = assembly.isResident
        manifest.forced = Set(findings.filter { $0.severity == .error }.map(\.code)).sorted()
        manifest.tables = parts.tables
        manifest.units = assembly.units
        manifest.replacements = assembly.replacements
        manifest.references = assembly.references
        manifest.constants = assembly.constants
        manifest.hooks = assembly.hooks
        manifest.shadows = assembly.shadows
        manifest.modules = assembly.modules
        return manifest
    }
}

/// What the kernel exports, for the choice between the module loader and our own resolution.
struct ExportIndex: Sendable {
    private let image: Set<String>
    private let modules: [String: String]

    init(_ kernel: KernelDescriptor) {
        var image = Set<String>()
        var modules: [String: String] = [:]
        for export in kernel.exports {
            if export.object != "vmlinux" {
                modules[export.name] = export.object.lastPathComponent.replacing("-", with: "_")
            } else if export.namespace.isEmpty {
                image.insert(export.name)
            }
        }
        if kernel.exports.isEmpty {
            let prefix = "__ksymtab_"
            for symbol in kernel.symbols.all where symbol.name.hasPrefix(prefix) && symbol.module == nil {
                image.insert(String(symbol.name.dropFirst(prefix.count)))
            }
        }
        self.image = image
        self.modules = modules
    }

    func isExported(_ name: String) -> Bool { image.contains(name) }
    func module(_ name: String) -> String? { modules[name] }
}
