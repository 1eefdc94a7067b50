// What run-pre matching takes and gives.

/// A translation unit whose pre object is compared with the running kernel.
public struct MatchUnit: Sendable {
    /// The source file's path, for messages.
    public var path: String
    /// The module's name as `/proc/modules` has it; nil for the kernel image.
    public var module: String?
    /// The pre object, compiled with a section for each function and object, before objtool.
    public var object: ObjectFile
    /// Indices of symbols that must be found: for these "not present" is a failure.
    public var required: Set<Int>

    public init(path: String, module: String?, object: ObjectFile, required: Set<Int> = []) {
        self.path = path
        self.module = module
        self.object = object
        self.required = required
    }
}

/// A function that was proven to be in memory, but for what kprobes cover.
public struct MatchedFunction: Sendable {
    /// Index into the symbols of the pre object.
    public var symbolIndex: Int
    public var name: String
    /// The entry by which callers know the function: the value of its symbol.
    public var entry: UInt64
    /// Where the code that runs begins; differs from `entry` where an earlier update has redirected it.
    public var address: UInt64
    /// In memory, in bytes.
    public var runSize: Int
    /// Memory as it was read, `runSize` bytes.
    public var bytes: [UInt8]
    /// One byte for each of `bytes`: 0xff where it must stay, 0 where the kernel may rewrite it at run time.
    public var mask: [UInt8]
    /// Where a redirect may stand, from `address`: behind `endbr64` and the fentry site.
    public var entrySite: Int
    /// Whether an fentry site stands directly before `entrySite`.
    public var hasFentry: Bool
    /// Whether the fentry site calls a tracer now.
    public var isTraced: Bool
    /// Whether kprobes stand on some of its instructions: what these cover is taken to be as in pre. Never of a function that
    /// was required.
    public var isProbed: Bool
}

/// A function of a pre object that the kernel does not hold.
public struct AbsentFunction: Sendable {
    public var unit: Int
    public var symbolIndex: Int
    public var name: String
    public var reason: String
    /// Whether the reason says that the kernel may well be of the same source; otherwise nothing explains it.
    public var isExplained: Bool
}

/// What matching found, for all units.
public struct MatchResult: Sendable {
    public struct Statistics: Sendable {
        /// Matched functions, and their bytes in memory.
        public var functions = 0
        public var bytes = 0
        public var nanoseconds: UInt64 = 0
        /// Functions that matched only instruction by instruction.
        public var walked = 0

        mutating func add(_ other: Statistics) {
            functions += other.functions
            bytes += other.bytes
            nanoseconds += other.nanoseconds
            walked += other.walked
        }
    }

    /// By unit, in the order of the symbol table.
    public var functions: [[MatchedFunction]]
    /// By unit: the values of symbols of the pre object, by symbol index.
    public var values: [[Int: UInt64]]
    public var failures: [MatchFailure]
    public var notPresent: [AbsentFunction]
    public var statistics: Statistics
    let units: [MatchUnit]
    let symbols: KernelSymbols

    /// The matched function of a symbol.
    public func function(unit: Int, symbolIndex: Int) -> MatchedFunction? {
        guard functions.indices.contains(unit) else { return nil }
        return functions[unit].first { $0.symbolIndex == symbolIndex }
    }
}

/// Where a name leads.
public struct ResolvedSymbol: Sendable, Equatable {
    public var address: UInt64
    /// The module that holds it; nil for the kernel image.
    public var module: String?
}

extension MatchResult {
    /// The address of a name for code of a unit: what matching learned for it, else what the unit's own module has
    /// under this name, else the kernel image, else the one module that has it. `symbolIndex` says which symbol of the
    /// pre object is meant, where several have the name. A symbol that the unit does not define is global: a static one of
    /// that name in the image is another thing. Fails where there is none or several.
    public func resolve(_ name: String, unit: Int, symbolIndex: Int? = nil) throws -> ResolvedSymbol {
        guard units.indices.contains(unit) else { throw Failure("there is no unit \(unit)") }
        let all = units[unit].object.symbols
        let meant =
            symbolIndex.map { [$0] }
            ?? all.indices.filter { all[$0].name == name && !all[$0].isSectionSymbol }
        let learned = Set(meant.compactMap { values[unit][$0] })
        if learned.count == 1, let address = learned.first {
            return ResolvedSymbol(address: address, module: holder(of: name, at: address, unit: unit))
        }
        if learned.count > 1 { throw ambiguous(name, unit, learned.sorted()) }
        // What the unit defines is in its own object or nowhere: a like name elsewhere is another thing. The kernel lists it
        // under its name in pre: the compiler may give its counterpart in post another number.
        if let own = symbolIndex, all.indices.contains(own), all[own].isDefinedInSection {
            if let found = try one(all[own].name, unit, in: units[unit].module) { return found }
            throw Failure(
                "'\(name)' of \(units[unit].path) cannot be found: kallsyms does not list it and nothing that matched refers to it",
                status: .verificationRefused)
        }
        if let module = units[unit].module, let found = try one(name, unit, in: module) { return found }
        if let found = try one(name, unit, in: nil, where: \.mayBeGlobal) { return found }
        let others = self.symbols.named(name).filter(Self.isForOthers)
        let places = Set(others.map(\.address))
        if places.count > 1 { throw ambiguous(name, unit, places.sorted()) }
        guard let only = others.first else {
            throw Failure(
                "symbol '\(name)' of \(units[unit].path) is not in the kernel", status: .verificationRefused,
                hint: "it may be in a module that is not loaded")
        }
        return ResolvedSymbol(address: only.address, module: only.module)
    }

    /// Whether a symbol of a pre object is a variable that is write-protected once its module or the kernel is up.
    func isReadOnlyAfterInit(_ symbol: Int?, unit: Int) -> Bool {
        let object = units[unit].object
        guard let symbol, object.symbols.indices.contains(symbol), object.symbols[symbol].isDefinedInSection
        else { return false }
        return object.sections[object.symbols[symbol].section].name.hasPrefix(".data..ro_after_init")
    }

    /// Whether anything that code of a unit could mean has this name. `symbolIndex` is as in `resolve`.
    func knows(_ name: String, unit: Int, symbolIndex: Int? = nil) -> Bool {
        let all = units[unit].object.symbols
        if let own = symbolIndex, all.indices.contains(own), all[own].isDefinedInSection { return true }
        return symbols.named(name).contains {
            Self.isForOthers($0) || $0.module == units[unit].module && $0.mayBeGlobal
        }
            || units[unit].object.symbols.contains { $0.name == name && $0.isDefinedInSection }
    }

    /// Whether code of the image or of another module may mean a symbol: one of a module only if it is exported, or if it
    /// belongs to an earlier update.
    private static func isForOthers(_ symbol: KernelSymbol) -> Bool {
        guard let module = symbol.module else { return symbol.mayBeGlobal }
        return module.hasPrefix("ksplice_")
            || symbol.kind >= UInt8(ascii: "A") && symbol.kind <= UInt8(ascii: "Z")
    }

    /// The module that lists a symbol at an address; the unit's own where kallsyms does not know the name.
    private func holder(of name: String, at address: UInt64, unit: Int) -> String? {
        let listed = symbols.named(name).filter { $0.address == address }
        return listed.isEmpty ? units[unit].module : listed[0].module
    }

    private func one(
        _ name: String, _ unit: Int, in module: String?, where isMeant: (KernelSymbol) -> Bool = { _ in true }
    ) throws -> ResolvedSymbol? {
        let places = Set(symbols.named(name, in: module).filter(isMeant).map(\.address))
        if places.count > 1 { throw ambiguous(name, unit, places.sorted()) }
        return places.first.map { ResolvedSymbol(address: $0, module: module) }
    }

    private func ambiguous(_ name: String, _ unit: Int, _ places: [UInt64]) -> Failure {
        Failure(
            "symbol '\(name)' of \(units[unit].path) is ambiguous: "
                + places.map { hex($0) }.joined(separator: ", "), status: .verificationRefused)
    }
}
