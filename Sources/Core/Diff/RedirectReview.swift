// Where neither kind of redirect can stand: a jump, or ftrace at the function's fentry site. ksplice.ko refuses these functions
// when an update is applied (kernel/check.c); what the object alone tells is said when the update is made.

enum RedirectReview {
    /// Bytes of `jmp rel32`.
    static let jumpSize = 5

    /// Whether a jump at the entry of a function that was found would cross a cache line: its bytes are one store only
    /// within one.
    static func isSplit(_ found: MatchedFunction) -> Bool {
        (found.address &+ UInt64(found.entrySite)) % 64 > 64 - UInt64(jumpSize)
    }

    /// Findings for the replaced functions of one unit.
    static func findings(
        _ object: ObjectFile, functions: [UnitDifference.ChangedFunction], path: String, tables: [String: Int]
    ) throws -> [Finding] {
        guard functions.contains(where: { $0.preSymbol != nil }) else { return [] }
        let sites = try PatchSites(of: object, tables: tables)
        return functions.compactMap { function in
            guard function.partOf == nil, let index = function.preSymbol else { return nil }
            let symbol = object.symbols[index]
            guard symbol.isDefinedInSection else { return nil }
            let section = object.sections[symbol.section].name
            if [".entry.text", ".noinstr.text", ".head.text"].contains(where: {
                section == $0 || section.hasPrefix($0 + ".")
            }) {
                return Finding(
                    "entry-code", .error, file: path, symbol: function.name,
                    "'\(function.name)' is code that runs while the kernel is entered (section \(section))",
                    advice:
                        "it may run before the kernel can reach the code of modules; change its callers instead"
                )
            }
            let start = Int(truncatingIfNeeded: symbol.value)
            let (offset, hasFentry) = sites.sites(in: start..<start + 16, of: symbol.section)
                .entrySite(from: start)
            let site = start + offset
            // ksplice.ko redirects it by ftrace where there is no room for a jump.
            if hasFentry { return nil }
            if site - start + jumpSize > function.preSize {
                return noRoom(path, function.name, "'\(function.name)' has only \(function.preSize) bytes")
            }
            let taken = sites.sites(in: max(0, site - 16)..<site + jumpSize, of: symbol.section).first {
                $0.changesAtRunTime && $0.range.overlaps(site..<site + jumpSize)
            }
            return taken.map {
                noRoom(
                    path, function.name,
                    "the kernel rewrites the beginning of '\(function.name)' itself (\($0.title))")
            }
        }
    }

    static func noRoom(_ path: String, _ name: String, _ message: String) -> Finding {
        Finding(
            "no-room", .error, file: path, symbol: name, message + ": there is no room for a redirect",
            advice: "make the change in its callers, or in a function that it calls")
    }
}
