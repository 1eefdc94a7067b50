// Matching against memory of a booted kernel that was saved to a file: the test at full size. It needs material
// that no checkout has, so it is skipped unless the environment names it:
// KSPLICE_TEST_MEMORY  the saved memory: pieces of {u64 'SEGM', u64 address, u64 size, bytes}; the piece at address
//                      0 is the text of /proc/kallsyms
// KSPLICE_TEST_MEMORY_KIND  `image` where the memory is that of an image that has not booted
// KSPLICE_TEST_PRE     pre objects, separated by colons; `module=path` for those of a module

import Glibc
import Testing

@testable import Core

private final class SavedMemory: KernelMemory {
    private var pieces: [(address: UInt64, bytes: [UInt8])] = []
    private(set) var symbols = KernelSymbols([])

    init(_ path: String) throws {
        let bytes = try Files.read(path)
        var offset = 0
        while let magic = bytes.load(UInt64.self, at: offset), magic == 0x4d47_4553,
            let address = bytes.load(UInt64.self, at: offset + 8),
            let size = bytes.load(UInt64.self, at: offset + 16),
            size > 0
        {
            let content = Array(bytes[offset + 24..<offset + 24 + Int(size)])
            if address == 0 {
                symbols = try ProcKallsyms.parse(content)
            } else {
                pieces.append((address, content))
            }
            offset += 24 + Int(size)
        }
    }

    func flip(at address: UInt64, bit: Int) {
        for index in pieces.indices
        where address >= pieces[index].address
            && address &- pieces[index].address < UInt64(pieces[index].bytes.count)
        {
            pieces[index].bytes[Int(address - pieces[index].address)] ^= 1 << UInt8(bit)
        }
    }

    func read(at address: UInt64, count: Int) throws -> [UInt8] {
        for piece in pieces
        where address >= piece.address && address &- piece.address < UInt64(piece.bytes.count) {
            let start = Int(address - piece.address)
            if start + count <= piece.bytes.count { return Array(piece.bytes[start..<start + count]) }
        }
        throw Failure("\(hex(address)) is not in the saved memory")
    }
}

private func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

private let tables = [
    ".altinstructions": 12, ".parainstructions": 16, "__jump_table": 16, ".smp_locks": 4, "__mcount_loc": 8,
]

private func savedUnits() throws -> [MatchUnit] {
    try (variable("KSPLICE_TEST_PRE") ?? "").split(separator: ":").map {
        let parts = $0.split(separator: "=")
        return MatchUnit(
            path: String(parts[parts.count - 1]), module: parts.count > 1 ? String(parts[0]) : nil,
            object: try ObjectFile(path: String(parts[parts.count - 1])))
    }
}

@Suite struct MatchMemoryTests {
    @Test(.enabled(if: variable("KSPLICE_TEST_MEMORY") != nil, "KSPLICE_TEST_MEMORY is unset"))
    func everyFunctionMatchesOrIsExplained() throws {
        let memory = try SavedMemory(variable("KSPLICE_TEST_MEMORY") ?? "")
        let units = try savedUnits()
        var matcher = try Matcher(
            units: units, tables: tables, memory: memory, symbols: memory.symbols,
            isImage: variable("KSPLICE_TEST_MEMORY_KIND") == "image")
        let result = matcher.match()
        for (index, unit) in units.enumerated() {
            print(
                unit.path, "matched", result.functions[index].count, "failed",
                result.failures.count { $0.unit == index }, "traced",
                result.functions[index].count { $0.isTraced }, "absent",
                result.notPresent.filter { $0.unit == index }.map { "\($0.name): \($0.reason)" })
        }
        for failure in result.failures { print(failure) }
        print(result.statistics)
        #expect(result.statistics.functions > 0)
        #expect(result.failures.isEmpty)
    }

    @Test(.enabled(if: variable("KSPLICE_TEST_MEMORY") != nil, "KSPLICE_TEST_MEMORY is unset"))
    func aFlippedBitIsRefused() throws {
        let memory = try SavedMemory(variable("KSPLICE_TEST_MEMORY") ?? "")
        var flips = 0
        for unit in try savedUnits() {
            func match() throws -> MatchResult {
                var matcher = try Matcher(
                    units: [unit], tables: tables, memory: memory, symbols: memory.symbols,
                    isImage: variable("KSPLICE_TEST_MEMORY_KIND") == "image")
                return matcher.match()
            }
            let clean = try match()
            let count = clean.functions[0].count
            for round in stride(from: 0, to: count, by: max(1, count / 8)) {
                let function = clean.functions[0][round]
                let (offset, bit) = (round &* 7919 % function.runSize, round % 8)
                memory.flip(at: function.address + UInt64(offset), bit: bit)
                flips += 1
                let changed = try match()
                #expect(
                    changed.functions[0].count < count,
                    "\(unit.path) \(function.name)+\(offset) bit \(bit) goes unnoticed")
                memory.flip(at: function.address + UInt64(offset), bit: bit)
            }
        }
        #expect(flips > 0)
    }
}
