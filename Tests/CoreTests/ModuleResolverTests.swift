import Testing

@testable import Core

@Suite struct ModuleResolverTests {
    /// A module with one function to replace, one call to a hidden function, one exported, and one absolute address.
    static let source = """
        #define S(n) __attribute__((section(n), used))
        extern int hidden(int), exported(int), data;
        static char expected[64] S(".ksplice.expected") = {1};
        int new_f(int x) { return hidden(x) + exported(x); }
        int *new_g(void) { return &data; }
        struct fn { unsigned long a, size, b, c, name; char *expected; unsigned site, flags; };
        struct fn functions[1] S(".ksplice.functions") = {{0, 8, 0, 0, 0, expected + 16, 0, 2}};
        struct d { unsigned long a, size, content; char *expected; unsigned long name; };
        struct d constants[1] S(".ksplice.data") = {{0, 6, 0, expected + 40, 0}};
        struct { unsigned abi, n, parts, flags, hooks, shadows, data, reserved; char id[72], update[72]; } table
            S(".ksplice.table") = {4, 1, 0, 0, 0, 0, 1, 0, "", ""};
        char this_module[128] S(".gnu.linkonce.this_module") = "........................ksplice_000000000000";
        char info[] S(".modinfo") = "license=GPL\\0vermagic=6.1.187 SMP preempt mod_unload modversions \\0name=ksplice_000000000000";
        char versions[64] S("__versions") = "x";
        """

    private func module() async throws -> ModuleResolver {
        ModuleResolverTests.file(try await MatchFixture.compile(Self.source, flags: []))
    }

    private static func file(_ object: ObjectFile) -> ModuleResolver {
        do { return try ModuleResolver(ELFWriter.write(object), name: "u.ko") } catch {
            fatalError("\(error)")
        }
    }

    private static let addresses: [String: UInt64] = [
        "hidden": 0xffff_ffff_8112_3456, "data": 0xffff_ffff_8298_7654,
    ]

    @Test func undefinedSymbolsBecomeAbsolute() async throws {
        var module = try await module()
        #expect(Set(try module.undefinedNames()) == ["hidden", "exported", "data"])
        try module.resolve { Self.addresses[$0] }
        let object = try ObjectFile(module.bytes, name: "u.ko")
        let absolute = object.symbols.filter {
            $0.section == SectionIndex.absolute && $0.type != SymbolType.file
        }
        #expect(Set(absolute.map(\.value)) == Set(Self.addresses.values))
        #expect(absolute.allSatisfy { $0.name.isEmpty })
        #expect(try module.undefinedNames() == ["exported"])
    }

    @Test func whatCannotBeReachedIsRefused() async throws {
        var module = try await module()
        let old = module.bytes
        #expect(throws: Failure.self) { try module.resolve { $0 == "hidden" ? 0xffff_8880_0000_0000 : nil } }
        // A 32-bit field is sign-extended.
        #expect(throws: Failure.self) { try module.resolve { $0 == "data" ? 0x8000_0000 : nil } }
        #expect(module.bytes == old)
        // Per-cpu variables stand near zero.
        try module.resolve { $0 == "data" ? 0x1_2345 : nil }
    }

    @Test func fieldsThatAreNotZeroAreRefused() async throws {
        var object = try await MatchFixture.compile(Self.source, flags: [])
        let section = try #require(object.section(named: ".text.new_f"))
        object.sections[section].contents[object.sections[section].relocations[0].offset] = 1
        var module = Self.file(object)
        #expect(throws: Failure.self) { try module.resolve { Self.addresses[$0] } }
    }

    @Test func versionsVermagicAndNameAreWritten() async throws {
        var module = try await module()
        try module.resolve { Self.addresses[$0] }
        #expect(throws: Failure.self) { try module.setVersions(["module_layout": 1]) }
        try module.setVersions(["module_layout": 0x1234, "exported": 0x89ab_cdef, "other": 7])
        try module.setRelease("6.1.0-56-amd64-with-a-longer-name")
        try module.rename(to: "ksplice_0123456789ab")
        let object = try ObjectFile(module.bytes, name: "u.ko")
        let versions = object.sections[try #require(object.section(named: "__versions"))].contents
        #expect(versions.count == 128 && versions.load(UInt64.self, at: 64) == 0x89ab_cdef)
        #expect(versions.string(at: 8) == "module_layout" && versions.string(at: 72) == "exported")
        let info = object.sections[try #require(object.section(named: ".modinfo"))].contents
        #expect(
            info.split(separator: 0).map { String(decoding: $0, as: UTF8.self) } == [
                "license=GPL",
                "vermagic=6.1.0-56-amd64-with-a-longer-name SMP preempt mod_unload modversions ",
                "name=ksplice_0123456789ab",
            ])
        let this = object.sections[try #require(object.section(named: ".gnu.linkonce.this_module"))].contents
        #expect(this.string(at: 24) == "ksplice_0123456789ab")
        #expect(throws: Failure.self) { try module.rename(to: "ksplice_again") }
        try module.checkModuleSize(128)
        #expect(throws: Failure.self) { try module.checkModuleSize(192) }
    }

    @Test func tablesAreFilled() async throws {
        var module = try await module()
        let id = String(repeating: "a", count: 64)
        // The code in memory is one byte shorter than that of the pre object.
        let code = ExpectedCode(
            address: 0xffff_ffff_8100_1000, bytes: [1, 2, 3, 4, 5, 6, 7],
            mask: [0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            site: 5, isTraceable: true)
        let constant = MatchedConstant(
            name: "c", address: 0xffff_ffff_8200_0040, bytes: [11, 12, 13, 14, 15, 16])
        let whole = String(repeating: "e", count: 64)
        try module.fillTables(functions: [code], parts: [], data: [constant], id: id, update: whole)
        let object = try ObjectFile(module.bytes, name: "u.ko")
        let functions = object.sections[try #require(object.section(named: ".ksplice.functions"))].contents
        #expect(functions.load(UInt64.self, at: 0) == code.address && functions.load(UInt64.self, at: 8) == 7)
        #expect(functions.load(UInt32.self, at: 48) == 5 && functions.load(UInt32.self, at: 52) == 3)
        let expected = object.sections[try #require(object.section(named: ".ksplice.expected"))].contents
        #expect(Array(expected[16..<30]) == code.bytes + code.mask)
        let table = object.sections[try #require(object.section(named: ".ksplice.table"))].contents
        #expect(table.string(at: 32) == id && table.string(at: 104) == whole)
        let data = object.sections[try #require(object.section(named: ".ksplice.data"))].contents
        #expect(data.load(UInt64.self, at: 0) == constant.address)
        #expect(Array(expected[40..<46]) == constant.bytes)
        #expect(throws: Failure.self) {
            try module.fillTables(
                functions: [code, code], parts: [], data: [constant], id: id, update: whole)
        }
        #expect(throws: Failure.self) {
            try module.fillTables(functions: [code], parts: [], id: id, update: whole)
        }
        var short = constant
        short.bytes.removeLast()
        #expect(throws: Failure.self) {
            try module.fillTables(functions: [code], parts: [], data: [short], id: id, update: whole)
        }
        var large = code
        large.bytes += [8, 9]
        large.mask += [0xff, 0xff]
        #expect(throws: Failure.self) {
            try module.fillTables(functions: [large], parts: [], data: [constant], id: id, update: whole)
        }
    }

    @Test func malformedFilesAreRefused() async throws {
        let bytes = try await module().bytes
        #expect(throws: Failure.self) { try ModuleResolver(Array(bytes.prefix(200)), name: "u.ko") }
        #expect(throws: Failure.self) { try ModuleResolver([], name: "u.ko") }
        // No truncation may trap.
        for size in stride(from: 0, to: bytes.count, by: 97) {
            do {
                var module = try ModuleResolver(Array(bytes.prefix(size)), name: "u.ko")
                try module.resolve { _ in nil }
            } catch {}
        }
        for place in stride(from: 16, to: bytes.count, by: 13) {
            var damaged = bytes
            damaged[place] = 0xff
            do {
                var module = try ModuleResolver(damaged, name: "u.ko")
                try module.resolve { _ in nil }
                try module.setVersions([:])
            } catch {}
        }
    }
}
