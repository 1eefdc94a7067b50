import ArgumentParser
import Core
import Glibc

struct BootCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "boot", abstract: "Let updates come back when the same kernel is booted again.",
        subcommands: [
            BootAdd.self, BootRemove.self, BootShow.self, BootRelease.self, BootApply.self, BootConfirm.self,
        ])

    static var store: BootStore { BootStore(Locations.state + "/" + BootStore.name) }

    /// The folder of what is kept, for a change.
    static func changed<Result>(_ body: (BootStore) async throws -> Result) async throws -> Result {
        guard geteuid() == 0 || getenv(Locations.stateVariable) != nil else {
            throw Failure("only root may say what is applied at boot", hint: "run this with sudo")
        }
        try store.create()
        return try await store.locked { try await body(store) }
    }

    /// Keeps an update, and says so.
    static func keep(_ update: Update, isJSON: Bool = false) async throws {
        let isNew = try await changed { try $0.add(update) }
        let (short, release) = (update.id.prefix(12), update.manifest.kernel.release)
        if !isNew, let known = try await trouble(update.id), known.state == "held" {
            Talk.warning("update \(short) is kept already, and held: \(known.reason)")
            Talk.line("hint: git ksplice boot release \(short)")
            return
        }
        let text =
            "update \(short) \(isNew ? "will be" : "is already to be") applied when \(release) boots"
        if isJSON { Talk.line(text) } else { print(text) }
        let unit = try Locations.executable().directoryPart + "/../lib/systemd/system/ksplice-boot.service"
        if isNew, !Files.exists(unit), getenv(Locations.stateVariable) == nil {
            Talk.warning(
                "this program was not installed with the unit that calls it at boot (ksplice-boot.service)")
        }
    }
}

extension BootCommand {
    /// What is undone comes back at the next boot if it is kept for that: it is kept no more, or that is said.
    static func forget(_ id: String, isAsked: Bool, isQuiet: Bool) async throws {
        guard try store.exists && store.lists().flatMap(\.entries).contains(where: { $0.id == id }) else {
            return
        }
        if isAsked {
            try await changed { try $0.remove([id]) }
        } else if !isQuiet {
            Talk.line("note: the next boot applies update \(id.prefix(12)) again")
            Talk.line("hint: git ksplice boot remove \(id.prefix(12))")
        }
    }

    /// Why an update that is kept will not come back, or did not at the last boot.
    private static func trouble(_ id: String) async throws -> (state: String, reason: String)? {
        let all = try await BootRun(host: LocalHost(), store: store).overview().flatMap(\.troubled)
        return all.first { $0.entry.id == id }.map { ($0.state, $0.reason) }
    }
}

struct BootAdd: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Keep updates; they are applied at each boot of their kernel.",
        usage: "git ksplice boot add (<update> | <commit> | <ref> | <file>)...")

    @Argument(help: "An update's id, a commit or ref that has one for this kernel, or an archive.")
    var updates: [String]

    func run() async throws {
        let kernel = await UpdateSource.runningKernel(LocalHost())
        for name in updates {
            try await BootCommand.keep(try await UpdateSource.load(name, kernel: kernel))
        }
    }
}

struct BootRemove: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove", abstract: "Keep updates no longer; what is applied stays applied.",
        usage: "git ksplice boot remove (<update>... | --all)")

    @Flag(help: "Keep no update, of no kernel.")
    var all = false

    @Argument(help: "An update's id.")
    var updates: [String] = []

    func validate() throws {
        guard all == updates.isEmpty else { throw ValidationError("give either updates or --all") }
    }

    func run() async throws {
        let gone = try await BootCommand.changed { store in
            let entries = try all ? store.lists().flatMap(\.entries) : updates.map(store.find)
            try store.remove(Set(entries.map(\.id)))
            return entries
        }
        for entry in gone { print("update \(entry.id.prefix(12)) will not be applied at boot") }
    }
}

struct BootShow: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "List what is kept for which kernel, and what is held.")

    @Flag(help: "Print the result as JSON.")
    var json = false

    func run() async throws {
        let overview = try await BootRun(host: LocalHost(), store: BootCommand.store).overview()
        if json {
            print(
                JSON.object([("v", .number(1)), ("kernels", .array(overview.map(\.json)))]).text)
            return
        }
        if overview.isEmpty { print("no update is kept for the next boot") }
        for kernel in overview {
            let mark = kernel.isRunning ? " (running)" : ""
            print("\(kernel.list.release) (\(kernel.list.arch)) \(kernel.list.buildID.prefix(12))\(mark)")
            for row in kernel.rows.columns { print("  " + row) }
        }
    }
}

struct BootRelease: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "release", abstract: "Let held updates be tried again at the next boot.",
        usage: "git ksplice boot release <update>...")

    @Argument(help: "An update's id.")
    var updates: [String]

    func run() async throws {
        let released = try await BootCommand.changed { store in
            try await BootRun(host: LocalHost(), store: store).release(updates)
        }
        for entry in released { print("update \(entry.id.prefix(12)) will be tried at the next boot") }
    }
}

extension BootOverview {
    /// Identity, state, description and reason of each update.
    fileprivate var rows: [[String]] {
        zip(list.entries, standings).map { entry, standing in
            let (state, reason) = words(entry, standing)
            return [
                String(entry.id.prefix(12)), state,
                reason.map { "\(entry.description) [\($0)]" } ?? entry.description,
            ]
        }
    }

    var json: JSON {
        .object([
            ("arch", .string(list.arch)), ("build_id", .string(list.buildID)),
            ("release", .string(list.release)),
            ("running", .bool(isRunning)), ("updates", updatesJSON),
        ])
    }

    var updatesJSON: JSON {
        .array(
            zip(list.entries, standings).map { entry, standing in
                let (state, reason) = words(entry, standing)
                return .object([
                    ("update", .string(entry.id)), ("state", .string(state)),
                    ("reason", reason.map { .string($0) } ?? .null),
                    ("applied", .bool(applied.contains(entry.id))), ("depends", .strings(entry.depends)),
                    ("description", .string(entry.description)),
                ])
            })
    }

    /// Each update with its state, and the reason where there is one.
    var lines: [(id: String, state: String, reason: String)] {
        zip(list.entries, standings).map { entry, standing in
            let (state, reason) = words(entry, standing)
            return (entry.id, state, reason ?? "")
        }
    }

    /// The updates that will not come back as things are, each with the reason.
    var troubled: [(entry: BootList.Entry, state: String, reason: String)] {
        zip(list.entries, standings).compactMap { entry, standing in
            let (state, reason) = words(entry, standing)
            return reason.map { (entry, state, $0) }
        }
    }

    private func words(_ entry: BootList.Entry, _ standing: BootStanding) -> (state: String, reason: String?)
    {
        switch standing {
        case .ready: ("ready", nil)
        case .unconfirmed: ("unconfirmed", nil)
        case .refused(let why): ("refused", why)
        case .held(let why): ("held", why)
        }
    }
}
