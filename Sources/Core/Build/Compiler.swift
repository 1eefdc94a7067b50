// Compiling translation units: preprocess, then compile what the preprocessor left, unless the cache has the result.
// The key is the preprocessed text and the command, so equal inputs are never compiled twice, and a header's change
// that does not reach a unit costs that unit one run of the preprocessor.

/// One translation unit of a workspace.
public struct TranslationUnit: Sendable {
    /// The source's path in the tree.
    public var path: String
    /// The module's name; nil for the kernel image.
    public var module: String?
    public var command: CompileCommand

    public init(path: String, module: String?, command: CompileCommand) {
        self.path = path
        self.module = module
        self.command = command
    }
}

/// A preprocessed unit, ready to compile.
public struct PreprocessedUnit: Sendable {
    public var unit: TranslationUnit
    /// The file that holds the text.
    public var file: String
    /// The text without line markers and blank lines: equal digests mean equal code.
    public var codeDigest: String
    /// Names the object in the cache.
    public var key: String
}

public struct Compiler: Sendable {
    let workspace: Workspace
    let configuration: Workspace.Configuration
    /// The folder of `ksplice.h`, which patches may include.
    let headers: String

    public init(workspace: Workspace, configuration: Workspace.Configuration, headers: String) {
        self.workspace = workspace
        self.configuration = configuration
        self.headers = headers
    }

    /// The source files that the config builds, each with its module's name (nil for the kernel image), and the others.
    func places(of paths: [String]) async throws -> (
        built: [(path: String, module: String?)], notBuilt: [String]
    ) {
        let locator = UnitLocator(
            source: workspace.source, object: workspace.object,
            architecture: Workspace.sourceArchitecture(configuration.arch), listings: workspace.listings)
        var built: [(String, String?)] = []
        var notBuilt: [String] = []
        for path in paths {
            switch try await locator.place(of: path) {
            case .image: built.append((path, nil))
            case .module(let name): built.append((path, name))
            case .nothing: notBuilt.append(path)
            }
        }
        return (built, notBuilt)
    }

    /// The units of source files that the config builds. What kbuild generates for a unit alone need not be there,
    /// unless `complete` is given.
    func units(_ places: [(path: String, module: String?)], complete: Bool = false) async throws
        -> [TranslationUnit]
    {
        let paths = places.map(\.path)
        if complete {
            try await build(paths.filter { !hasBuilt($0) })
        } else {
            try await learnCommands(paths.filter { commandFile($0) == nil })
        }
        return try places.map { path, module in
            guard let file = commandFile(path) else {
                throw Failure(
                    "kbuild does not say how to compile '\(path)'",
                    hint: "is the source commit of the kernel the one that it was built from?")
            }
            return TranslationUnit(
                path: path, module: module,
                command: try CompileCommand(parsing: Files.readText(file), source: path))
        }
    }

    private func commandFile(_ path: String) -> String? {
        let learned = "\(workspace.commands)/\(path.dropLast(2).replacing("/", with: "%")).o.cmd"
        // Some sources are compiled to assembly only, while a workspace is prepared.
        let assembly = String(builtCommandFile(path).dropLast(".o.cmd".count)) + ".s.cmd"
        return [builtCommandFile(path), learned, assembly].first { Files.exists($0) }
    }

    private func builtCommandFile(_ path: String) -> String {
        "\(workspace.object)/\(path.directoryPart)/.\(path.lastPathComponent.dropLast(2)).o.cmd"
    }

    /// Whether kbuild has built a unit in this workspace.
    private func hasBuilt(_ path: String) -> Bool { Files.exists(builtCommandFile(path)) }

    /// Asks kbuild how it would compile units, without compiling them. One job at a time: their lines are longer
    /// than a pipe takes at once, and would mix.
    private func learnCommands(_ paths: [String]) async throws {
        guard !paths.isEmpty else { return }
        let result = try await make(["-n", "-j1"], paths)
        guard result.succeeded else {
            throw Failure(
                "kbuild does not say how to compile \(paths.joined(separator: ", "))\n"
                    + result.errorText.trimmed)
        }
        try Files.createDirectory(workspace.commands)
        for (target, text) in CompileCommand.records(ofDryRun: result.text) {
            let object = target.pathWithoutDots.replacing("/", with: "%")
            try Files.write(text, to: "\(workspace.commands)/\(object).cmd")
        }
    }

    /// Lets kbuild build units that were never built here, with what it generates for them.
    private func build(_ paths: [String]) async throws {
        guard !paths.isEmpty else { return }
        // One job: where a Makefile lists a folder and a folder in it (`char/`, `char/ipmi/`), kbuild comes to a single object of the
        // inner one in two ways; with several jobs both compile it at once, and the one removes what the other is about to read.
        let result = try await make(["-j1"], paths)
        guard result.succeeded else {
            throw Failure(
                "the kernel's own source does not compile here: \(paths.joined(separator: ", "))\n"
                    + result.errorText.trimmed,
                hint: "is the source commit of the kernel the one that it was built from?")
        }
    }

    /// Runs make for the objects of sources.
    private func make(_ options: [String], _ paths: [String]) async throws -> CommandResult {
        let targets = try paths.map {
            try UnitLocator.target(String($0.dropLast(2)) + ".o", listings: workspace.listings)
        }
        return try await workspace.make(options + targets, configuration).run()
    }

    /// Runs the preprocessor on units as `source/` holds them now; `isOriginal` says whether that is the kernel's own
    /// source, and keeps pre and post apart.
    func preprocess(_ units: [TranslationUnit], isOriginal: Bool) async throws -> [PreprocessedUnit] {
        let label = isOriginal ? "pre" : "post"
        try Files.createDirectory(workspace.work)
        let numbered = Array(units.enumerated())
        var results = try await inParallel(numbered) { position, unit in
            try await attempt { try await preprocess(unit, position, label) }
        }
        // A unit may include what kbuild generates for it alone.
        let failed = numbered.filter { position, unit in
            guard case .failure = results[position] else { return false }
            return isOriginal && !hasBuilt(unit.path)
        }
        if !failed.isEmpty {
            try await build(failed.map(\.element.path))
            let again = try await inParallel(failed) { position, unit in
                try await attempt { try await preprocess(unit, position, label) }
            }
            for (number, result) in zip(failed, again) { results[number.offset] = result }
        }
        return try Self.all(results)
    }

    /// All values; where some are missing, all that the compiler says about these, so that one look is enough.
    private static func all<Value>(_ results: [Result<Value, Failure>]) throws -> [Value] {
        let failures = results.compactMap { result in
            if case .failure(let failure) = result { failure } else { nil }
        }
        guard let first = failures.first else { return try results.map { try $0.get() } }
        guard failures.count > 1 else { throw first }
        let shown = failures.prefix(toldFailures).map(\.message).joined(separator: "\n")
        let rest = failures.count - toldFailures
        throw Failure(shown + (rest > 0 ? "\nand \(rest) more files do not compile" : ""))
    }

    /// How many files that do not compile are told with all that the compiler says.
    private static let toldFailures = 20

    private func attempt<Value>(_ body: () async throws -> Value) async throws -> Result<Value, Failure> {
        do {
            return .success(try await body())
        } catch let failure as Failure {
            return .failure(failure)
        }
    }

    private func preprocess(_ unit: TranslationUnit, _ position: Int, _ label: String) async throws
        -> PreprocessedUnit
    {
        let file = "\(workspace.work)/\(position).\(label).i"
        try await preprocess(unit, to: file)
        let marked = try Files.read(file)
        let text = withTrueLines(marked)
        if text != marked { try Files.write(text, to: file) }
        let arguments = unit.command.compile("-", to: "-").joined(separator: "\0")
        return PreprocessedUnit(
            unit: unit, file: file, codeDigest: sha256(withoutMarkers(text)),
            key: sha256(
                Array(arguments.utf8) + [0] + Array(configuration.toolchain.versionText.utf8) + [0] + text
            ))
    }

    /// Writes what the preprocessor makes of a unit, as `source/` holds it now, to a file.
    /// - Parameter options: added to those of the unit.
    func preprocess(_ unit: TranslationUnit, to file: String, options: [String] = []) async throws {
        var command = unit.command.preprocess(
            "\(workspace.source)/\(unit.path)", to: file, headers: headers)
        command.insert(contentsOf: options, at: 1)
        try await run(command, path: unit.path)
    }

    /// Compiles, or takes from the cache. Returns the objects' paths in the order of the units.
    public func compile(_ units: [PreprocessedUnit]) async throws -> [String] {
        try Files.createDirectory(workspace.cache)
        return try Self.all(
            try await inParallel(units) { unit in
                try await attempt {
                    let cached = "\(workspace.cache)/\(unit.key).o"
                    if !Files.exists(cached) {
                        let temporary = "\(workspace.work)/\(unit.key).o"
                        try await run(
                            unit.unit.command.compile(unit.file, to: temporary), path: unit.unit.path)
                        try Files.write(Files.read(temporary), to: cached)
                        try Files.remove(temporary)
                    }
                    return cached
                }
            })
    }

    func run(_ command: [String], path: String) async throws {
        let result = try await Command(command, directory: workspace.object, environment: makeEnvironment)
            .run()
        guard result.succeeded else {
            let words = result.errorText.replacing(workspace.source + "/", with: "").trimmed
            throw Failure("'\(path)' does not compile\n\(words)")
        }
    }
}

/// `# 12 "file.h"`: the place that text came from. Other lines that begin with `#` are pragmas, which can change code.
func isLineMarker(_ line: ArraySlice<UInt8>) -> Bool {
    line.first == UInt8(ascii: "#") && line.dropFirst().first == UInt8(ascii: " ")
}

/// Line markers and blank lines are not code.
private func withoutMarkers(_ text: [UInt8]) -> [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity(text.count)
    for line in text.split(separator: UInt8(ascii: "\n")) where !isLineMarker(line) {
        out += line
        out.append(UInt8(ascii: "\n"))
    }
    return out
}

/// Maps with as many tasks at a time as there are processors; results keep the order of the input.
func inParallel<Input: Sendable, Output: Sendable>(
    _ inputs: [Input], _ body: @escaping @Sendable (Input) async throws -> Output
) async throws -> [Output] {
    try await withThrowingTaskGroup(of: (Int, Output).self) { group in
        var results = [Output?](repeating: nil, count: inputs.count)
        var next = 0
        func start() {
            guard next < inputs.count else { return }
            let position = next
            next += 1
            let input = inputs[position]
            group.addTask { (position, try await body(input)) }
        }
        for _ in 0..<Workspace.processors { start() }
        while let (position, output) = try await group.next() {
            results[position] = output
            start()
        }
        return results.map { $0! }
    }
}
