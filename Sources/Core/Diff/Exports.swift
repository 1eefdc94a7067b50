// What a unit exports to modules. Up to Linux 6.3 each EXPORT_SYMBOL makes an entry `__ksymtab_NAME` in a section of its
// own, whose name tells the licence (`___ksymtab+NAME`, `___ksymtab_gpl+NAME`), and two strings, the name and the
// namespace (include/linux/export.h of 6.1). Later it leaves a record `__export_symbol_NAME` in `.export_symbol` for
// modpost, which makes the same entries of it: the licence and the namespace as strings, and the symbol's address (6.12).
// An update ships the entries of exports that are new; those that exist are the kernel's own and stay as they are.

/// An exported symbol of a unit.
struct UnitExport: Sendable, Equatable {
    var name: String
    var isGPL: Bool
    /// Empty for none.
    var namespace: String
    /// The exported function or object; nil where another unit holds it.
    var span: Int?
}

/// An export that a change adds.
struct NewExport: Sendable, Equatable {
    /// What is exported.
    enum Subject: Sendable, Equatable {
        /// Code or data that the update brings, by its name in the unit's shipped object.
        case new(String)
        /// Code or data that exists already: its name before the change, and its symbol in the pre object.
        case existing(name: String, symbol: Int)
        /// Code or data of another unit, and what stands for it among the symbols of the pre object.
        case elsewhere(Int?)
    }

    var name: String
    var isGPL: Bool
    var namespace: String
    var subject: Subject
}

extension ObjectSpans {
    private static let entryPrefix = "__ksymtab_"
    private static let recordPrefix = "__export_symbol_"
    private static let recordSection = ".export_symbol"

    /// The unit's exports, sorted by name.
    func exports() throws -> [UnitExport] {
        try object.symbols.filter(\.isDefinedInSection).compactMap { symbol in
            if symbol.name.hasPrefix(Self.entryPrefix) { return try entry(symbol) }
            guard symbol.name.hasPrefix(Self.recordPrefix),
                object.sections[symbol.section].name == Self.recordSection
            else { return nil }
            return try record(symbol)
        }.sorted { $0.name < $1.name }
    }

    private func entry(_ symbol: Symbol) throws -> UnitExport {
        let name = String(symbol.name.dropFirst(Self.entryPrefix.count))
        let space = object.symbols.first { $0.name == "__kstrtabns_" + name && $0.isDefinedInSection }
        return UnitExport(
            name: name, isGPL: object.sections[symbol.section].name.hasPrefix("___ksymtab_gpl"),
            namespace: space.flatMap { text(at: Int($0.value), section: $0.section) } ?? "",
            span: try exported(name, at: Int(symbol.value), section: symbol.section))
    }

    private func record(_ symbol: Symbol) throws -> UnitExport {
        let name = String(symbol.name.dropFirst(Self.recordPrefix.count))
        let start = Int(symbol.value)
        guard let licence = text(at: start, section: symbol.section),
            let namespace = text(at: start + licence.utf8.count + 1, section: symbol.section)
        else { throw malformed(name) }
        return UnitExport(
            name: name, isGPL: licence == "GPL", namespace: namespace,
            span: try exported(name, at: start, section: symbol.section))
    }

    /// The span that the first address at or behind a place leads to; nil for a symbol of another unit.
    private func exported(_ name: String, at offset: Int, section: Int) throws -> Int? {
        let behind = object.sections[section].relocations.filter { $0.offset >= offset }
        guard let reference = behind.min(by: { $0.offset < $1.offset }) else { throw malformed(name) }
        switch target(of: reference, in: section) {
        case .span(let span, 0): return span
        case .external(name): return nil
        default: throw malformed(name)
        }
    }

    private func text(at offset: Int, section: Int) -> String? {
        object.sections[section].contents.string(at: offset)
    }

    private func malformed(_ name: String) -> Failure {
        Failure("'\(path)': the export of '\(name)' has an unknown form", status: .cannotBePatched)
    }

    /// Of this object's exports, those that a pre object does not have under that name.
    func newExports(
        _ exports: (pre: [UnitExport], post: [UnitExport]), since pre: ObjectSpans, _ correlation: Correlation
    ) -> [NewExport] {
        let known = Set(exports.pre.map(\.name))
        return exports.post.filter { !known.contains($0.name) }.map { export in
            let subject: NewExport.Subject
            if let span = export.span {
                let old = correlation.preOfPost[span].map { pre.spans[$0] }
                subject =
                    old.map { .existing(name: $0.name, symbol: $0.symbol) } ?? .new(spans[span].name)
            } else {
                subject = .elsewhere(
                    pre.object.symbols.firstIndex { $0.name == export.name && $0.isUndefined })
            }
            return NewExport(
                name: export.name, isGPL: export.isGPL, namespace: export.namespace, subject: subject)
        }
    }

    /// The spans of new exports that are new themselves: nothing else need refer to them.
    func spans(of exports: [NewExport]) -> Set<Int> {
        let names = Set(
            exports.compactMap { export in
                if case .new(let name) = export.subject { return name } else { return nil }
            })
        return Set(spans.indices.filter { spans[$0].isGlobal && names.contains(spans[$0].name) })
    }
}
