// Functions and data of equal names: what the matching makes of them is compared with where they must be, by what the
// matching does not use: the linker keeps each object's code and data in one piece, and the symbols whose names are unique in
// the kernel say where that is.

import Testing

@testable import Core

extension VirtualMachineTests {
    @Suite struct Ambiguity {
        private struct Case {
            var unit: String
            var name: String
            var isFunction: Bool
            var found: UInt64
            var truth: UInt64
        }

        @Test func equalNamesAreToldApart() async throws {
            let laboratory = try await Laboratory.shared()
            let kernel = try await laboratory.descriptor()
            let objects = try await PreObjects.shared(laboratory)
            let report = try Report(objects.report)
            let image = Set(report.units.filter { $0.module == nil }.map(\.path))
            let units = try objects.files.compactMap { path, content -> MatchUnit? in
                let source = path.dropLast(2) + ".c"
                guard image.contains(String(source)) else { return nil }
                return MatchUnit(
                    path: String(source), module: nil, object: try ObjectFile(content, name: path))
            }
            let offline = try #require(try await OfflineKernel(kernel, modules: []))
            var matcher = try Matcher(
                units: units, tables: try units[0].object.entrySizes(), memory: offline.memory,
                symbols: offline.symbols, isImage: true)
            let result = matcher.match()
            #expect(result.failures.isEmpty)
            let cases = units.indices.flatMap { Self.cases($0, units[$0], result, offline.symbols) }
            for found in cases {
                #expect(
                    found.found == found.truth,
                    "\(found.unit): \(found.name) is at \(hex(found.truth)), not at \(hex(found.found))")
            }
            #expect(cases.count { $0.isFunction } >= 30)
            #expect(cases.count { !$0.isFunction } >= 30)
            // They are of many units.
            #expect(Set(cases.map(\.unit)).count >= 30)
        }

        /// The local symbols of a unit that have a value, whose name the kernel has several times, and of which exactly one
        /// lies where the unit's unique ones do.
        private static func cases(
            _ index: Int, _ unit: MatchUnit, _ result: MatchResult, _ symbols: KernelSymbols
        ) -> [Case] {
            // By the section that the linker puts them into: that before -ffunction-sections and -fdata-sections.
            var extents: [String: (UInt64, UInt64)] = [:]
            let named = unit.object.symbols.filter { $0.isDefinedInSection && !$0.isSectionSymbol }
            func home(_ symbol: Symbol) -> String? {
                let name = unit.object.sections[symbol.section].name
                return [".text", ".data", ".bss"].first { name == $0 || name == "\($0).\(symbol.name)" }
            }
            for symbol in named {
                guard let home = home(symbol), let address = symbols.unique(symbol.name) else { continue }
                let known = extents[home] ?? (address, address)
                extents[home] = (min(known.0, address), max(known.1, address))
            }
            return unit.object.symbols.indices.compactMap { position in
                let symbol = unit.object.symbols[position]
                guard symbol.isLocal, symbol.isDefinedInSection, !symbol.isSectionSymbol,
                    let home = home(symbol), let extent = extents[home],
                    let found = result.values[index][position]
                else { return nil }
                let places = Set(symbols.named(symbol.name, in: nil).map(\.address))
                let inside = places.filter { $0 > extent.0 && $0 < extent.1 }
                guard places.count > 1, inside.count == 1, let truth = inside.first else { return nil }
                return Case(
                    unit: unit.path, name: symbol.name, isFunction: symbol.isFunction, found: found,
                    truth: truth)
            }
        }
    }
}
