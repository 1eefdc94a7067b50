import ArgumentParser
import Core

struct Create: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make an update from a commit, a range, or a patch.",
        usage: """
            git ksplice create [--kernel <name>] [--description <text>] (<commit> | <a>..<b> | --stdin)
            git ksplice create [--kernel <name> | --config <dir> [--release <release>]] --patch <file>
            """)

    @Option(
        help: ArgumentHelp(
            "The kernel to make it for; not needed where only one is registered.", valueName: "name"))
    var kernel: String?

    @Option(help: ArgumentHelp("One line that says what the update does.", valueName: "text"))
    var description: String?

    @Option(
        help: ArgumentHelp(
            "Take the change from a unified diff against the kernel's source.", valueName: "file"))
    var patch: String?

    @Option(
        help: ArgumentHelp(
            "A folder with .config and, optionally, System.map: the kernel to make it for.", valueName: "dir")
    )
    var config: String?

    @Option(
        help: ArgumentHelp(
            "With --config: what uname -r says of that kernel, where the folder does not hold it.",
            valueName: "release"))
    var release: String?

    @Option(help: ArgumentHelp("Let a finding through; give it once for each code.", valueName: "code"))
    var force: [String] = []

    @Option(
        help: ArgumentHelp(
            "Write the new content of a constant over the old one; give it once for each.", valueName: "name")
    )
    var replaceConstant: [String] = []

    @Option(
        help: ArgumentHelp(
            "Make it on an update that is applied before; give it once for each, in their order.",
            valueName: "update"))
    var on: [String] = []

    @Flag(help: "Use the compiler that is here, although the kernel was built by another one.")
    var allowOtherCompiler = false

    @Option(help: ArgumentHelp("Most source files that a changed header may affect.", valueName: "n"))
    var maxUnits = 1000

    @Flag(name: .shortAndLong, help: "Say nothing but the result.")
    var quiet = false

    @Flag(name: .shortAndLong, help: "Say why each function changed.")
    var verbose = false

    @Flag(help: "Print the result as JSON.")
    var json = false

    @OptionGroup var input: InputOptions
    @OptionGroup var progress: ProgressOptions

    @Argument(help: "A commit or a range, in any form that git understands.")
    var commit: String?

    func validate() throws {
        guard (commit != nil || input.stdin) != (patch != nil) else {
            throw ValidationError("give either a commit or --patch <file>")
        }
        guard description == nil || !input.stdin else {
            throw ValidationError("--description is for one update, and --stdin may name several")
        }
        guard maxUnits > 0 else { throw ValidationError("--max-units wants a number above 0") }
        guard config == nil || kernel == nil else {
            throw ValidationError("--config and --kernel exclude each other")
        }
        for code in force { try validate(forced: code) }
    }

    private func validate(forced code: String) throws {
        guard Finding.codes.contains(code) else {
            let nearest = nearest(to: code, in: Finding.codes).first
            throw ValidationError(
                "no finding has the code '\(code)'"
                    + (nearest.map { "; did you mean '\($0)'?" } ?? "; git ksplice explain lists all"))
        }
        guard !Finding.unforceable.contains(code) else {
            throw ValidationError(
                code == "too-many-units"
                    ? "'\(code)' cannot be forced; raise --max-units" : "'\(code)' cannot be forced")
        }
    }

    func run() async throws {
        let repository = try await Repository()
        var options = CreateOptions(kernelSources: try Locations.kernelSources())
        // Read before a kernel is registered on the way: what fails must leave nothing behind.
        let content = try patch.map { try Files.read($0) }
        let names = content == nil ? try await input.changes(commit.map { [$0] } ?? []) : []
        options.kernel = try await kernelName(repository)
        options.description = description
        options.force = Set(force)
        options.replacedConstants = Set(replaceConstant)
        options.ground = on
        options.allowsOtherCompiler = allowOtherCompiler
        options.maximumUnits = maxUnits
        let creator = Creator(
            repository: repository, options: options, progress: progress.steps(isQuiet: quiet).step)
        if let patch, let content { return try await create(.patch(name: patch, content: content), creator) }
        let records = HandRecords(repository, options)
        try await InputOptions.each(names) { name in
            do { try await create(.revision(name), creator) } catch {
                await note(error, name, records)
                throw error
            }
        }
    }

    /// Lets `git ksplice log` say why there is no update. That it cannot is no second failure.
    private func note(_ error: any Error, _ name: String, _ records: HandRecords) async {
        do { try await records.note(error, of: name) } catch {
            Talk.warning("that this was refused cannot be written down: \(Failure(error).message)")
        }
    }

    private func create(_ source: ChangeSource, _ creator: Creator) async throws {
        do {
            let outcome = try await creator.create(source)
            warn(of: Set(outcome.manifest.forced))
            report(outcome)
            if verbose && !json {
                for record in try await UpdateStore(creator.repository).load(outcome.stored.ref).reasons() {
                    print("  why        \(record.function): \(record.summary)")
                }
            }
        } catch let refusal as Refusal {
            warn(of: Set(refusal.findings.map(\.code)))
            if json { printRefusal(refusal) }
            throw refusal
        }
    }

    /// Codes that were forced in vain: they may be left over from another change, or meant another code.
    private func warn(of met: Set<String>) {
        for code in Set(force).subtracting(met).sorted() {
            Talk.warning("--force \(code): there was no such error")
        }
    }

    private func printRefusal(_ refusal: Refusal) {
        print(
            JSON.object([
                ("v", .number(1)), ("update", .null), ("findings", .array(refusal.findings.map(\.json))),
            ]).text)
    }

    /// The kernel that `--config` describes, registered on the way; a folder `ksplice` at the top of the work tree
    /// stands in for it, as in the original tool, where no kernel is registered.
    private func kernelName(_ repository: Repository) async throws -> String? {
        if let kernel { return kernel }
        let registry = KernelRegistry(repository)
        var folder = config
        let isUnregistered = try await registry.all().isEmpty
        if folder == nil, release != nil || isUnregistered, let top = repository.worktree {
            let original = top + "/ksplice"
            if Files.exists(original + "/.config") { folder = original }
        }
        guard let folder else {
            guard release == nil else {
                throw ValidationError(
                    "--release goes with --config: there is no folder 'ksplice' to describe a kernel")
            }
            return nil
        }
        let added = try await registry.add(
            name: folder.lastPathComponent, source: "HEAD", paths: [folder], release: release)
        for piece in added.missing { Talk.warning(piece.message) }
        if added.kernel.identity.release.isEmpty {
            Talk.warning(
                "'\(folder)' does not say which release the kernel is; code that holds it will not match")
            Talk.line("hint: give what uname -r says there with --release")
        }
        return added.kernel.name
    }

    private func report(_ outcome: CreateOutcome) {
        for finding in outcome.findings { Talk.line(finding.text) }
        let manifest = outcome.manifest
        let names = manifest.replacements.filter { $0.partOf == nil }.map(\.symbol)
        if json {
            print(
                JSON.object([
                    ("v", .number(1)), ("update", .string(outcome.stored.id)),
                    ("ref", .string(outcome.stored.ref)),
                    ("existed", .bool(outcome.existed)), ("functions", .strings(names)),
                    ("constants", .strings(manifest.constants.map(\.symbol))),
                    ("hooks", .strings(manifest.hooks.map(\.symbol))),
                    ("exports", .strings(manifest.exports.map(\.symbol))),
                    ("findings", .array(outcome.findings.map(\.json))),
                    ("milliseconds", .object(outcome.milliseconds.map { ($0.name, .number($0.value)) })),
                ]).text)
            return
        }
        let short = outcome.stored.id.prefix(12)
        print("update \(short)\(outcome.existed ? " (already made)" : "")")
        print(
            "  kernel     \(manifest.kernel.release.isEmpty ? manifest.kernel.refName : manifest.kernel.release)"
        )
        print("  change     \(manifest.description)")
        if !names.isEmpty { print("  functions  \(names.joined(separator: ", "))") }
        if !manifest.constants.isEmpty {
            print("  constants  \(manifest.constants.map(\.symbol).joined(separator: ", "))")
        }
        if !manifest.hooks.isEmpty {
            print("  hooks      \(manifest.hooks.map(\.symbol).joined(separator: ", "))")
        }
        if !manifest.exports.isEmpty {
            print("  exports    \(manifest.exports.map(\.symbol).joined(separator: ", "))")
        }
        if let proof = outcome.proof {
            print(
                "  proven     \(proof.functions) functions (\(proof.bytes) bytes) are those of the kernel's files"
            )
            for path in proof.unproven {
                Talk.warning(
                    "'\(path)' belongs to a module whose file is not at hand: it is first checked when the update is applied"
                )
            }
        } else if !outcome.existed {
            Talk.warning(
                "the kernel's image is not at hand: whether the update fits is first checked when it is applied"
            )
        }
        if !quiet { Talk.line("hint: git ksplice test \(short)") }
    }
}
