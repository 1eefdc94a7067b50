// The text form of symbol tables: `ADDRESS KIND NAME` a line, as nm(1), System.map and /proc/kallsyms have it, the
// last with `[MODULE]` behind symbols of modules. Parsed as bytes: such a text has 150,000 lines and more.

extension KernelSymbols {
    /// Reads `/proc/kallsyms`, a System.map or what `text()` wrote. `name` appears in failures.
    ///
    /// Fails on a malformed line, and where every address is zero: that is how the kernel hides them from a reader
    /// without privilege.
    public init(text: [UInt8], name: String) throws {
        let symbols = try text.withUnsafeBufferPointer { try SymbolTextParser(bytes: $0, name: name).parse() }
        if symbols.count > 1, symbols.allSatisfy({ $0.address == 0 }) {
            throw Failure(
                "cannot use '\(name)': the kernel hides its addresses",
                hint: "run as root, and look at the sysctl kernel.kptr_restrict (2 hides them from root too)")
        }
        self.init(symbols)
    }

    /// The canonical text: in the order of `all`, addresses with 16 digits.
    public func text() -> [UInt8] {
        let digits = Array("0123456789abcdef".utf8)
        var out: [UInt8] = []
        out.reserveCapacity(all.count * 44)
        for symbol in all {
            for shift in stride(from: 60, through: 0, by: -4) {
                out.append(digits[Int(symbol.address >> shift & 15)])
            }
            out.append(UInt8(ascii: " "))
            out.append(symbol.kind)
            out.append(UInt8(ascii: " "))
            out.append(contentsOf: symbol.name.utf8)
            if let module = symbol.module {
                out.append(UInt8(ascii: "\t"))
                out.append(UInt8(ascii: "["))
                out.append(contentsOf: module.utf8)
                out.append(UInt8(ascii: "]"))
            }
            out.append(UInt8(ascii: "\n"))
        }
        return out
    }
}

/// Whether the content of a System.map file is not one: distributions install a line of text under its name that
/// says where the real one is. A real one has the symbol `_text` or `_stext`.
public func isSystemMapStub(_ bytes: [UInt8]) -> Bool {
    !bytes.contains(text: " _text\n") && !bytes.contains(text: " _stext\n")
}

private struct SymbolTextParser {
    let bytes: UnsafeBufferPointer<UInt8>
    let name: String

    func parse() throws -> [KernelSymbol] {
        var symbols: [KernelSymbol] = []
        symbols.reserveCapacity(bytes.count / 36)
        var module: (name: String, bytes: Range<Int>)?
        var line = 0
        var position = 0
        while position < bytes.count {
            line += 1
            var end = position
            while end < bytes.count, bytes[end] != UInt8(ascii: "\n") { end += 1 }
            // nm(1) prints blanks in place of the address of an undefined symbol.
            if end > position, bytes[position] != UInt8(ascii: " ") {
                guard let symbol = symbol(position..<end, &module) else {
                    throw Failure(
                        "malformed symbol table '\(name)', line \(line)", status: .verificationRefused)
                }
                symbols.append(symbol)
            }
            position = end + 1
        }
        return symbols
    }

    /// One line; nil where it is malformed. `module` is the last module seen: thousands of lines in turn name it.
    private func symbol(_ line: Range<Int>, _ module: inout (name: String, bytes: Range<Int>)?)
        -> KernelSymbol?
    {
        var position = line.lowerBound
        var address: UInt64 = 0
        while position < line.upperBound, let digit = hexDigit(bytes[position]) {
            guard address >> 60 == 0 else { return nil }
            address = address << 4 | UInt64(digit)
            position += 1
        }
        guard position > line.lowerBound, position + 3 < line.upperBound,
            bytes[position] == UInt8(ascii: " "),
            bytes[position + 2] == UInt8(ascii: " ")
        else { return nil }
        let kind = bytes[position + 1]
        let start = position + 3
        var end = start
        while end < line.upperBound, bytes[end] > UInt8(ascii: " ") { end += 1 }
        guard end > start else { return nil }
        var symbol = KernelSymbol(address: address, kind: kind, name: text(start..<end))
        if end == line.upperBound { return symbol }
        // `\t[m]` is the shortest.
        guard line.upperBound - end > 3, bytes[end] == UInt8(ascii: "\t"),
            bytes[end + 1] == UInt8(ascii: "["),
            bytes[line.upperBound - 1] == UInt8(ascii: "]")
        else { return nil }
        let label = end + 2..<line.upperBound - 1
        if let last = module, bytes[last.bytes].elementsEqual(bytes[label]) {
            symbol.module = last.name
        } else {
            let name = text(label)
            module = (name, label)
            symbol.module = name
        }
        return symbol
    }

    private func text(_ range: Range<Int>) -> String {
        String(decoding: UnsafeBufferPointer(rebasing: bytes[range]), as: UTF8.self)
    }
}
