// The names and places of all units as one numbering, so that what one function proves about a symbol holds for
// every other reference to it. A key stands for one symbol of the running kernel: a global name of the kernel image
// or of a module, or a place inside one unit's sections.

final class MatchSpace {
    struct Place {
        var offset: Int
        var size: Int
        var key: Int
    }

    struct Key {
        /// The names under which kallsyms may list it, and the module whose names they are.
        var names: [String]
        var module: String?
        /// Whether another module may define it.
        var isImported: Bool
    }

    private(set) var keys: [Key] = []
    /// By unit, by symbol index; -1 for symbols without a key (sections, files).
    private(set) var keyOfSymbol: [[Int]] = []
    /// By unit, by section: sorted by offset, one for each offset that has a symbol.
    private(set) var places: [[[Place]]] = []
    private var globals: [Global: Int] = [:]
    private let symbols: KernelSymbols
    private var allowedCache: [Int: [UInt64]?] = [:]

    private struct Global: Hashable {
        var module: String?
        var name: String
    }

    init(units: [MatchUnit], symbols: KernelSymbols) {
        self.symbols = symbols
        for unit in units {
            places.append(.init(repeating: [], count: unit.object.sections.count))
            keyOfSymbol.append(.init(repeating: -1, count: unit.object.symbols.count))
        }
        // Strong definitions first: a weak one elsewhere then shares their key.
        for weak in [false, true] {
            for (index, unit) in units.enumerated() { definePlaces(index, unit, weak: weak) }
        }
        for (index, unit) in units.enumerated() { defineImports(index, unit) }
        for unit in places.indices {
            for section in places[unit].indices { places[unit][section].sort { $0.offset < $1.offset } }
        }
    }

    private func new(_ key: Key) -> Int {
        keys.append(key)
        return keys.count - 1
    }

    private func definePlaces(_ unit: Int, _ content: MatchUnit, weak: Bool) {
        var known: [Int: [Int: Int]] = [:]
        for (section, list) in places[unit].enumerated() {
            for (position, place) in list.enumerated() {
                known[section, default: [:]][place.offset] = position
            }
        }
        for (index, symbol) in content.object.symbols.enumerated()
        where symbol.isDefinedInSection && !symbol.isSectionSymbol && symbol.isWeak == weak {
            let offset = Int(truncatingIfNeeded: symbol.value)
            let global = Global(module: content.module, name: symbol.name)
            let key: Int
            if weak, known[symbol.section]?[offset] != nil, globals[global] == nil {
                // An alias: its name may lead to another object's definition while the place stays what it is.
                key = new(Key(names: [symbol.name], module: content.module, isImported: false))
            } else if let position = known[symbol.section]?[offset] {
                let place = places[unit][symbol.section][position]
                key = place.key
                places[unit][symbol.section][position].size = max(
                    place.size, Int(truncatingIfNeeded: symbol.size))
                if !keys[key].names.contains(symbol.name) { keys[key].names.append(symbol.name) }
            } else {
                key = new(Key(names: [symbol.name], module: content.module, isImported: false))
                known[symbol.section, default: [:]][offset] = places[unit][symbol.section].count
                places[unit][symbol.section].append(
                    Place(offset: offset, size: Int(truncatingIfNeeded: symbol.size), key: key))
            }
            if !symbol.isLocal && globals[global] == nil { globals[global] = key }
            keyOfSymbol[unit][index] = symbol.isLocal ? key : globals[global] ?? key
        }
    }

    private func defineImports(_ unit: Int, _ content: MatchUnit) {
        for (index, symbol) in content.object.symbols.enumerated().dropFirst()
        where !symbol.isDefinedInSection && symbol.type != SymbolType.file && !symbol.name.isEmpty {
            let global = Global(module: content.module, name: symbol.name)
            if let key = globals[global] {
                keyOfSymbol[unit][index] = key
            } else {
                let key = new(Key(names: [symbol.name], module: content.module, isImported: true))
                globals[global] = key
                keyOfSymbol[unit][index] = key
            }
        }
    }

    /// The place of a unit's section that holds an offset: the last one at or before it.
    func place(_ unit: Int, _ section: Int, _ offset: Int) -> Place? {
        let list = places[unit][section]
        var low = 0
        var high = list.count
        while low < high {
            let middle = (low + high) / 2
            if list[middle].offset <= offset { low = middle + 1 } else { high = middle }
        }
        return low > 0 ? list[low - 1] : nil
    }

    /// The addresses that kallsyms gives for a key; nil where it does not know the name.
    func allowed(_ key: Int) -> [UInt64]? {
        if let cached = allowedCache[key] { return cached }
        let entry = keys[key]
        var found: [UInt64] = []
        for name in entry.names {
            let all = symbols.named(name)
            var mine = all.filter { $0.module == entry.module }
            if mine.isEmpty && entry.isImported { mine = all.filter { $0.module == nil } }
            if mine.isEmpty && entry.isImported { mine = all }
            found += mine.map(\.address)
        }
        let result: [UInt64]? = found.isEmpty ? nil : Array(Set(found)).sorted()
        allowedCache[key] = result
        return result
    }

    func title(_ key: Int) -> String { keys[key].names.first ?? "?" }
}
