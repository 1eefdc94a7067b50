// What a careful reviewer would say of a change that can be made to a running kernel: warnings and notes, which never
// stop an update. Each kind stands in a file of its own. A remark that is usually wrong is worse than none, so each rule
// was tried on hundreds of real fixes (Documentation/measurements.md).

enum ChangeReview {
    /// A file of the change before and after.
    struct File: Sendable {
        var path: String
        /// Nil where the file is new.
        var pre: [UInt8]?
        var post: [UInt8]
    }

    /// Remarks about the text of one file, in the order of its lines.
    ///
    /// - Parameter difference: what became of the unit; nil for a header.
    static func findings(_ file: File, _ difference: UnitDifference?, newNames: Set<String>) -> [Finding] {
        let pre = SourceFile(path: file.path, text: file.pre ?? [])
        let post = SourceFile(path: file.path, text: file.post)
        var found =
            BalanceReview(pre: pre, post: post).findings() + AtomicReview(pre: pre, post: post).findings()
        if let difference {
            // A function that the config leaves out, or that the compiler found unchanged, is not in the update.
            let changed = Set(difference.functions.map { String($0.name.prefix { $0 != "." }) })
            let unchanged = Set(difference.preObject.symbols.filter(\.isFunction).map(\.name)).subtracting(
                changed)
            found = found.filter { !unchanged.contains($0.symbol) }
            found += ContextReview(pre: pre, post: post).findings(
                replaced: difference.functions.filter { $0.preSymbol != nil }.map(\.name))
            if let shipment = difference.shipment {
                found += KeptAddresses(shipment.object, new: newNames).findings(post)
            }
        } else {
            found += InlineReview(pre: file.pre.map { SourceFile(path: file.path, text: $0) }, post: post)
                .findings()
        }
        return found.map { finding in
            var finding = finding
            finding.file = file.path
            return finding
        }.sorted { ($0.line ?? 0, $0.code) < ($1.line ?? 0, $1.code) }
    }

    /// Names of the functions and the data that are new in an update.
    static func newNames(_ differences: [UnitDifference]) -> Set<String> {
        var names: Set<String> = []
        for difference in differences {
            names.formUnion(
                difference.functions.filter { $0.preSymbol == nil && $0.partOf == nil }.map(\.name))
            guard let shipment = difference.shipment else { continue }
            names.formUnion(
                shipment.object.symbols.filter { $0.isDefinedInSection && $0.type == SymbolType.object }.map(
                    \.name))
        }
        return names
    }
}
