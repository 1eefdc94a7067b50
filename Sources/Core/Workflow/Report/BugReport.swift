// `git ksplice bug-report`: what a maintainer needs to know of a machine and a repository, with headings that the reporter
// fills in. A section that cannot be told says why; none is a reason to fail. It is going to be read by strangers: it has no
// key, no value of an environment variable, none of a configuration variable but those that are known to be harmless, no name of
// the machine or of people, and paths of the user's are shortened to what they are (`Discretion`).

/// A report of a bug, to be filled in.
public struct BugReport: Sendable {
    let host: any Host & Sendable
    let journal: Journal
    let boot: BootStore
    let subscription: Subscription
    let kernelSources: String?

    /// - Parameters:
    ///   - host: this machine.
    ///   - journal: its journal's path.
    ///   - kernelSources: the folder with the sources of ksplice.ko, where it was found.
    public init(
        host: any Host & Sendable, journal: String, boot: BootStore, subscription: Subscription,
        kernelSources: String?
    ) {
        self.host = host
        self.journal = Journal(host: host, path: journal)
        self.boot = boot
        self.subscription = subscription
        self.kernelSources = kernelSources
    }

    private static let questions = """
        # Bug report: git ksplice

        Answer what you can, and look at the rest, which was found out on this machine: remove what you do not want others to
        see.

        ## What did you do before the bug happened?

        (the commands, in their order)

        ## What did you expect to happen?

        ## What happened instead?

        (all that was printed, and what the kernel's log says: dmesg | grep -i ksplice)

        ## What is the difference between the two?

        ## Anything else?


        """

    /// The whole report, in Markdown.
    ///
    /// - Parameter repository: nil outside of one.
    public func text(repository: Repository?) async -> String {
        let discretion = Discretion(repository)
        var text = ""
        func add(_ title: String, _ body: () async throws -> [String]) async {
            text += "## \(title)\n\n"
            do {
                let lines = try await body()
                text += lines.isEmpty ? "none\n" : lines.map { "- \($0)\n" }.joined()
            } catch { text += "cannot be told: \(Failure(error).message.lines.first ?? "")\n" }
            text += "\n"
        }
        await add("Program") { await program() }
        await add("Kernel") { try await kernel() }
        await add("Updates of the running kernel") { try await updates() }
        await add("Kept for the next boot") { try await kept() }
        await add("Channels that this host follows") { try await channels() }
        await add("Journal, the newest first") { try await events() }
        if let repository {
            let facts = RepositoryFacts(repository)
            await add("Repository") { try await facts.lines() }
            await add("Configuration") { try await facts.configuration() }
        } else {
            text += "## Repository\n\nnone: this was written outside of one\n"
        }
        return Self.questions + discretion.applied(to: text)
    }

    // MARK: - Sections

    private func program() async -> [String] {
        func first(_ arguments: String...) async -> String {
            // A program that is not there is what is to be told.
            guard let result = try? await Command(arguments).run(), result.succeeded,
                let line = result.text.lines.first
            else { return "not there" }
            return String(line)
        }
        var lines = ["git ksplice \(programVersion)"]
        if let kernelSources {
            let builder = try? CreateOptions(kernelSources: kernelSources).builder()
            lines[0] += builder.map { ", updates are made by \($0)" } ?? ", sources of ksplice.ko unreadable"
        } else {
            lines[0] += ", without the sources of ksplice.ko"
        }
        lines.append("git: " + (await first("git", "--version")))
        lines.append("libgit2 \(LibraryStore.version), elfutils \(ObjectLibrary.version)")
        lines.append("compiler: " + (await first("gcc", "--version")))
        lines.append("linker: " + (await first("ld", "--version")))
        lines.append("make: " + (await first("make", "--version")))
        lines.append("C library: " + (await first("getconf", "GNU_LIBC_VERSION")))
        let system = (try? Files.readText("/etc/os-release"))?.lines.first { $0.hasPrefix("PRETTY_NAME=") }
        lines.append(
            "system: "
                + (system.map { $0.dropFirst("PRETTY_NAME=".count).replacing("\"", with: "") } ?? "unknown"))
        return lines
    }

    private func kernel() async throws -> [String] {
        let identity = try await host.identity()
        let policy = try await ModulePolicy(of: host)
        func file(_ path: String) async -> String {
            guard let bytes = try? await host.read(path) else { return "unknown" }
            return String(decoding: bytes, as: UTF8.self).trimmed
        }
        let config = try? Files.read("/boot/config-\(identity.release)")
        return [
            "release \(identity.release), \(identity.arch)", "version \(identity.version)",
            "build-id \(identity.buildID.isEmpty ? "unknown" : identity.buildID)",
            "config " + (config.map { "sha256:" + sha256($0) } ?? "unknown"),
            "lockdown \(policy.lockdown?.rawValue ?? "unknown")",
            "modules: \(policy.demandsSignatures ? "only signed ones" : "unsigned ones, too")"
                + (policy.isLoadingDisabled ? ", loading is switched off" : ""),
            "kptr_restrict \(policy.pointerRestriction)", "tainted \(await file("/proc/sys/kernel/tainted"))",
            "/proc/kcore \(try await host.exists("/proc/kcore") ? "is there" : "is missing")",
            "ksplice.ko \(try await host.exists(UpdateSysfs.root) ? "is loaded" : "is not loaded")",
        ]
    }

    private func updates() async throws -> [String] {
        try await HostUpdates(host: host, journal: journal.path).all().map { update in
            let waiting =
                update.waiting.isEmpty ? "" : ", waits for \(update.waiting.joined(separator: ", "))"
            let more = update.overridden.isEmpty ? "" : ", overridden by the kernel's own live patching"
            return
                "\(update.id) \(update.state): \(update.functions.joined(separator: ", "))\(waiting)\(more)"
        }
    }

    private func kept() async throws -> [String] {
        guard boot.exists else { return [] }
        return try await BootRun(host: host, store: boot).overview().flatMap { kernel in
            zip(kernel.list.entries, kernel.standings).map { entry, standing in
                "\(entry.id) for \(kernel.list.release): \(standing.word)"
            }
        }
    }

    private func channels() async throws -> [String] {
        guard let repository = try await subscription.repository() else { return [] }
        let store = ChannelStore(repository)
        var lines: [String] = []
        for name in try await store.names() {
            guard let state = try await store.state(name) else { continue }
            lines.append(
                "\(name.name) of \(name.arch) \(name.kernel.prefix(12)): number \(state.serial), "
                    + "\(state.index.entries.count) update(s), valid until \(CalendarTime.text(state.validUntil))"
            )
        }
        let source = try await repository.config("ksplice.source") ?? ""
        let scheme = source.firstRange(of: "://").map { source[..<$0.lowerBound] }
        lines.append("fetched " + (scheme.map { "by \($0)" } ?? "from a path or through ssh"))
        return lines
    }

    private static let eventCount = 20

    private func events() async throws -> [String] {
        try await journal.events(limit: Self.eventCount).map { event in
            let words = event.words
            let time = event.time.map { CalendarTime.text($0) } ?? "-"
            let rest = event.event == "boot" || event.event == "fetch" ? words.rest : ""
            return "\(time) \(words.event) \(words.subject) \(rest)".trimmed
        }
    }
}

extension BootStanding {
    fileprivate var word: String {
        switch self {
        case .ready: "ready"
        case .unconfirmed: "unconfirmed"
        case .refused(let why): "refused: \(why)"
        case .held(let why): "held: \(why)"
        }
    }
}
