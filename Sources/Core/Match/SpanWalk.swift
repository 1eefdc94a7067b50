// The comparison for functions whose layout differs: the pre object reaches other functions through relocations and
// therefore with long jumps, where the kernel's assembler may have had them in the same section and chosen short
// ones; alignment nops move with that. Both sides are walked instruction by instruction, with a map of offsets;
// whatever leads to a place of the function itself must lead to the mapped place.
//
// Nops are skipped on both sides where no patch site stands; they are never compared with anything else.

extension SpanComparison {
    /// Walks both sides. On return, `match.run` and its mask have the size of the function in memory.
    mutating func walk() throws(Mismatch) {
        let pre = span.bytes
        let nops = code.object.architecture.nops
        var map: [Int: Int] = [:]
        var (at, runAt) = (0, 0)
        // Bytes of nops in pre directly before the place.
        var padding = 0
        while true {
            map[at] = runAt
            if at >= span.size { break }
            if let site = code.sites.sites(in: span.start + at..<span.start + at + 1, of: span.section).first
            {
                let found = try walkSite(site, behind: padding, runAt)
                map[at] = found.lowerBound
                at += site.length
                runAt = found.upperBound
                padding = 0
                continue
            }
            if let nop = nops.length(in: pre, at: span.start + at) {
                at += nop
                padding += nop
                continue
            }
            padding = 0
            if let nop = nops.length(in: run, at: runAt) {
                runAt += nop
                map[at] = runAt
                continue
            }
            try step(pre, &at, &runAt)
        }
        try settle(map)
        match.map = map
        match.run = Array(match.run.prefix(runAt))
        match.mask = Array(match.mask.prefix(runAt))
    }

    private var code: UnitCode { span.code }

    private func differs(_ at: Int, _ runAt: Int, _ text: String) -> Mismatch {
        Mismatch(offset: at, runOffset: runAt, cause: .differentCode, explanation: text)
    }

    /// A site behind nops that pre has before it and memory may have, too: some of them may be the site's own content. Where
    /// it fits in several places, that one counts before which there is most nearly as much as in pre.
    private mutating func walkSite(_ site: PatchSite, behind padding: Int, _ runAt: Int) throws(Mismatch)
        -> Range<Int>
    {
        var places = [runAt]
        while let nop = code.object.architecture.nops.length(in: run, at: places[places.count - 1]),
            places[places.count - 1] + nop < run.count
        {
            places.append(places[places.count - 1] + nop)
        }
        let wanted = runAt + padding
        places.sort { (abs($0 - wanted), $0) < (abs($1 - wanted), $1) }
        var reason: Mismatch?
        for place in places {
            do {
                let length = try walkSite(site, place)
                return place..<place + length
            } catch { reason = reason ?? error }
        }
        throw reason ?? differs(site.offset - span.start, runAt, "the bytes differ")
    }

    /// A site; a jump label's length may differ from pre. Returns its length in memory.
    private mutating func walkSite(_ site: PatchSite, _ runAt: Int) throws(Mismatch) -> Int {
        guard case .jumpLabel = site.kind else {
            try compareSite(site, runOffset: runAt)
            return site.length
        }
        let other = PatchSite(offset: site.offset, length: site.length == 2 ? 5 : 2, kind: site.kind)
        do {
            try compareSite(site, runOffset: runAt)
            return site.length
        } catch {
            guard runAt + other.length <= run.count else { throw error }
            try compareSite(other, runOffset: runAt)
            return other.length
        }
    }

    /// One instruction on each side that is neither nop nor patch site.
    private mutating func step(_ pre: [UInt8], _ at: inout Int, _ runAt: inout Int) throws(Mismatch) {
        let place = span.start + at
        let relocations = code.object.sections[span.section].relocations
        if let branch = X86Branch(pre, at: place), let other = X86Branch(run, at: runAt),
            branch.kind == other.kind
        {
            let field = code.object.sections[span.section].relocations(in: place..<place + branch.length)
                .first
            try walkBranch(branch, other, field, at, runAt)
            at += branch.length
            runAt += other.length
            return
        }
        let is64Bit = code.object.is64Bit
        guard let mine = X86Instruction(pre, at: place, is64Bit: is64Bit),
            let its = X86Instruction(run, at: runAt, is64Bit: is64Bit),
            mine.length == its.length, at + mine.length <= span.size
        else { throw differs(at, runAt, "the instructions differ in length") }
        var index = 0
        var nextField =
            relocations.isEmpty
            ? [] : Array(code.object.sections[span.section].relocations(in: place..<place + mine.length))
        let locks = code.sites.locks(in: place..<place + mine.length, of: span.section)
        while index < mine.length {
            if let field = nextField.first, field.offset == place + index {
                index += try compareField(field, runOffset: runAt + index)
                nextField.removeFirst()
                continue
            }
            let isUnlocked =
                locks.contains(place + index) && run[runAt + index] == 0x3e && !state.environment.isImage
            guard pre[place + index] == run[runAt + index] || isUnlocked else {
                throw differs(at + index, runAt + index, "the bytes differ")
            }
            if locks.contains(place + index) { match.mask[runAt + index] = 0 }
            index += 1
        }
        at += mine.length
        runAt += mine.length
    }

    private mutating func walkBranch(
        _ branch: X86Branch, _ other: X86Branch, _ field: Relocation?, _ at: Int, _ runAt: Int
    ) throws(Mismatch) {
        let target = runAt + other.length + Int(other.displacement)
        guard let field else {
            pending.append((at + branch.length + Int(branch.displacement), target, at))
            return
        }
        guard let kind = X86Relocation.of(field.type), kind.isRelative, kind.width == branch.width else {
            throw differs(at, runAt, "relocation type \(field.type) in a branch")
        }
        let value =
            address &+ UInt64(bitPattern: Int64(target))
            &- UInt64(bitPattern: field.addend + Int64(branch.width))
        if let objection = take(field, section: span.section, value: value, at: at) {
            throw Mismatch(offset: at, runOffset: runAt, cause: objection.cause, explanation: objection.text)
        }
    }

    /// Whether all references to places of the function itself lead to the mapped places.
    private func settle(_ map: [Int: Int]) throws(Mismatch) {
        for (pre, run, at) in pending {
            guard let mapped = map[pre] else {
                throw differs(at, map[at] ?? 0, "a reference leads into the middle of an instruction")
            }
            guard mapped == run else {
                throw differs(at, map[at] ?? 0, "a local reference leads elsewhere")
            }
        }
    }
}
