import ArgumentParser
import Core
import Glibc

struct BugReportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bug-report",
        abstract: "Write what a maintainer needs to know, to be filled in and sent.",
        usage: "git ksplice bug-report [-o <file>]")

    @Option(
        name: .shortAndLong,
        help: ArgumentHelp(
            "The file; - for standard output; default: git-ksplice-bug-report-<date>.md.", valueName: "file"))
    var output: String?

    func run() async throws {
        let report = BugReport(
            host: Locations.host, journal: Locations.journal, boot: BootCommand.store,
            subscription: Locations.subscription, kernelSources: try? Locations.kernelSources())
        // Outside of a repository there is less to tell.
        let text = await report.text(repository: try? await Repository())
        if output == "-" { return Talk.raw(text) }
        let time = CalendarTime.text(CalendarTime.now).replacing(":", with: "")
        let path = output ?? "git-ksplice-bug-report-\(time).md"
        // What somebody has filled in is not written over.
        let file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw Failure.system("create", path, errno: errno) }
        defer { close(file) }
        do { try Files.writeAll(Array(text.utf8), to: file, path: path) } catch {
            unlink(path)
            throw error
        }
        print(path)
        Talk.line(
            "hint: fill in what it asks, look at the rest, and send it to whom you have git ksplice from")
    }
}
