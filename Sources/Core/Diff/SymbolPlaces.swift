// Where the symbols that findings are about are declared, from debug information: in post, or in pre for what is gone.

struct SymbolPlaces: Sendable {
    private var places: [String: SourceLine] = [:]

    /// Knows nothing.
    init() {}

    init(pre: (ObjectFile, DebugInformation), post: (ObjectFile, DebugInformation)) {
        // What post says counts.
        add(pre.0, pre.1)
        add(post.0, post.1)
    }

    private mutating func add(_ object: ObjectFile, _ debug: DebugInformation) {
        var byAddress: [UInt64: DebugPlace] = [:]
        for variable in debug.variables {
            if let address = variable.address, let place = variable.place { byAddress[address] = place }
        }
        for (index, function) in debug.functions.enumerated() {
            guard let place = debug.functions[debug.abstract(index)].place else { continue }
            for range in function.ranges { byAddress[range.lowerBound] = place }
        }
        for symbol in object.symbols where symbol.isDefinedInSection && !symbol.isSectionSymbol {
            let address = debug.address(section: symbol.section, offset: Int(symbol.value))
            if let place = debug.source(byAddress[address]) { places[symbol.name] = place }
        }
    }

    /// One of several symbols that the compiler tells apart by a number: the first in the source.
    private func numbered(_ symbol: String) -> SourceLine? {
        guard symbol.hasSuffix("#") else { return nil }
        return places.filter { canonicalName($0.key) == symbol }.map(\.value).min {
            ($0.file, $0.line) < ($1.file, $1.line)
        }
    }

    /// The finding with file and line, where it names a symbol and has no line yet.
    func located(_ finding: Finding) -> Finding {
        guard finding.line == nil, let place = places[finding.symbol] ?? numbered(finding.symbol) else {
            return finding
        }
        var located = finding
        located.file = place.file
        located.line = place.line
        return located
    }
}
