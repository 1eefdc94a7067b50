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

    /// The units for source files that the config builds; the rest is returned in `notBuilt`.
    public func units(for paths: [String]) async throws -> (units: [TranslationUnit], notBuilt: [String]) {
        let locator = UnitLocator(
            source: workspace.source, object: workspace.object,
            architecture: Workspace.sourceArchitecture(configuration.arch), listings: workspace.listings)
        var places: [(String, String?)] = []
        var notBuilt: [String] = []
        for path in paths {
            switch try await locator.place(of: path) {
            case .image: places.append((path, nil))
            case .module(let name): places.append((path, name))
            case .nothing: notBuilt.append(path)
            }
        }
        let missing = places.map(\.0).filter { !Files.exists(commandFile($0)) }
        if !missing.isEmpty {
            let targets = missing.map { String($0.dropLast(2)) + ".o" }
            let result = try await workspace.make(["-j\(Workspace.processors)"] + targets, configuration)
                .run()
            guard result.succeeded else {
                throw Failure(
                    "the kernel's own source does not compile here: \(missing.joined(separator: ", "))\n"
                        + result.errorText.trimmed,
                    hint: "is the source commit of the kernel the one that it was built from?")
            }
        }
        let units = try places.map { path, module in
            TranslationUnit(
                path: path, module: module,
                command: try CompileCommand(parsing: Files.readText(commandFile(path)), source: path))
        }
        return (units, notBuilt)
    }

    private func commandFile(_ path: String) -> String {
        "\(workspace.object)/\(path.directoryPart)/.\(path.lastPathComponent.dropLast(2)).o.cmd"
    }

    /// Runs the preprocessor on units as `source/` holds them now. `label` keeps pre and post apart.
    public func preprocess(_ units: [TranslationUnit], label: String) async throws -> [PreprocessedUnit] {
        try Files.createDirectory(workspace.work)
        return try await inParallel(Array(units.enumerated())) { position, unit in
            let file = "\(workspace.work)/\(position).\(label).i"
            let command = unit.command.preprocess(
                "\(workspace.source)/\(unit.path)", to: file, headers: headers)
            try await run(command, path: unit.path)
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
    }

    /// Compiles, or takes from the cache. Returns the objects' paths in the order of the units.
    public func compile(_ units: [PreprocessedUnit]) async throws -> [String] {
        try Files.createDirectory(workspace.cache)
        return try await inParallel(units) { unit in
            let cached = "\(workspace.cache)/\(unit.key).o"
            if !Files.exists(cached) {
                let temporary = "\(workspace.work)/\(unit.key).o"
                try await run(unit.unit.command.compile(unit.file, to: temporary), path: unit.unit.path)
                try Files.write(Files.read(temporary), to: cached)
                try Files.remove(temporary)
            }
            return cached
        }
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
