// Indirect branches of kernels with IBT (CONFIG_X86_KERNEL_IBT): where processors have it, each must lead to an `endbr64`.
// The compiler gives one to every function that others may call through a pointer, and at boot, or when a module is
// loaded, the kernel overwrites those whose address its own code nowhere takes (`.ibt_endbr_seal`, made by objtool). So
// new code that hands on the address of such a function would stop the kernel at the first call. It is the old entry that
// counts, also for a function that is replaced.

/// The functions of a kernel whose entries are sealed.
struct SealedEntries {
    /// Whether the kernel seals entries at all.
    let isActive: Bool
    private let addresses: Set<UInt64>
    /// The functions of modules, by module.
    private var functions: [String: Set<String>] = [:]

    static let section = ".ibt_endbr_seal"
    static let endbr: [UInt8] = [0xf3, 0x0f, 0x1e, 0xfa]

    /// Those of a kernel that seals none.
    init() { (isActive, addresses) = (false, []) }

    /// Those of a kernel image at some addresses.
    init(_ addresses: Set<UInt64>) { (isActive, self.addresses) = (true, addresses) }

    /// Those of the kernel image, whose file says where its sections are. Without them nothing is known.
    init(imagePath: String, memory: any KernelMemory) throws {
        guard let range = try readImageSections(imagePath)[Self.section] else {
            self.init()
            return
        }
        self.init(
            Self.addresses(
                try memory.read(at: range.lowerBound, count: Int(range.upperBound - range.lowerBound)),
                at: range.lowerBound))
    }

    /// The entries that a table at an address lists: distances of 32 bits from their own places.
    static func addresses(_ table: [UInt8], at start: UInt64) -> Set<UInt64> {
        Set(
            stride(from: 0, to: table.count - 3, by: 4).compactMap { offset in
                table.load(Int32.self, at: offset).map {
                    start &+ UInt64(offset) &+ UInt64(bitPattern: Int64($0))
                }
            })
    }

    mutating func add(_ module: ObjectFile, named name: String) {
        guard let index = module.section(named: Self.section) else { return }
        let places = Set(
            module.sections[index].relocations.compactMap { relocation -> Place? in
                let symbol = module.symbols[relocation.symbol]
                guard symbol.isDefinedInSection else { return nil }
                return Place(section: symbol.section, offset: Int64(symbol.value) + relocation.addend)
            })
        functions[name, default: []].formUnion(
            module.symbols.filter {
                $0.isFunction && $0.isDefinedInSection
                    && places.contains(Place(section: $0.section, offset: Int64($0.value)))
            }.map(\.name))
    }

    private struct Place: Hashable {
        var section: Int
        var offset: Int64
    }

    /// Whether an indirect branch to a function fails: its entry is sealed, or had no `endbr64` to begin with.
    func isSealed(_ symbol: ResolvedSymbol, _ name: String, memory: any KernelMemory) throws -> Bool {
        guard isActive else { return false }
        if addresses.contains(symbol.address) { return true }
        if let module = symbol.module, functions[module]?.contains(name) == true { return true }
        return try memory.read(at: symbol.address, count: 4) != Self.endbr
    }

    static func finding(_ path: String, _ name: String) -> Finding {
        Finding(
            "sealed-entry", .error, file: path, symbol: name,
            "new code takes the address of '\(name)', to which this kernel allows no indirect branch (IBT)",
            advice:
                "on a processor with IBT the first call through that address stops the kernel; hand on a new function that calls it, or use --force sealed-entry if the update is only for machines without IBT"
        )
    }
}

extension UnitDifference {
    /// The existing functions whose addresses the new code takes and the old code of the unit did not.
    var newlyTaken: [String] {
        guard let shipment else { return [] }
        let known = Self.taken(preObject)
        return Self.taken(shipment.object).filter { name in
            guard shipment.references.keys.contains(name),
                shipment.object.symbols.contains(where: { $0.name == name && $0.isUndefined })
            else { return false }
            return !known.contains(preSymbols[name].map { preObject.symbols[$0].name } ?? name)
        }.sorted()
    }

    /// The functions, and the symbols of other objects, whose addresses code and data hold.
    private static func taken(_ object: ObjectFile) -> Set<String> {
        var names: Set<String> = []
        var functions: [Int: [Int64: [String]]] = [:]
        for symbol in object.symbols where symbol.isDefinedInSection && symbol.isFunction {
            functions[symbol.section, default: [:]][Int64(symbol.value), default: []].append(symbol.name)
        }
        for section in object.sections where section.isAllocated {
            guard let role = try? TableSections.role(of: section, object: ""), role == .code || role == .data
            else { continue }
            for relocation in section.relocations {
                let isOperand =
                    section.isExecutable && X86Relocation.isPC32(relocation.type)
                    && !X86Branch.isTarget(of: relocation, in: section.contents)
                guard isOperand || X86Relocation.isAddress(relocation.type) else { continue }
                let symbol = object.symbols[relocation.symbol]
                let offset = relocation.addend + (isOperand ? 4 : 0)
                if symbol.isUndefined {
                    if offset == 0 { names.insert(symbol.name) }
                } else if symbol.isDefinedInSection {
                    names.formUnion(functions[symbol.section]?[Int64(symbol.value) + offset] ?? [])
                }
            }
        }
        return names
    }
}
