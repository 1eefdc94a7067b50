import ArgumentParser
import Core

struct ChannelCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "channel", abstract: "Keep the lists of updates that hosts follow.",
        subcommands: [
            ChannelList.self, ChannelShow.self, ChannelLog.self, ChannelAdd.self, ChannelSign.self,
            ChannelRenew.self,
            ChannelPull.self,
        ])
}

struct ChannelList: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "List the channels of this repository.")

    @OptionGroup var options: ChannelOptions

    @Flag(help: "Print JSON, one object a line.")
    var json = false

    func run() async throws {
        let store = ChannelStore(try await Repository())
        var rows: [[String]] = []
        for name in try await store.names(try await options.identity(store.repository)) {
            guard let state = try await store.state(name) else { continue }
            if json { print(state.json.text) }
            rows.append([
                name.name, name.arch, String(name.kernel.prefix(12)),
                "\(state.index.entries.count) update(s)",
                "valid until " + CalendarTime.text(state.validUntil),
            ])
        }
        if !json { for line in rows.columns { print(line) } }
    }
}

struct ChannelShow: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "Show what a channel lists, in the order of applying.",
        usage: "git ksplice channel show [--kernel <name>] [--json] [<channel>]")

    @OptionGroup var options: ChannelOptions

    @Flag(help: "Print JSON, one object a line.")
    var json = false

    @Argument(help: "The channel's name.")
    var channel = "stable"

    func run() async throws {
        let store = ChannelStore(try await Repository())
        for name in try await options.channels(channel, in: store) {
            guard let state = try await store.state(name) else { continue }
            if json {
                print(state.json.text)
                continue
            }
            print(
                "channel \(name.name) of \(name.arch) \(name.kernel.prefix(12)), number \(state.serial), "
                    + "valid until \(CalendarTime.text(state.validUntil))")
            for line in try state.rows(
                await UpdateStore(store.repository).list(arch: name.arch, buildID: name.kernel)
            ).columns {
                print("  " + line)
            }
        }
    }
}

extension ChannelState {
    /// A line for each update and release.
    func rows(_ stored: [StoredUpdate]) throws -> [[String]] {
        let descriptions = Dictionary(
            stored.map { ($0.id, $0.description) }, uniquingKeysWith: { first, _ in first })
        let wanted = Set(try index.wanted().map(\.id))
        var rows: [[String]] = []
        for (place, entry) in index.entries.enumerated() {
            for release in index.releases where release.count == place {
                rows.append(["release \(release.name)"])
            }
            let word =
                entry.withdrawn != nil ? "withdrawn" : wanted.contains(entry.id) ? "listed" : "replaced"
            let more = entry.cves + (entry.withdrawn.map { ["[\($0)]"] } ?? [])
            rows.append([
                String(entry.id.prefix(12)), word,
                ([descriptions[entry.id] ?? ""] + more).filter { !$0.isEmpty }.joined(separator: " "),
            ])
        }
        for release in index.releases where release.count == index.entries.count {
            rows.append(["release \(release.name)"])
        }
        return rows
    }

    /// One change of the channel, as git-ksplice-channel(1) describes it.
    func event(_ subject: String, signer: String?) -> JSON {
        .object([
            ("v", .number(1)), ("channel", .string(name.name)), ("arch", .string(name.arch)),
            ("build_id", .string(name.kernel)), ("serial", .number(serial)), ("commit", .string(commit.id)),
            ("time", .string(CalendarTime.text(commit.time))), ("subject", .string(subject)),
            ("signer", signer.map { .string($0) } ?? .null),
            ("valid_until", .string(CalendarTime.text(validUntil))),
        ])
    }

    var json: JSON {
        .object([
            ("v", .number(1)), ("channel", .string(name.name)), ("ref", .string(name.ref)),
            ("arch", .string(name.arch)),
            ("build_id", .string(name.kernel)), ("serial", .number(serial)), ("commit", .string(commit.id)),
            ("valid_until", .string(CalendarTime.text(validUntil))),
            (
                "updates",
                .array(
                    index.entries.map { entry in
                        .object([
                            ("update", .string(entry.id)), ("bytes", .number(entry.size)),
                            ("cves", .strings(entry.cves)),
                            ("supersedes", .strings(entry.supersedes)), ("depends", .strings(entry.depends)),
                            ("withdrawn", entry.withdrawn.map { .string($0) } ?? .null),
                        ])
                    })
            ),
            (
                "releases",
                .array(
                    index.releases.map {
                        .object([("name", .string($0.name)), ("updates", .number($0.count))])
                    })
            ),
        ])
    }
}

struct ChannelLog: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "log", abstract: "Show what was done to a channel, the newest first.",
        usage: "git ksplice channel log [--kernel <name>] [--json] [<channel>]")

    @OptionGroup var options: ChannelOptions

    @Flag(help: "Print JSON, one object a line.")
    var json = false

    @Argument(help: "The channel's name.")
    var channel = "stable"

    func run() async throws {
        let store = ChannelStore(try await Repository())
        let policy = try await TrustChain(store.repository).policy()
        for name in try await options.channels(channel, in: store) {
            if !json { print("channel \(name.name) of \(name.arch) \(name.kernel.prefix(12))") }
            for state in try await store.history(name) {
                // A signature that does not count is what is told here.
                let signer = try? await policy?.signer(of: state.commit, what: "")
                let subject = String(state.subject.dropFirst("ksplice: \(name.name): ".count))
                if json {
                    print(state.event(subject, signer: signer?.name).text)
                    continue
                }
                let by = signer?.name ?? "nobody whom the policy of trust knows"
                print(
                    "  \(state.serial)  \(CalendarTime.text(state.commit.time))  \(subject), signed by \(by)")
            }
        }
    }
}

struct ChannelAdd: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Put updates at the end of a channel.",
        usage: "git ksplice channel add [--channel <name>] [--kernel <name>] <update>...")

    @OptionGroup var listing: ListingOptions

    @Argument(help: "An update's id, or a commit or ref that has one.")
    var updates: [String] = []

    @OptionGroup var input: InputOptions

    func validate() throws { try input.check(updates, "an update") }

    func run() async throws {
        let names = try await input.updates(updates)
        // Without any, it would say that there is a release.
        if names.isEmpty { return }
        try await listing.add(names, release: nil, tag: nil)
    }
}

struct ChannelSign: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sign", abstract: "Agree to what a channel says, as a further signer.",
        usage: "git ksplice channel sign [--kernel <name>] [<channel>]")

    @OptionGroup var options: ChannelOptions

    @Argument(help: "The channel's name.")
    var channel = "stable"

    func run() async throws {
        let store = ChannelStore(try await Repository())
        for name in try await options.channels(channel, in: store) {
            let state = try await store.renew(name, cosign: true)
            print("channel \(name.name) of \(name.kernel.prefix(12)): number \(state.serial)")
        }
    }
}

struct ChannelRenew: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "renew",
        abstract: "Say that channels still stand as they are, so that hosts go on believing them.",
        usage: "git ksplice channel renew [--kernel <name>] [--days <count>] [<channel>]")

    @OptionGroup var options: ChannelOptions

    @Option(help: ArgumentHelp("For how long.", valueName: "count"))
    var days = 30

    @Argument(help: "The channel's name; by default, all.")
    var channel: String?

    func run() async throws {
        guard (1...3660).contains(days) else { throw Failure("'\(days)' days cannot be", status: .usage) }
        var store = ChannelStore(try await Repository())
        store.validity = Int64(days) * 86400
        for name in try await options.channels(channel, in: store) {
            let state = try await store.renew(name)
            print(
                "channel \(name.name) of \(name.kernel.prefix(12)): valid until \(CalendarTime.text(state.validUntil))"
            )
        }
    }
}

struct ChannelPull: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pull",
        abstract: "Take over what others have published, and put what was done here behind it.",
        usage: "git ksplice channel pull <remote>")

    @Argument(help: "A remote's name, a URL or a path.")
    var remote: String

    func run() async throws {
        let repository = try await Repository()
        let moved = try await ChannelStore(repository).pull(from: repository.place(ofRemote: remote))
        for ref in moved { print(ref) }
        if moved.isEmpty { print("nothing is new") }
    }
}
