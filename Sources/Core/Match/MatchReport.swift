// Turns the outcomes of matching into its result: functions, values, and failures that a person can act on.

struct MatchReport {
    let units: [MatchUnit]
    let symbols: KernelSymbols
    let state: MatchState
    let tasks: [MatchTask]
    private let diagnosis: MatchDiagnosis

    init(units: [MatchUnit], symbols: KernelSymbols, state: MatchState, tasks: [MatchTask]) {
        self.units = units
        self.symbols = symbols
        self.state = state
        self.tasks = tasks
        diagnosis = MatchDiagnosis(units: units, state: state, tasks: tasks)
    }

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
                    result.failures.append(diagnosis.failure(task, miss))
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
            hasFentry: site.hasFentry, isTraced: found.match.isTraced, isProbed: found.match.isProbed)
    }

    private func absent(_ task: MatchTask, _ reason: String, isExplained: Bool = true) -> AbsentFunction {
        AbsentFunction(
            unit: task.span.code.index, symbolIndex: task.span.symbolIndex, name: task.span.name,
            reason: reason, isExplained: isExplained)
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
        let places = task.consistent.count
        if places > 1 && !isRequired(task) {
            // It is there, byte for byte, in one of these places; whoever needs its address fails on that
            // (find_next_bit of kernel/workqueue.c in 6.1, which only boot code calls).
            result.notPresent.append(
                absent(
                    task, "it equals the code at \(places) places, and nothing that matched refers to it"))
        } else if places > 1 {
            result.failures.append(
                diagnosis.failure(
                    task, .ambiguous,
                    "it equals the code at " + task.consistent.map { hex($0) }.joined(separator: ", ")
                        + ", and nothing that matched refers to it"))
        } else if isRequired(task) {
            result.failures.append(
                diagnosis.failure(
                    task, .notFound, "kallsyms does not list it and nothing that matched refers to it"))
        } else {
            result.notPresent.append(absent(task, "not in kallsyms", isExplained: false))
        }
    }
}
