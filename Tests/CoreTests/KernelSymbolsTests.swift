import Testing

@testable import Core

@Suite struct KernelSymbolsTests {
    private func symbols(_ text: String) throws -> KernelSymbols {
        try KernelSymbols(text: Array(text.utf8), name: "t")
    }

    @Test func readsProcKallsyms() throws {
        let table = try symbols(
            "ffffffff81000000 T _text\nffffffffc0000010 t open\t[dummy]\nffffffffc0000020 t close\t[dummy]\n"
                + "ffffffff81000040 t open\nffffffffc0000000 t x\t[__builtin__ftrace]\n")
        #expect(table.all.map(\.name) == ["_text", "open", "x", "open", "close"])
        #expect(table.named("open").map(\.module) == [nil, "dummy"])
        #expect(table.named("close", in: "dummy").count == 1)
        #expect(table.unique("open") == 0xffff_ffff_8100_0040)
        #expect(table.unique("close") == nil)
        #expect(table.named("none").isEmpty)
        #expect(table.describe(0xffff_ffff_c000_0021) == "close+0x1 [dummy]")
        #expect(table.next(above: 0xffff_ffff_8100_0000) == 0xffff_ffff_8100_0040)
        #expect(table.nearest(to: 5) == nil)
    }

    @Test func textSurvivesARoundTrip() throws {
        let table = try symbols(
            "0000000000000000 A zero\n00001000 b b.1\n0000000000001000 D a\tp\n".replacing("\tp", with: ""))
        let again = try KernelSymbols(text: table.text(), name: "t")
        #expect(again.all == table.all)
        #expect(table.all.map(\.name) == ["zero", "b.1", "a"])
        let withModule = KernelSymbols([KernelSymbol(address: 7, kind: 116, name: "f", module: "m")])
        #expect(try KernelSymbols(text: withModule.text(), name: "t").all == withModule.all)
    }

    @Test(arguments: [
        "x\n", "ffffffff81000000\n", "ffffffff81000000 T\n", "ffffffff81000000 T \n", " T x y\nzz T a\n",
        "11111111111111111 T too_long\n", "1 T a [m]\n", "1 T a\t[\n", "1 T a\t[]\n", "1 T a\tm]\n", "1  a\n",
    ])
    func refusesMalformedLines(_ text: String) {
        #expect(throws: Failure.self) { try symbols(text) }
    }

    @Test func refusesHiddenAddresses() {
        let failure = #expect(throws: Failure.self) {
            try symbols("0000000000000000 T a\n0000000000000000 T b\n")
        }
        #expect(failure?.hints.first?.contains("kptr_restrict") == true)
    }

    @Test func findsEveryNameAmongMany() {
        let many = (0..<5000).map { KernelSymbol(address: UInt64($0 / 2), kind: 116, name: "f\($0 % 1000)") }
        let table = KernelSymbols(many.reversed())
        #expect(table.all.map(\.address) == many.map(\.address))
        for number in 0..<1000 {
            let expected = (0..<5).map { UInt64(($0 * 1000 + number) / 2) }
            #expect(table.named("f\(number)").map(\.address) == expected)
        }
    }

    @Test func knowsAStubFromASystemMap() {
        #expect(isSystemMapStub(Array("ffffffffffffffff B The real System.map is in another package\n".utf8)))
        #expect(!isSystemMapStub(Array("ffffffff81000000 T _text\n".utf8)))
    }
}
