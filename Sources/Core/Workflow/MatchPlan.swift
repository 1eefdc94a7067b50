// What an update asks of run-pre matching, and what its result means.

struct MatchPlan {
    /// In the order of the manifest's units.
    let units: [MatchUnit]

    init(_ update: Update) throws {
        units = try update.manifest.units.enumerated().map { index, unit in
            let object = try ObjectFile(update.file(unit.object), name: unit.path)
            let required = update.manifest.replacements.filter { $0.unit == index }.map(\.preSymbol)
            guard required.allSatisfy({ object.symbols.indices.contains($0) }) else {
                throw Failure(
                    "the manifest names a symbol that '\(unit.object)' does not have",
                    status: .verificationRefused)
            }
            return MatchUnit(path: unit.path, module: unit.module, object: object, required: Set(required))
        }
    }

    /// Fails where any function that exists did not match. The first is shown in full.
    static func check(_ result: MatchResult, what: String) throws {
        guard let first = result.failures.first else { return }
        let count = result.failures.count
        let shown = first.lines(withHints: false) + result.failures.dropFirst().prefix(5).map(\.headline)
        let more = count > 6 ? ["... and \(count - 6) more"] : []
        // Another tool holds the code; there is no sign that it is other code.
        let isHeld = result.failures.allSatisfy { $0.cause == .kprobe }
        var failure = Failure(
            "run-pre matching: \(count) of \(count + result.statistics.functions) functions are not those of \(what)\n"
                + (shown + more).map { "  " + $0 }.joined(separator: "\n"),
            status: isHeld ? .busy : .verificationRefused, hints: first.hints)
        failure.details = .array(result.failures.map(\.json))
        throw failure
    }
}

extension MatchUnit {
    /// Where its functions may be, by their names: what matching is going to read, and little else.
    func candidates(_ symbols: KernelSymbols) -> [Range<UInt64>] {
        object.symbols.filter {
            $0.isFunction && $0.isDefinedInSection && Matcher.isResident(object.sections[$0.section].name)
        }.flatMap { symbol in
            symbols.named(symbol.name, in: module).filter(\.isCode).map {
                $0.address..<$0.address &+ max(1, min(symbol.size, 1 << 20))
            }
        }
    }
}
