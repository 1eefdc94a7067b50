// Compares one pre function with the bytes at one address: equal bytes outside of fields and patch sites, each field
// a value that nothing speaks against, each site one of the contents that its meaning allows.
//
// This is the common case, in which both sides have the same layout. SpanWalk.swift is for the others.

import Glibc

/// A pre function: a piece of one unit's section.
struct Span {
    let code: UnitCode
    let symbolIndex: Int
    let section: Int
    let start: Int
    let size: Int

    var name: String { code.object.symbols[symbolIndex].name }
    var range: Range<Int> { start..<start + size }
    var bytes: [UInt8] { code.object.sections[section].contents }
    var key: Int { code.space.keyOfSymbol[code.index][symbolIndex] }
}

struct SpanComparison {
    let state: MatchState
    let span: Span
    /// The value of the function's symbol.
    let entry: UInt64
    /// Where the code stands in memory: the entry, or where an earlier update has moved it.
    let address: UInt64
    /// Memory, with lock prefixes that the kernel has turned into `ds` turned back.
    let run: [UInt8]
    var match = SpanMatch()
    /// Local references that cannot be judged before the layout is known: pre offset and run offset.
    var pending: [(pre: Int, run: Int, at: Int)] = []
    /// Whether both sides have the same layout.
    let isRigid: Bool
    /// What probes cover; of a function that is to be replaced, nothing may be.
    let probed: ProbedCode

    private var code: UnitCode { span.code }

    /// - Parameter probed: with `isRigid` only: what the covered bytes are is not known, so that pre must say where instructions
    ///   begin.
    init(
        state: MatchState, span: Span, entry: UInt64, address: UInt64, raw: [UInt8], isRigid: Bool,
        probed: ProbedCode = .none
    ) {
        self.state = state
        self.probed = probed
        self.span = span
        self.entry = entry
        self.address = address
        self.isRigid = isRigid
        var run = probed.uncovered(
            raw, in: 0..<span.size, from: span.bytes, start: -span.start)
        if !state.environment.isImage && isRigid {
            for lock in span.code.sites.locks(in: span.range, of: span.section)
            where lock - span.start < run.count && run[lock - span.start] == 0x3e {
                run[lock - span.start] = 0xf0
            }
        }
        self.run = run
        match.run = raw
        match.mask = [UInt8](repeating: 0xff, count: raw.count)
        match.facts.append(Fact(key: span.key, value: entry))
    }

    /// Compares with equal layout.
    mutating func compare() throws(Mismatch) {
        let section = code.object.sections[span.section]
        let sites = code.sites.sites(in: span.range, of: span.section)
        let relocations = section.relocations(in: span.range)
        var (site, relocation) = (sites.startIndex, relocations.startIndex)
        var cursor = span.start
        let end = span.range.upperBound
        while true {
            let nextSite = site < sites.endIndex ? sites[site].offset : end
            let nextField = relocation < relocations.endIndex ? relocations[relocation].offset : end
            let next = min(nextSite, nextField)
            if next >= cursor { try equal(section.contents, cursor..<next) }
            if next >= end { break }
            if nextSite <= nextField {
                let here = sites[site]
                guard here.range.upperBound <= end else {
                    throw unsupported(cursor, "a patch site crosses its end")
                }
                try compareSite(here, runOffset: here.offset - span.start)
                cursor = here.range.upperBound
                site += 1
                while relocation < relocations.endIndex, relocations[relocation].offset < cursor {
                    relocation += 1
                }
            } else {
                cursor =
                    try compareField(relocations[relocation], runOffset: nextField - span.start) + nextField
                relocation += 1
            }
        }
        markLocks()
        for offset in probed.covered.joined() where offset < match.mask.count { match.mask[offset] = 0 }
        match.isProbed = !probed.covered.isEmpty
    }

    /// Lock prefixes change when the first second processor comes or the last one goes.
    private mutating func markLocks() {
        for lock in code.sites.locks(in: span.range, of: span.section) { match.mask[lock - span.start] = 0 }
    }

    private func equal(_ pre: [UInt8], _ range: Range<Int>) throws(Mismatch) {
        if range.isEmpty { return }
        let same = pre.withUnsafeBytes { a in
            run.withUnsafeBytes { b in
                memcmp(
                    a.baseAddress! + range.lowerBound, b.baseAddress! + (range.lowerBound - span.start),
                    range.count)
            }
        }
        if same == 0 { return }
        let offset = range.first { pre[$0] != run[$0 - span.start] } ?? range.lowerBound
        throw Mismatch(
            offset: offset - span.start, runOffset: offset - span.start, cause: .differentCode,
            explanation: "the bytes differ")
    }

    private func unsupported(_ offset: Int, _ text: String) -> Mismatch {
        Mismatch(
            offset: offset - span.start, runOffset: offset - span.start, cause: .unsupported,
            explanation: text)
    }

    /// Takes the value of a field whose relocation is in the function itself; returns the field's width.
    mutating func compareField(_ relocation: Relocation, runOffset: Int) throws(Mismatch) -> Int {
        guard let kind = X86Relocation.of(relocation.type) else {
            throw unsupported(relocation.offset, "relocation type \(relocation.type) is not understood")
        }
        guard let field = kind.field(in: run, at: runOffset),
            relocation.offset + kind.width <= span.range.upperBound
        else { throw unsupported(relocation.offset, "a relocated field crosses the function's end") }
        let offset = relocation.offset - span.start
        if probed.overlaps(runOffset..<runOffset + kind.width) {
            try compareCovered(relocation, kind, runOffset)
            return kind.width
        }
        let value = kind.symbolValue(
            field: field, addend: relocation.addend, place: address &+ UInt64(runOffset))
        if let reason = take(relocation, section: span.section, value: value, at: offset) {
            throw Mismatch(
                offset: offset, runOffset: runOffset, cause: reason.cause, explanation: reason.text)
        }
        return kind.width
    }

    /// What an optimised probe leaves visible of a field must be that of a value that the symbol is known to have. It
    /// proves nothing of the symbol.
    private mutating func compareCovered(_ relocation: Relocation, _ kind: X86Relocation, _ runOffset: Int)
        throws(Mismatch)
    {
        let visible = (0..<kind.width).filter { !probed.covers(runOffset + $0) }
        if visible.isEmpty { return }
        let offset = relocation.offset - span.start
        var mismatch = Mismatch(
            offset: offset, runOffset: runOffset, cause: .kprobe,
            explanation: "an optimised kprobe covers a part of a reference, and the rest proves nothing")
        guard case .symbol(let key, let shift, nil) = code.referent(relocation, section: span.section) else {
            throw mismatch
        }
        let known = state.learned[key].map { [$0] } ?? state.space.allowed(key) ?? []
        let zero = kind.symbolValue(
            field: 0, addend: relocation.addend, place: address &+ UInt64(runOffset))
        let fact = CoveredFact(
            key: key, zero: zero &+ UInt64(bitPattern: shift),
            visible: visible.map { ($0, run[runOffset + $0]) },
            offset: offset)
        match.covered.append(fact)
        if known.contains(where: fact.agrees) { return }
        mismatch.explanation =
            "what an optimised kprobe leaves of a reference to '\(state.space.title(key))' does not lead there"
        mismatch.cause = known.isEmpty ? .kprobe : .symbolConflict
        throw mismatch
    }

    struct Objection {
        var cause: MatchFailure.Cause
        var text: String
    }

    /// Judges the value of a relocation's symbol and keeps what it proves.
    mutating func take(_ relocation: Relocation, section: Int, value: UInt64, at offset: Int) -> Objection? {
        let symbol = code.object.symbols[relocation.symbol]
        switch code.referent(relocation, section: section) {
        case .symbol(let key, let shift, let constant):
            let place = value &+ UInt64(bitPattern: shift)
            if let constant,
                let text = state.contentObjection(code, constant.section, constant.range, at: place)
            {
                return Objection(cause: .differentContent, text: text)
            }
            return take(key, place, at: offset)
        case .inside(let target, let base, let key, let delta):
            let place = value &+ UInt64(bitPattern: Int64(base + delta))
            return inside(section: target, base: base, key: key, delta: delta, address: place, at: offset)
        case .content(let target, let start, let shift):
            let place = value &+ UInt64(bitPattern: Int64(shift))
            return state.contentObjection(code, target, start, at: place).map {
                Objection(cause: .differentContent, text: $0)
            }
        case .unnamed:
            if symbol.isUndefined {
                return Objection(cause: .unsupported, text: "relocation \(relocation.type) refers to nothing")
            }
            return nil
        }
    }

    private mutating func take(_ key: Int, _ value: UInt64, at offset: Int) -> Objection? {
        if key == span.key && value == entry { return nil }
        if let text = state.objection(key, value) { return Objection(cause: .symbolConflict, text: text) }
        if let earlier = match.facts.first(where: { $0.key == key }) {
            guard earlier.value == value else {
                return Objection(
                    cause: .symbolConflict,
                    text: "two references give '\(state.space.title(key))' two values: "
                        + "\(state.symbols.describe(earlier.value)) and \(state.symbols.describe(value))")
            }
            return nil
        }
        match.facts.append(Fact(key: key, value: value))
        return nil
    }

    private mutating func inside(
        section: Int, base: Int, key: Int, delta: Int, address place: UInt64, at offset: Int
    ) -> Objection? {
        if section == span.section && base + delta >= span.start && base + delta <= span.range.upperBound {
            let pre = base + delta - span.start
            let run = Int(truncatingIfNeeded: Int64(bitPattern: place &- address))
            // New code of an update refers to its function by the original entry; a place inside it is its own.
            if !isRigid {
                pending.append((pre, run, offset))
            } else if run != pre {
                return Objection(
                    cause: .differentCode,
                    text: "a reference to this function's own offset \(hex(UInt64(pre))) leads elsewhere")
            }
            return nil
        }
        match.inside.append(
            InsideFact(unit: code.index, key: key, delta: delta, address: place, offset: offset))
        return nil
    }

    /// Finds the variant of a site that memory holds.
    mutating func compareSite(_ site: PatchSite, runOffset: Int) throws(Mismatch) {
        guard runOffset >= 0, runOffset + site.length <= run.count else {
            throw unsupported(site.offset, "a patch site lies outside of what was read")
        }
        var reason = "memory holds none of the contents that a \(site.title) may have"
        var cause = MatchFailure.Cause.patchSite
        for variant in code.variants(site, section: span.section, state.environment)
        where equal(variant, at: runOffset) {
            let (facts, others, waiting) = (match.facts, match.inside, pending)
            guard let objection = takeFields(of: variant, site: site, runOffset: runOffset) else {
                if site.changesAtRunTime {
                    for index in runOffset..<runOffset + site.length { match.mask[index] = 0 }
                }
                if case .fentry = site.kind, variant.title == "call of a tracer" { match.isTraced = true }
                return
            }
            (match.facts, match.inside, pending) = (facts, others, waiting)
            reason = "\(site.title), \(variant.title): \(objection.text)"
            cause = objection.cause
        }
        throw Mismatch(
            offset: site.offset - span.start, runOffset: runOffset, cause: cause, explanation: reason)
    }

    private func equal(_ variant: PatchVariant, at runOffset: Int) -> Bool {
        let run = probed.uncovered(
            run, in: runOffset..<runOffset + variant.bytes.count, from: variant.bytes, start: runOffset)
        var index = 0
        while index < variant.bytes.count {
            if let nops = variant.nops.first(where: { $0.lowerBound == index }) {
                let fills = code.object.architecture.nops.fill(
                    nops.lowerBound + runOffset..<nops.upperBound + runOffset, of: run)
                guard fills else {
                    return false
                }
                index = nops.upperBound
            } else if let field = variant.fields.first(where: { $0.offset == index }) {
                guard field.width > 0 else { return false }
                index += field.width
            } else {
                guard variant.bytes[index] == run[runOffset + index] else { return false }
                index += 1
            }
        }
        return true
    }

    private mutating func takeFields(of variant: PatchVariant, site: PatchSite, runOffset: Int) -> Objection?
    {
        for field in variant.fields {
            let place = runOffset + field.offset
            let at = site.offset - span.start
            if probed.overlaps(place..<place + field.width) {
                return Objection(cause: .kprobe, text: "an optimised kprobe covers a part of it")
            }
            if case .relocation(let relocation, let section) = field.target {
                guard let kind = X86Relocation.of(relocation.type),
                    let value = fieldValue(kind, field.width, relocation, place)
                else { return Objection(cause: .unsupported, text: "relocation type \(relocation.type)") }
                if let objection = take(relocation, section: section, value: value, at: at) {
                    return objection
                }
                continue
            }
            guard let target = branchTarget(place, field.width) else {
                return Objection(cause: .unsupported, text: "a field of \(field.width) bytes")
            }
            if let objection = judge(field.target, target, at: at) { return objection }
        }
        return nil
    }

    private func branchTarget(_ place: Int, _ width: Int) -> UInt64? {
        let displacement: Int64?
        switch width {
        case 1: displacement = run.load(Int8.self, at: place).map { Int64($0) }
        case 4: displacement = run.load(Int32.self, at: place).map { Int64($0) }
        default: displacement = nil
        }
        return displacement.map { address &+ UInt64(place + width) &+ UInt64(bitPattern: $0) }
    }

    private func fieldValue(_ kind: X86Relocation, _ width: Int, _ relocation: Relocation, _ place: Int)
        -> UInt64?
    {
        if width == kind.width {
            return kind.field(in: run, at: place).map {
                kind.symbolValue(field: $0, addend: relocation.addend, place: address &+ UInt64(place))
            }
        }
        // A short branch to where the relocation's long one leads: symbol + addend + the long field's width.
        guard kind.isRelative, let target = branchTarget(place, width) else { return nil }
        return target &- UInt64(bitPattern: relocation.addend + Int64(kind.width))
    }

    private mutating func judge(_ wanted: PatchVariant.Target, _ target: UInt64, at offset: Int) -> Objection?
    {
        let name = state.symbols.describe(target)
        switch wanted {
        case .relocation: return nil
        case .place(let section, let place):
            switch code.place(section, place) {
            case .symbol(let key, _, _): return take(key, target, at: offset)
            case .inside(let section, let base, let key, let delta):
                return inside(
                    section: section, base: base, key: key, delta: delta, address: target, at: offset)
            case .content, .unnamed: return nil
            }
        case .addresses(let addresses):
            return addresses.contains(target)
                ? nil : Objection(cause: .patchSite, text: "it leads to \(name)")
        case .tracer:
            return isTracer(target)
                ? nil : Objection(cause: .traced, text: "it calls \(name), which is no known tracer")
        case .indirectThunk(let register):
            return isIndirectThunk(target, register)
                ? nil
                : Objection(
                    cause: .patchSite, text: "it leads to \(name), which is no thunk for this register")
        }
    }

    /// ftrace's own entries and the trampolines that ftrace and BPF list in kallsyms under pseudo modules.
    private func isTracer(_ target: UInt64) -> Bool {
        if state.environment.function("ftrace_caller") == target { return true }
        if state.environment.function("ftrace_regs_caller") == target { return true }
        guard let (symbol, offset) = state.symbols.nearest(to: target), offset < 4096 else { return false }
        if symbol.module == "__builtin__ftrace" { return symbol.name == "ftrace_trampoline" }
        return symbol.module == "bpf" && symbol.name.hasPrefix("bpf_trampoline_")
    }

    /// `jmp *%register; int3` in the upper half of a cache line, which is all that makes such a thunk.
    private func isIndirectThunk(_ target: UInt64, _ register: UInt8) -> Bool {
        let wanted: [UInt8] = (register >= 8 ? [0x41] : []) + [0xff, 0xe0 | register & 7, 0xcc]
        // The branch's last byte decides which half it is in.
        guard (target &+ UInt64(wanted.count - 2)) & 0x20 != 0 else { return false }
        do { return try state.memory.read(at: target, count: wanted.count) == wanted } catch { return false }
    }
}
