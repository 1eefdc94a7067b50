// Constants that change: copied, left alone, or replaced in place; and the proof of their old content.

import Testing

@testable import Core

@Suite struct ConstantReviewTests {
    @Test func oneThatOnlyFunctionsUseIsCopied() async throws {
        let code = "static const int t[4] = {1, 2, 3, VALUE}; int f(int x) { return t[x & 3]; }"
        let fixture = try await DiffFixture(
            code.replacing("VALUE", with: "4"), code.replacing("VALUE", with: "5"))
        #expect(fixture.codes == [])
        #expect(fixture.replaced == ["f"])
        #expect(fixture.difference.constants.isEmpty)
    }

    private static let held = """
        struct ops { int (*get)(int); int flags; };
        int get(int x) { return x; }
        static const struct ops ops = { get, VALUE };
        HOLDER
        const struct ops *pick(void) { return &ops; }
        """

    @Test(
        "one whose address stands elsewhere is not copied",
        arguments: [
            ("struct dev { const struct ops *ops; } dev = { &ops };", "'dev' refers to"),
            (
                "extern int add(const struct ops *); __attribute__((section(\".init.text\"))) int boot(void) { return add(&ops); }",
                "'boot' refers to"
            ),
            ("const struct ops *const table[2] = { &ops, 0 };", "'table' refers to"),
        ])
    func oneThatIsHeldElsewhere(_ holder: String, _ words: String) async throws {
        let code = Self.held.replacing("HOLDER", with: holder)
        let (pre, post) = (code.replacing("VALUE", with: "1"), code.replacing("VALUE", with: "2"))
        let fixture = try await DiffFixture(pre, post)
        // One finding, about the constant; its users do not change with it.
        #expect(fixture.codes == ["constant-changed"])
        let finding = try #require(fixture.difference.findings.first { $0.code == "constant-changed" })
        #expect(finding.message.contains(words), "\(finding.message)")
        #expect(finding.advice.contains("--replace-constant ops"))
        #expect(fixture.changed == [])
        let replaced = try await DiffFixture(pre, post, replacing: ["ops"])
        #expect(replaced.codes == [])
        #expect(replaced.changed == [])
        #expect(replaced.difference.constants.map(\.name) == ["ops"])
        #expect(replaced.difference.constants.map(\.size) == [16])
        #expect(!replaced.difference.isEmpty)
    }

    @Test func newContentIsShippedAndTheOldPlaceReferredTo() async throws {
        let code = "const int limits[2] = {1, VALUE}; const int *where(void) { return limits + VALUE; }"
        let fixture = try await DiffFixture(
            code.replacing("VALUE", with: "4"), code.replacing("VALUE", with: "5"), replacing: ["limits"])
        #expect(fixture.codes == [])
        #expect(fixture.replaced == ["where"])
        let shipment = try #require(fixture.difference.shipment)
        #expect(shipment.references.keys.contains("limits"))
        let content = try #require(
            shipment.object.symbols.first { $0.name == "limits" && $0.isDefinedInSection })
        let bytes = shipment.object.sections[content.section].contents
        #expect(bytes.load(UInt32.self, at: Int(content.value) + 4) == 5)
        // New code uses the old place, whose content it shares with everybody.
        let code2 = try #require(shipment.object.sections.first { $0.name == ".text" })
        let targets = code2.relocations.map { shipment.object.symbols[$0.symbol] }
        #expect(targets.contains { $0.name == "limits" && $0.isUndefined })
    }

    @Test(
        "what cannot be written over the old content is refused",
        arguments: [
            ("const int c[2] = {1, 2};", "const int c[3] = {1, 2, 3};", "its size changes"),
            (
                "asm(\".section .rodata.c,\\\"a\\\"\\n.globl c\\n.type c,@object\\n.size c,8\\nc: .long f - .\\n.long 1\\n.text\");",
                "asm(\".section .rodata.c,\\\"a\\\"\\n.globl c\\n.type c,@object\\n.size c,8\\nc: .long f - .\\n.long 2\\n.text\");",
                "distances"
            ),
            (
                "__attribute__((section(\".vvar.c\"))) const int c[2] = {1, 2};",
                "__attribute__((section(\".vvar.c\"))) const int c[2] = {1, 3};", "the section .vvar.c"
            ),
        ])
    func obstacles(_ pre: String, _ post: String, _ words: String) async throws {
        let fixture = try await DiffFixture(
            pre + "int f(void) { return 1; }", post + "int f(void) { return 1; }", replacing: ["c"])
        let finding = try #require(fixture.difference.findings.first { $0.code == "constant-changed" })
        #expect(finding.advice.contains(words), "\(finding.advice)")
        #expect(fixture.difference.constants.isEmpty)
    }

    @Test func namesThatTheCompilerNumbersAreMeant() {
        #expect(InPlaceConstant.matches("names.12", "names"))
        #expect(InPlaceConstant.matches("names", "names"))
        #expect(!InPlaceConstant.matches("names.12", "name"))
        var options = CreateOptions(kernelSources: "")
        options.replacedConstants = ["names"]
        #expect(options.asksFor(["names.3"]) && !options.asksFor([]) && !options.asksFor(["names", "other"]))
        #expect(throws: Failure.self) { try options.checkConstants(["other"]) }
    }
}

@Suite struct ConstantMatchTests {
    static let source = """
        extern int other(int x);
        static const int numbers[2] = {7, 8};
        struct entry { long flags; const char *text; int (*call)(int); const int *numbers; unsigned small; };
        const struct entry entry = { 0x55, "a name", other, numbers, 3 };
        int use(int x) { return other(x + entry.small); }
        """

    private func proof(_ fixture: MatchFixture) throws -> MatchedConstant {
        let index = try #require(fixture.object.symbols.firstIndex { $0.name == "entry" })
        var matcher = try Matcher(
            units: [MatchUnit(path: "u.c", module: nil, object: fixture.object)],
            tables: MatchFixture.tables, memory: fixture.memory, symbols: KernelSymbols(fixture.listed),
            isImage: false)
        _ = matcher.match()
        return try matcher.constant(
            unit: 0, symbolIndex: index, size: Int(fixture.object.symbols[index].size))
    }

    @Test func everyBitIsProven() async throws {
        let fixture = try await MatchFixture(Self.source, externals: MatcherTests.externals)
        let address = try fixture.address("entry")
        let found = try proof(fixture)
        #expect(found.address == address && found.bytes.count == 40)
        for bit in 0..<found.bytes.count * 8 {
            // Behind the last member there is padding, which is compared too.
            var flipped = found.bytes
            flipped[bit / 8] ^= 1 << UInt8(bit % 8)
            fixture.memory.write(flipped, at: address)
            #expect(throws: Failure.self, "bit \(bit)") { try proof(fixture) }
        }
        fixture.memory.write(found.bytes, at: address)
        #expect(try proof(fixture).bytes == found.bytes)
    }

    @Test func whatItPointsToIsCompared() async throws {
        let fixture = try await MatchFixture(Self.source, externals: MatcherTests.externals)
        let text = try #require(fixture.memory.pieces.first { $0.value.starts(with: Array("a name\0".utf8)) })
            .key
        fixture.memory.write(Array("A".utf8), at: text)
        #expect(throws: Failure.self) { try proof(fixture) }
    }

    @Test func anUnknownOrAmbiguousPlaceIsRefused() async throws {
        let fixture = try await MatchFixture(Self.source, externals: MatcherTests.externals)
        let real = try fixture.address("entry")
        fixture.listed.append(.init(address: real + 0x1000, kind: UInt8(ascii: "r"), name: "entry"))
        #expect(throws: Failure.self) { try proof(fixture) }
        fixture.listed.removeAll { $0.name == "entry" }
        #expect(throws: Failure.self) { try proof(fixture) }
    }
}
