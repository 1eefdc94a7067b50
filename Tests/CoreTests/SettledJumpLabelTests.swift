// Jump labels with keys that no longer change get their last instruction, and the module loader does not hear of them.

import Testing

@testable import Core

@Suite struct SettledJumpLabelTests {
    /// Two labels, each with a key of its own, as `asm goto` of include/linux/jump_label.h makes them. `code` is the
    /// instruction that stands there; `likely` is bit 0 of the key.
    private static func source(_ code: String, likely: Int) -> String {
        func function(_ name: String) -> String {
            """
            int \(name)(int x) {
              asm goto("1: \(code)\\n.pushsection __jump_table,\\"aw\\"\\n.balign 8\\n"
                ".long 1b - ., %l[yes] - .\\n.quad \(name)_key + \(likely) - .\\n.popsection" :::: yes);
              return say(1);
            yes: return say(x) + 2;
            }
            """
        }
        return "extern int say(int); " + function("first") + function("second")
    }

    private static let keys: [String: UInt64] = [
        "first_key": 0xffff_ffff_8200_0000, "second_key": 0xffff_ffff_8300_0000,
    ]

    /// Settles the first label only.
    private func settle(_ code: String, likely: Int, isEnabled: Bool) async throws -> ObjectFile {
        let object = try await MatchFixture.compile(Self.source(code, likely: likely), flags: [])
        var module = try ModuleResolver(ELFWriter.write(object), name: "u.ko")
        try module.settleJumpLabels(
            address: { Self.keys[$0] }, isFinal: { $0 == Self.keys["first_key"] },
            isEnabled: { key in
                #expect(key == Self.keys["first_key"])
                return isEnabled
            })
        return try ObjectFile(module.bytes, name: "u.ko")
    }

    /// Text and place of the jump label's instruction in `first`, which begins with it.
    private func instruction(_ object: ObjectFile) throws -> [UInt8] {
        let section = try #require(object.section(named: ".text.first"))
        return Array(object.sections[section].contents.prefix(5))
    }

    private static let longNop = ".byte 0x0f,0x1f,0x44,0,0"
    private static let shortNop = ".byte 0x66,0x90"

    @Test(arguments: [(0, false), (0, true), (1, false), (1, true)])
    func theInstructionIsThatOfTheKeysState(_ likely: Int, _ isEnabled: Bool) async throws {
        let jumps = isEnabled != (likely == 1)
        let long = try instruction(try await settle(Self.longNop, likely: likely, isEnabled: isEnabled))
        #expect(long == [0x0f, 0x1f, 0x44, 0, 0] || long[0] == 0xe9)
        #expect((long[0] == 0xe9) == jumps)
        let short = try instruction(try await settle(Self.shortNop, likely: likely, isEnabled: isEnabled))
        #expect((short[0] == 0xeb) == jumps)
        if !jumps { #expect(short[0] == 0x66 && short[1] == 0x90) }
    }

    @Test func theJumpLeadsToTheLabel() async throws {
        let object = try await settle(Self.longNop, likely: 0, isEnabled: true)
        // The table of the object as it was compiled says where the label is.
        let before = try await MatchFixture.compile(Self.source(Self.longNop, likely: 0), flags: [])
        let table = before.sections[try #require(before.section(named: "__jump_table"))]
        let label = try #require(
            table.relocations.first {
                $0.offset % 16 == 4
                    && before.sections[before.symbols[$0.symbol].section].name == ".text.first"
            })
        let jump = try instruction(object)
        #expect(jump[0] == 0xe9)
        #expect(5 + Int(jump.load(Int32.self, at: 1)!) == Int(label.addend))
    }

    @Test func theLoaderSeesTheOtherLabelOnly() async throws {
        let object = try await settle(Self.longNop, likely: 0, isEnabled: true)
        let table = object.sections[try #require(object.section(named: "__jump_table"))]
        #expect(table.size == 16)
        #expect(table.relocations.map(\.offset) == [0, 4, 8])
        let names = Set(table.relocations.map { object.symbols[$0.symbol].name })
        #expect(names.contains("second_key") && !names.contains("first_key"))
    }

    @Test func anythingElseIsRefused() async throws {
        await #expect(throws: Failure.self) {
            _ = try await settle(".byte 0x90,0x90,0x90,0x90,0x90", likely: 0, isEnabled: true)
        }
    }
}
