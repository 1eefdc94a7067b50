// Matching whole objects, without any update: every function of a translation unit, as it was compiled, against a kernel
// that runs, or against the files of a registered one. It answers whether a compiler, a config and a source tree give the
// code that runs, and finds where they do not.

/// What matching gave for one translation unit.
public struct ObjectMatch: Sendable {
    public let path: String
    /// Nil for the kernel image.
    public let module: String?
    /// Functions that were found, and their bytes in memory.
    public let functions: Int
    public let bytes: Int
    /// Those of them that a tracer is attached to.
    public let traced: [String]
    /// Functions with kprobes on some of their instructions, which are taken to be as in pre.
    public let probed: [String]
    public let absent: [AbsentFunction]
    public let failures: [MatchFailure]
    /// Why the unit could not be compared at all; nil where it was.
    public let skipped: String?
}

public struct ObjectMatching: Sendable {
    public let objects: [ObjectMatch]
    public let statistics: MatchResult.Statistics
    /// Whether every function that exists is the kernel's, and every unit was compared.
    public var isComplete: Bool {
        objects.allSatisfy {
            $0.failures.isEmpty && $0.skipped == nil && $0.absent.allSatisfy(\.isExplained)
        }
    }
}

/// A compiled translation unit on its way to a match.
public struct CompiledUnit: Sendable {
    public var path: String
    /// Nil where it is to be found out by the names of its functions.
    public var module: Module?
    public var object: ObjectFile

    public enum Module: Sendable, Equatable {
        case image
        case named(String)

        /// Nil for the image.
        var name: String? { if case .named(let name) = self { name } else { nil } }
    }

    /// Reads an object file.
    public init(file: String, module: Module? = nil) throws {
        path = file
        self.module = module
        object = try ObjectFile(path: file).withoutDebugInformation()
    }

    init(path: String, module: String?, object: ObjectFile) {
        self.path = path
        self.module = module.map { .named($0) } ?? .image
        self.object = object
    }

    /// Where the unit's functions are listed; nil where nothing lists half of them, because its module is not there.
    func home(_ symbols: KernelSymbols) -> Module? {
        if let module { return module }
        var votes: [String?: Int] = [:]
        var voters = 0
        for symbol in object.symbols
        where symbol.isFunction && symbol.isDefinedInSection
            && Matcher.isResident(object.sections[symbol.section].name)
        {
            voters += 1
            for place in Set(symbols.named(symbol.name).map(\.module)) { votes[place, default: 0] += 1 }
        }
        guard let best = votes.max(by: { ($0.value, $1.key ?? "") < ($1.value, $0.key ?? "") }),
            best.value * 2 > voters
        else { return nil }
        return best.key.map { .named($0) } ?? .image
    }
}

public struct ObjectMatcher: Sendable {
    let progress: Progress

    public init(progress: Progress) { self.progress = progress }

    /// Compiles source files, given by their paths in the tree, as the kernel was compiled. Those that its config leaves out are
    /// not among the result.
    public func compile(
        _ paths: [String], _ summary: KernelSummary, _ repository: Repository, kernelSources: String,
        allowsOtherCompiler: Bool
    ) async throws -> [CompiledUnit] {
        let registry = KernelRegistry(repository)
        let kernel = try await registry.descriptor(summary)
        let tree = try repository.tree(of: kernel.sourceCommit)
        for path in paths {
            guard path.hasSuffix(".c") else {
                throw Failure(
                    "'\(path)' is no source file of C",
                    hint:
                        "objects, also of assembly, go with --object; of a header, name a file that includes it"
                )
            }
            guard try repository.blob(path, tree: tree) != nil else {
                throw Failure(
                    "the source of kernel '\(kernel.name)' (\(kernel.sourceCommit.prefix(12))) has no file '\(path)'",
                    status: .notFound)
            }
        }
        let workspace = Workspace(root: try registry.workspaceRoot(kernel.identity))
        return try await workspace.whenReady(
            for: kernel, tree: tree, of: repository, allowsOtherCompiler: allowsOtherCompiler,
            progress: progress.step
        ) { configuration in
            let compiler = Compiler(
                workspace: workspace, configuration: configuration, headers: kernelSources)
            // Another machine's code is not built, whatever its Makefiles say.
            let mine = paths.filter { !$0.hasPrefix("arch/") || $0.hasPrefix("arch/x86/") }
            let places = try await compiler.places(of: mine).built
            let units = try await compiler.units(places)
            progress("compiling \(units.count) file(s)")
            let texts = try await compiler.preprocess(units, isOriginal: true)
            let objects = try await compiler.compile(texts)
            return try zip(units, objects).map { unit, object in
                CompiledUnit(
                    path: unit.path, module: unit.module,
                    object: try ObjectFile(path: object).withoutDebugInformation())
            }
        }
    }

    /// Matches against the files of a registered kernel.
    public func match(_ units: [CompiledUnit], filesOf kernel: KernelDescriptor) async throws
        -> ObjectMatching
    {
        let files = try kernel.modulesPath.map { try ModuleFiles(folder: $0) }
        var wanted: Set<String> = []
        for unit in units {
            if let home = unit.home(kernel.symbols) {
                if let name = home.name { wanted.insert(name) }
            } else if let files {
                // It may belong to any module.
                wanted.formUnion(files.names)
            }
        }
        guard let offline = try await OfflineKernel(kernel, modules: wanted) else {
            throw Failure(
                "the image of kernel '\(kernel.name)' is not at hand", status: .notFound,
                hint: "git ksplice kernel add \(kernel.name) --from PACKAGE")
        }
        return try match(
            units, offline.memory, offline.symbols, isImage: true, evidence: MatchEvidence(),
            missing: { offline.modules.contains($0) ? nil : "the file of module '\($0)' is not at hand" })
    }

    /// Matches against the kernel that a host runs.
    /// - Parameter known: what is known of that kernel; nil where it is not registered.
    public func match(
        _ units: [CompiledUnit], runningOn host: any Host & Sendable, known: KernelDescriptor? = nil
    ) async throws -> ObjectMatching {
        progress("reading the kernel's symbols")
        var symbols = try await host.symbols()
        if let known { symbols = try symbols.completed(by: HiddenSymbols.exported(of: known.symbols)) }
        let listed = symbols
        let loaded = Set(try await host.modules().map(\.name))
        let access = try await MemoryAccess(
            host,
            covering: {
                units.flatMap {
                    MatchUnit(path: $0.path, module: $0.home(listed)?.name, object: $0.object)
                        .candidates(listed)
                }
            }, load: nil)
        guard let access else {
            throw MemoryAccess.hidden(
                "an applied update brings ksplice.ko, which shows it; with --kernel, the kernel's files are compared"
            )
        }
        return try await access.use(progress: progress) { memory in
            try match(
                units, memory, listed, isImage: false,
                evidence: try await host.matchEvidence(),
                missing: { loaded.contains($0) ? nil : "module '\($0)' is not loaded" })
        }
    }

    private func match(
        _ units: [CompiledUnit], _ memory: any KernelMemory, _ symbols: KernelSymbols, isImage: Bool,
        evidence: MatchEvidence, missing: (String) -> String?
    ) throws -> ObjectMatching {
        progress("matching \(units.count) object(s)")
        let homes = units.map { $0.home(symbols) }
        let reasons = homes.map { home -> String? in
            guard let home else { return "neither the kernel nor a module that is there lists its functions" }
            return home.name.flatMap(missing)
        }
        let kept = units.indices.filter { reasons[$0] == nil }
        var tables: [String: Int] = [:]
        for index in kept {
            do { tables.merge(try units[index].object.entrySizes()) { max($0, $1) } } catch let failure
                as Failure
            { throw Failure("\(units[index].path): \(failure.message)") }
        }
        var matcher = try Matcher(
            units: kept.map {
                .init(path: units[$0].path, module: homes[$0]?.name, object: units[$0].object)
            },
            tables: tables, memory: memory, symbols: symbols, isImage: isImage, evidence: evidence)
        let result = matcher.match()
        let failures = Dictionary(grouping: result.failures, by: \.unit)
        let absent = Dictionary(grouping: result.notPresent, by: \.unit)
        let positions = Dictionary(uniqueKeysWithValues: kept.enumerated().map { ($1, $0) })
        let objects = units.indices.map { index in
            let position = positions[index]
            let matched = position.map { result.functions[$0] } ?? []
            return ObjectMatch(
                path: units[index].path, module: homes[index]?.name, functions: matched.count,
                bytes: matched.reduce(0) { $0 + $1.runSize },
                traced: matched.filter(\.isTraced).map(\.name),
                probed: matched.filter(\.isProbed).map(\.name), absent: position.flatMap { absent[$0] } ?? [],
                failures: position.flatMap { failures[$0] } ?? [], skipped: reasons[index])
        }
        return ObjectMatching(objects: objects, statistics: result.statistics)
    }
}

extension CompiledUnit {
    /// Writes the object, without debug information, to a folder under the unit's own path.
    public func save(in folder: String) throws {
        let file = "\(folder)/\(path.dropLast(2)).o"
        try Files.createDirectory(file.directoryPart)
        try Files.write(ELFWriter.write(object), to: file)
    }
}

extension ObjectMatching {
    public var json: JSON {
        .object([
            ("v", .number(1)), ("functions", .number(statistics.functions)),
            ("bytes", .number(statistics.bytes)), ("match_ns", .number(Int(statistics.nanoseconds))),
            ("complete", .bool(isComplete)), ("units", .array(objects.map(\.json))),
        ])
    }
}

extension ObjectMatch {
    fileprivate var json: JSON {
        .object([
            ("unit", .string(path)), ("module", module.map { .string($0) } ?? .null),
            ("functions", .number(functions)), ("bytes", .number(bytes)),
            ("traced", .strings(traced)), ("probed", .strings(probed)),
            ("skipped", skipped.map { .string($0) } ?? .null),
            (
                "absent",
                .array(
                    absent.map { .object([("name", .string($0.name)), ("reason", .string($0.reason))]) })
            ),
            ("failures", .array(failures.map(\.json))),
        ])
    }
}
