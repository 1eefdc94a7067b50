import ArgumentParser
import Core
import Glibc

struct Status: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show which updates the running kernel has.",
        usage: "git ksplice status [<options>] [<ref>]")

    @Flag(help: "Print the result as JSON.")
    var json = false

    @OptionGroup var lines: LineOptions
    @OptionGroup var colors: ColorOptions
    @OptionGroup var followed: FollowedOptions
    @OptionGroup var machine: HostOptions

    @Argument(help: "Compare what is applied with the history of this commit or ref.")
    var ref: String?

    func run() async throws {
        let host = machine.target
        var known = HostUpdates(host: host, journal: machine.journal)
        known.late = try machine.late
        let updates = try await known.all()
        let standings = try await standings(updates, host)
        let kept = machine.isElsewhere ? nil : await kept(Locations.host)
        let standing = machine.isElsewhere ? nil : await standing(updates, Locations.host)
        let queue = machine.isElsewhere ? nil : await queue()
        if json {
            let kernel = try await host.identity()
            var members: [(String, JSON)] = [
                ("v", .number(1)), ("release", .string(kernel.release)),
                ("build_id", .string(kernel.buildID)), ("updates", .array(updates.map(\.json))),
                ("boot", kept?.updatesJSON ?? .array([])),
                ("channel", standing?.json ?? .null),
            ]
            if let queue { members.append(("queue", queue.json)) }
            if let standings { members.append(("standings", .array(standings.map(\.json)))) }
            print(JSON.object(members).text)
            return
        }
        if let form = lines.form {
            try await tell(in: form, host.identity(), updates, kept, standing, queue, standings ?? [])
            return
        }
        let paint = await colors.paint()
        if let ref, let standings {
            let rows = standings.map { [$0.word.rawValue, String($0.id.prefix(12)), $0.description] }
            for (line, standing) in zip(rows.columns, standings) {
                print(paint(line, Paint.color(of: standing.word.rawValue)))
            }
            let counts = UpdateStanding.Word.allCases.map { word in
                "\(standings.count { $0.word == word }) \(word.rawValue)"
            }
            print("\(ref): \(counts.joined(separator: ", "))")
            return
        }
        if updates.isEmpty { print("no update is loaded") }
        for update in updates {
            let state = paint(update.state, Paint.color(of: update.state))
            print("\(paint(update.id.prefix(12), .yellow))  \(state)  \(update.description)")
            if !update.functions.isEmpty { print("    \(update.functions.joined(separator: ", "))") }
            for (function, patch) in update.overridden {
                print(
                    "    '\(function)' is patched by the kernel's own live patching ('\(patch)'), too: its code runs instead"
                )
            }
            if !update.waiting.isEmpty { print("    waits for \(update.waiting.joined(separator: ", "))") }
        }
        for (entry, state, reason) in kept?.troubled ?? [] {
            let words = paint("\(state) at boot", Paint.color(of: state))
            print("\(paint(entry.id.prefix(12), .yellow))  \(words)  \(entry.description)\n    \(reason)")
        }
        if let standing { standing.show() }
        if let queue { QueueText.show(queue) }
    }

    private func tell(
        in form: Porcelain, _ kernel: KernelIdentity, _ updates: [LoadedUpdate], _ kept: BootOverview?,
        _ channel: ChannelStanding?, _ queue: QueueOverview?, _ standings: [UpdateStanding]
    ) {
        var text = form.line(["kernel", kernel.arch, kernel.buildID, kernel.release])
        for update in updates { text += form.lines(update) }
        for row in kept?.lines ?? [] { text += form.line(["boot", row.id, row.state], text: row.reason) }
        if let channel { text += form.lines(channel) }
        if let queue { text += form.lines(queue) }
        for standing in standings {
            text += form.line(["standing", standing.word.rawValue, standing.id], text: standing.description)
        }
        Talk.raw(text)
    }

    /// What is kept for the next boot of this kernel. If that cannot be read, what is loaded is told all the same.
    private func kept(_ host: LocalHost) async -> BootOverview? {
        do {
            return try await BootRun(host: host, store: BootCommand.store).overview().first { $0.isRunning }
        } catch {
            Talk.warning("what is kept for the next boot cannot be told: \(Failure(error).message)")
            return nil
        }
    }

    /// How this host stands to the channel that it follows. If that cannot be read, what is loaded is told all the same.
    private func standing(_ updates: [LoadedUpdate], _ host: LocalHost) async -> ChannelStanding? {
        do {
            // It is root's, and git reads no repository of somebody else's.
            guard geteuid() == 0 || getenv(Locations.stateVariable) != nil else { return nil }
            let subscription = Locations.subscription
            guard try await subscription.repository() != nil else { return nil }
            let state = try await subscription.state(
                channel: followed.channel, kernel: host.identity(), mayBeOld: true)
            return try ChannelStanding(state, applied: updates.filter(\.isInEffect).map(\.id))
        } catch {
            Talk.warning("what the channel says cannot be told: \(Failure(error).message)")
            return nil
        }
    }

    /// What is built in the background; nil outside of a repository, and in one without a queue. It is no reason to say
    /// nothing of the kernel.
    private func queue() async -> QueueOverview? {
        guard let repository = try? await Repository() else { return nil }
        do { return try await QueueOverview(repository) } catch {
            Talk.warning("what is built in the background cannot be told: \(Failure(error).message)")
            return nil
        }
    }

    private func standings(
        _ updates: [LoadedUpdate], _ host: any Host & Sendable
    ) async throws -> [UpdateStanding]? {
        guard let ref else { return nil }
        return try await UpdateStore(try await Repository()).standing(
            of: updates.filter(\.isInEffect), to: ref, kernel: try await host.identity())
    }
}

extension ChannelStanding {
    fileprivate func show() {
        func row(_ word: String, _ entry: ChannelEntry) -> [String] {
            let words = entry.cves + (entry.withdrawn.map { [$0] } ?? [])
            return [String(entry.id.prefix(12)), word, words.joined(separator: " ")]
        }
        let rows =
            available.map { row("available", $0) } + withdrawn.map { row("withdrawn", $0) }
            + replaced.map { row("replaced by a newer one", $0) }
        for line in rows.columns { print(line) }
        let counts = "\(available.count) to be applied, \(withdrawn.count) withdrawn"
        print("channel '\(state.name.name)', number \(state.serial): \(counts)")
        if let release { print("this kernel has the fixes of release \(release)") }
        if !cves.isEmpty { print("closed here: \(cves.joined(separator: ", "))") }
        if isOutOfDate {
            Talk.warning("the channel is out of date since \(CalendarTime.text(state.validUntil))")
            Talk.line("hint: git ksplice fetch")
        }
    }
}
