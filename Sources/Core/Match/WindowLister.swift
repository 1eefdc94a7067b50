// The instructions of the two sides of a mismatch, with names in place of addresses: on the pre side those of its
// relocations, on the run side what stands at the address that memory gives, under the name that pre has for it where
// kallsyms has several.

struct WindowLister {
    let state: MatchState
    let span: Span
    /// Where the run side begins.
    let address: UInt64
    /// Names that pre uses, by where they are in the kernel.
    private let names: [UInt64: String]
    private var architecture: X86Architecture { span.code.object.architecture }

    init(state: MatchState, span: Span, address: UInt64) {
        self.state = state
        self.span = span
        self.address = address
        let object = span.code.object
        var names: [UInt64: String] = [:]
        for relocation in object.sections[span.section].relocations(in: span.range) {
            let symbol = object.symbols[relocation.symbol]
            guard !symbol.isSectionSymbol, !symbol.name.isEmpty else { continue }
            for found in state.symbols.named(symbol.name) { names[found.address] = symbol.name }
        }
        self.names = names
    }

    /// Both sides around a mismatch.
    func window(_ mismatch: Mismatch, run: [UInt8]) -> MismatchWindow {
        let pre = pre()
        let run = self.run(run)
        return MismatchWindow(
            pre, run, Self.position(of: mismatch.offset, in: pre),
            Self.position(of: mismatch.runOffset, in: run))
    }

    /// The line that covers an offset; the number of lines where none does.
    private static func position(of offset: Int, in lines: [WindowLine]) -> Int {
        lines.firstIndex { offset < $0.offset + $0.bytes.count } ?? lines.count
    }

    private func pre() -> [WindowLine] {
        let sites = span.code.sites.sites(in: span.range, of: span.section)
        return lines(of: span.bytes, in: span.range, address: 0) { offset, length, text, _ in
            let place = span.start + offset
            let fields = span.code.object.sections[span.section].relocations(in: place..<place + length)
            let symbol = fields.map { name(of: $0, end: place + length) }.joined(separator: ", ")
            let site = sites.first { $0.range.overlaps(place..<place + length) }
            return WindowLine(
                offset: offset, bytes: Array(span.bytes[place..<place + length]),
                text: symbol.isEmpty ? local(text) : Self.text(text, naming: symbol),
                symbol: symbol.isEmpty ? nil : symbol, site: site?.title)
        }
    }

    private func run(_ bytes: [UInt8]) -> [WindowLine] {
        lines(of: bytes, in: bytes.indices, address: address) { offset, length, text, remark in
            let (named, symbol) = resolved(text, remark)
            return WindowLine(
                offset: offset, bytes: Array(bytes[offset..<offset + length]), text: named, symbol: symbol)
        }
    }

    /// Decodes a range. Bytes that are no instruction are lines of one byte.
    private func lines(
        of bytes: [UInt8], in range: Range<Int>, address: UInt64,
        _ line: (_ offset: Int, _ length: Int, _ text: String, _ remark: UInt64?) -> WindowLine
    ) -> [WindowLine] {
        var found: [WindowLine] = []
        var place = range.lowerBound
        while place < range.upperBound {
            let offset = place - range.lowerBound
            let instruction = X86Instruction(
                bytes, at: place, address: address &+ UInt64(offset), is64Bit: architecture.is64Bit)
            let length = min(instruction?.length ?? 1, range.upperBound - place)
            let parts = (instruction?.text ?? "(bad)").split(separator: "#", maxSplits: 1)
            let words = parts[0].split(separator: " ", omittingEmptySubsequences: true)
            // A prefix of its own stands before the mnemonic; operands have no blanks.
            let text = words.joined(separator: " ")
            let remark = parts.count > 1 ? UInt64(String(parts[1]).trimmed.dropFirst(2), radix: 16) : nil
            found.append(line(offset, length, text, remark))
            place += length
        }
        return found
    }

    // MARK: - Names of pre

    /// What a relocation refers to; `end` is where its instruction ends.
    private func name(of relocation: Relocation, end: Int) -> String {
        let code = span.code
        let symbol = code.object.symbols[relocation.symbol]
        let isRelative = X86Relocation.of(relocation.type)?.isRelative == true
        let distance = relocation.addend + (isRelative ? Int64(end - relocation.offset) : 0)
        guard symbol.isSectionSymbol, code.object.sections.indices.contains(symbol.section) else {
            return symbol.name + Self.distance(distance)
        }
        let section = code.object.sections[symbol.section]
        let offset = Int(truncatingIfNeeded: distance)
        if section.isMergeableStrings, let text = Self.quoted(section.contents.dropFirst(max(0, offset))) {
            return text
        }
        guard let place = code.space.place(code.index, symbol.section, offset) else {
            return section.name + Self.distance(distance)
        }
        return state.space.title(place.key) + Self.distance(Int64(offset - place.offset))
    }

    /// A relocated field is zero in the object: the name goes where it stands.
    private static func text(_ text: String, naming symbol: String) -> String {
        if let branch = branch(text) { return "\(branch.words) \(symbol)" }
        for (field, start) in [("$0x0", "$"), (":0x0", ":"), ("0x0(", "")] {
            guard let range = text.range(of: field) else { continue }
            return text.with(start + symbol + (field.hasSuffix("(") ? "(" : ""), in: range)
        }
        return text
    }

    /// A branch of pre without a relocation leads to a place of the function.
    private func local(_ text: String) -> String {
        guard let branch = Self.branch(text) else { return text }
        return "\(branch.words) +\(hex(branch.target))"
    }

    /// The mnemonic with its prefixes and the target of a direct branch.
    private static func branch(_ text: String) -> (words: Substring, target: UInt64)? {
        guard let blank = text.lastIndex(of: " "), !text.contains("*"),
            let word = text[..<blank].split(separator: " ").last,
            word.hasPrefix("j") || word.hasPrefix("call") || word.hasPrefix("loop"),
            text[text.index(after: blank)...].hasPrefix("0x"),
            let target = UInt64(text[text.index(after: blank)...].dropFirst(2), radix: 16)
        else { return nil }
        return (text[..<blank], target)
    }

    private static func distance(_ value: Int64) -> String {
        value == 0 ? "" : value < 0 ? "-\(hex(value.magnitude))" : "+\(hex(UInt64(value)))"
    }

    // MARK: - Names of run

    /// An instruction of memory with names in place of addresses.
    private func resolved(_ text: String, _ remark: UInt64?) -> (text: String, symbol: String?) {
        if let branch = Self.branch(text) {
            let offset = branch.target &- address
            if offset < UInt64(span.size) { return ("\(branch.words) +\(hex(offset))", nil) }
            guard let name = name(at: branch.target) else { return (text, nil) }
            return ("\(branch.words) \(name)", name)
        }
        if let remark, let name = name(at: remark), let end = text.range(of: "(%rip)") {
            let start =
                text[..<end.lowerBound].lastIndex { $0 == " " || $0 == "," || $0 == ":" || $0 == "*" }
                .map { text.index(after: $0) } ?? text.startIndex
            return (text.with(name, in: start..<end.lowerBound), name)
        }
        for number in text.matches(of: /-?0x[0-9a-f]+/) {
            let isNegative = number.output.hasPrefix("-")
            guard let digits = UInt64(number.output.drop { $0 != "x" }.dropFirst(), radix: 16) else {
                continue
            }
            let value = isNegative ? 0 &- digits : digits
            // Addresses of the kernel, and those of per-CPU variables, which count from 0.
            let isPerCPU = text[..<number.range.lowerBound].hasSuffix(architecture.perCPUSegment)
            guard isPerCPU || value >= architecture.firstKernelAddress,
                let name = isPerCPU ? variable(at: value) : name(at: value)
            else { continue }
            return (text.with(name, in: number.range), name)
        }
        return (text, nil)
    }

    /// A per-CPU variable: what is not one of them (the stack's canary, a member) stays a number, as in pre.
    private func variable(at place: UInt64) -> String? {
        if let name = names[place] { return name }
        guard let (symbol, offset) = state.symbols.nearest(to: place), offset == 0, symbol.module == nil
        else {
            return nil
        }
        return symbol.name
    }

    private func name(at place: UInt64) -> String? {
        if let name = names[place] { return name }
        guard let (symbol, offset) = state.symbols.nearest(to: place), offset < 1 << 20 else { return nil }
        if offset != 0, let text = string(at: place, behind: symbol) { return text }
        let foreign = symbol.module == span.code.unit.module ? nil : symbol.module
        return symbol.name + Self.distance(Int64(offset)) + (foreign.map { " [\($0)]" } ?? "")
    }

    /// The text that read-only memory holds at an address behind a symbol, in quotes.
    private func string(at place: UInt64, behind symbol: KernelSymbol) -> String? {
        let limits = (state.symbols.unique("__start_rodata"), state.symbols.unique("__end_rodata"))
        let isConstant =
            symbol.kind == UInt8(ascii: "r") || symbol.kind == UInt8(ascii: "R")
            || (limits.0 ?? .max) <= place && place < (limits.1 ?? 0)
        guard isConstant else { return nil }
        // The end of what is readable may follow closely; what cannot be read has no text, and its address will do.
        for count in [64, 16] {
            do {
                let bytes = try state.memory.read(at: place, count: count)
                if count == 64 || bytes.contains(0) { return Self.quoted(bytes[...]) }
            } catch { continue }
        }
        return nil
    }

    /// A text of at least three printable characters, up to its zero byte or 64 characters; behind KERN_SOH and a digit,
    /// where it is one of printk.
    private static func quoted(_ bytes: ArraySlice<UInt8>) -> String? {
        var text = bytes.prefix(64).prefix { $0 != 0 }
        if text.first == 1 { text = text.dropFirst(2) }
        while text.last == 10 { text.removeLast() }
        guard text.count >= 3, text.allSatisfy({ (0x20..<0x7f).contains($0) || $0 == 9 || $0 == 10 }) else {
            return nil
        }
        return JSON.quoted(String(decoding: text, as: UTF8.self))
    }
}

extension String {
    fileprivate func with(_ other: String, in range: Range<Index>) -> String {
        var text = self
        text.replaceSubrange(range, with: other)
        return text
    }
}
