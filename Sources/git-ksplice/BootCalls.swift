// What the initial file system and the units of systemd call at boot (hooks/boot).

import ArgumentParser
import Core
import Glibc

struct BootApply: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Apply what is kept for the running kernel, as at boot.")

    @Flag(help: "Leave to a later call at this boot what cannot be applied yet.")
    var early = false

    @Option(
        help: ArgumentHelp(
            "How long to go on trying each update while tasks are inside the functions.",
            valueName: "seconds"))
    var timeout = 10.0

    @Option(
        help: ArgumentHelp(
            "How long an update may take in all; then this program is killed, and an update in work is held.",
            valueName: "seconds"))
    var limit = 120

    /// No update is begun after so many seconds. Less than the unit's TimeoutStartSec=.
    private static let budget = 240

    func run() async throws {
        let host = Locations.host
        var boot = BootRun(host: host, store: BootCommand.store)
        boot.isEarly = early
        boot.deadline = ContinuousClock.now.advanced(by: .seconds(Self.budget))
        var applier = Applier(host: host, progress: Talk.progress(isQuiet: true))
        applier.patience = Patience(timeout: timeout)
        applier.cause = .boot
        let late = try Locations.late
        applier.late = late
        // In the initial file system this program may have another path.
        do { try await late.announce() } catch { Talk.warning(Failure(error).message) }
        let ready = applier
        let report = try await boot.run(
            preparing: { _ in
                // The default action of the signal ends this process, whose mark stays.
                alarm(UInt32(clamping: limit))
            },
            applying: { update in
                defer { alarm(0) }
                return try await ready.apply(update)
            })
        alarm(0)
        if let reason = report.switchedOff {
            print("no update is applied at this boot: \(reason)")
            return
        }
        for (entry, result) in report.results { tell(entry, result) }
        // What the first call leaves, the second one tries.
        if !early {
            do { try await Journal(host: host, path: Locations.journal).note(report) } catch {
                Talk.warning("the journal cannot be written: \(Failure(error).message)")
            }
        }
        if !report.isComplete, !early { throw ExitCode(ExitStatus.no.rawValue) }
    }

    private func tell(_ entry: BootList.Entry, _ result: BootReport.Result) {
        let name = "\(entry.id.prefix(12)) (\(entry.description))"
        switch result {
        case .applied: print("update \(name) applied")
        case .present: print("update \(name) is applied already")
        case .held(let why):
            Talk.warning("update \(name) is held: \(why)")
            Talk.line("hint: git ksplice boot release \(entry.id.prefix(12))")
        case .refused(let failure):
            if early {
                print("update \(name) is left for later: \(failure.message.lines[0])")
            } else {
                Talk.line("error: update \(name) is refused: \(failure.message)")
                for hint in failure.hints { Talk.line("hint: " + hint) }
            }
        }
    }
}

struct BootConfirm: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "confirm", abstract: "Note that the system came up with what was applied at this boot.")

    func run() async throws {
        let confirmed = try await BootRun(host: LocalHost(), store: BootCommand.store).confirm()
        for id in confirmed { print("the system came up with update \(id.prefix(12))") }
    }
}
