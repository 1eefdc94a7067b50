import ArgumentParser
import Core

struct HookCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "hook", abstract: "Build updates in the background, after each commit.",
        subcommands: [HookInstall.self, HookUninstall.self, HookStatus.self, HookRun.self])

    static func hooks(_ repository: Repository) async throws -> CommitHooks {
        try await CommitHooks(repository, program: try Locations.executable())
    }
}

struct HookInstall: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "install", abstract: "Let git's hooks queue each new commit.")

    @Flag(help: "Also where the hooks are shared with other repositories, or in the worktree.")
    var force = false

    func run() async throws {
        let repository = try await Repository()
        let hooks = try await HookCommand.hooks(repository)
        if !force, try hooks.objection != nil { print(hooks.lines, terminator: "") }
        for step in try hooks.install(force: force) { print(step.text) }
        if try await KernelRegistry(repository).all().isEmpty {
            Talk.warning("no kernel is registered: nothing will be built")
            Talk.line("hint: git ksplice kernel add NAME --source COMMIT --from PACKAGE")
        }
        if try await !Initialisation(repository).keepsNotes() {
            Talk.line("hint: git ksplice init (lets updates follow commits that are amended or rebased)")
        }
    }
}

struct HookUninstall: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "uninstall", abstract: "Take out of git's hooks what install has put in.")

    func run() async throws {
        let steps = try await HookCommand.hooks(try await Repository()).uninstall()
        for step in steps { print(step.text) }
        if steps.isEmpty { print("no hook is installed") }
    }
}

struct HookStatus: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show which hooks are installed, what waits and what was built.")

    @Flag(help: "Print the result as JSON.")
    var json = false

    func run() async throws {
        let repository = try await Repository()
        let hooks = try await HookCommand.hooks(repository)
        let states = try hooks.states()
        let overview = try await QueueOverview(repository)
        if json {
            let members = states.map { ($0.name, JSON.string($0.state.rawValue)) }
            print(
                JSON.object([
                    ("v", .number(1)), ("folder", .string(hooks.folder)), ("hooks", .object(members)),
                    ("queue", overview?.json ?? .null),
                ]).text)
        } else {
            print("hooks in \(hooks.folder)")
            for line in states.map({ [$0.name, $0.state.rawValue] }).columns { print("  " + line) }
            if let overview { QueueText.show(overview) }
        }
        let isComplete = states.allSatisfy { $0.state == .installed || $0.state == .chained }
        if !isComplete { throw ExitCode(ExitStatus.no.rawValue) }
    }
}

struct HookRun: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Build what waits.")

    @Flag(help: "As the hooks call it: say nothing, wait for a rebase to end.")
    var background = false

    @Flag(name: .shortAndLong, help: "Say nothing but the results.")
    var quiet = false

    func run() async throws {
        if background { Background.detach() }
        let repository = try await Repository()
        var options = try await QueueOptions(repository)
        options.waits = background
        let builder = try QueueBuilder(
            repository, options: CreateOptions(kernelSources: try Locations.kernelSources()),
            progress: Talk.progress(isQuiet: quiet || background).step)
        let isSilent = background
        let worker = QueueWorker(repository, options: options, builder: builder) { record in
            if !isSilent { QueueText.show(record) }
        }
        let log = BuildQueue(repository).log
        let outcome = try await worker.run { if background { try Background.write(to: log) } }
        if background { return }
        switch outcome {
        case .done: break
        case .left(let entries, let words): Talk.line("note: \(entries.count) left to wait: \(words)")
        case .occupied:
            throw Failure(
                "another process builds what waits", status: .busy, hint: "git ksplice hook status")
        }
    }
}

/// The queue on standard output.
enum QueueText {
    static func show(_ overview: QueueOverview) {
        if !overview.rows.isEmpty { print("built in the background") }
        for line in overview.rows.columns { print("  " + line) }
        for line in overview.trouble?.lines ?? [] { print("  the last worker ended: \(line)") }
    }

    static func show(_ record: BuildRecord) {
        let words = [record.state.rawValue, String(record.commit.prefix(12)), record.kernel, record.words]
        print(words.filter { !$0.isEmpty }.joined(separator: "  "))
    }
}
