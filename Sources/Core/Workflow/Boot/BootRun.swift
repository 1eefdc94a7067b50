// What happens at a boot: the updates that are kept for the running kernel are applied in their order. Before each, a mark
// is written that only `confirm`, called when the system has come up, takes away (BootStanding.swift says what it means
// when it stays). Where the mark cannot be written, or would be gone after a reboot, nothing is tried. What is applied when
// the system is up already has no mark when that is done: no boot can fail for it any more.
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
    /// When no further update is begun.
    public var deadline: ContinuousClock.Instant?

    public init(host: any Host & Sendable, store: BootStore) {
        self.host = host
        self.store = store
    }

    /// Applies what is kept for the running kernel.
    ///
    /// - Parameters:
    ///   - prepare: what is done before an update's mark is written. If it does not end, nothing is held for it.
    ///   - apply: changes the kernel.
    public func run(
        preparing prepare: (Update) async throws -> Void,
        applying apply: (Update) async throws -> ApplyReport?
    ) async throws -> BootReport {
        if let reason = try await reasonToRefrain() { return BootReport(switchedOff: reason) }
        let kernel = try await host.identity()
        guard store.exists, !kernel.buildID.isEmpty else { return BootReport() }
        return try await store.locked {
            guard let list = try store.list(for: kernel) else { return BootReport() }
            try store.refuseForgetful()
            let boot = try await bootID()
            let standings = try await settle(list, boot)
            var report = BootReport()
            var missing: Set<String> = []
            for (entry, standing) in zip(list.entries, standings) {
                let result = try await attempt(entry, standing, boot, missing, prepare, apply)
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
        _ prepare: (Update) async throws -> Void,
        _ apply: (Update) async throws -> ApplyReport?
    ) async throws -> BootReport.Result {
        if try await isPresent(entry.id) { return .present }
        if case .held(let why) = standing { return .held(why) }
        if let ground = entry.depends.first(where: missing.contains) {
            return .held("it stands on update \(ground.prefix(12)), which is not applied")
        }
        if let deadline, ContinuousClock.now >= deadline {
            return .refused(Failure("no time is left for it at this boot", status: .busy))
        }
        let report: ApplyReport?
        do {
            let update = try store.update(entry.id)
            try await prepare(update)
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
        if try store.isUp(boot) {
            try store.removeMark(entry.id)
        } else {
            try store.set(.applied(boot: boot), for: entry.id)
        }
        return .applied(report)
    }

    private struct UnwritableMark: Error { var failure: Failure }

    /// Notes that the system came up, with what was applied at this boot if anything was. Returns the identities.
    ///
    /// - Parameter patience: how many seconds to wait for whoever is at work.
    public func confirm(patience: Double = 300) async throws -> [String] {
        let boot = try await bootID()
        try store.create()
        return try await store.locked(patience: patience) {
            var confirmed: [String] = []
            for id in try store.marked() {
                switch try store.mark(id) {
                case .applied(boot): break
                // It was applied, but the program did not live to write that down.
                case .trying(boot) where try await isPresent(id): break
                default: continue
                }
                try store.removeMark(id)
                confirmed.append(id)
            }
            // Last, so that no mark of a boot that came up outlives the note.
            if try !store.isUp(boot) { try store.setUp(boot) }
            return confirmed
        }
    }

    /// Lets updates that are held, or were refused, be tried again. Fails, and releases none, where one of them is
    /// neither. Called within `locked`.
    public func release(_ specs: [String]) async throws -> [BootList.Entry] {
        let boot = try await bootID()
        let entries = try specs.map(store.find)
        for list in try store.lists() where list.entries.contains(where: { entries.contains($0) }) {
            // A mark that is removed no longer tells that the others of its boot are not to blame.
            let standings = try await settle(list, boot)
            for (entry, standing) in zip(list.entries, standings) where entries.contains(entry) {
                let name = "update \(entry.id.prefix(12))"
                switch standing {
                case .held, .refused: break
                case .ready: throw Failure("\(name) is neither held nor refused", status: .no)
                case .unconfirmed:
                    throw Failure(
                        "\(name) was applied at this boot, and nobody has said yet that the system came up",
                        status: .busy, hint: "git ksplice boot confirm, if it did")
                }
            }
        }
        for entry in entries { try store.removeMark(entry.id) }
        return entries
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

    /// Whether all of an update is applied that can be now. An interrupted command may have had a part of it wait, and no more.
    private func isPresent(_ id: String) async throws -> Bool {
        let records = try await HostRecords(host)
        guard records.isApplied(id) else { return false }
        // An archive that cannot be read is told of where it is to be applied.
        guard let parts = try? store.update(id).parts() else { return true }
        return Presence(parts, records, try await host.modules()).ready.isEmpty
    }

    private func applied(_ list: BootList) async throws -> Set<String> {
        var result: Set<String> = []
        for entry in list.entries where try await isPresent(entry.id) { result.insert(entry.id) }
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
            "single", "s", "-s", "S", "1", "rescue", "recovery", "emergency", "-b",
            "systemd.unit=rescue.target", "systemd.unit=emergency.target",
        ]
        // What such a system writes down, it forgets.
        let kept: Set<String> = ["systemd.volatile=no", "systemd.volatile=0", "systemd.volatile=false"]
        if let word = words.last(where: { $0 == "systemd.volatile" || $0.hasPrefix("systemd.volatile=") }),
            !kept.contains(word)
        {
            return "a system that forgets ('\(word)')"
        }
        func isShell(_ word: String) -> Bool {
            word.hasPrefix("init=") && !["init", "systemd"].contains(word.lastPathComponent)
        }
        return words.first { rescue.contains($0) || isShell($0) }.map {
            "a boot to mend the system ('\($0)')"
        }
    }
}
