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

    /// Fails where any function that exists did not match.
    static func check(_ result: MatchResult, what: String) throws {
        guard !result.failures.isEmpty else { return }
        let shown = result.failures.prefix(5).map { "  " + $0.description }
        let more = result.failures.count > 5 ? ["  ... and \(result.failures.count - 5) more"] : []
        throw Failure(
            "run-pre matching: \(result.failures.count) of \(result.failures.count + result.statistics.functions) functions are not those of \(what)\n"
                + (shown + more).joined(separator: "\n"),
            status: .verificationRefused,
            hint:
                "the update was made for another kernel, compiler or config, or something else has changed this code"
        )
    }
}
