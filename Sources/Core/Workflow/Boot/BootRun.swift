// What happens at a boot: the updates that are kept for the running kernel are applied in their order. Before each, a mark
// is written that only `confirm`, called when the system has come up, takes away (BootStanding.swift says what it means
// when it stays). Where the mark cannot be written, nothing is tried.
//
// It is called up to twice a boot: by the initial file system, as soon as the root is there, and by systemd before
// anything but the most basic services. The second finds what the first has done. What the first one is refused, for
// example because a module is not loaded yet, is left to the second.

public struct BootReport: Sendable {
    public enum Result: Sendable {
        case applied(ApplyReport?)
        /// It was applied before.
        case present
        case held(String)
        case refused(Failure)
    }

    /// Why nothing was tried; nil where it was.
    public var switchedOff: String?
    /// In the order of applying.
    public var results: [(entry: BootList.Entry, result: Result)] = []

    /// Whether everything that is kept for this kernel is applied now.
    public var isComplete: Bool {
        results.allSatisfy { entry in
            switch entry.result {
            case .applied, .present: true
            case .held, .refused: false
            }
        }
    }
}

/// One kernel's updates as `boot list` and `status` tell them.
public struct BootOverview: Sendable {
    public var list: BootList
    /// Whether it is the running kernel's.
    public var isRunning: Bool
    /// One for each entry.
    public var standings: [BootStanding]
    /// Identities of what is applied now.
    public var applied: Set<String>
}

public struct BootRun: Sendable {
    let host: any Host & Sendable
    let store: BootStore
    /// Whether another stage follows at this boot, which tries again what is refused in this one.
    public var isEarly = false

    public init(host: any Host & Sendable, store: BootStore) {
        self.host = host
        self.store = store
    }

    /// Applies what is kept for the running kernel.
    ///
    /// - Parameter apply: changes the kernel.
    public func run(_ apply: (Update) async throws -> ApplyReport?) async throws -> BootReport {
        if let reason = try await reasonToRefrain() { return BootReport(switchedOff: reason) }
        let kernel = try await host.identity()
        guard store.exists, !kernel.buildID.isEmpty else { return BootReport() }
        return try await store.locked {
            guard let list = try store.list(for: kernel) else { return BootReport() }
            let boot = try await bootID()
            let standings = try await settle(list, boot)
            var report = BootReport()
            var missing: Set<String> = []
            for (entry, standing) in zip(list.entries, standings) {
                let result = try await attempt(entry, standing, boot, missing, apply)
                switch result {
                case .held, .refused: missing.insert(entry.id)
                case .applied, .present: break
                }
                report.results.append((entry, result))
            }
            return report
        }
    }

    /// Writes down what the marks of earlier boots mean, so that it does not depend on what follows.
    private func settle(_ list: BootList, _ boot: String) async throws -> [BootStanding] {
        let marks = try store.marks(of: list)
        let applied = try await applied(list)
        let standings = BootStanding.all(of: list, marks: marks, boot: boot, applied: applied)
        // First those that are not to blame: if the machine dies here, they are not held for it.
        for (entry, standing) in zip(list.entries, standings) where standing == .ready {
            if marks[entry.id] != nil { try store.removeMark(entry.id) }
        }
        for (entry, standing) in zip(list.entries, standings) {
            guard case .held(let why) = standing else { continue }
            switch marks[entry.id] {
            case .trying, .applied: try store.set(.held(why: why), for: entry.id)
            case .held, .refused, nil: break
            }
        }
        return standings
    }

    private func attempt(
        _ entry: BootList.Entry, _ standing: BootStanding, _ boot: String, _ missing: Set<String>,
        _ apply: (Update) async throws -> ApplyReport?
    ) async throws -> BootReport.Result {
        if try await UpdateSysfs(host: host, id: entry.id).state() == "applied" { return .present }
        if case .held(let why) = standing { return .held(why) }
        if let ground = entry.depends.first(where: missing.contains) {
            return .held("it stands on update \(ground.prefix(12)), which is not applied")
        }
        let report: ApplyReport?
        do {
            let update = try store.update(entry.id)
            // From here on the machine may die. A mark that cannot be written ends the whole run.
            do { try store.set(.trying(boot: boot), for: entry.id) } catch {
                throw UnwritableMark(failure: Failure(error))
            }
            report = try await apply(update)
        } catch let unwritable as UnwritableMark {
            throw Failure(
                "nothing is tried without a mark on the disk: \(unwritable.failure.message)",
                status: unwritable.failure.status, hints: unwritable.failure.hints)
        } catch {
            let failure = Failure(error)
            if isEarly {
                try store.removeMark(entry.id)
            } else {
                try store.set(.refused(boot: boot, why: String(failure.message.lines[0])), for: entry.id)
            }
            return .refused(failure)
        }
        try store.set(.applied(boot: boot), for: entry.id)
        return .applied(report)
    }

    private struct UnwritableMark: Error { var failure: Failure }

    /// Notes that the system came up with what was applied at this boot. Returns the identities.
    public func confirm() async throws -> [String] {
        guard store.exists else { return [] }
        let boot = try await bootID()
        return try await store.locked {
            var confirmed: [String] = []
            for id in try store.marked() {
                switch try store.mark(id) {
                case .applied(boot): break
                // It was applied, but the program did not live to write that down.
                case .trying(boot) where try await UpdateSysfs(host: host, id: id).state() == "applied": break
                default: continue
                }
                try store.removeMark(id)
                confirmed.append(id)
            }
            return confirmed
        }
    }

    /// What is kept, for all kernels, the running one's first.
    public func overview() async throws -> [BootOverview] {
        let (boot, running) = (try await bootID(), try await host.identity())
        var result: [BootOverview] = []
        for list in try store.lists() {
            let applied = try await applied(list)
            result.append(
                BootOverview(
                    list: list, isRunning: list.name == BootList(kernel: running).name,
                    standings: BootStanding.all(
                        of: list, marks: try store.marks(of: list), boot: boot, applied: applied),
                    applied: applied))
        }
        return result.filter(\.isRunning) + result.filter { !$0.isRunning }
    }

    private func bootID() async throws -> String {
        let id = String(decoding: try await host.read("/proc/sys/kernel/random/boot_id"), as: UTF8.self)
            .trimmed
        guard !id.isEmpty else { throw Failure("the kernel does not say which boot this is") }
        return id
    }

    private func applied(_ list: BootList) async throws -> Set<String> {
        var result: Set<String> = []
        for entry in list.entries
        where try await UpdateSysfs(host: host, id: entry.id).state() == "applied" {
            result.insert(entry.id)
        }
        return result
    }

    // MARK: - Kernel parameters

    private func reasonToRefrain() async throws -> String? {
        Self.reasonToRefrain(
            parameters: String(decoding: try await host.read("/proc/cmdline"), as: UTF8.self))
    }

    /// Why a boot with these kernel parameters applies nothing; nil where it does.
    static func reasonToRefrain(parameters: String) -> String? {
        let words = parameters.split(whereSeparator: \.isWhitespace).map { String($0) }
        // The last one counts, as with the kernel's own parameters.
        if words.last(where: { $0.hasPrefix("ksplice=") }) == "ksplice=off" {
            return "the kernel parameter 'ksplice=off'"
        }
        // A kernel that saves the memory of another one has little of its own, and never comes up.
        if words.contains(where: { $0.hasPrefix("elfcorehdr=") }) { return "this kernel saves a crash" }
        // What systemd and the older inits take as the wish for a system to be mended (kernel-command-line(7)).
        let rescue: Set<String> = [
            "single", "s", "S", "1", "rescue", "emergency", "-b", "systemd.unit=rescue.target",
            "systemd.unit=emergency.target",
        ]
        func isShell(_ word: String) -> Bool {
            word.hasPrefix("init=") && !["init", "systemd"].contains(word.lastPathComponent)
        }
        return words.first { rescue.contains($0) || isShell($0) }.map {
            "a boot to mend the system ('\($0)')"
        }
    }
}
