// Matching against memory of a booted kernel that was saved to a file: the test at full size. It needs material
// that no checkout has, so it is skipped unless the environment names it:
// KSPLICE_TEST_MEMORY  the saved memory: pieces of {u64 'SEGM', u64 address, u64 size, bytes}; the piece at address
//                      0 is the text of /proc/kallsyms
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
            let address = bytes.load(UInt64.self, at: offset + 8), let size = bytes.load(UInt64.self, at: offset + 16),
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

    func read(at address: UInt64, count: Int) throws -> [UInt8] {
        for piece in pieces where address >= piece.address && address &- piece.address < UInt64(piece.bytes.count) {
            let start = Int(address - piece.address)
            if start + count <= piece.bytes.count { return Array(piece.bytes[start..<start + count]) }
        }
        throw Failure("\(hex(address)) is not in the saved memory")
    }
}

private func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

@Suite struct MatchMemoryTests {
    @Test(.enabled(if: variable("KSPLICE_TEST_MEMORY") != nil, "KSPLICE_TEST_MEMORY is unset"))
    func everyFunctionMatchesOrIsExplained() throws {
        let memory = try SavedMemory(variable("KSPLICE_TEST_MEMORY") ?? "")
        let units = try (variable("KSPLICE_TEST_PRE") ?? "").split(separator: ":").map {
            let parts = $0.split(separator: "=")
            return MatchUnit(
                path: String(parts[parts.count - 1]), module: parts.count > 1 ? String(parts[0]) : nil,
                object: try ObjectFile(path: String(parts[parts.count - 1])))
        }
        let tables = [
            ".altinstructions": 12, ".parainstructions": 16, "__jump_table": 16, ".smp_locks": 4, "__mcount_loc": 8,
        ]
        var matcher = try Matcher(
            units: units, tables: tables, memory: memory, symbols: memory.symbols, isImage: false)
        let result = matcher.match()
        for (index, unit) in units.enumerated() {
            print(
                unit.path, "matched", result.functions[index].count, "failed",
                result.failures.count { $0.unit == index }, "absent",
                result.notPresent.filter { $0.unit == index }.map { "\($0.name): \($0.reason)" })
        }
        for failure in result.failures { print(failure) }
        print(result.statistics)
        #expect(result.failures.isEmpty)
    }
}
