// Checksums of exported symbols (CONFIG_MODVERSIONS), as kbuild computes them: the unit is preprocessed with
// __GENKSYMS__ defined, which leaves EXPORT_SYMBOL as a mark, and the kernel's own genksyms sums up the declarations that
// an exported symbol is made of (scripts/Makefile.build, cmd_gensymtypes_c of Linux 6.1). Against a dump of earlier
// declarations it also tells which type it is that changed.

/// The checksums of a unit's exports.
struct ExportChecksums: Sendable, Equatable {
    /// By symbol.
    var values: [String: UInt32] = [:]
    /// What changed against the reference, in genksyms' words (`struct sk_buff`), by symbol.
    var causes: [String: [String]] = [:]

    init(values: [String: UInt32] = [:], causes: [String: [String]] = [:]) {
        self.values = values
        self.causes = causes
    }

    /// Reads genksyms' output: `#SYMVER name 0x1234abcd`, before Linux 5.19 `__crc_name = 0x1234abcd;`.
    init(parsing output: String, warnings: String = "") {
        for line in output.lines {
            let words = line.split(whereSeparator: { $0 == " " || $0 == ";" })
            guard words.count == 3, words[2].hasPrefix("0x"),
                let value = UInt32(words[2].dropFirst(2), radix: 16)
            else { continue }
            if words[0] == "#SYMVER" {
                values[String(words[1])] = value
            } else if words[0].hasPrefix("__crc_") {
                values[String(words[0].dropFirst("__crc_".count))] = value
            }
        }
        let middle = ": modversion changed because of changes in "
        for line in warnings.lines {
            guard let range = line.range(of: middle) else { continue }
            let name = line[..<range.lowerBound].split(separator: " ").last.map { String($0) } ?? ""
            causes[name] = line[range.upperBound...].split(separator: ",").map { String($0).trimmed }.sorted()
        }
    }
}

extension Compiler {
    /// The checksums of a unit as `source/` holds it now. `dump` is the file for its declarations; `reference` is one
    /// that an earlier call left.
    func exportChecksums(_ unit: TranslationUnit, dump: String, reference: String?) async throws
        -> ExportChecksums
    {
        let program = workspace.object + "/scripts/genksyms/genksyms"
        guard Files.exists(program) else {
            throw Failure(
                "the checksums of the exports of '\(unit.path)' cannot be computed: this kernel's build makes no genksyms",
                status: .cannotBePatched, hint: "leave the declarations of what the file exports as they are")
        }
        let text = dump + ".i"
        try await preprocess(unit, to: text, options: ["-D__GENKSYMS__"])
        let result = try await Command(
            [program, "-T", dump, "-r", reference ?? "/dev/null"], directory: workspace.object,
            environment: makeEnvironment, input: try Files.read(text)
        ).check("cannot compute the checksums of the exports of '\(unit.path)'")
        try Files.remove(text)
        return ExportChecksums(parsing: result.text, warnings: result.errorText)
    }
}
