// Pre objects made from C by the real compiler, and a memory in which they stand as if a kernel had loaded them:
// sections laid out one after another, relocations applied, symbols listed as kallsyms would list them.

import Testing

@testable import Core

final class FakeMemory: KernelMemory {
    var pieces: [UInt64: [UInt8]] = [:]

    func read(at address: UInt64, count: Int) throws -> [UInt8] {
        for (start, bytes) in pieces
        where address >= start && address &- start < UInt64(bytes.count)
            && Int(address - start) + count <= bytes.count
        {
            return Array(bytes[Int(address - start)..<Int(address - start) + count])
        }
        throw Failure("nothing at \(hex(address))")
    }

    /// Writes over what is there.
    func write(_ new: [UInt8], at address: UInt64) {
        for (start, bytes) in pieces where address >= start && address &- start < UInt64(bytes.count) {
            pieces[start]!.replaceSubrange(Int(address - start)..<Int(address - start) + new.count, with: new)
        }
    }
}

/// A compiled unit and the memory it stands in.
final class MatchFixture {
    static let tables = [
        ".altinstructions": 12, ".parainstructions": 16, "__jump_table": 16, ".smp_locks": 4,
        "__mcount_loc": 8,
    ]

    var object: ObjectFile
    let memory = FakeMemory()
    var listed: [KernelSymbol] = []
    private var bases: [Int: UInt64] = [:]

    /// Compiles C with the kernel's kind of flags and loads it at `base`. Undefined symbols stand in `externals`.
    init(
        _ source: String, flags: [String] = [], base: UInt64 = 0xffff_ffff_8100_0000,
        externals: [String: UInt64] = [:], is64Bit: Bool = true
    ) async throws {
        object = try await Self.compile(source, flags: flags, is64Bit: is64Bit)
        var next = base
        for (index, section) in object.sections.enumerated() where section.isAllocated {
            next = (next + 63) & ~63
            bases[index] = next
            memory.pieces[next] =
                section.hasContents ? section.contents : [UInt8](repeating: 0, count: section.size)
            next += UInt64(section.size)
        }
        for (name, address) in externals {
            listed.append(.init(address: address, kind: UInt8(ascii: "T"), name: name))
        }
        for symbol in object.symbols where bases[symbol.section] != nil && !symbol.isSectionSymbol {
            let code = object.sections[symbol.section].isExecutable
            listed.append(
                .init(address: address(of: symbol), kind: UInt8(ascii: code ? "t" : "d"), name: symbol.name))
        }
        try relocate(externals)
    }

    static func compile(_ source: String, flags: [String], is64Bit: Bool = true) async throws -> ObjectFile {
        let machine = is64Bit ? ["-mcmodel=kernel", "-mno-red-zone"] : ["-m32", "-march=i686"]
        let folder = try Files.temporaryDirectory()
        defer { do { try Files.remove(folder) } catch {} }
        try Files.write(source, to: folder + "/u.c")
        try await Command(
            [
                "gcc", "-O2", "-ffunction-sections", "-fdata-sections", "-fno-pic",
                "-fno-asynchronous-unwind-tables", "-fcf-protection=none", "-c", "-o", folder + "/u.o",
                folder + "/u.c",
            ]
                + machine + flags
        ).check()
        return try ObjectFile(path: folder + "/u.o")
    }

    private func address(of symbol: Symbol) -> UInt64 { (bases[symbol.section] ?? 0) &+ symbol.value }

    private func relocate(_ externals: [String: UInt64]) throws {
        for (index, section) in object.sections.enumerated() {
            guard let base = bases[index] else { continue }
            for relocation in section.relocations {
                let symbol = object.symbols[relocation.symbol]
                let kind = try #require(X86Relocation.of(relocation.type))
                let value =
                    symbol.isDefinedInSection ? address(of: symbol) : try #require(externals[symbol.name])
                try kind.apply(
                    to: &memory.pieces[base]!, at: relocation.offset, symbol: value,
                    addend: relocation.addend,
                    place: base + UInt64(relocation.offset))
            }
        }
    }

    func address(_ name: String) throws -> UInt64 { try #require(listed.first { $0.name == name }).address }

    func bytes(_ name: String) throws -> [UInt8] {
        let size = try #require(object.symbols.first { $0.name == name }).size
        return try memory.read(at: address(name), count: Int(size))
    }

    func match(
        isImage: Bool = false, module: String? = nil, tables: [String: Int] = tables, required: Set<Int> = []
    ) throws
        -> MatchResult
    {
        var matcher = try Matcher(
            units: [MatchUnit(path: "u.c", module: module, object: object, required: required)],
            tables: tables, memory: memory,
            symbols: KernelSymbols(listed), isImage: isImage)
        return matcher.match()
    }

    /// Whether everything matches with these bytes in place of those at an address; the old ones are put back.
    func accepts(_ new: [UInt8], at address: UInt64, isImage: Bool = false) throws -> Bool {
        let old = try memory.read(at: address, count: new.count)
        defer { memory.write(old, at: address) }
        memory.write(new, at: address)
        return try match(isImage: isImage).failures.isEmpty
    }

    /// Which single bits of new bytes at an address can be flipped without the match failing.
    func toleratedFlips(of new: [UInt8], at address: UInt64) throws -> [Int] {
        var tolerated: [Int] = []
        for bit in 0..<new.count * 8 {
            var flipped = new
            flipped[bit / 8] ^= 1 << UInt8(bit % 8)
            if try accepts(flipped, at: address) { tolerated.append(bit) }
        }
        return tolerated
    }

    /// A branch with a 32-bit displacement.
    static func branch(_ opcode: [UInt8], at address: UInt64, to target: UInt64) -> [UInt8] {
        var bytes = opcode
        let end = address &+ UInt64(opcode.count + 4)
        bytes.append(littleEndian: UInt32(truncatingIfNeeded: target &- end))
        return bytes
    }
}
