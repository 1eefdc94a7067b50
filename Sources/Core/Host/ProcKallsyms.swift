// The running kernel's symbols as `/proc/kallsyms` prints them: address, letter, name, and for modules a tab and the
// name in brackets. The kernel prints zeros instead of addresses to those it does not trust.

/// Reading `/proc/kallsyms`.
public enum ProcKallsyms {
    /// Reads the table of this machine. Fails where the kernel hides the addresses.
    public static func read(_ path: String = "/proc/kallsyms") throws -> KernelSymbols {
        try parse(Files.read(path), name: path)
    }

    /// Parses the text. Fails on lines of another form and where all addresses are zero.
    public static func parse(_ text: [UInt8], name: String = "/proc/kallsyms") throws -> KernelSymbols {
        var symbols: [KernelSymbol] = []
        symbols.reserveCapacity(text.count / 40)
        var modules: [ArraySlice<UInt8>: String] = [:]
        var start = 0
        var hasAddress = false
        while start < text.count {
            let end = text[start...].firstIndex(of: 0x0a) ?? text.count
            guard let symbol = parse(text[start..<end], &modules) else {
                throw Failure(
                    "malformed line in '\(name)': '\(String(decoding: text[start..<end], as: UTF8.self))'")
            }
            hasAddress = hasAddress || symbol.address != 0
            symbols.append(symbol)
            start = end + 1
        }
        guard !symbols.isEmpty else { throw Failure("'\(name)' lists no symbols") }
        guard hasAddress else {
            throw Failure(
                "'\(name)' hides the addresses of the kernel's symbols",
                hints: ["run this as root", "or set kernel.kptr_restrict to 0 or 1 while it runs (sysctl)"])
        }
        return KernelSymbols(symbols)
    }

    private static func parse(_ line: ArraySlice<UInt8>, _ modules: inout [ArraySlice<UInt8>: String])
        -> KernelSymbol?
    {
        var address: UInt64 = 0
        var index = line.startIndex
        while index < line.endIndex, let digit = digit(line[index]) {
            address = address << 4 | digit
            index += 1
        }
        guard index > line.startIndex, index + 3 < line.endIndex, line[index] == 0x20, line[index + 2] == 0x20
        else {
            return nil
        }
        let kind = line[index + 1]
        let rest = line[(index + 3)...]
        let end = rest.firstIndex(of: 0x09) ?? rest.endIndex
        var module: String?
        if end < rest.endIndex, let open = rest.firstIndex(of: UInt8(ascii: "[")),
            let close = rest.lastIndex(of: UInt8(ascii: "]")), open < close
        {
            let part = rest[(open + 1)..<close]
            if let known = modules[part] {
                module = known
            } else {
                let text = String(decoding: part, as: UTF8.self)
                modules[part] = text
                module = text
            }
        }
        return KernelSymbol(
            address: address, kind: kind, name: String(decoding: rest[..<end], as: UTF8.self), module: module)
    }

    private static func digit(_ byte: UInt8) -> UInt64? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt64(byte - UInt8(ascii: "0"))
        case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt64(byte - UInt8(ascii: "a") + 10)
        default: nil
        }
    }
}
