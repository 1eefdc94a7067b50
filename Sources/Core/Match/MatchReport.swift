// Turns the outcomes of matching into its result: functions, values, and failures that a person can act on.

struct MatchReport {
    let units: [MatchUnit]
    let symbols: KernelSymbols
    let state: MatchState
    let tasks: [MatchTask]

    func result() -> MatchResult {
        var result = MatchResult(
            functions: .init(repeating: [], count: units.count), values: values(), failures: [],
            notPresent: [],
            statistics: .init(), units: units, symbols: symbols)
        for task in tasks {
            let unit = task.span.code.index
            switch task.outcome {
            case .found(let found):
                result.functions[unit].append(function(task.span, found))
                result.statistics.functions += 1
                result.statistics.bytes += found.match.run.count
                if found.match.map != nil { result.statistics.walked += 1 }
            case .missed(let miss):
                if let reason = absence(task, miss) {
                    result.notPresent.append(absent(task, reason))
                } else {
                    result.failures.append(failure(task, miss))
                }
            case .open:
                settleOpen(task, &result)
            }
        }
        return result
    }

    private func values() -> [[Int: UInt64]] {
        units.indices.map { unit in
            var values: [Int: UInt64] = [:]
            for (index, key) in state.space.keyOfSymbol[unit].enumerated() where key >= 0 {
                values[index] = state.learned[key]
            }
            return values
        }
    }

    private func function(_ span: Span, _ found: MatchTask.Found) -> MatchedFunction {
        let site = MatchAttempt.entrySite(of: span)
        return MatchedFunction(
            symbolIndex: span.symbolIndex, name: span.name, entry: found.entry, address: found.address,
            runSize: found.match.run.count, bytes: found.match.run, mask: found.match.mask,
            entrySite: site.offset,
            hasFentry: site.hasFentry, isTraced: found.match.isTraced)
    }

    private func absent(_ task: MatchTask, _ reason: String) -> AbsentFunction {
        AbsentFunction(
            unit: task.span.code.index, symbolIndex: task.span.symbolIndex, name: task.span.name,
            reason: reason)
    }

    private func isRequired(_ task: MatchTask) -> Bool {
        units[task.span.code.index].required.contains(task.span.symbolIndex)
    }

    /// Why a function that does not match may simply not be there; nil where that is no explanation.
    private func absence(_ task: MatchTask, _ miss: MatchTask.Missed) -> String? {
        guard !isRequired(task), task.span.code.object.symbols[task.span.symbolIndex].isWeak else {
            return nil
        }
        return "a weak definition; the kernel has another one at \(hex(miss.entry))"
    }

    private func settleOpen(_ task: MatchTask, _ result: inout MatchResult) {
        let unit = task.span.code.index
        if task.consistent.count > 1 && !isRequired(task) {
            // It is there, byte for byte, in one of these places; whoever needs its address fails on that
            // (find_next_bit of kernel/workqueue.c in 6.1, which only boot code calls).
            result.notPresent.append(
                absent(
                    task,
                    "it equals the code at \(task.consistent.count) places, and nothing that matched refers to it"
                ))
        } else if task.consistent.count > 1 {
            result.failures.append(
                MatchFailure(
                    unit: unit, function: task.span.name, offset: 0, preText: "", runText: "",
                    cause: .ambiguous,
                    explanation: "it equals the code at "
                        + task.consistent.map { hex($0) }.joined(separator: ", ")
                        + ", and nothing that matched refers to it"))
        } else if isRequired(task) {
            result.failures.append(
                MatchFailure(
                    unit: unit, function: task.span.name, offset: 0, preText: "", runText: "",
                    cause: .notFound,
                    explanation: "kallsyms does not list it and nothing that matched refers to it"))
        } else {
            result.notPresent.append(absent(task, "not in kallsyms"))
        }
    }

    private func failure(_ task: MatchTask, _ miss: MatchTask.Missed) -> MatchFailure {
        let span = task.span
        let mismatch = miss.mismatch
        let pre = X86Instruction.covering(
            span.start + mismatch.offset, of: span.bytes, from: span.start, address: miss.address)
        let run = X86Instruction.covering(mismatch.runOffset, of: miss.run, from: 0, address: miss.address)
        var text = pre?.text ?? ""
        let relocations = span.code.object.sections[span.section].relocations
        if let pre, let field = relocations.first(where: { $0.offset >= pre.start }),
            field.offset < pre.start + 15,
            field.offset <= span.start + mismatch.offset + 14
        {
            text +=
                "  # \(span.code.object.symbols[field.symbol].name)"
                + (field.addend < 0 ? "-\(hex(field.addend.magnitude))" : "+\(hex(field.addend.magnitude))")
        }
        var explanation = mismatch.explanation
        if mismatch.cause == .differentCode { explanation += "; " + likelyReason(span.code.index) }
        return MatchFailure(
            unit: span.code.index, function: span.name, offset: mismatch.offset, preText: text,
            runText: run?.text ?? "", cause: mismatch.cause, explanation: explanation)
    }

    /// What the rest of the unit says about the cause.
    private func likelyReason(_ unit: Int) -> String {
        let all = tasks.filter { $0.span.code.index == unit }
        let matched = all.count { if case .found = $0.outcome { true } else { false } }
        let path = units[unit].path
        if matched == 0 { return "no function of \(path) matches: another compiler, config or source" }
        return
            "\(matched) of \(all.count) functions of \(path) match: other source, or something changed this code"
    }
}
