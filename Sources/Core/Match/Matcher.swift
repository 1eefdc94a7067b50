// Run-pre matching: proving that pre objects are the code that runs, and learning from it where every symbol that
// they refer to really is.
//
// First every function whose name has one candidate address is compared; what matches gives values for the symbols
// that it refers to. Then those with several candidates, of which exactly one must agree with what is known, until
// nothing new is learned. Nothing is decided by likeness: a function that could be in two places is a failure.

import Glibc

/// Compares the pre objects of translation units with a kernel's memory.
public struct Matcher {
    let units: [MatchUnit]
    private let symbols: KernelSymbols
    let state: MatchState
    private(set) var codes: [UnitCode] = []
    private var tasks: [MatchTask] = []

    /// - Parameters:
    ///   - tables: entry sizes of the table sections in bytes, by section name.
    ///   - symbols: kallsyms at the addresses of `memory`.
    ///   - isImage: whether `memory` is an image that has not booted.
    ///   - evidence: what else is known: probes that are passed over in functions that are not required, and what may
    ///     explain a mismatch.
    ///
    /// Fails on objects of another machine, on tables that are not understood and on an empty symbol table. What
    /// does not match is no failure of this kind: see `MatchResult.failures`.
    public init(
        units: [MatchUnit], tables: [String: Int], memory: any KernelMemory, symbols: KernelSymbols,
        isImage: Bool, evidence: MatchEvidence = .init()
    ) throws {
        guard !symbols.isEmpty else { throw Failure("the kernel's symbol table is empty") }
        self.units = units
        self.symbols = symbols
        for unit in units { try Self.check(unit) }
        let space = MatchSpace(units: units, symbols: symbols)
        state = MatchState(
            memory: memory, symbols: symbols, space: space,
            environment: .init(
                reading: memory, symbols: symbols, isImage: isImage,
                wordSize: units.first?.object.architecture.wordSize ?? 8), evidence: evidence)
        for (index, unit) in units.enumerated() {
            do {
                let sites = try PatchSites(of: unit.object, tables: tables)
                codes.append(UnitCode(index: index, unit: unit, sites: sites, space: space))
                add(codes[index])
            } catch let failure as Failure {
                throw Failure("the pre object of \(unit.path): \(failure.message)", hints: failure.hints)
            }
        }
    }

    private static func check(_ unit: MatchUnit) throws {
        guard let architecture = X86Architecture(machine: unit.object.machine),
            architecture.is64Bit == unit.object.is64Bit
        else { throw Failure("the pre object of \(unit.path) is not for x86") }
        do { try unit.object.checkBounds() } catch let failure as Failure {
            throw Failure(
                "the pre object of \(unit.path) is malformed: \(failure.message)",
                status: .verificationRefused)
        }
    }

    private mutating func add(_ code: UnitCode) {
        for (index, symbol) in code.object.symbols.enumerated()
        where symbol.isFunction && symbol.isDefinedInSection {
            let section = code.object.sections[symbol.section]
            guard section.isAllocated, section.isExecutable, Self.isResident(section.name) else { continue }
            let start = Int(truncatingIfNeeded: symbol.value)
            var size = Int(truncatingIfNeeded: symbol.size)
            if size == 0 {
                let next = code.space.places[code.index][symbol.section].first { $0.offset > start }
                size = (next?.offset ?? section.contents.count) - start
            }
            guard start >= 0, size > 0, size <= section.contents.count - start else { continue }
            let span = Span(code: code, symbolIndex: index, section: symbol.section, start: start, size: size)
            let found = symbols.named(symbol.name, in: code.unit.module).filter(\.isCode).map(\.address)
            tasks.append(MatchTask(span: span, candidates: Array(Set(found)).sorted()))
        }
    }

    /// Whether a section's code stays in memory after boot.
    static func isResident(_ name: String) -> Bool {
        let gone = [
            ".init", ".exit", ".meminit", ".memexit", ".cpuinit", ".cpuexit", ".devinit", ".devexit",
            ".discard", ".altinstr", ".head.text",
        ]
        return !gone.contains { name.hasPrefix($0) }
    }

    /// Matches all units.
    public mutating func match() -> MatchResult {
        let begin = now()
        for index in tasks.indices where tasks[index].candidates.count == 1 { attempt(index) }
        while attemptOpen() || narrowByPlace() {}
        settleInside()
        settleCovered()
        var result = MatchReport(units: units, symbols: symbols, state: state, tasks: tasks).result()
        result.statistics.nanoseconds = now() - begin
        return result
    }

    /// Tries every open function once more. Returns whether any was settled.
    private mutating func attemptOpen() -> Bool {
        var progress = false
        for index in tasks.indices where tasks[index].isOpen {
            attempt(index)
            if !tasks[index].isOpen { progress = true }
        }
        return progress
    }

    /// Functions that equal code in several places and that nothing refers to: the linker keeps an object's section
    /// in one piece, so what lies between two functions of the unit's own section belongs to the unit.
    /// (`cpu_online` of kernel/printk/printk.c in 6.1, called only by code that is gone after boot, is one of four.)
    private mutating func narrowByPlace() -> Bool {
        var extents: [[String]: (UInt64, UInt64)] = [:]
        for task in tasks {
            guard case .found(let found) = task.outcome, found.entry == found.address else { continue }
            let old = extents[task.home] ?? (found.entry, found.entry)
            extents[task.home] = (min(old.0, found.entry), max(old.1, found.entry))
        }
        var progress = false
        for index in tasks.indices where tasks[index].isOpen && tasks[index].consistent.count > 1 {
            guard let extent = extents[tasks[index].home] else { continue }
            let inside = tasks[index].consistent.filter { $0 > extent.0 && $0 < extent.1 }
            guard inside.count == 1, tasks[index].candidates != inside else { continue }
            tasks[index].candidates = inside
            progress = true
        }
        return progress
    }

    private func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    /// Checks what optimised probes leave of references against what the symbols turned out to be.
    private mutating func settleCovered() {
        for index in tasks.indices {
            guard case .found(let found) = tasks[index].outcome else { continue }
            for fact in found.match.covered {
                let allowed = state.space.allowed(fact.key) ?? []
                let value = state.learned[fact.key] ?? (allowed.count == 1 ? allowed[0] : nil)
                if let value, fact.agrees(value) { continue }
                let name = state.space.title(fact.key)
                let mismatch = Mismatch(
                    offset: fact.offset, runOffset: fact.offset,
                    cause: value == nil ? .kprobe : .symbolConflict,
                    explanation: value == nil
                        ? "an optimised kprobe covers a part of a reference to '\(name)', and nothing else tells where that is"
                        : "what an optimised kprobe leaves of a reference to '\(name)' does not lead there")
                tasks[index].outcome = .missed(
                    .init(
                        entry: found.entry, address: found.address, run: found.match.run, mismatch: mismatch))
                break
            }
        }
    }

    /// Whether a candidate that missed may be the function all the same: something stands on it.
    private static func mayHide(_ cause: MatchFailure.Cause) -> Bool {
        switch cause {
        case .kprobe, .traced, .redirected, .otherUpdate, .livePatched, .unreadable, .unsupported: true
        case .differentCode, .patchSite, .differentContent, .symbolConflict, .ambiguous, .notFound: false
        }
    }

    /// Compares a function with its candidates; takes over what exactly one of them proves, where no other one can be it.
    private mutating func attempt(_ index: Int) {
        let task = tasks[index]
        let candidates = state.learned[task.span.key].map { [$0] } ?? task.candidates
        var found: [MatchTask.Found] = []
        var hidden: [UInt64] = []
        var furthest: MatchTask.Missed?
        for entry in candidates {
            let outcome = MatchAttempt(state: state, span: task.span, entry: entry).run()
            switch outcome {
            case .found(let match): found.append(match)
            case .missed(let miss):
                if Self.mayHide(miss.mismatch.cause) { hidden.append(entry) }
                if furthest == nil || miss.mismatch.offset > furthest!.mismatch.offset { furthest = miss }
            }
        }
        if found.count == 1, hidden.isEmpty {
            tasks[index].outcome = .found(found[0])
            state.learn(found[0].match.facts, from: task.span.name)
        } else if found.isEmpty, let furthest {
            tasks[index].outcome = .missed(furthest)
        } else {
            tasks[index].consistent = found.map(\.entry) + hidden
        }
    }

    /// Checks references into the bodies of other functions against where those bodies turned out to be.
    private mutating func settleInside() {
        var bodies: [Int: MatchTask.Found] = [:]
        for task in tasks { if case .found(let found) = task.outcome { bodies[task.span.key] = found } }
        for index in tasks.indices {
            guard case .found(let found) = tasks[index].outcome else { continue }
            for fact in found.match.inside {
                let reason: String?
                if let body = bodies[fact.key] {
                    let delta = body.match.map.map { $0[fact.delta] } ?? fact.delta
                    let agrees = delta.map { body.address &+ UInt64($0) == fact.address } ?? false
                    reason =
                        agrees
                        ? nil
                        : "a reference into '\(state.space.title(fact.key))' leads to \(symbols.describe(fact.address))"
                } else {
                    reason = state.objection(fact.key, fact.address &- UInt64(fact.delta))
                }
                guard let reason else { continue }
                let mismatch = Mismatch(
                    offset: fact.offset, runOffset: fact.offset, cause: .symbolConflict, explanation: reason)
                tasks[index].outcome = .missed(
                    .init(
                        entry: found.entry, address: found.address, run: found.match.run, mismatch: mismatch))
                break
            }
        }
    }
}

/// One function on its way to a match.
struct MatchTask {
    struct Found {
        var entry: UInt64
        var address: UInt64
        var match: SpanMatch
    }

    struct Missed {
        var entry: UInt64
        var address: UInt64
        var run: [UInt8]
        var mismatch: Mismatch
    }

    enum Outcome {
        case open
        case found(Found)
        case missed(Missed)
    }

    let span: Span
    /// Addresses that kallsyms gives for the name.
    var candidates: [UInt64]
    /// Candidates that all agree with what is known.
    var consistent: [UInt64] = []
    var outcome = Outcome.open

    init(span: Span, candidates: [UInt64]) {
        self.span = span
        self.candidates = candidates
    }

    /// The unit and the section that the function was in before `-ffunction-sections` gave it its own.
    var home: [String] {
        let name = span.code.object.sections[span.section].name
        for group in [".text.unlikely", ".text.hot", ".text.startup", ".text"]
        where name.hasPrefix(group + ".") {
            return ["\(span.code.index)", group]
        }
        return ["\(span.code.index)", name]
    }

    var isOpen: Bool { if case .open = outcome { true } else { false } }
}

extension PatchEnvironment {
    /// Reads what patch sites depend on from a kernel's memory.
    /// - Parameter wordSize: of a pointer, in bytes.
    init(reading memory: any KernelMemory, symbols: KernelSymbols, isImage: Bool, wordSize: Int) {
        let reader = MemoryBox(memory: memory, wordSize: wordSize)
        let thunks = [
            "__x86_return_thunk", "retbleed_return_thunk", "srso_return_thunk", "srso_alias_return_thunk",
            "its_return_thunk", "call_depth_return_thunk",
        ].compactMap { symbols.unique($0) }
        let operations = symbols.unique("pv_ops")
        self.init(
            isImage: isImage, returnThunks: thunks,
            operation: { slot in operations.flatMap { reader.pointer(at: $0 &+ UInt64(slot)) } },
            staticCall: { name in
                let keys = Set(symbols.named("__SCK__" + name).map(\.address))
                guard keys.count <= 1 else { return nil }
                if let key = keys.first, let value = reader.pointer(at: key) { return value }
                // Keys are variables, which not every kernel lists and not every way to memory shows. What calls through one is
                // text.
                let trampolines = Set(symbols.named("__SCT__" + name).map(\.address))
                guard trampolines.count == 1, let target = reader.jump(at: trampolines.first!) else {
                    return nil
                }
                return thunks.contains(target) ? 0 : target
            },
            variable: { name, width in
                symbols.unique(name).flatMap { reader.value(at: $0, width: width) }
            },
            function: { symbols.unique($0) })
    }
}

/// Memory for the closures above. They are called where matching runs, one at a time.
private final class MemoryBox: @unchecked Sendable {
    private let memory: any KernelMemory
    private let wordSize: Int
    init(memory: any KernelMemory, wordSize: Int) { (self.memory, self.wordSize) = (memory, wordSize) }

    func value(at address: UInt64, width: Int) -> UInt64? {
        do {
            return try memory.read(at: address, count: width).reversed().reduce(0) { $0 << 8 | UInt64($1) }
        } catch { return nil }
    }

    func pointer(at address: UInt64) -> UInt64? { value(at: address, width: wordSize) }

    /// Where the trampoline of a static call leads: 0 for one that returns (arch/x86/kernel/static_call.c).
    func jump(at address: UInt64) -> UInt64? {
        let bytes: [UInt8]
        do { bytes = try memory.read(at: address, count: 5) } catch { return nil }
        switch bytes[0] {
        case 0xc3: return 0
        case 0xe9:
            return bytes.load(Int32.self, at: 1).map { address &+ 5 &+ UInt64(bitPattern: Int64($0)) }
        default: return nil
        }
    }
}
