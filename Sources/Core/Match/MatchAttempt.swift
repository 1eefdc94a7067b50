// One function against one candidate address: first as bytes, then instruction by instruction, then, where updates have
// redirected it, at the places that the redirects lead to, up to the newest.

struct MatchAttempt {
    let state: MatchState
    let span: Span
    let entry: UInt64

    enum Outcome {
        case found(MatchTask.Found)
        case missed(MatchTask.Missed)
    }

    /// Most updates on one function that are followed: memory that is damaged must not lead in circles.
    private static let longestChain = 256

    func run() -> Outcome {
        var outcome = run(at: entry)
        var address = entry
        var redirected: [(miss: MatchTask.Missed, target: UInt64)] = []
        // Each update on a function has redirected the code of the one before it: the last is the newest.
        while !state.environment.isImage, redirected.count < Self.longestChain,
            let (miss, target) = next(outcome, at: address)
        {
            let module = state.symbols.nearest(to: target)?.symbol.module
            // An update never redirects its own code: that is a call at its end.
            if let module, address != entry, state.symbols.nearest(to: address)?.symbol.module == module {
                break
            }
            // Updates of this project are modules of this name.
            guard module?.hasPrefix("ksplice_") == true else {
                if module == ProbedCode.module { break }
                return foreign(miss, target, module)
            }
            redirected.append((miss, target))
            address = target
            outcome = run(at: target)
        }
        guard case .missed(let last) = outcome, !state.environment.isImage else { return outcome }
        guard let newest = redirected.last.map({ state.symbols.describe($0.target) }) else {
            return explained(last)
        }
        for (older, _) in redirected.reversed() {
            if let found = underRedirect(older.run, at: older.address) { return found }
        }
        guard case .missed(var miss) = explained(last) else { return outcome }
        if miss.mismatch.cause == .differentCode { miss.mismatch.cause = .otherUpdate }
        miss.mismatch.explanation = "redirected to \(newest), where \(miss.mismatch.explanation)"
        return .missed(miss)
    }

    /// What the code at an address is not, and where an update has redirected it to; nil where it is to be taken as it is. The
    /// original code of a function that is redirected by ftrace is whole: it serves where it need not be the newest.
    private func next(_ outcome: Outcome, at address: UInt64) -> (MatchTask.Missed, UInt64)? {
        if let target = state.evidence.redirects[address] {
            switch outcome {
            case .missed(let miss): return (miss, target)
            case .found(let found):
                guard isRequired else { return nil }
                let mismatch = Mismatch(
                    offset: 0, runOffset: 0, cause: .otherUpdate, explanation: "the code is not the newest")
                return (
                    MatchTask.Missed(
                        entry: entry, address: address, run: found.match.run, mismatch: mismatch),
                    target
                )
            }
        }
        guard case .missed(let miss) = outcome, let target = redirect(in: miss.run, at: address) else {
            return nil
        }
        return (miss, target)
    }

    /// A redirect that is not one of this project's.
    private func foreign(_ miss: MatchTask.Missed, _ target: UInt64, _ module: String?) -> Outcome {
        var miss = miss
        let isLivePatch = module.map { state.evidence.livePatches[$0] != nil } ?? false
        miss.mismatch.cause = isLivePatch ? .livePatched : .redirected
        miss.mismatch.explanation =
            "the function is redirected to \(state.symbols.describe(target))"
            + (isLivePatch ? ", of a live patch" : "")
        return .missed(miss)
    }

    private func run(at address: UInt64) -> Outcome {
        let raw: [UInt8]
        do { raw = try state.memory.read(at: address, count: span.size) } catch {
            if let shorter = shorter(at: address) { return .missed(shorter) }
            let mismatch = Mismatch(offset: 0, runOffset: 0, cause: .unreadable, explanation: "\(error)")
            return .missed(.init(entry: entry, address: address, run: [], mismatch: mismatch))
        }
        let probed = probed(raw, at: address)
        var rigid = SpanComparison(
            state: state, span: span, entry: entry, address: address, raw: raw, isRigid: true, probed: probed)
        let reason: Mismatch
        do {
            try rigid.compare()
            return .found(.init(entry: entry, address: address, match: rigid.match))
        } catch { reason = error }
        // Only different code can be a matter of layout, and only behind the point up to which both agree.
        // Under a probe it cannot be told what the instructions are.
        if reason.cause == .unsupported || reason.cause == .unreadable || !probed.covered.isEmpty {
            return .missed(.init(entry: entry, address: address, run: raw, mismatch: reason))
        }
        var walk = SpanComparison(
            state: state, span: span, entry: entry, address: address, raw: longer(raw, at: address),
            isRigid: false)
        do {
            try walk.walk()
            return .found(.init(entry: entry, address: address, match: walk.match))
        } catch {
            let better = error.offset > reason.offset ? error : reason
            return .missed(.init(entry: entry, address: address, run: raw, mismatch: better))
        }
    }

    /// With what follows, up to the next symbol: the assembler never makes a long jump short again, so one that it took for
    /// long while it laid out the kernel's section may be short in pre, where the function has a section of its own.
    private func longer(_ raw: [UInt8], at address: UInt64) -> [UInt8] {
        let most = span.size + span.size / 4 + 16
        guard let next = state.symbols.next(above: address), next &- address > UInt64(span.size) else {
            return raw
        }
        do {
            return try state.memory.read(at: address, count: Int(min(next - address, UInt64(most))))
        } catch { return raw }
    }

    private var isRequired: Bool { span.code.unit.required.contains(span.symbolIndex) }

    /// The probes that are passed over. What is to be replaced must be proven to the last byte, and a probe's out-of-line code
    /// leads back into it.
    private func probed(_ run: [UInt8], at address: UInt64) -> ProbedCode {
        isRequired ? .none : ProbedCode(of: run, span, at: address, state)
    }

    /// The last function of a module may be shorter than pre, with nothing behind it: where they part is told all the same. Nil
    /// where that is not why it cannot be read.
    private func shorter(at address: UInt64) -> MatchTask.Missed? {
        guard let next = state.symbols.next(above: address), next - address < UInt64(span.size) else {
            return nil
        }
        let run: [UInt8]
        do { run = try state.memory.read(at: address, count: Int(next - address)) } catch { return nil }
        let filled = run + [UInt8](repeating: 0xcc, count: span.size - run.count)
        var rigid = SpanComparison(
            state: state, span: span, entry: entry, address: address, raw: filled, isRigid: true)
        var mismatch = Mismatch(
            offset: run.count, runOffset: run.count, cause: .differentCode,
            explanation: "the function ends here")
        do { try rigid.compare() } catch  where error.runOffset < run.count { mismatch = error } catch {}
        return MatchTask.Missed(entry: entry, address: address, run: run, mismatch: mismatch)
    }

    /// Where a redirect may stand in the pre function: behind `endbr64` and the fentry site.
    static func entrySite(of span: Span) -> (offset: Int, hasFentry: Bool) {
        span.code.sites.sites(in: span.start..<span.start + 16, of: span.section).entrySite(from: span.start)
    }

    /// Matches the original code of a function that an earlier update has redirected, but for the redirect itself. That is
    /// enough where the function is compared only for what it refers to; one that is to be replaced must be the newest.
    private func underRedirect(_ run: [UInt8], at address: UInt64) -> Outcome? {
        let site = Self.entrySite(of: span).offset
        let jump = span.start + site..<span.start + site + 5
        if let found = underKnownRedirect(run, at: address, site) { return found }
        guard run.count == span.size, !isRequired,
            jump.upperBound <= span.range.upperBound,
            span.code.object.sections[span.section].relocations(in: jump.lowerBound - 8..<jump.upperBound)
                .allSatisfy({
                    $0.offset + (X86Relocation.of($0.type)?.width ?? 8) <= jump.lowerBound
                        || $0.offset >= jump.upperBound
                }), span.code.sites.sites(in: jump, of: span.section).isEmpty
        else { return nil }
        var raw = run
        raw.replaceSubrange(site..<site + 5, with: span.bytes[jump])
        var comparison = SpanComparison(
            state: state, span: span, entry: entry, address: address, raw: raw, isRigid: true,
            probed: probed(raw, at: address))
        do { try comparison.compare() } catch { return nil }
        for offset in site..<site + 5 { comparison.match.mask[offset] = 0 }
        return .found(.init(entry: entry, address: address, match: comparison.match))
    }

    /// The same where ksplice.ko says what stood under the redirect: then nothing of it is taken from pre.
    private func underKnownRedirect(_ run: [UInt8], at address: UInt64, _ site: Int) -> Outcome? {
        guard let saved = state.evidence.underJumps[address &+ UInt64(site)], !isRequired,
            run.count == span.size,
            site + saved.count <= run.count
        else { return nil }
        var raw = run
        raw.replaceSubrange(site..<site + saved.count, with: saved)
        var comparison = SpanComparison(
            state: state, span: span, entry: entry, address: address, raw: raw, isRigid: true,
            probed: probed(raw, at: address))
        do { try comparison.compare() } catch { return nil }
        return .found(.init(entry: entry, address: address, match: comparison.match))
    }

    /// The target of a jump out of the function that stands where redirects stand and is not in the pre code.
    private func redirect(in run: [UInt8], at address: UInt64) -> UInt64? {
        let site = Self.entrySite(of: span).offset
        guard let branch = X86Branch(run, at: site), branch.kind == .jump, branch.width == 4,
            X86Branch(span.bytes, at: span.start + site)?.kind != .jump
        else { return nil }
        let target = address &+ UInt64(site + branch.length) &+ UInt64(bitPattern: branch.displacement)
        guard target &- address >= UInt64(span.size) else { return nil }
        return target
    }

    /// Recognises what probes leave behind.
    private func explained(_ miss: MatchTask.Missed) -> Outcome {
        if miss.mismatch.cause == .kprobe { return .missed(miss) }
        var miss = miss
        let at =
            X86Instruction.covering(
                miss.mismatch.runOffset, of: miss.run, from: 0, is64Bit: span.code.object.is64Bit)?.start
            ?? miss.mismatch.runOffset
        guard miss.run.indices.contains(at) else { return .missed(miss) }
        if miss.run[at] == 0xcc && span.start + at < span.bytes.count && span.bytes[span.start + at] != 0xcc {
            let isListed = state.evidence.probes.map { probes in
                probes.contains { $0.address == miss.address &+ UInt64(at) }
            }
            (miss.mismatch.cause, miss.mismatch.explanation) =
                switch isListed {
                case true: (.kprobe, "a kprobe stands here")
                case false: (.differentCode, "a breakpoint stands here that is no kprobe")
                case nil: (.kprobe, "a breakpoint stands here: a kprobe or a debugger")
                }
        } else if ProbedCode.isOptimised(miss.run, at, miss.address, state) {
            miss.mismatch.cause = .kprobe
            miss.mismatch.explanation = "an optimised kprobe stands here"
        }
        return .missed(miss)
    }
}
