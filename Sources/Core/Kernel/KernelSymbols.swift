// The symbols of one kernel, whatever they were read from: `/proc/kallsyms`, a System.map, the compressed tables
// of an image, the symbol table of a module file.
//
// A kernel has some 150,000 of them and every command builds this index, so names are found through a chained
// hash table of numbers, not through a dictionary of strings.

/// One symbol with its address.
public struct KernelSymbol: Sendable, Equatable {
    public var address: UInt64
    /// The letter of nm(1): `t` and `T` code, `d` `D` `b` `B` data, `r` `R` read-only, `W` weak, `A` absolute, ...
    public var kind: UInt8
    public var name: String
    /// The module that it belongs to; nil for the kernel image.
    public var module: String?

    public init(address: UInt64, kind: UInt8, name: String, module: String? = nil) {
        self.address = address
        self.kind = kind
        self.name = name
        self.module = module
    }

    /// Whether other objects could be linked with it. Only the image's symbols tell: those of modules have a capital letter
    /// where they are exported (kernel/kallsyms.c, s_show).
    var mayBeGlobal: Bool {
        module != nil || isWeak || kind == UInt8(ascii: "v")
            || kind >= UInt8(ascii: "A") && kind <= UInt8(ascii: "Z")
    }

    public var isCode: Bool { kind == UInt8(ascii: "t") || kind == UInt8(ascii: "T") || isWeak }
    public var isWeak: Bool { kind == UInt8(ascii: "W") || kind == UInt8(ascii: "w") }
}

/// All symbols of one kernel, looked up by name and by address.
public struct KernelSymbols: Sendable {
    /// Sorted by address; equal addresses keep the order of the source.
    public let all: [KernelSymbol]
    /// For each hash value the first symbol of its chain, -1 for none. The number of chains is a power of two.
    private let heads: [Int32]
    /// For each symbol the next one of its chain, -1 at the end. Chains are in the order of `all`.
    private let chain: [Int32]

    public init(_ symbols: [KernelSymbol]) {
        all = Self.sorted(symbols)
        var size = 16
        while size < all.count { size *= 2 }
        var heads = [Int32](repeating: -1, count: size)
        var chain = [Int32](repeating: -1, count: all.count)
        for position in all.indices.reversed() {
            let slot = Self.hash(all[position].name) & (size - 1)
            chain[position] = heads[slot]
            heads[slot] = Int32(truncatingIfNeeded: position)
        }
        self.heads = heads
        self.chain = chain
    }

    public var isEmpty: Bool { all.isEmpty }

    /// All symbols of a name, in the order of their addresses.
    public func named(_ name: String) -> [KernelSymbol] {
        var found: [KernelSymbol] = []
        var position = Int(heads[Self.hash(name) & (heads.count - 1)])
        while position >= 0 {
            if all[position].name == name { found.append(all[position]) }
            position = Int(chain[position])
        }
        return found
    }

    /// All symbols of a name in one object: a module, or the kernel image for nil.
    public func named(_ name: String, in module: String?) -> [KernelSymbol] {
        named(name).filter { $0.module == module }
    }

    /// The address of a name of the kernel image where it occurs exactly once there.
    public func unique(_ name: String) -> UInt64? {
        let found = named(name, in: nil)
        return found.count == 1 ? found[0].address : nil
    }

    /// All symbols at an address: aliases of each other.
    public func named(at address: UInt64) -> [KernelSymbol] {
        all[..<index(after: address)].reversed().prefix { $0.address == address }
    }

    /// The last symbol at or below an address, with the distance to it in bytes.
    public func nearest(to address: UInt64) -> (symbol: KernelSymbol, offset: UInt64)? {
        let next = index(after: address)
        guard next > 0 else { return nil }
        return (all[next - 1], address - all[next - 1].address)
    }

    /// The address of the first symbol above an address: an upper bound for the size of what lies there.
    public func next(above address: UInt64) -> UInt64? {
        let next = index(after: address)
        return next < all.count ? all[next].address : nil
    }

    /// `name+0x12 [module]` for messages; the bare address where no symbol is near.
    public func describe(_ address: UInt64) -> String {
        guard let (symbol, offset) = nearest(to: address) else { return hex(address) }
        return symbol.name + (offset == 0 ? "" : "+" + hex(offset)) + (symbol.module.map { " [\($0)]" } ?? "")
    }

    private func index(after address: UInt64) -> Int {
        var low = 0
        var high = all.count
        while low < high {
            let middle = (low + high) / 2
            if all[middle].address <= address { low = middle + 1 } else { high = middle }
        }
        return low
    }

    private static func sorted(_ symbols: [KernelSymbol]) -> [KernelSymbol] {
        let isSorted = symbols.indices.dropFirst().allSatisfy {
            symbols[$0 - 1].address <= symbols[$0].address
        }
        guard !isSorted else { return symbols }
        // Only numbers are moved about while sorting: moving symbols would count references.
        var order = symbols.indices.map { (symbols[$0].address, $0) }
        order.sort { $0.0 != $1.0 ? $0.0 < $1.0 : $0.1 < $1.1 }
        return order.map { symbols[$0.1] }
    }

    /// FNV-1a, folded so that the low bits depend on all others.
    private static func hash(_ name: String) -> Int {
        var value: UInt64 = 0xcbf2_9ce4_8422_2325
        func add(_ bytes: UnsafeBufferPointer<UInt8>) {
            for byte in bytes { value = (value ^ UInt64(byte)) &* 0x100_0000_01b3 }
        }
        if name.utf8.withContiguousStorageIfAvailable(add) == nil {
            Array(name.utf8).withUnsafeBufferPointer(add)
        }
        return Int(truncatingIfNeeded: value ^ (value >> 32))
    }
}

/// Memory of a kernel: a running one, its image, or the content of an object laid out as if it were loaded. The
/// seam between pre, post and run.
public protocol KernelMemory: AnyObject {
    /// Exactly `count` bytes at a virtual address. Fails where any of them is not mapped.
    func read(at address: UInt64, count: Int) throws -> [UInt8]
}
