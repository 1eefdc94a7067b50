// What a change does to the kernel's promise to modules: the checksum of each exported symbol, from the declarations
// before and after the change. Those from before must be the kernel's own; if they are not, this is not its source or not
// its config, and the others say nothing.

struct ExportReview {
    private(set) var findings: [Finding] = []
    /// Of the exports after the change, by symbol, where the change can have changed them; nil where the kernel has no
    /// checksums.
    private(set) var checksums: [String: UInt32]?

    /// One unit that exports something.
    struct Unit: Sendable {
        var path: String
        var before: ExportChecksums
        var after: ExportChecksums
    }

    /// Types that changed and whose objects serve old and new code, as `struct NAME`.
    private var harmlessTypes: Set<String> = []
    /// What the kernel exports before the change.
    let index: ExportIndex
    /// The kernel's configuration.
    let options: [String: String]
    private let kernel: KernelDescriptor

    init(_ kernel: KernelDescriptor) throws {
        self.kernel = kernel
        index = ExportIndex(kernel)
        options = try ConfigFile(kernel.config).options
        if options["MODVERSIONS"] == "y" { checksums = [:] }
    }

    /// Computes the checksums of the exports of units where the types that they are made of can have changed.
    /// - Parameter texts: what the preprocessor left of each unit, before and after the change.
    mutating func run(
        _ differences: [UnitDifference], _ texts: [(PreprocessedUnit, PreprocessedUnit)],
        _ compiler: Compiler,
        _ source: SourceChange
    ) async throws {
        guard checksums != nil else { return }
        harmlessTypes = differences.reduce(into: []) { $0.formUnion($1.harmlessTypes) }
        // What only genksyms sees is not in the texts.
        let isHidden = source.files.values.contains {
            ($0.pre + $0.post).contains { $0.contains("__GENKSYMS__") }
        }
        // A file whose code stays as it is exports what it did.
        let exporting = Array(zip(differences, texts)).filter { !$0.0.exports.isEmpty && !$0.0.isEmpty }
        let isChanged = try await inParallel(exporting) { difference, texts in
            if isHidden || !difference.newExports.isEmpty { return true }
            return try !DeclarationReach.isSameInterface(
                DeclarationReach(Files.read(texts.0.file)), DeclarationReach(Files.read(texts.1.file)),
                of: difference.exports)
        }
        let changed = Array(zip(exporting, isChanged).filter(\.1).map(\.0.1.0.unit).enumerated())
        guard !changed.isEmpty else { return }
        let work = compiler.workspace.work
        let before = try await inParallel(changed) { position, unit in
            try await compiler.exportChecksums(unit, dump: "\(work)/\(position).pre.types", reference: nil)
        }
        let after = try await compiler.workspace.withFiles(source.markedFiles) {
            try await inParallel(changed) { position, unit in
                try await compiler.exportChecksums(
                    unit, dump: "\(work)/\(position).post.types", reference: "\(work)/\(position).pre.types")
            }
        }
        for (position, unit) in changed {
            let lines = try source.postLines(unit.path)
            add(Unit(path: unit.path, before: before[position], after: after[position])) { name in
                Self.line(ofExport: name, in: lines)
            }
        }
    }

    /// Its number in a source file, where it stands there in plain words.
    static func line(ofExport name: String, in lines: [String]) -> Int? {
        lines.firstIndex { line in
            line.hasPrefix("EXPORT_") && (line.contains("(\(name))") || line.contains("(\(name),"))
        }.map { $0 + 1 }
    }

    /// Compares one unit's checksums with the kernel's and with each other.
    mutating func add(_ unit: Unit, line: (String) -> Int?) {
        let names = Set(unit.before.values.keys).union(unit.after.values.keys)
        let recorded = Dictionary(grouping: kernel.exports.filter { names.contains($0.name) }, by: \.name)
            .mapValues { $0.compactMap(\.crc) }
        for (name, old) in unit.before.values.sorted(by: { $0.key < $1.key }) {
            if let known = recorded[name], let first = known.first, !known.contains(old) {
                findings.append(mismatch(name, old, first, unit.path, line(name)))
            }
        }
        // An export that comes from another file has its checksum from before only in the kernel.
        var unit = unit
        for (name, new) in unit.after.values where unit.before.values[name] == nil {
            guard let known = recorded[name], let first = known.first else { continue }
            unit.before.values[name] = known.contains(new) ? new : first
        }
        addChanges(unit, line: line)
        for (name, new) in unit.after.values { checksums?[name] = new }
    }

    /// One type can be part of many exports: each cause is told once, with the first of them.
    private mutating func addChanges(_ unit: Unit, line: (String) -> Int?) {
        let changed = unit.before.values.keys.sorted().filter { name in
            unit.after.values[name].map { $0 != unit.before.values[name] } ?? false
        }
        var groups: [[String]] = []
        for name in changed {
            let causes = unit.after.causes[name] ?? []
            let group = groups.firstIndex { !causes.isEmpty && unit.after.causes[$0[0]] == causes }
            if let group { groups[group].append(name) } else { groups.append([name]) }
        }
        for group in groups { findings.append(self.changed(group, unit, line(group[0]))) }
    }

    private func mismatch(
        _ name: String, _ computed: UInt32, _ recorded: UInt32, _ path: String, _ line: Int?
    )
        -> Finding
    {
        Finding(
            "export-crc-mismatch", .error, file: path, line: line, symbol: name,
            "the checksum of the exported symbol '\(name)' is \(text(computed)), but the kernel's is \(text(recorded))",
            advice:
                "the source, the config or the compiler is not that of the kernel; the checksums of new exports would be wrong, too"
        )
    }

    /// A type of which only the name was known before changes the checksum, and nothing else; so does one whose members stay
    /// where they are.
    private func changed(_ names: [String], _ unit: Unit, _ line: Int?) -> Finding {
        let name = names[0]
        let (old, new) = (unit.before.values[name] ?? 0, unit.after.values[name] ?? 0)
        let causes = unit.after.causes[name] ?? []
        let isHarmless =
            !causes.isEmpty
            && causes.allSatisfy { $0.hasSuffix("(became defined)") || harmlessTypes.contains($0) }
        let why = causes.isEmpty ? "" : " because of " + causes.joined(separator: ", ")
        let shown = names.dropFirst().prefix(5).joined(separator: ", ")
        let others =
            names.count > 6
            ? ", and so do \(shown) and \(names.count - 6) more"
            : names.count > 1 ? ", and so do \(shown)" : ""
        return Finding(
            "export-crc-changed", isHarmless ? .note : .error, file: unit.path, line: line, symbol: name,
            "the checksum of the exported symbol '\(name)' changes from \(text(old)) to \(text(new))\(why)\(others)",
            advice: isHarmless
                ? "objects of the type serve old and new code; the kernel's own export stays as it is"
                : "modules that are loaded, and those that come later, are built for the old declaration; keep it, and add another function beside it"
        )
    }

    /// As Module.symvers has it.
    private func text(_ checksum: UInt32) -> String {
        let digits = String(checksum, radix: 16)
        return "0x" + String(repeating: "0", count: 8 - digits.count) + digits
    }

    // MARK: - What is exported already

    /// The differences without new exports of names that the kernel exports already, for example because a function moves
    /// to another file: the module loader would refuse them.
    func settled(_ differences: [UnitDifference]) -> [UnitDifference] {
        differences.map { difference in
            var settled = difference
            settled.newExports.removeAll { index.owner($0.name) != nil }
            return settled
        }
    }

    /// What is remarkable about exports that the kernel has already and that stand in another file now: they must be what
    /// they were.
    func moved(_ differences: [UnitDifference]) -> [Finding] {
        differences.flatMap { difference in
            difference.newExports.compactMap { export in
                let known = kernel.exports.filter { $0.name == export.name }
                let isSame = known.contains {
                    $0.isGPL == export.isGPL && $0.namespace == export.namespace
                }
                guard !known.isEmpty, !isSame else { return nil }
                return Finding(
                    "export-removed", .error, file: difference.path, symbol: export.name,
                    "'\(export.name)' is exported with another licence or namespace",
                    advice: "modules that are loaded use it; keep the export")
            }
        }
    }

    /// The findings of units, with what is true of exports that the kernel has already.
    func settled(_ findings: [Finding]) -> [Finding] {
        findings.map { finding in
            guard finding.code == "export-added", let owner = index.owner(finding.symbol) else {
                return finding
            }
            var settled = finding
            settled.message = "'\(finding.symbol)' is exported by \(owner) already"
            settled.advice =
                "the update leaves that export as it is: modules use the symbol of the running kernel"
            return settled
        }
    }
}
