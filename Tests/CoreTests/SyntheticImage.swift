// An image made by hand: one loaded segment, notes, a banner, and symbol tables in any of the layouts that kernels have had.

@testable import Core

struct SyntheticImage {
    enum Layout: CaseIterable {
        /// 5.10: plain addresses; offsets; with values below the base. 6.1: sequence numbers too.
        case plain, relativeFirst, percpu, percpuWithSequence
        /// 6.4 and later; 7.0 and later.
        case relativeLast, placeRelative
    }

    static let base: UInt64 = 0xffff_ffff_8100_0000
    static let banner =
        "Linux version 6.1.0-t (b@h) (gcc-12 (Debian 12.2.0-14, x) 12.2.0, GNU ld (GNU Binutils) 2.40) #1 SMP t (2026)"

    var is64Bit = true
    var layout = Layout.percpuWithSequence
    var symbols: [KernelSymbol]

    /// 600 symbols, one with a name that needs a two-byte length, two with addresses below the base.
    static func symbols(base: UInt64, withAbsolute: Bool) -> [KernelSymbol] {
        var all = withAbsolute ? [KernelSymbol(address: 0, kind: 65, name: "fixed_percpu_data")] : []
        if withAbsolute { all.append(KernelSymbol(address: 64, kind: 68, name: "current_task")) }
        all.append(KernelSymbol(address: base, kind: 84, name: "_text"))
        for number in 0..<600 {
            all.append(KernelSymbol(address: base + UInt64(number) * 16, kind: 116, name: "f\(number)"))
        }
        all.append(KernelSymbol(address: base + 0x4000, kind: 116, name: String(repeating: "xyz", count: 60)))
        return all
    }

    init(_ layout: Layout, is64Bit: Bool = true) {
        self.layout = layout
        self.is64Bit = is64Bit
        symbols = Self.symbols(
            base: is64Bit ? Self.base : 0xc100_0000,
            withAbsolute: layout == .percpu || layout == .percpuWithSequence)
    }

    private var word: Int { is64Bit ? 8 : 4 }
    private var base: UInt64 { is64Bit ? Self.base : 0xc100_0000 }

    /// Printable characters stand for themselves; other numbers stand for pairs.
    private var tokens: [[UInt8]] {
        (UInt8.min...UInt8.max).map { (number: UInt8) -> [UInt8] in
            if number > 0x20 && number < 0x7f { return [number] }
            return number == 0xff ? Array("tf".utf8) : [0x61, number % 26 + 0x61]
        }
    }

    private func compressed(_ symbol: KernelSymbol) -> [UInt8] {
        let text = [symbol.kind] + Array(symbol.name.utf8)
        return text.starts(with: Array("tf".utf8)) ? [0xff] + text.dropFirst(2) : text
    }

    /// The tables, the first byte of which lies at `address`.
    func tables(address: UInt64) -> [UInt8] {
        var out: [UInt8] = []
        let alignment = layout == .placeRelative ? 4 : word
        func align() { while out.count % alignment != 0 { out.append(0) } }
        func pointer(_ value: UInt64) {
            if is64Bit {
                out.append(littleEndian: value)
            } else {
                out.append(littleEndian: UInt32(truncatingIfNeeded: value))
            }
        }
        func addresses() {
            align()
            for symbol in symbols {
                switch layout {
                case .plain: pointer(symbol.address)
                case .relativeFirst, .relativeLast: out.append(littleEndian: UInt32(symbol.address - base))
                case .percpu, .percpuWithSequence:
                    out.append(
                        littleEndian: symbol.address < base
                            ? Int32(symbol.address) : ~Int32(symbol.address - base))
                case .placeRelative:
                    out.append(
                        littleEndian: UInt32(
                            truncatingIfNeeded: symbol.address &- (address + UInt64(out.count))))
                }
            }
            align()
            if layout != .plain && layout != .placeRelative { pointer(base) }
        }
        func sequence() {
            for number in symbols.indices { out += [0, UInt8(number >> 8), UInt8(number & 255)] }
        }
        let isLast = layout == .relativeLast || layout == .placeRelative
        if !isLast { addresses() }
        align()
        out.append(littleEndian: UInt32(symbols.count))
        align()
        var markers: [UInt32] = []
        let names = out.count
        for (number, symbol) in symbols.enumerated() {
            if number % 256 == 0 { markers.append(UInt32(out.count - names)) }
            let code = compressed(symbol)
            out +=
                code.count < 128
                ? [UInt8(code.count)] : [UInt8(code.count & 127 | 128), UInt8(code.count >> 7)]
            out += code
        }
        align()
        for marker in markers { out.append(littleEndian: marker) }
        align()
        if layout == .percpuWithSequence { sequence() }
        align()
        var offsets: [UInt16] = []
        let table = out.count
        for token in tokens {
            offsets.append(UInt16(out.count - table))
            out += token + [0]
        }
        align()
        for offset in offsets { out.append(littleEndian: offset) }
        if isLast {
            addresses()
            align()
            sequence()
        }
        return out
    }

    /// The ELF file: headers, notes, banner and tables at the start of one segment, which has 0x8000 bytes in memory.
    func bytes() -> [UInt8] {
        var content: [UInt8] = []
        for value: UInt32 in [4, 2, 99] { content.append(littleEndian: value) }
        content += Array("XEN\0".utf8) + [1, 2, 0, 0]
        for value: UInt32 in [4, 4, 3] { content.append(littleEndian: value) }
        content += Array("GNU\0".utf8) + [0xab, 0xcd, 0xef, 0x01]
        let notes = content.count
        content +=
            Array("Linux version 6.1.0-t (b@h) (gcc, ld) # SMP\n\0".utf8) + Array((Self.banner + "\n\0").utf8)
        // A hit that is no token table.
        for digit in "0123456789".utf8 { content += [digit, 0] }
        content += [1, 0]
        while content.count % 16 != 0 { content.append(0) }
        let start = 0x1000
        content += tables(address: base + UInt64(content.count))
        var file: [UInt8] = [0x7f, 0x45, 0x4c, 0x46, is64Bit ? 2 : 1, 1, 1] + [UInt8](repeating: 0, count: 9)
        file.append(littleEndian: UInt16(2))
        file.append(littleEndian: UInt16(is64Bit ? 62 : 3))
        file.append(littleEndian: UInt32(1))
        func pointer(_ value: UInt64) {
            if is64Bit {
                file.append(littleEndian: value)
            } else {
                file.append(littleEndian: UInt32(truncatingIfNeeded: value))
            }
        }
        pointer(base)
        pointer(64)
        pointer(0)
        file.append(littleEndian: UInt32(0))
        for value: UInt16 in [64, is64Bit ? 56 : 32, 2, 0, 0, 0] { file.append(littleEndian: value) }
        while file.count < 64 { file.append(0) }
        for (type, flags, size, memory) in [(1, 5, content.count, 0x8000), (4, 4, notes, notes)]
            as [(UInt32, UInt32, Int, Int)]
        {
            file.append(littleEndian: type)
            if is64Bit { file.append(littleEndian: flags) }
            for value in [UInt64(start), base, base, UInt64(size), UInt64(memory)] { pointer(value) }
            if !is64Bit { file.append(littleEndian: flags) }
            pointer(0x1000)
        }
        file += [UInt8](repeating: 0, count: start - file.count)
        return file + content
    }
}
