import ArgumentParser
import Core

struct Log: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show which commits have updates, which cannot have one and why, and which were not tried.",
        usage:
            "git ksplice log [--kernel <name>] [--json | --porcelain [-z]] [--stdin] [<revision arguments>]")

    @Option(help: ArgumentHelp("Only for this kernel; give it once for each.", valueName: "name"))
    var kernel: [String] = []

    @Flag(help: "Print JSON, one object a line.")
    var json = false

    @Flag(help: "Read revisions from standard input, too, one a line.")
    var stdin = false

    @OptionGroup var lines: LineOptions
    @OptionGroup var colors: ColorOptions

    @Argument(
        parsing: .allUnrecognized,
        help:
            "Commits, as git rev-list takes them; without any, those from HEAD that no kernel was built with."
    )
    var revisions: [String] = []

    func run() async throws {
        let repository = try await Repository()
        let reporter = try await CommitReporter(repository, kernels: kernel)
        let input = stdin ? InputNames(try Files.read("/dev/stdin"), endsWithNull: lines.null).text : nil
        let asked = try arguments(repository)
        let wanted = asked.isEmpty && !stdin ? reporter.newCommits : asked
        let reports = try await reporter.report(try await repository.revisions(wanted, input: input))
        if json {
            for report in reports { print(report.json.text) }
            return
        }
        if let form = lines.form { return Talk.raw(reports.map { form.lines($0) }.joined()) }
        let short = try await repository.shortIDs(reports.map(\.commit.id))
        let paint = await colors.paint()
        await Pager.start()
        for report in reports {
            let id = report.commit.id
            print("\(paint(short[id] ?? id, .yellow)) \(report.commit.subject)")
            let rows = report.answers.map { [$0.kernel, $0.words] }.columns
            for (line, answer) in zip(rows, report.answers) {
                let name = line.prefix(line.count - answer.words.count)
                print("    \(name)\(paint(answer.words, Paint.color(of: answer.state.rawValue)))")
            }
        }
    }

    /// The arguments as they were typed: `--` is not taken for one of them, and paths are relative to the folder where the command
    /// runs.
    private func arguments(_ repository: Repository) throws -> [String] {
        let typed = CommandLine.arguments
        guard let dashes = typed.firstIndex(of: "--") else { return revisions }
        let paths = typed[(dashes + 1)...]
        let isTop = try Files.absolute(".") == repository.worktree
        return revisions.filter { $0 != "--" }.dropLast(paths.count) + ["--"]
            + (try paths.map { path in
                // `:` begins what git reads as something else than a path.
                path.hasPrefix(":") || path == "." && isTop ? path : try repository.treePath(path)
            })
    }
}
