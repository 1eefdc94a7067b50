import ArgumentParser
import Core

struct Verify: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Find out whether a stored update is intact, and is what it says.",
        usage:
            "git ksplice verify [--rebuild [--cached]] [--json] (<update> | <commit> | <ref> | <file> | --stdin)"
    )

    @Flag(help: "Make the update anew from what it records, and compare.")
    var rebuild = false

    @Flag(help: "With --rebuild: take what was compiled earlier on this machine.")
    var cached = false

    @Flag(name: .shortAndLong, help: "Say nothing but the result.")
    var quiet = false

    @Flag(help: "Print the result as JSON.")
    var json = false

    @OptionGroup var input: InputOptions
    @OptionGroup var progress: ProgressOptions

    @Argument(help: "An update's id, a commit or ref that has one, or an archive.")
    var update: String?

    func validate() throws {
        guard rebuild || !cached else { throw ValidationError("--cached goes with --rebuild") }
        try input.check(update.map { [$0] } ?? [], "an update")
    }

    func run() async throws {
        let names = try await input.updates(update.map { [$0] } ?? [])
        try await InputOptions.each(names) { try await verify($0) }
    }

    private func verify(_ name: String) async throws {
        let found: Update
        do { found = try await UpdateSource.load(name) } catch let failure as Failure
            where failure.status == .verificationRefused
        {
            report(nil, damage: failure.message, nil)
            throw ExitCode(ExitStatus.no.rawValue)
        }
        guard rebuild else {
            report(found, damage: nil, nil)
            return try await reportTrees(found)
        }
        var verifier = Verifier(
            repository: try await Repository(), kernelSources: try Locations.kernelSources(),
            progress: progress.steps(isQuiet: quiet || json))
        verifier.usesCache = cached
        let result = try await verifier.rebuild(found)
        report(found, damage: nil, result)
        if !result.differences.isEmpty { throw ExitCode(ExitStatus.no.rawValue) }
    }

    /// Which of the update's source is here; an archive can be verified where there is no repository at all.
    private func reportTrees(_ found: Update) async throws {
        guard !json, let repository = try? await Repository() else { return }
        let missing = try Verifier.missingTrees(found, in: repository)
        if missing.isEmpty { print("  source     before and after the change are in this repository") }
        for tree in missing { print("  source     tree \(tree.prefix(12)) is not in this repository") }
    }

    private func report(_ found: Update?, damage: String?, _ result: Rebuild?) {
        if json { return print(Self.object(found, damage, result).text) }
        guard let found else { return print("damaged: \(damage ?? "")") }
        print("update \(found.id.prefix(12)): \(found.manifest.description)")
        print("  intact     \(found.files.count) files and the manifest that names them")
        guard let result else { return }
        if result.differences.isEmpty { return print("  rebuilt    the same, byte by byte") }
        for file in result.differences { print("  \(file.state.rawValue.padded(to: 9))  \(file.path)") }
        for cause in result.causes { Talk.line("hint: " + cause) }
    }

    private static func object(_ found: Update?, _ damage: String?, _ result: Rebuild?) -> JSON {
        let differences = result.map { result in
            JSON.array(
                result.differences.map {
                    .object([("path", .string($0.path)), ("state", .string($0.state.rawValue))])
                })
        }
        return .object([
            ("v", .number(1)), ("update", found.map { .string($0.id) } ?? .null),
            ("intact", .bool(found != nil)),
            ("damage", damage.map { .string($0) } ?? .null), ("differences", differences ?? .null),
            ("causes", .strings(result?.causes ?? [])),
        ])
    }
}

extension String {
    fileprivate func padded(to width: Int) -> String {
        self + String(repeating: " ", count: max(0, width - count))
    }
}
