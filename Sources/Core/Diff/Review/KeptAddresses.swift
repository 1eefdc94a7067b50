// Why an update stays loaded after undo: its code hands on addresses of what is new in it. A timer, a work item or a
// list may hold them for ever. Whether it does cannot be known, so such an update is never unloaded; this says which
// addresses they are. Strings alone are not worth a word.

struct KeptAddresses {
    private let object: ObjectFile
    /// What is new: the names of functions and of data, those of other units of the update included.
    private let new: Set<String>
    /// Symbols of each section by their offsets.
    private let symbols: [Int: [Symbol]]

    /// One address that is handed on.
    struct Place: Hashable {
        var target: String
        var isFunction: Bool
        /// The function or variable that holds the address.
        var holder: String
    }

    init(_ object: ObjectFile, new: Set<String>) {
        self.object = object
        self.new = new
        symbols = Dictionary(
            grouping: object.symbols.filter { $0.isDefinedInSection && !$0.isSectionSymbol }, by: \.section
        ).mapValues { $0.sorted { $0.value < $1.value } }
    }

    /// The addresses that shipped code and data hold as values. Calls and plain accesses do not count.
    func places() -> Set<Place> {
        var found: Set<Place> = []
        for (index, section) in object.sections.enumerated() where section.isAllocated && !isTable(section) {
            for relocation in section.relocations where Self.isAddress(relocation) {
                guard let target = target(relocation), new.contains(target.name),
                    let holder = symbol(at: relocation.offset, in: index)
                else { continue }
                if holder.name == target.name { continue }
                found.insert(
                    Place(target: target.name, isFunction: target.isFunction, holder: holder.name))
            }
        }
        return found
    }

    /// In code for the kernel's memory model these load an address, or index an array.
    private static func isAddress(_ relocation: Relocation) -> Bool {
        X86Relocation.isAddress(relocation.type)
    }

    private func isTable(_ section: Section) -> Bool {
        guard let role = try? TableSections.role(of: section, object: "") else { return true }
        return role != .code && role != .data && role != .perCPU
    }

    private func target(_ relocation: Relocation) -> (name: String, isFunction: Bool)? {
        let symbol = object.symbols[relocation.symbol]
        // New functions of other units have no type here.
        if symbol.isUndefined { return (symbol.name, true) }
        guard symbol.isDefinedInSection else { return nil }
        let offset = Int(symbol.value) + Int(relocation.addend)
        guard let found = self.symbol(at: offset, in: symbol.section) else { return nil }
        // Inside of a function: a jump table's entry.
        if found.isFunction && Int(found.value) != offset { return nil }
        return (found.name, found.isFunction)
    }

    private func symbol(at offset: Int, in section: Int) -> Symbol? {
        symbols[section]?.last { Int($0.value) <= offset }
    }
}

extension KeptAddresses {
    /// Remarks about one unit. `source` gives the lines.
    func findings(_ source: SourceFile) -> [Finding] {
        let places = places()
        let functions = Dictionary(grouping: places.filter(\.isFunction), by: \.target)
        var findings = functions.keys.sorted().map { name in
            let holders = functions[name]!.map(\.holder).sorted()
            return finding(
                .warning, name, line(of: name, in: holders, source),
                "the address of the new function '\(name)' is handed on by \(Self.list(holders))")
        }
        let data = Set(places.filter { !$0.isFunction }.map(\.target)).sorted()
        if !data.isEmpty {
            let holders = Set(places.filter { !$0.isFunction }.map(\.holder)).sorted()
            findings.append(
                finding(
                    .note, data[0], line(of: data[0], in: holders, source),
                    "addresses of the new data \(Self.list(data)) are handed on by \(Self.list(holders))"))
        }
        return findings
    }

    private func finding(_ severity: Finding.Severity, _ name: String, _ line: Int?, _ message: String)
        -> Finding
    {
        Finding(
            "address-outlives-undo", severity, file: "", line: line, symbol: name, message,
            advice:
                "the kernel may keep it after undo, so the update then stays loaded, inert; hand on the address of an existing function if it matters"
        )
    }

    private func line(of name: String, in holders: [String], _ source: SourceFile) -> Int? {
        for holder in holders {
            if let token = source[String(holder.prefix { $0 != "." })]?.body.first(where: { $0.text == name })
            {
                return token.line
            }
        }
        return source[name]?.line
    }

    private static func list(_ names: [String]) -> String {
        let shown = names.prefix(5).map { "'\($0)'" }.joined(separator: ", ")
        return names.count > 5 ? "\(shown) and \(names.count - 5) more" : shown
    }
}
