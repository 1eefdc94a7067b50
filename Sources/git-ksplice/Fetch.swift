import ArgumentParser
import Core
import Glibc

struct Fetch: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Get the updates for the running kernel, and believe only what is signed.",
        usage:
            "git ksplice fetch [--channel <name>] [--release <name>] [-q] [--json] [<url> | <path> | <bundle>]"
    )

    @Option(help: ArgumentHelp("Which channel.", valueName: "name"))
    var channel = "stable"

    @Option(help: ArgumentHelp("Also what this older release has, for 'upgrade --to'.", valueName: "name"))
    var release: String?

    @Flag(name: .shortAndLong, help: "Say nothing but errors.")
    var quiet = false

    @Flag(help: "Print the result as JSON.")
    var json = false

    @OptionGroup var progress: ProgressOptions

    @Argument(help: "Where from; by default, where it came from last time.")
    var source: String?

    func run() async throws {
        guard geteuid() == 0 || getenv(Locations.stateVariable) != nil else {
            throw Failure("only root may say what this host follows", hint: "run this with sudo")
        }
        let kernel = try await Locations.host.identity()
        let place = try source.map { Files.exists($0) ? try Files.absolute($0) : $0 }
        let fetched = try await fetch(place, kernel)
        if json {
            print(
                JSON.object([
                    ("v", .number(1)), ("new", .bool(fetched.isNew)), ("updates", .strings(fetched.updates)),
                    ("channel", fetched.state.json),
                ]).text)
        } else if !quiet {
            let count = fetched.updates.count
            print(
                "channel \(channel), number \(fetched.state.serial): "
                    + (count == 0 ? "no new update" : "\(count) new update(s)"))
            for id in fetched.updates { print("  \(id.prefix(12))") }
        }
    }

    /// Fetches, and writes down what is new, and what is not to be trusted.
    private func fetch(_ place: String?, _ kernel: KernelIdentity) async throws -> Subscription.Fetched {
        let journal = Journal(host: Locations.host, path: Locations.journal)
        let fetched: Subscription.Fetched
        do {
            fetched = try await Locations.subscription.fetch(
                from: place, channel: channel, release: release, kernel: kernel,
                progress: progress.steps(isQuiet: quiet || json).step)
        } catch let failure as Failure where [.verificationRefused, .stale].contains(failure.status) {
            await note { try await journal.note(failure, channel: channel) }
            throw failure
        }
        if fetched.isNew || !fetched.updates.isEmpty { await note { try await journal.note(fetched) } }
        await hold(fetched.state)
        return fetched
    }

    /// What is kept for the next boot and was withdrawn does not come back by itself. What was fetched counts all the same.
    private func hold(_ state: ChannelState) async {
        let store = BootCommand.store
        guard store.exists else { return }
        do {
            for (entry, why) in try await store.locked({ try store.hold(withdrawn: state.index.entries) }) {
                Talk.warning("update \(entry.id.prefix(12)), which is kept for the next boot, was \(why)")
            }
        } catch {
            Talk.warning("what was withdrawn may come back at the next boot: \(Failure(error).message)")
        }
    }

    /// What was fetched counts, whether that could be written down or not.
    private func note(_ body: () async throws -> Void) async {
        do { try await body() } catch {
            Talk.warning("the journal cannot be written: \(Failure(error).message)")
        }
    }
}
