// Code that is damaged by one bit, anywhere, and whether matching notices it.
//
// Each byte would take a match of the whole unit. Instead the unit is matched once for each function without that function: what
// refuses the damaged function when all others are known refuses the unit in any order, because a wrong value that the damaged
// function gave first would then not agree with theirs. What is accepted so is tried again from the start.

import Testing

@testable import Core

/// A memory in which one bit is wrong.
final class FlippedMemory: KernelMemory {
    let base: any KernelMemory
    var place: UInt64?
    var bit: UInt8 = 0

    init(_ base: any KernelMemory) { self.base = base }

    func read(at address: UInt64, count: Int) throws -> [UInt8] {
        var bytes = try base.read(at: address, count: count)
        if let place, place >= address, place - address < UInt64(count) {
            bytes[Int(place - address)] ^= 1 << bit
        }
        return bytes
    }
}

/// A unit's match with a memory in which one bit of one function is wrong.
final class Damage {
    private let unit: MatchUnit
    private let symbols: KernelSymbols
    private let tables: [String: Int]
    private let isImage: Bool
    private let memory: HidingMemory
    private let clean: Matcher
    let functions: [MatchedFunction]

    private final class HidingMemory: KernelMemory {
        let flipped: FlippedMemory
        var hidden: UInt64?

        init(_ base: any KernelMemory) { flipped = FlippedMemory(base) }

        func read(at address: UInt64, count: Int) throws -> [UInt8] {
            guard address != hidden else { throw Failure("hidden") }
            return try flipped.read(at: address, count: count)
        }
    }

    /// A unit all of whose functions are known but one.
    private struct Hidden {
        let damage: Damage
        let function: MatchedFunction
        let matcher: Matcher

        /// Whether all of the unit still matches with one bit of a byte of the function flipped.
        func goesUnnoticed(_ offset: Int, bit: Int) throws -> Bool {
            let flipped = damage.memory.flipped
            flipped.place = function.address + UInt64(offset)
            flipped.bit = UInt8(bit)
            defer { flipped.place = nil }
            let symbol = damage.unit.object.symbols[function.symbolIndex]
            if symbol.size > 0 {
                let span = Span(
                    code: matcher.codes[0], symbolIndex: function.symbolIndex, section: symbol.section,
                    start: Int(symbol.value), size: Int(symbol.size))
                if case .missed = MatchAttempt(state: matcher.state, span: span, entry: function.entry).run()
                {
                    return false
                }
            }
            // From the start, as if nothing were known: then every function must match.
            var fresh = try damage.matcher()
            let result = fresh.match()
            return result.failures.isEmpty && result.functions[0].count == damage.functions.count
        }
    }

    init(_ unit: MatchUnit, _ base: any KernelMemory, _ symbols: KernelSymbols, isImage: Bool) throws {
        self.unit = unit
        self.isImage = isImage
        self.symbols = symbols
        memory = HidingMemory(base)
        tables = try unit.object.entrySizes()
        var matcher = try Matcher(
            units: [unit], tables: tables, memory: memory, symbols: symbols, isImage: isImage)
        let result = matcher.match()
        for failure in result.failures { Issue.record("\(failure)") }
        clean = matcher
        functions = result.functions[0]
    }

    private func matcher() throws -> Matcher {
        try Matcher(units: [unit], tables: tables, memory: memory, symbols: symbols, isImage: isImage)
    }

    /// Flips each bit of each function, or one of each byte, one at a time, and lists those that are not noticed.
    func everywhere(allBits: Bool = false) throws -> (flips: Int, unnoticed: [String]) {
        var flips = 0
        var unnoticed: [String] = []
        for function in functions {
            let hidden = try hiding(function)
            for offset in 0..<function.runSize {
                for bit in allBits ? Array(0..<8) : [(offset * 5 + 3) % 8] {
                    flips += 1
                    if try hidden.goesUnnoticed(offset, bit: bit) {
                        unnoticed.append("\(function.name)+\(offset).\(bit)")
                    }
                }
            }
        }
        return (flips, unnoticed)
    }

    private func hiding(_ function: MatchedFunction) throws -> Hidden {
        memory.hidden = function.address
        defer { memory.hidden = nil }
        var matcher = try matcher()
        _ = matcher.match()
        return Hidden(damage: self, function: function, matcher: matcher)
    }

    /// How many sites of each kind do not hold what was compiled.
    func rewritten() -> [String: Int] {
        var counts: [String: Int] = [:]
        for function in functions {
            let symbol = unit.object.symbols[function.symbolIndex]
            guard symbol.size == UInt64(function.runSize) else { continue }
            let section = unit.object.sections[symbol.section]
            let start = Int(symbol.value)
            let sites = clean.codes[0].sites.sites(in: start..<start + function.runSize, of: symbol.section)
            for site in sites.flatMap({ [$0] + $0.inner }) {
                // The first byte is never a field's.
                if section.contents[site.offset] == function.bytes[site.offset - start] { continue }
                let words = site.title.split(separator: " ")
                counts[words.prefix(2).joined(separator: " "), default: 0] += 1
            }
        }
        return counts
    }
}
