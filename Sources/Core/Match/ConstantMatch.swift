// Where a constant really is, and the proof that memory holds what the pre object says. Needed for constants that an
// update replaces in place: no function that refers to them is replaced with them, so their old content is all that
// stands between a wrong address and a damaged kernel.
//
// The address is what matched code has proven for the symbol, or else the only one that kallsyms has. Every byte is
// compared; a pointer in it must be what matching or kallsyms says of its symbol, or lead to equal constant bytes.

/// A constant as it stands in memory.
public struct MatchedConstant: Sendable {
    public var name: String
    public var address: UInt64
    public var bytes: [UInt8]

    public init(name: String, address: UInt64, bytes: [UInt8]) {
        self.name = name
        self.address = address
        self.bytes = bytes
    }
}

extension Matcher {
    /// Proves a constant of a unit, after `match`. Fails where its place is ambiguous or not known, and where memory
    /// holds anything else than the pre object.
    public func constant(unit: Int, symbolIndex: Int, size: Int) throws -> MatchedConstant {
        guard units.indices.contains(unit), units[unit].object.symbols.indices.contains(symbolIndex) else {
            throw Failure("a constant's symbol does not exist", status: .verificationRefused)
        }
        let code = codes[unit]
        let symbol = code.object.symbols[symbolIndex]
        let start = Int(truncatingIfNeeded: symbol.value)
        guard symbol.isDefinedInSection, start >= 0, size > 0,
            size <= code.object.sections[symbol.section].contents.count - start
        else { throw unproven(symbol.name, "the pre object does not hold it") }
        let address = try address(of: symbolIndex, unit, symbol.name)
        let run: [UInt8]
        do { run = try state.memory.read(at: address, count: size) } catch {
            throw unproven(symbol.name, "\(error)")
        }
        if let reason = objection(code, symbol.section, start..<start + size, run, address) {
            throw unproven(symbol.name, reason)
        }
        return MatchedConstant(name: symbol.name, address: address, bytes: run)
    }

    private func unproven(_ name: String, _ reason: String) -> Failure {
        Failure(
            "the constant '\(name)' cannot be replaced in place: \(reason)", status: .verificationRefused)
    }

    private func address(of symbol: Int, _ unit: Int, _ name: String) throws -> UInt64 {
        let key = state.space.keyOfSymbol[unit][symbol]
        guard key >= 0 else { throw unproven(name, "it has no name") }
        if let learned = state.learned[key] { return learned }
        guard let listed = state.space.allowed(key) else {
            throw unproven(name, "kallsyms does not list it and nothing that matched refers to it")
        }
        guard listed.count == 1 else {
            throw unproven(name, "it may be at " + listed.map { hex($0) }.joined(separator: ", "))
        }
        return listed[0]
    }

    /// Why memory does not hold a range of a section; nil where it does.
    private func objection(
        _ code: UnitCode, _ index: Int, _ range: Range<Int>, _ run: [UInt8], _ address: UInt64
    ) -> String? {
        let section = code.object.sections[index]
        var isField = [Bool](repeating: false, count: range.count)
        for relocation in section.relocations(in: range) {
            let start = relocation.offset - range.lowerBound
            guard let kind = X86Relocation.of(relocation.type), start + kind.width <= range.count,
                let field = kind.field(in: run, at: start)
            else { return "its field at offset \(start) is not understood" }
            for byte in start..<start + kind.width { isField[byte] = true }
            let value = kind.symbolValue(
                field: field, addend: relocation.addend, place: address &+ UInt64(start))
            if let reason = objection(code, relocation, index, value) { return "offset \(start): \(reason)" }
        }
        for (offset, byte) in section.contents[range].enumerated()
        where !isField[offset] && run[offset] != byte {
            return "memory at \(hex(address)) holds something else at offset \(offset)"
        }
        return nil
    }

    /// Why a field's symbol cannot have a value; nil where it is proven.
    private func objection(_ code: UnitCode, _ relocation: Relocation, _ section: Int, _ value: UInt64)
        -> String?
    {
        switch code.referent(relocation, section: section) {
        case .content(let target, let start, let shift):
            return state.contentObjection(
                code, target, start, at: value &+ UInt64(bitPattern: Int64(shift)))
        case .symbol(let key, let shift, let constant):
            let place = value &+ UInt64(bitPattern: shift)
            if let reason = state.objection(key, place) { return reason }
            if let constant,
                let reason = state.contentObjection(code, constant.section, constant.range, at: place)
            {
                return reason
            }
            let isKnown = state.learned[key] != nil || state.space.allowed(key) != nil || constant != nil
            return isKnown ? nil : "nothing says where '\(state.space.title(key))' is"
        case .inside, .unnamed:
            return "it points to a place that has no name"
        }
    }
}
