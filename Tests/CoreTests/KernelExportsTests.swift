import Testing

@testable import Core

@Suite struct KernelExportsTests {
    private let symvers =
        "0x4c9d28b0\tphys_base\tvmlinux\tEXPORT_SYMBOL\t\n0x00000000\tf\tdrivers/net/dummy\tEXPORT_SYMBOL_GPL\tNET\n"

    @Test func readsModuleSymvers() throws {
        let exports = try [KernelExport](symvers: Array(symvers.utf8), name: "t")
        #expect(
            exports == [
                KernelExport(name: "phys_base", crc: 0x4c9d_28b0, object: "vmlinux", isGPL: false),
                KernelExport(name: "f", crc: nil, object: "drivers/net/dummy", isGPL: true, namespace: "NET"),
            ])
        #expect(exports.symvers == Array(symvers.utf8))
        let old = try [KernelExport](
            symvers: Array("0x0000000a\ta\tvmlinux\tEXPORT_SYMBOL\n".utf8), name: "t")
        #expect(old == [KernelExport(name: "a", crc: 10, object: "vmlinux", isGPL: false)])
    }

    @Test(arguments: [
        "x\n", "0x1\ta\n", "1\ta\tvmlinux\tEXPORT_SYMBOL\t\n", "0x1\t\tv\tEXPORT_SYMBOL\t\n",
        "0x1\ta\tv\tx\t\n",
    ])
    func refusesMalformedLines(_ text: String) {
        #expect(throws: Failure.self) { try [KernelExport](symvers: Array(text.utf8), name: "t") }
    }

    @Test func readsTheTablesOfAnImage() async throws {
        let fixture = try await KernelFixture()
        defer { fixture.remove() }
        let image = try KernelImage(vmlinuxAt: fixture.build + "/vmlinux")
        let symbols = try KernelSymbols(text: Files.read(fixture.build + "/System.map"), name: "t")
        let expected = [
            KernelExport(name: "first", crc: 0x11, object: "vmlinux", isGPL: false),
            KernelExport(name: "second", crc: nil, object: "vmlinux", isGPL: false),
            KernelExport(name: "third", crc: 0x33, object: "vmlinux", isGPL: true, namespace: "SPACE"),
        ]
        #expect(try readExports(memory: ImageMemory(image), symbols: symbols) == expected)
        // Newer kernels do not mark the end of the checksums.
        let fewer = KernelSymbols(symbols.all.filter { !$0.name.hasPrefix("__stop___kcrctab") })
        #expect(try readExports(memory: ImageMemory(image), symbols: fewer) == expected)
        // What a distribution leaves of an image: sections, but no symbols for the tables.
        let plain = fixture.folder + "/plain"
        try await Command(["objcopy", "--strip-all", fixture.build + "/vmlinux", plain]).check()
        let text = try #require(try readImageSections(plain)[".text"])
        #expect(text.contains(try #require(symbols.unique("_text"))))
        var sections: [String: Range<UInt64>] = [:]
        for name in ["ksymtab", "ksymtab_gpl", "kcrctab", "kcrctab_gpl"] {
            let start = try #require(symbols.unique("__start___" + name))
            sections["__" + name] = try start..<#require(symbols.unique("__stop___" + name))
        }
        #expect(try readExports(memory: ImageMemory(image), sections: sections) == expected)
        #expect(try readExports(memory: ImageMemory(image), sections: [:]).isEmpty)
        var cut = try Files.read(plain)
        cut.removeLast(80)
        try Files.write(cut, to: plain)
        #expect(throws: Failure.self) { try readImageSections(plain) }
        let none = KernelSymbols(symbols.all.filter { !$0.name.contains("ksymtab") })
        #expect(throws: Failure.self) { try readExports(memory: ImageMemory(image), symbols: none) }
    }

    @Test(arguments: [0xffff_ffff_8100_0000, 0xc100_0000] as [UInt64]) func readsTheTableOfFlags(base: UInt64)
        throws
    {
        // Two entries, then a byte of flags each, then the names: the form of 7.1 and later.
        var bytes: [UInt8] = []
        for (place, name) in [(0, 28), (12, 30)] {
            for target in [0, name, 29] {
                bytes.append(littleEndian: Int32(target - bytes.count + (target == 0 ? place : 0)))
            }
        }
        bytes += [0, 1, 0, 0] + Array("a\0b\0".utf8)
        let memory = FlatMemory(base: base, bytes: bytes)
        let symbols = KernelSymbols(
            [
                ("__start___ksymtab", 0), ("__stop___ksymtab", 24), ("__start___kflagstab", 24),
                ("__stop___kflagstab", 26),
            ]
            .map { KernelSymbol(address: base + $1, kind: 114, name: $0) })
        let exports = try readExports(memory: memory, symbols: symbols)
        #expect(exports.map(\.name) == ["a", "b"] && exports.map(\.isGPL) == [false, true])
        #expect(exports.allSatisfy { $0.crc == nil && $0.namespace.isEmpty })
        bytes.store(Int32(2000), at: 4)
        #expect(throws: Failure.self) {
            try readExports(memory: FlatMemory(base: base, bytes: bytes), symbols: symbols)
        }
    }

    private let moduleSource = """
        asm(".section __ksymtab, \\"a\\"\\n .long one - .\\n .long s_one - .\\n .long s_none - .\\n"
            ".section __ksymtab_gpl, \\"a\\"\\n .long two - .\\n .long s_two - .\\n .long s_space - .\\n"
            ".section __kcrctab, \\"a\\"\\n .long 0x12345678\\n"
            ".section __kcrctab_gpl, \\"a\\"\\n .long __crc_two\\n .globl __crc_two\\n .set __crc_two, 0x9abcdef0\\n"
            ".section __ksymtab_strings, \\"aMS\\", @progbits, 1\\n"
            "s_one: .asciz \\"one\\"\\n s_none: .asciz \\"\\"\\n s_two: .asciz \\"two\\"\\n s_space: .asciz \\"SPACE\\"\\n"
            ".text\\n");
        void one(void) {}
        void two(void) {}

        """

    @Test(arguments: ["", ".gz", ".xz"]) func readsModules(_ compression: String) async throws {
        let folder = try Files.temporaryDirectory()
        defer { try? Files.remove(folder) }
        let modules = folder + "/lib/modules/6.1"
        try Files.createDirectory(modules + "/kernel/drivers")
        try Files.write(moduleSource, to: folder + "/m.c")
        let path = modules + "/kernel/drivers/m-o.ko"
        try await Command(["gcc", "-c", folder + "/m.c", "-o", path]).check()
        if compression == ".gz" { try await Command(["gzip", path]).check() }
        if compression == ".xz" { try await Command(["xz", path]).check() }
        #expect(
            try await ModuleFile.exports(path + compression, below: modules) == [
                KernelExport(name: "one", crc: 0x1234_5678, object: "drivers/m-o", isGPL: false),
                KernelExport(
                    name: "two", crc: 0x9abc_def0, object: "drivers/m-o", isGPL: true, namespace: "SPACE"),
            ])
    }

    @Test func refusesAModuleWithoutNames() async throws {
        let folder = try Files.temporaryDirectory()
        defer { try? Files.remove(folder) }
        for (number, table) in [".long 0, 0, 0", ".long 0", ".long one - .\\n .long nowhere - .\\n .long 0"]
            .enumerated()
        {
            try Files.write(
                "asm(\".section __ksymtab, \\\"a\\\"\\n \(table)\\n .text\\n\"); void one(void) {}\n",
                to: folder + "/m.c")
            try await Command(["gcc", "-c", folder + "/m.c", "-o", folder + "/\(number).ko"]).check()
            await #expect(throws: Failure.self) {
                try await ModuleFile.exports(folder + "/\(number).ko", below: folder)
            }
        }
        try Files.write("void f(void) {}\n", to: folder + "/m.c")
        try await Command(["gcc", "-c", folder + "/m.c", "-o", folder + "/n.ko"]).check()
        #expect(try await ModuleFile.exports(folder + "/n.ko", below: folder).isEmpty)
    }
}

private final class FlatMemory: KernelMemory {
    let base: UInt64
    let bytes: [UInt8]

    init(base: UInt64, bytes: [UInt8]) {
        self.base = base
        self.bytes = bytes
    }

    func read(at address: UInt64, count: Int) throws -> [UInt8] {
        guard address >= base, address - base <= UInt64(bytes.count),
            count <= bytes.count - Int(address - base)
        else {
            throw Failure("not mapped")
        }
        return Array(bytes[Int(address - base)..<Int(address - base) + count])
    }
}
