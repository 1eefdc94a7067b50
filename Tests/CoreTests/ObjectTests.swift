// Reading and writing objects, and files that are none.

import Testing

@testable import Core

@Suite struct ObjectTests {
    private static let source = """
        extern void g(const char *, long *); static long n = 5; long z; const int table[] = { 1, 2, 3 };
        __attribute__((weak)) void w(void) { } void f(void) { g("text", &n); w(); z++; g("more", (long *)table); }
        """

    @Test(arguments: X86Architecture.allCases)
    func roundTrip(_ architecture: X86Architecture) async throws {
        let object = try await MatchFixture.compile(
            Self.source, flags: ["-g"], is64Bit: architecture.is64Bit)
        #expect(object.architecture == architecture)
        let again = try ObjectFile(ELFWriter.write(object), name: "again")
        #expect(again.machine == object.machine && again.type == object.type)
        func key(_ object: ObjectFile) -> [String] {
            object.sections.filter { $0.type != SectionType.null }.map { section in
                "\(section.name) \(section.type) \(section.flags) \(section.size) \(hex(section.contents)) "
                    + section.relocations.map {
                        let symbol = object.symbols[$0.symbol]
                        let name = symbol.isSectionSymbol ? object.sections[symbol.section].name : symbol.name
                        return "\($0.offset) \($0.type) \(name) \($0.addend)"
                    }.joined(separator: ",")
            }
        }
        #expect(key(again) == key(object))
        func symbols(_ object: ObjectFile) -> [String] {
            object.symbols.filter { !$0.isSectionSymbol }.map {
                "\($0.name) \($0.value) \($0.size) \($0.binding) \($0.type) "
                    + ($0.isDefinedInSection ? object.sections[$0.section].name : "\($0.section)")
            }.sorted()
        }
        #expect(symbols(again) == symbols(object))
        // The writer's result is a fixed point, and what other tools read is the same.
        #expect(
            try ELFWriter.write(again) == ELFWriter.write(ObjectFile(ELFWriter.write(again), name: "third")))
    }

    @Test(arguments: X86Architecture.allCases)
    func linkersReadWhatIsWritten(_ architecture: X86Architecture) async throws {
        let object = try await MatchFixture.compile(
            Self.source, flags: [], is64Bit: architecture.is64Bit)
        let folder = try Files.temporaryDirectory()
        defer { do { try Files.remove(folder) } catch {} }
        try Files.write(ELFWriter.write(object.withoutDebugInformation()), to: folder + "/a.o")
        try await Command([
            "ld", "-r", "-m", architecture.linkerEmulation, "-o", folder + "/b.o", folder + "/a.o",
        ]).check()
        let linked = try ObjectFile(path: folder + "/b.o")
        #expect(Set(linked.symbols.map(\.name)).isSuperset(of: ["f", "n", "z", "w", "g", "table"]))
        let count = { (object: ObjectFile) in object.sections.map(\.relocations.count).reduce(0, +) }
        #expect(count(linked) == count(object.withoutDebugInformation()))
    }

    /// No input may stop the program: each prefix and many altered files either fail or give an object.
    @Test(arguments: X86Architecture.allCases)
    func malformedInputIsRefused(_ architecture: X86Architecture) async throws {
        let bytes = try await ELFWriter.write(
            MatchFixture.compile(Self.source, flags: [], is64Bit: architecture.is64Bit))
        #expect(throws: Failure.self) { try ObjectFile([], name: "empty") }
        #expect(throws: Failure.self) { try ObjectFile(Array("no object at all".utf8), name: "text") }
        // The section headers stand at the end: no part of the file is a whole object.
        for length in stride(from: 0, to: bytes.count, by: 7) {
            #expect(throws: Failure.self) { try ObjectFile(Array(bytes.prefix(length)), name: "prefix") }
        }
        var random = SystemRandomNumberGenerator()
        for _ in 0..<3000 {
            var altered = bytes
            // The header and the section headers, which stand at the end, are where numbers are trusted.
            for _ in 0..<3 {
                let inHeader = UInt8.random(in: 0...2, using: &random) == 0
                let place =
                    inHeader
                    ? Int.random(in: 0..<64, using: &random)
                    : Int.random(in: bytes.count / 2..<bytes.count, using: &random)
                altered[place] = [0, 1, 0x7f, 0x80, 0xff, UInt8.random(in: 0...255, using: &random)]
                    .randomElement()!
            }
            do {
                let object = try ObjectFile(altered, name: "altered")
                try object.checkBounds()
                _ = try ObjectSpans(object, path: "altered", tables: DiffFixture.tables)
            } catch {}
        }
    }
}
