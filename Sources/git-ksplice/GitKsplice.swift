// The commands: arguments, printing and exit statuses; what they do is in Core.

import ArgumentParser
import Core
import Glibc

@main
struct GitKsplice: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "git-ksplice", abstract: "Change a running Linux kernel without a reboot.",
        usage: "git ksplice <command> [<options>]",
        discussion: "See 'git ksplice <command> -h' for the options of a command.",
        version: programVersion,
        subcommands: [
            Init.self, KernelCommand.self, Create.self, HookCommand.self, List.self, Log.self, Show.self,
            Export.self, Check.self,
            Apply.self,
            Upgrade.self, Undo.self, Status.self, JournalCommand.self, BootCommand.self, Late.self, Test.self,
            Match.self,
            Verify.self, Explain.self, Trust.self, ChannelCommand.self, Tag.self, Withdraw.self, Publish.self,
            Receive.self,
            Fetch.self, Bundle.self, Fsck.self, Prune.self, BugReportCommand.self,
        ],
        helpNames: [.long, .short])

    static func main() async {
        // As git does: whoever started it may have it ignored.
        signal(SIGPIPE, SIG_DFL)
        do {
            try checkCommand()
            var command = try parseAsRoot(arguments)
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch {
            Glibc.exit(report(error))
        }
    }

    /// Fails where the first word is no command.
    private static func checkCommand() throws {
        let known = configuration.subcommands.compactMap {
            $0.configuration.commandName ?? "\($0)".lowercased()
        }
        guard let word = CommandLine.arguments.dropFirst().first, !word.hasPrefix("-"),
            !(known + ["help"]).contains(word)
        else { return }
        let close = nearest(to: word, in: known).prefix(1).map { "did you mean 'git ksplice \($0)'?" }
        throw Failure(
            "'\(word)' is not a git ksplice command", status: .usage,
            hints: close.isEmpty ? ["git ksplice -h lists the commands"] : close)
    }

    /// `--color` alone takes no value from the word behind it.
    private static var arguments: [String] {
        let words = CommandLine.arguments.dropFirst()
        let end = words.firstIndex(of: "--") ?? words.endIndex
        return words.indices.map { $0 < end && words[$0] == "--color" ? "--color=always" : words[$0] }
    }

    /// Prints an error in git's style. Returns the exit status.
    ///
    /// - Parameter name: what it is about, where the command goes on with others.
    static func report(_ error: any Error, about name: String? = nil) -> Int32 {
        switch error {
        case let failure as Failure:
            Talk.fatal(failure, about: name)
            return failure.status.rawValue
        case let refusal as Refusal:
            for finding in refusal.findings { Talk.line(finding.text) }
            if let interruption = refusal.interruption {
                Talk.warning(
                    "there may be more findings, because the work ended early: " + interruption.message)
            }
            Talk.fatal(
                Failure("the change cannot be made to a running kernel", hints: hints(refusal.findings)),
                about: name)
            return ExitStatus.cannotBePatched.rawValue
        case let status as ExitCode:
            return status.rawValue
        default:
            return reportUsage(error)
        }
    }

    private static func hints(_ findings: [Finding]) -> [String] {
        let errors = findings.filter { $0.severity == .error }
        let codes = Set(errors.filter(\.canBeForced).map(\.code)).sorted()
        let explain = Set(errors.map(\.code)).sorted().prefix(3).map { "git ksplice explain \($0)" }
        return explain
            + (codes.isEmpty
                ? []
                : [
                    "to let a finding through, after thinking: "
                        + codes.map { "--force \($0)" }.joined(separator: " ")
                ])
    }

    /// Help goes to standard output and wrong usage to standard error; both end with 129 as in git, but for `--help`.
    private static func reportUsage(_ error: any Error) -> Int32 {
        let text = fullMessage(for: error)
        if exitCode(for: error).isSuccess {
            print(text)
            let isAnswer = CommandLine.arguments.contains {
                $0 == "--help" || $0 == "--version" || $0 == "help"
            }
            return isAnswer ? 0 : ExitStatus.usage.rawValue
        }
        // git begins these lines in lower case.
        Talk.line(
            text.replacing("Error: ", with: "error: ", maxReplacements: 1).replacing(
                "Usage: ", with: "usage: ", maxReplacements: 1))
        return ExitStatus.usage.rawValue
    }
}
