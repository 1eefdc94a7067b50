// What `list`, `log` and `status` tell scripts that read lines; the manual pages of these commands describe it.

extension Porcelain {
    /// Several names in one field.
    static func joined(_ names: some Sequence<String>) -> String { names.joined(separator: ",") }

    /// An update as `git ksplice list --porcelain` tells it.
    public func line(_ update: StoredUpdate) -> String {
        line(
            [
                "update", update.id, update.arch, update.buildID, update.release,
                Self.joined(update.commits),
            ], text: update.description)
    }

    /// A commit and what is known of it, as `git ksplice log --porcelain` tells it.
    public func lines(_ report: CommitReport) -> String {
        line(["commit", report.commit.id], text: report.commit.subject)
            + report.answers.map { answer in
                line(
                    [
                        "kernel", answer.kernel, answer.arch, answer.buildID, answer.state.rawValue,
                        Self.joined(answer.updates.map(\.id)), Self.joined(answer.codes),
                    ], text: answer.reason)
            }.joined()
    }

    /// A loaded update as `git ksplice status --porcelain` tells it.
    public func lines(_ update: LoadedUpdate) -> String {
        var text = line(["update", update.id, update.state], text: update.description)
        for name in update.functions { text += line(["function", update.id, name]) }
        for name in update.waiting { text += line(["waiting", update.id, name]) }
        for (function, patch) in update.overridden {
            text += line(["overridden", update.id, function, patch])
        }
        return text
    }

    /// How a host stands to its channel.
    public func lines(_ standing: ChannelStanding) -> String {
        let state = standing.state
        var text = line([
            "channel", state.name.name, String(state.serial), CalendarTime.text(state.validUntil),
            standing.isOutOfDate ? "out-of-date" : "valid", standing.release ?? "",
        ])
        for (word, entries) in [
            ("available", standing.available), ("withdrawn", standing.withdrawn),
            ("replaced", standing.replaced),
        ] {
            for entry in entries { text += line([word, entry.id], text: entry.withdrawn ?? "") }
        }
        for name in standing.cves { text += line(["closed", name]) }
        return text
    }

    /// The queue of builds in the background.
    public func lines(_ queue: QueueOverview) -> String {
        var text = ""
        if let building = queue.building {
            text += line(["queue", "building", building.commit, building.kernel])
        }
        for item in queue.waiting { text += line(["queue", "waiting", item.name, ""], text: item.subject) }
        for record in queue.results {
            text += line(
                ["queue", record.state.rawValue, record.commit, record.kernel], text: record.words)
        }
        return text
    }
}
