// The difference of one translation unit: what to ship, what to replace, what to remark. Reads as a table of contents
// of differencing.

/// The result for one unit.
public struct UnitDifference: Sendable {
    public let path: String
    public let module: String?
    /// The pre object as it is stored in the update and matched against the running kernel.
    public let preObject: ObjectFile
    public let preObjectBytes: [UInt8]
    /// New and changed functions.
    public let functions: [ChangedFunction]
    public let findings: [Finding]
    /// Why each function is new, changed or gone.
    public let records: [ChangeRecord]
    let shipment: Shipment?
    /// For each name that the shipped code refers to: the symbol of `preObject` that stands for the same.
    let preSymbols: [String: Int]
    /// Other parts (`.cold`) of replaced functions in pre.
    let oldParts: [OldPart]
    /// Constants that are replaced where they stand.
    let constants: [InPlaceConstant]
    /// The kinds of the hooks that the unit declares.
    let hooks: Set<HookKind>
    /// Whether the unit declares ids of shadow variables.
    let declaresIDs: Bool
    /// Exports that are to be shipped.
    var newExports: [NewExport]
    /// What the unit exports, before or after.
    let exports: Set<String>
    /// Types whose layout differs in a way that objects which exist do not mind, by their keys.
    let harmlessTypes: Set<String>
    /// Where the unit's symbols are declared.
    let places: SymbolPlaces

    struct OldPart: Sendable {
        var family: String
        var name: String
        var preSymbol: Int
        var size: Int
    }

    public struct ChangedFunction: Sendable {
        /// In post.
        public var name: String
        /// Nil for a new function.
        public var preName: String?
        /// Index into `preObject.symbols`.
        var preSymbol: Int?
        /// In bytes, of the pre code.
        public var preSize: Int
        /// The function whose other part this is (`.cold`).
        public var partOf: String?
    }

    /// Whether an update has nothing to take from the unit.
    public var isEmpty: Bool { functions.isEmpty && !changesKernel && !declaresIDs }

    /// Whether anything happens when the update is applied; ids alone do nothing, nor do new functions that no changed one
    /// calls.
    var changesKernel: Bool {
        functions.contains { $0.preName != nil } || !constants.isEmpty || !hooks.isEmpty
            || !newExports.isEmpty
    }

    /// As `compare`; what stands in the way of a comparison is a finding, so that others are told beside it.
    public static func examine(
        path: String, module: String?, prePath: String, postPath: String, tables: [String: Int],
        replacing: Set<String> = [], source: SourceChange = SourceChange()
    ) throws -> UnitDifference {
        do {
            return try compare(
                path: path, module: module, prePath: prePath, postPath: postPath, tables: tables,
                replacing: replacing, source: source)
        } catch let failure as Failure {
            guard let finding = Finding(failure, file: path) else { throw failure }
            return UnitDifference(
                path: path, module: module, preObject: try ObjectFile(path: prePath), preObjectBytes: [],
                functions: [], findings: [finding], records: [], shipment: nil, preSymbols: [:], oldParts: [],
                constants: [],
                hooks: [], declaresIDs: false, newExports: [], exports: [], harmlessTypes: [],
                places: SymbolPlaces())
        }
    }

    /// Compares two compiled objects of a unit. `prePath` and `postPath` are files with debug information, `source` is
    /// the change that they differ by.
    public static func compare(
        path: String, module: String?, prePath: String, postPath: String, tables: [String: Int],
        replacing: Set<String> = [], source: SourceChange = SourceChange()
    ) throws -> UnitDifference {
        let preFile = try ObjectFile(path: prePath)
        let postFile = try ObjectFile(path: postPath)
        let preBytes = try ELFWriter.write(preFile.withoutDebugInformation())
        let preObject = try ObjectFile(preBytes, name: path)
        let pre = try ObjectSpans(preObject, path: path, tables: tables)
        let post = try ObjectSpans(postFile.withoutDebugInformation(), path: path, tables: tables)
        let preDebug = try DebugInformation(preFile, path: path).placed(as: preObject)
        let postDebug = try DebugInformation(postFile, path: path)
        var comparison = Comparison(
            pre: pre, post: post,
            declarers: (
                Declarers(pre, preDebug), Declarers(post, postDebug.placed(as: post.object))
            ))
        let constants = ConstantReview(&comparison, path: path, module: module, requested: replacing)
        let changes = comparison.changedFunctions()
        var reviewer = DataReview(comparison: comparison, path: path, module: module)
        let exports = (pre: try pre.exports(), post: try post.exports())
        reviewer.review(exports)
        var findings = reviewer.findings + constants.findings
        var typeReview = TypeReview(pre: preDebug, post: postDebug, path: path)
        let types = typeReview.changes()
        var explainer = Explainer(
            comparison, pre: preDebug, post: postDebug, source: source, types: types, path: path)
        let shipped = try explainer.explain(changes)
        let stacks = StackObjects(
            pre: .init(
                debug: preDebug, source: try source.preLines(path),
                replaced: Set(changes.compactMap { $0.pre.map { pre.address($0, in: preDebug) } })),
            post: .init(
                debug: postDebug, source: try source.postLines(path),
                replaced: Set(changes.map { post.address($0.post, in: postDebug) })), path: path)
        findings += typeReview.findings(types, shipped: shipped, stacks: stacks)
        for name in comparison.correlation.ambiguous where !Correlation.isHarmless(name) {
            findings.append(
                Finding(
                    "ambiguous", .error, file: path, symbol: String(name.dropFirst(2)),
                    "several objects are called '\(name.dropFirst(2))' and nothing tells which is which",
                    advice: "give them different names, or keep the functions that use them as they are"))
        }
        findings += comparison.correlation.moved.map { $0.finding(path) }
        var shipment: Shipment?
        let hooks = try HookKind.all(in: post)
        let newExports = post.newExports(exports, since: pre, comparison.correlation)
        if !changes.isEmpty || !constants.inPlace.isEmpty || !post.hookSpans.isEmpty || !newExports.isEmpty {
            shipment = try Shipper.ship(
                post: post, correlation: comparison.correlation, changes: changes,
                changedConstants: constants.copied, inPlace: Set(constants.inPlace.map(\.post)),
                exported: post.spans(of: newExports))
        }
        let functions = functions(changes, comparison, shipment)
        findings += try RedirectReview.findings(preObject, functions: functions, path: path, tables: tables)
        let places = SymbolPlaces(pre: (preObject, preDebug), post: (postFile, postDebug))
        return UnitDifference(
            path: path, module: module, preObject: preObject, preObjectBytes: preBytes,
            functions: functions, findings: findings.map(places.located),
            records: shipped.map(\.record) + explainer.removed(), shipment: shipment,
            preSymbols: preSymbols(pre, comparison, shipment), oldParts: oldParts(changes, pre),
            constants: constants.inPlace, hooks: hooks, declaresIDs: HookKind.declaresIDs(post),
            newExports: newExports, exports: Set((exports.pre + exports.post).map(\.name)),
            harmlessTypes: Set(types.filter { $0.weight == .harmless }.map(\.key)), places: places)
    }

    /// A task may be inside any part of an old function, also one that post has no longer.
    private static func oldParts(_ changes: [FunctionChange], _ pre: ObjectSpans) -> [OldPart] {
        let families = Set(changes.compactMap { $0.pre }.map { Comparison.family(pre.spans[$0].name) })
        return pre.spans.compactMap { span in
            let name = span.name
            guard span.isFunction, span.role == .code, Comparison.isPart(name),
                families.contains(Comparison.family(name))
            else { return nil }
            return OldPart(
                family: Comparison.family(name), name: name, preSymbol: span.symbol, size: size(span, pre))
        }
    }

    private static func functions(
        _ changes: [FunctionChange], _ comparison: Comparison, _ shipment: Shipment?
    ) -> [ChangedFunction] {
        guard shipment != nil else { return [] }
        return changes.map { change in
            let name = comparison.post.spans[change.post].name
            let pre = change.pre.map { comparison.pre.spans[$0] }
            return ChangedFunction(
                name: name, preName: pre?.name, preSymbol: pre?.symbol,
                preSize: pre.map { size($0, comparison.pre) } ?? 0,
                partOf: Comparison.isPart(name) ? Comparison.family(name) : nil)
        }
    }

    /// A function's own size, without the padding behind it.
    private static func size(_ span: ObjectSpan, _ object: ObjectSpans) -> Int {
        let size = Int(object.object.symbols[span.symbol].size)
        return size > 0 ? size : span.range.count
    }

    private static func preSymbols(_ pre: ObjectSpans, _ comparison: Comparison, _ shipment: Shipment?)
        -> [String: Int]
    {
        var result: [String: Int] = [:]
        for (name, span) in shipment?.references ?? [:] {
            if let span, let counterpart = comparison.correlation.preOfPost[span] {
                result[name] = pre.spans[counterpart].symbol
            } else if let index = pre.object.symbols.firstIndex(where: { $0.name == name && $0.isUndefined })
            {
                result[name] = index
            }
        }
        return result
    }
}
