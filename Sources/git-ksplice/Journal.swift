import ArgumentParser
import Core

struct JournalCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "journal", abstract: "Show what was done to this host, the newest first.",
        usage: "git ksplice journal [-n <count>] [--since <date>] [--json] [--host <command>]")

    @Option(
        name: [.customShort("n"), .customLong("max-count")],
        help: ArgumentHelp("Most events that are shown.", valueName: "count"))
    var count: Int?

    @Option(help: ArgumentHelp("Only what was done after this, as git understands dates.", valueName: "date"))
    var since: String?

    @Flag(help: "Print JSON, one object a line.")
    var json = false

    @OptionGroup var colors: ColorOptions
    @OptionGroup var machine: HostOptions

    func validate() throws {
        guard count ?? 0 >= 0 else { throw ValidationError("-n wants a number from 0") }
    }

    func run() async throws {
        let journal = Journal(host: machine.target, path: machine.journal)
        let events = try await journal.events(since: try await start(), limit: count)
        if json {
            for event in events { print(event.json.text) }
            return
        }
        let paint = await colors.paint()
        await Pager.start()
        let rows = events.map { event in
            let words = event.words
            return [event.time.map { CalendarTime.text($0) } ?? "-", words.event, words.subject, words.rest]
        }
        for line in rows.columns { print(paint(line.prefix(20), .yellow) + line.dropFirst(20)) }
    }

    /// It is git that understands dates.
    private func start() async throws -> Int64? {
        guard let since else { return nil }
        let key = "ksplice.since"
        let result = try await Command(
            ["git", "-c", "\(key)=\(since)", "config", "--type=expiry-date", "--get", key]
        ).run()
        guard result.succeeded, let time = Int64(result.text.trimmed) else {
            throw Failure(
                "git understands no date '\(since)'", status: .usage, hint: "for example --since=yesterday")
        }
        return time
    }
}
