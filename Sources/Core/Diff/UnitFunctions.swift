// The functions of a unit as debug information has them, for questions about their code and their source.

struct UnitFunctions {
    let debug: DebugInformation
    private let starts: [(address: UInt64, function: Int)]
    /// Functions as they are written, by name; a definition before a declaration.
    let byName: [String: Int]

    init(_ debug: DebugInformation) {
        self.debug = debug
        starts = debug.functions.indices.flatMap { index in
            debug.functions[index].ranges.map { ($0.lowerBound, index) }
        }.sorted { $0.0 < $1.0 }
        var names: [String: Int] = [:]
        for (index, function) in debug.functions.enumerated()
        where function.origin == nil && !function.name.isEmpty {
            if !function.isDeclaration || names[function.name] == nil { names[function.name] = index }
        }
        byName = names
    }

    /// The function whose code stands at an address.
    func function(at address: UInt64) -> Int? {
        var low = 0
        var high = starts.count
        while low < high {
            let middle = (low + high) / 2
            if starts[middle].address <= address { low = middle + 1 } else { high = middle }
        }
        guard low > 0 else { return nil }
        let index = starts[low - 1].function
        return debug.functions[index].ranges.contains { $0.contains(address) } ? index : nil
    }

    /// The calls inlined at an address, outermost first.
    func inlined(at address: UInt64, in function: Int) -> [DebugInline] {
        debug.functions[function].inlined.filter { $0.ranges.contains { $0.contains(address) } }
    }

    /// Where a function is declared.
    func place(_ function: Int) -> SourceLine? {
        debug.source(debug.functions[debug.abstract(function)].place)
    }

    /// Names of the functions that lead from a function to one of its inlined callees, which is the last.
    func chain(_ position: Int, in function: Int) -> [String] {
        var names: [String] = []
        var next: Int? = position
        while let index = next {
            let call = debug.functions[function].inlined[index]
            names.append(name(call.function))
            next = call.parent
        }
        return names.reversed()
    }

    func name(_ function: Int) -> String { debug.functions[debug.abstract(function)].name }

    /// Types that a function names, and those of what is inlined into it.
    func types(_ function: Int) -> Set<Int> {
        let entry = debug.functions[function]
        return ([function, debug.abstract(function)] + entry.inlined.map { debug.abstract($0.function) })
            .reduce(into: Set<Int>()) { $0.formUnion(debug.functions[$1].types) }
    }
}
