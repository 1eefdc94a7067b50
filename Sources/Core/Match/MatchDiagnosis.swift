// What may be behind a mismatch. Nothing here decides whether code matches; it only weighs what is known anyway: how many
// functions of the unit match, which compiler made the object and which the kernel, for which kernel the object was made,
// how much of the function differs, and where the function is redirected to. "Likely" is said of a reason only if something
// speaks for it.

/// What is known besides memory and symbols: which probes stand on code, and what may explain a mismatch.
public struct MatchEvidence: Sendable {
    /// The kernel that the objects were compiled for.
    public var madeFor: KernelIdentity?
    /// Functions by the name of the live patch that replaces them, as `/sys/kernel/livepatch` lists them.
    public var livePatches: [String: [String]]
    /// The kernel's own list of kprobes, with addresses; nil where it cannot be read. Only where it has one is a breakpoint, or
    /// the jump of an optimised probe, passed over.
    public var probes: [KernelProbe]?
    /// Entries of the new code by those of the code that applied updates replace by ftrace, which leaves no jump.
    public var redirects: [UInt64: UInt64]

    /// What stood under the jumps of applied updates, by where these stand.
    public var underJumps: [UInt64: [UInt8]]

    public init(
        madeFor: KernelIdentity? = nil, livePatches: [String: [String]] = [:], probes: [KernelProbe]? = nil,
        redirects: [UInt64: UInt64] = [:], underJumps: [UInt64: [UInt8]] = [:]
    ) {
        self.underJumps = underJumps
        self.redirects = redirects
        self.madeFor = madeFor
        self.livePatches = livePatches
        self.probes = probes
    }
}

struct MatchDiagnosis {
    private let units: [MatchUnit]
    private let state: MatchState
    private let tasks: [MatchTask]
    /// Functions of each unit that were compared, and that match.
    private var compared: [Int]
    private var matched: [Int]
    /// Entries of what matched, sorted.
    private let entries: [(address: UInt64, task: Int)]
    private let banner: KernelBanner?

    init(units: [MatchUnit], state: MatchState, tasks: [MatchTask]) {
        self.units = units
        self.state = state
        self.tasks = tasks
        compared = .init(repeating: 0, count: units.count)
        matched = compared
        var entries: [(address: UInt64, task: Int)] = []
        for (index, task) in tasks.enumerated() {
            let unit = task.span.code.index
            switch task.outcome {
            case .found(let found):
                matched[unit] += 1
                compared[unit] += 1
                entries.append((found.entry, index))
            case .missed: compared[unit] += 1
            case .open: break
            }
        }
        self.entries = entries.sorted { $0.address < $1.address }
        banner = Self.banner(state)
    }

    /// What the kernel says of itself. There is none in what has no such symbol.
    private static func banner(_ state: MatchState) -> KernelBanner? {
        guard let address = state.symbols.unique("linux_banner") else { return nil }
        // The end of what is readable may follow closely.
        for size in [512, 256, 128] {
            do {
                let text = try state.memory.read(at: address, count: size).prefix { $0 != 0 && $0 != 10 }
                return KernelBanner(String(decoding: text, as: UTF8.self))
            } catch { continue }
        }
        return nil
    }

    /// A function that no place could be compared with.
    func failure(_ task: MatchTask, _ cause: MatchFailure.Cause, _ explanation: String) -> MatchFailure {
        var failure = start(task, cause, explanation)
        failure.hints = MismatchHints.of(cause, function: task.span.name, running: banner, isImage: isImage)
        failure.neighbours = neighbours(task, at: task.consistent.first)
        return failure
    }

    /// A function that differs from memory.
    func failure(_ task: MatchTask, _ miss: MatchTask.Missed) -> MatchFailure {
        let mismatch = miss.mismatch
        var failure = start(task, mismatch.cause, mismatch.explanation)
        failure.offset = mismatch.offset
        failure.address = miss.address
        let lister = WindowLister(state: state, span: task.span, address: miss.address)
        if !miss.run.isEmpty { failure.window = lister.window(mismatch, run: miss.run) }
        failure.reasons = reasons(task, miss)
        failure.neighbours = neighbours(task, at: miss.entry)
        failure.hints = MismatchHints.of(
            mismatch.cause, function: task.span.name, running: banner, isImage: isImage)
        let likely = failure.reasons.filter(\.isLikely)
        for reason in likely.isEmpty ? failure.reasons : likely {
            failure.hints.append(MismatchHints.of(reason.code, running: banner))
        }
        failure.hints.append(
            "git ksplice explain \((likely.first?.code ?? mismatch.cause.code).rawValue)")
        return failure
    }

    private func start(_ task: MatchTask, _ cause: MatchFailure.Cause, _ explanation: String) -> MatchFailure
    {
        let unit = task.span.code.index
        return MatchFailure(
            unit: unit, path: units[unit].path, function: task.span.name, offset: 0, cause: cause,
            explanation: explanation, matched: matched[unit], compared: compared[unit])
    }

    private var isImage: Bool { state.environment.isImage }

    // MARK: - Reasons

    private func reasons(_ task: MatchTask, _ miss: MatchTask.Missed) -> [MatchFailure.Reason] {
        switch miss.mismatch.cause {
        case .differentCode, .differentContent, .symbolConflict, .patchSite: break
        default: return []
        }
        let certain = [compilerReason(task), releaseReason].compactMap { $0 } + livePatchReasons(task)
        if !certain.isEmpty { return certain }
        let unit = task.span.code.index
        let (same, all) = (matched[unit], compared[unit])
        if miss.mismatch.cause == .patchSite && all - same == 1 {
            let text = "other source: another instruction stands here"
            return [.init(code: .otherSource, isLikely: false, text: text)]
        }
        if same * 2 < all || all == 1 {
            let text =
                all == 1
                ? "nothing else of the unit was compared"
                : same == 0
                    ? "no function of the unit matches" : "only \(same) of \(all) functions of the unit match"
            var found = [
                MatchFailure.Reason(code: .otherSource, isLikely: false, text: "other source: \(text)"),
                MatchFailure.Reason(code: .otherConfig, isLikely: false, text: "another config: \(text)"),
            ]
            if compiler(of: task) == nil || banner == nil {
                found.append(.init(code: .otherCompiler, isLikely: false, text: "another compiler: \(text)"))
            }
            if all == 1 && !isImage { found.append(modified(task, miss, isOnly: true)) }
            return found.sorted { $0.isLikely && !$1.isLikely }
        }
        let changed = isImage ? nil : modified(task, miss, isOnly: all - same == 1)
        let source = MatchFailure.Reason(
            code: .otherSource, isLikely: changed?.isLikely != true,
            text: "other source: most functions of the unit match")
        return ([source] + [changed].compactMap { $0 }).sorted { $0.isLikely && !$1.isLikely }
    }

    /// Compiled by another compiler than the kernel: no two give the same code for long.
    private func compilerReason(_ task: MatchTask) -> MatchFailure.Reason? {
        guard let mine = compiler(of: task), let running = banner?.compiler, !mine.isEmpty, !running.isEmpty,
            Self.version(mine) != Self.version(running)
        else { return nil }
        return .init(
            code: .otherCompiler, isLikely: true,
            text: "another compiler: the object is of '\(mine)', the kernel of '\(running)'")
    }

    /// What the compiler has written into the object; nil where it has not.
    private func compiler(of task: MatchTask) -> String? {
        let object = task.span.code.object
        if let comment = object.sections.first(where: { $0.name == ".comment" }) {
            let text = comment.contents.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }.first
            if let text, !text.isEmpty { return text }
        }
        return state.evidence.madeFor.flatMap { $0.compiler.isEmpty ? nil : $0.compiler }
    }

    /// From `GCC: (Debian 12.2.0-14+deb12u1) 12.2.0` and from `gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0` the same.
    static func version(_ compiler: String) -> Substring {
        compiler.firstIndex(of: "(").map { compiler[$0...] } ?? compiler[...]
    }

    private var releaseReason: MatchFailure.Reason? {
        guard let made = state.evidence.madeFor, let banner else { return nil }
        if !made.release.isEmpty, made.release != banner.release {
            return .init(
                code: .otherSource, isLikely: true,
                text: "other source: it was compiled for \(made.release), this kernel is \(banner.release)")
        }
        guard !made.version.isEmpty, made.version != banner.version else { return nil }
        return .init(
            code: .otherSource, isLikely: true,
            text: "other source: it was compiled for '\(made.version)', this kernel is '\(banner.version)'")
    }

    private func livePatchReasons(_ task: MatchTask) -> [MatchFailure.Reason] {
        state.evidence.livePatches.keys.sorted().filter {
            state.evidence.livePatches[$0]!.contains(task.span.name)
        }.map {
            .init(code: .livePatched, isLikely: true, text: "the live patch '\($0)' lists this function")
        }
    }

    /// Code of the running kernel that somebody has written to.
    private func modified(_ task: MatchTask, _ miss: MatchTask.Missed, isOnly: Bool) -> MatchFailure.Reason {
        let count = differingBytes(task.span, miss.run)
        let isSmall = isOnly && task.span.size >= 32 && count > 0 && count <= 16
        return .init(
            code: .modifiedCode, isLikely: isSmall,
            text: isSmall
                ? "something changed this code in memory: \(count) of its \(task.span.size) bytes differ, and no other function of the unit does"
                : "something changed this code in memory")
    }

    /// Bytes at the same offsets that differ, outside of what linker and kernel write.
    private func differingBytes(_ span: Span, _ run: [UInt8]) -> Int {
        guard run.count == span.size else { return 0 }
        var free = [Bool](repeating: true, count: span.size)
        func close(_ range: Range<Int>) {
            for offset in range where free.indices.contains(offset - span.start) {
                free[offset - span.start] = false
            }
        }
        let section = span.code.object.sections[span.section]
        for relocation in section.relocations(in: span.range) {
            close(
                relocation.offset..<relocation.offset + (X86Relocation.of(relocation.type)?.width ?? 8))
        }
        for site in span.code.sites.sites(in: span.range, of: span.section) { close(site.range) }
        for lock in span.code.sites.locks(in: span.range, of: span.section) { close(lock..<lock + 1) }
        return run.indices.count { free[$0] && run[$0] != span.bytes[span.start + $0] }
    }

    // MARK: - Neighbours

    /// The nearest functions below and above a place, of the unit and of all units, that did match.
    private func neighbours(_ task: MatchTask, at place: UInt64?) -> [MatchFailure.Neighbour] {
        guard let place else { return [] }
        let next = entries.firstIndex { $0.address > place } ?? entries.count
        let (below, above) = (entries[..<next].reversed(), entries[next...])
        let unit = task.span.code.index
        func isOfUnit(_ entry: (address: UInt64, task: Int)) -> Bool {
            tasks[entry.task].span.code.index == unit
        }
        let own = [below.first(where: isOfUnit), above.first(where: isOfUnit)]
        let other = [below.first, above.first].filter { $0.map { !isOfUnit($0) } ?? false }
        return (own + other).compactMap { $0 }.map {
            .init(function: tasks[$0.task].span.name, address: $0.address, isOfUnit: isOfUnit($0))
        }
    }
}
