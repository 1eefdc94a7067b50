// One run of create, from the trees before and after a change to the stored update. It goes on as long as it can where a
// finding stands in the way, so that all findings are told at once.

/// One run of create, past the question whether there is anything to do.
struct CreateJob {
    let creator: Creator
    let kernel: KernelDescriptor
    let change: Change
    let ground: Ground
    let postTree: String
    let workspace: Workspace
    let clock: PhaseClock

    var repository: Repository { creator.repository }
    var preTree: String { ground.tree }
    private var options: CreateOptions { creator.options }

    /// An update that is made and not stored.
    struct Made {
        var update: Update
        var findings: [Finding]
        /// Nil where no image is at hand.
        var proof: Proof?
    }

    func make() async throws -> Made {
        let changed = try repository.changedFiles(pre: preTree, post: postTree)
        let affected = try AffectedFiles(
            changed, architecture: Workspace.sourceArchitecture(kernel.identity.arch)
        ) { (try repository.blob($0, tree: preTree), try repository.blob($0, tree: postTree)) }
        guard affected.isOpen else {
            try refuse(affected.findings)
            throw Self.nothing
        }
        return try await workspace.whenReady(
            for: kernel, tree: ground.sourceTree, of: repository,
            allowsOtherCompiler: options.allowsOtherCompiler, progress: creator.progress
        ) { configuration in
            try await telling(affected.findings) {
                if ground.updates.isEmpty { return try await run(affected, changed, configuration) }
                return try await workspace.withFiles(ground.files(repository)) {
                    try await run(affected, changed, configuration)
                }
            }
        }
    }

    private static var nothing: Failure {
        Failure("the change touches no code of the kernel", status: .noChange)
    }

    /// Runs work that may fail. If what is known already stands in the way, it is told with that.
    private func telling<Result>(_ known: [Finding], _ work: () async throws -> Result) async throws -> Result
    {
        do {
            return try await work()
        } catch let refusal as Refusal {
            let others = refusal.findings.filter { !known.contains($0) }
            throw Refusal(findings: known + others, interruption: refusal.interruption)
        } catch let failure as Failure where isBlocked(known) {
            throw Refusal(findings: known, interruption: failure.status == .noChange ? nil : failure)
        }
    }

    /// The rest, in a workspace that is ready.
    private func run(
        _ open: AffectedFiles, _ changed: [ChangedFile], _ configuration: Workspace.Configuration
    ) async throws -> Made {
        let source = try sourceChange(changed)
        let compiler = Compiler(
            workspace: workspace, configuration: configuration, headers: options.kernelSources)
        let files = FileReview(
            repository: repository, preTree: preTree, postTree: postTree, workspace: workspace,
            compiler: compiler, configuration: configuration)
        if !open.headers.isEmpty {
            do {
                try await tryOwnSources(open, compiler, source)
            } catch let failure as Failure {
                let known = try await files.findings(open, postFiles: source.markedFiles)
                return try await telling(known) { throw failure }
            }
        }
        let affected = try await clock.measure("users") {
            try await HeaderUsers(
                repository: repository, preTree: preTree, postTree: postTree, compiler: compiler,
                postFiles: source.markedFiles,
                architecture: Workspace.sourceArchitecture(kernel.identity.arch), progress: creator.progress
            ).complete(open)
        }
        let listed = affected.findings + (try await files.findings(affected, postFiles: source.markedFiles))
        return try await telling(listed) {
            let (places, notBuilt) = try await clock.measure("places") {
                try await compiler.places(of: affected.sources)
            }
            let unlisted = UnlistedReview(
                repository: repository, preTree: preTree, postTree: postTree, workspace: workspace,
                compiler: compiler, architecture: Workspace.sourceArchitecture(kernel.identity.arch))
            let known =
                listed
                + (try await unlisted.findings(
                    affected, built: places.map(\.path), notBuilt: notBuilt, changed: changed,
                    postFiles: source.markedFiles))
            return try await telling(known) {
                guard !affected.sources.isEmpty else { throw Self.nothing }
                guard !places.isEmpty else { throw Self.notBuilt(notBuilt) }
                return try await run(affected, places, changed, source, compiler, known)
            }
        }
    }

    private static func notBuilt(_ paths: [String]) -> Failure {
        let names = paths.prefix(5).joined(separator: ", ") + (paths.count > 5 ? ", ..." : "")
        return Failure(
            "this kernel's config builds none of the changed files: \(names)", status: .noChange,
            hint: "the running kernel does not contain this code; there is nothing to update")
    }

    private func run(
        _ affected: AffectedFiles, _ places: [(path: String, module: String?)], _ changed: [ChangedFile],
        _ source: SourceChange, _ compiler: Compiler, _ known: [Finding]
    ) async throws -> Made {
        guard places.count <= options.maximumUnits || affected.headers.isEmpty else {
            let finding = Finding(
                "too-many-units", .error, file: affected.headers[0],
                "the change of \(affected.headers.joined(separator: ", ")) may reach \(places.count) source files that this config builds",
                advice: "move the change into the .c files that need it, or raise --max-units")
            let closest = places.filter { affected.closest.contains($0.path) }.prefix(Self.samples)
            throw Refusal(findings: [finding] + (try await sample(Array(closest), compiler, source)))
        }
        try await refuseEarly(places, affected, compiler, source, known)
        let units = try await clock.measure("units") { try await compiler.units(places) }
        let pairs = try await clock.measure("compiler") { try await compile(units, compiler, source) }
        return try await finish(pairs, source, compiler, try await parts(for: units), known, changed)
    }

    private var builder: ModuleBuilder {
        ModuleBuilder(workspace: workspace, kernelSources: options.kernelSources)
    }

    /// What every update module contains, made with the options of some units.
    private func parts(for units: [TranslationUnit]) async throws -> ModuleBuilder.Parts {
        let first = units.first { !$0.command.objtool.isEmpty } ?? units.first
        let objtool = try await objtool(of: first.map { [$0] } ?? []).first ?? []
        return try await builder.parts(objtool: objtool, progress: creator.progress)
    }

    /// The objtool command of each unit, without the object's name.
    private func objtool(of units: [TranslationUnit]) async throws -> [[String]] {
        let isDelayed = units.contains { $0.command.objtool.isEmpty }
        let delayed = isDelayed ? try await builder.delayedObjtool() : []
        return units.map { $0.command.objtool.isEmpty ? delayed : $0.command.objtool }
    }

    private static let samples = 4
    /// More units than are compiled in a minute or two.
    private static let many = 60

    /// A change of a header that reaches many files is looked at in a few first: where those show that no update can be made of it,
    /// it is not worth an hour to learn how many others say the same.
    private func refuseEarly(
        _ places: [(path: String, module: String?)], _ affected: AffectedFiles, _ compiler: Compiler,
        _ source: SourceChange, _ known: [Finding]
    ) async throws {
        guard places.count > Self.many, !affected.headers.isEmpty else { return }
        let own = places.filter { source.markedFiles[$0.path] != nil }
        let closest = places.filter { place in
            affected.closest.contains(place.path) && !own.contains { $0.path == place.path }
        }
        let findings = Finding.merged(
            known + (try await sample(Array((own + closest).prefix(2 * Self.samples)), compiler, source)))
        guard isBlocked(findings) else { return }
        throw Refusal(
            findings: findings,
            interruption: Failure(
                "the change of \(affected.headers.joined(separator: ", ")) may reach \(places.count) files, of which only some were compared"
            ))
    }

    /// What is found in a few units of too many.
    private func sample(
        _ places: [(path: String, module: String?)], _ compiler: Compiler, _ source: SourceChange
    ) async throws -> [Finding] {
        do {
            let units = try await compiler.units(places)
            let pairs = try await compile(units, compiler, source)
            let compared = try await compare(pairs, source, try await parts(for: units).tables)
            return Finding.merged(compared.flatMap(\.findings))
        } catch is Failure {
            // Not one of them is reached, or the change does not compile: that there are too many says enough.
            return []
        }
    }

    /// Whether the change's own sources compile is known in seconds, whom its headers reach in minutes.
    private func tryOwnSources(_ open: AffectedFiles, _ compiler: Compiler, _ source: SourceChange)
        async throws
    {
        let places = try await compiler.places(of: open.sources).built
        guard places.count <= options.maximumUnits else { return }
        let units = try await compiler.units(places)
        let pre = try await compiler.preprocess(units, isOriginal: true)
        let post = try await workspace.withFiles(source.markedFiles) {
            try await compiler.preprocess(units, isOriginal: false)
        }
        _ = try await compiler.compile(zip(pre, post).filter { $0.codeDigest != $1.codeDigest }.map(\.1))
    }

    /// Throws where a finding is an error that its author did not let through.
    private func refuse(_ findings: [Finding]) throws {
        if isBlocked(findings) { throw Refusal(findings: findings) }
    }

    private func isBlocked(_ findings: [Finding]) -> Bool {
        findings.contains {
            $0.severity == .error && !($0.canBeForced && options.force.contains($0.code))
        }
    }

    // MARK: - Pre and post

    private struct Pair: Sendable {
        var unit: TranslationUnit
        /// What the preprocessor left, before and after the change.
        var texts: (PreprocessedUnit, PreprocessedUnit)
        var pre: String
        var post: String
    }

    /// Compiles the units whose preprocessed text differs.
    private func compile(_ units: [TranslationUnit], _ compiler: Compiler, _ source: SourceChange)
        async throws -> [Pair]
    {
        creator.progress("compiling \(units.count) file(s) before and after the change")
        let pre = try await compiler.preprocess(units, isOriginal: true)
        let post = try await workspace.withFiles(source.markedFiles) {
            try await compiler.preprocess(units, isOriginal: false)
        }
        let different = try await reached(
            units.indices.filter { pre[$0].codeDigest != post[$0].codeDigest }, pre, post, source)
        guard !different.isEmpty else {
            throw Failure(
                "the change does not change any code: only comments, blank lines, or parts that this config leaves out",
                status: .noChange)
        }
        let objects = try await compiler.compile(different.flatMap { [pre[$0], post[$0]] })
        return different.enumerated().map { position, index in
            Pair(
                unit: units[index], texts: (pre[index], post[index]), pre: objects[2 * position],
                post: objects[2 * position + 1])
        }
    }

    /// Of units with different text, those whose code can differ. A source that changes itself is always compiled: what it
    /// declares is compared, too.
    private func reached(
        _ different: [Int], _ pre: [PreprocessedUnit], _ post: [PreprocessedUnit], _ source: SourceChange
    ) async throws -> [Int] {
        let isReached = try await inParallel(different) { index in
            if source.markedFiles[pre[index].unit.path] != nil { return true }
            return try !DeclarationReach.isSameCode(
                DeclarationReach(Files.read(pre[index].file)), DeclarationReach(Files.read(post[index].file)))
        }
        return zip(different, isReached).filter(\.1).map(\.0)
    }

    /// The C files that change, with the lines that do.
    private func sourceChange(_ changed: [ChangedFile]) throws -> SourceChange {
        var files: [String: SourceChange.File] = [:]
        for file in changed where file.path.hasSuffix(".c") || file.path.hasSuffix(".h") {
            let (pre, post) = try (
                repository.blob(file.path, tree: preTree), repository.blob(file.path, tree: postTree)
            )
            let marked =
                ground.updates.isEmpty ? nil : try ground.marked(file.path, post: post, repository)
            files[file.path] = .init(
                hunks: try repository.hunks(pre: pre ?? [], post: post ?? []), pre: pre, post: post,
                marked: marked)
        }
        let folder = workspace.source
        return SourceChange(files) { path in
            Files.isRegular("\(folder)/\(path)") ? try Files.read("\(folder)/\(path)") : nil
        }
    }

    // MARK: - The update

    private func compare(_ pairs: [Pair], _ source: SourceChange, _ tables: [String: Int]) async throws
        -> [UnitDifference]
    {
        try await inParallel(pairs) { pair in
            try UnitDifference.examine(
                path: pair.unit.path, module: pair.unit.module, prePath: pair.pre, postPath: pair.post,
                tables: tables, replacing: options.replacedConstants, source: source)
        }
    }

    private func finish(
        _ pairs: [Pair], _ source: SourceChange, _ compiler: Compiler, _ parts: ModuleBuilder.Parts,
        _ known: [Finding], _ changed: [ChangedFile]
    ) async throws -> Made {
        let compared = try await clock.measure("comparison") {
            try await compare(pairs, source, parts.tables)
        }
        let remarks = try review(compared, changed)
        var exports = try ExportReview(kernel)
        try await clock.measure("exports") {
            try await exports.run(compared, pairs.map(\.texts), compiler, source)
        }
        let findings = Finding.merged(
            exports.settled(known + compared.flatMap(\.findings)) + HookReview.findings(compared) + remarks
                + ExistingNames.findings(compared, kernel.symbols)
                + exports.findings + exports.moved(compared))
        return try await telling(findings) {
            try options.checkConstants(compared.flatMap { $0.constants.map(\.name) })
            return try await build(
                pairs, exports.settled(compared), exports, parts, findings, compiler)
        }
    }

    /// Builds, proves and stores; also where findings stand in the way, for what building and proving may add to them.
    private func build(
        _ pairs: [Pair], _ compared: [UnitDifference], _ review: ExportReview, _ parts: ModuleBuilder.Parts,
        _ findings: [Finding], _ compiler: Compiler
    ) async throws -> Made {
        let kept = compared.indices.filter { !compared[$0].isEmpty }
        guard kept.contains(where: { compared[$0].changesKernel }) else {
            try refuse(findings.filter { $0.code == "exit-changed" }.map { $0.with(.error) })
            // What a forced finding is about is never part of an update.
            let forced = Set(findings.filter { $0.severity == .error }.map(\.code)).sorted()
            let hint =
                "--force lets the rest of a change through, and this one has no more than \(forced.joined(separator: ", "))"
            throw Failure(
                "the change does not change any function's code", status: .noChange,
                hints: (forced.isEmpty ? [] : [hint])
                    + compared.flatMap(\.functions).prefix(1).map {
                        "no changed code calls the new function '\($0.name)'; make one update of this change and its callers'"
                    })
        }
        let division = Division(kept.map { compared[$0] })
        let order = division.order.map { kept[$0] }
        let differences = order.map { compared[$0] }
        creator.progress("building the update module")
        let assembler = Assembler(
            builder: builder, exports: review, workFolder: workspace.work, glue: parts.glue, clock: clock,
            architecture: try kernel.identity.architecture())
        let assembly = try await assembler.assemble(
            division, differences, objtool: try await objtool(of: order.map { pairs[$0].unit }))
        var files: [String: [UInt8]] = [
            Update.Path.patch: try await repository.patchText(pre: preTree, post: postTree),
            Update.Path.kernelModule: try coreModule(parts),
            Update.Path.findings: [],
            Update.Path.changes: Array(
                differences.flatMap(\.records).map { $0.json.text + "\n" }.joined().utf8),
        ]
        for (path, module) in assembly.modules { files[path] = module }
        for (unit, difference) in zip(assembly.units, differences) {
            files[unit.object] = difference.preObjectBytes
        }
        let hidden = HiddenSymbols(kernel: kernel, tables: parts.tables)
        files[Update.Path.symbols] = try await clock.measure("hidden symbols") {
            try await hidden.file(
                for: parts.kernelModule,
                constants: assembly.constants.map(\.symbol), compiler,
                progress: creator.progress)
        }
        let draft = try Update(manifest: makeManifest(assembly, parts, findings), files: files)
        try ground.check(
            draft.manifest.references, assembly.units,
            assembly.units.map { try ObjectFile(draft.file($0.object), name: $0.path) })
        let proof = try await clock.measure("proof") {
            try await EarlyProof(
                kernel: kernel, imported: assembly.imported, unprovable: ground.names()
            )
            .run(draft, differences, progress: creator.progress)
        }
        let all = Finding.sorted(findings + (proof?.findings ?? []))
        try refuse(all)
        files[Update.Path.findings] = Array(all.map { $0.json.text + "\n" }.joined().utf8)
        return Made(
            update: try Update(manifest: makeManifest(assembly, parts, all), files: files), findings: all,
            proof: proof)
    }

    /// ksplice.ko with the kernel's checksums, for hosts where the kernel's memory cannot be read before it is loaded.
    private func coreModule(_ parts: ModuleBuilder.Parts) throws -> [UInt8] {
        var module = try ModuleResolver(parts.kernelModule, name: Update.Path.kernelModule)
        try module.setKnownVersions(kernel.exports)
        return module.bytes
    }

    private func makeManifest(
        _ assembly: AssembledUpdate, _ parts: ModuleBuilder.Parts, _ findings: [Finding]
    )
        throws -> Manifest
    {
        var manifest = Manifest(
            kernel: kernel.identity, sourceCommit: kernel.sourceCommit, preTree: preTree, postTree: postTree)
        manifest.builder = try options.builder()
        manifest.commits = change.commits
        manifest.depends = ground.updates.map(\.id)
        manifest.description = options.description ?? change.description
        manifest.forced = Set(findings.filter { $0.severity == .error }.map(\.code)).sorted()
        manifest.tables = parts.tables
        assembly.record(in: &manifest)
        return manifest
    }
}
