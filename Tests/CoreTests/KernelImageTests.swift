import Glibc
import Testing

@testable import Core

@Suite struct KernelImageTests {
    @Test(arguments: SyntheticImage.Layout.allCases, [true, false])
    func readsTheSymbolTablesOfEveryLayout(_ layout: SyntheticImage.Layout, is64Bit: Bool) throws {
        let source = SyntheticImage(layout, is64Bit: is64Bit)
        let image = try KernelImage(vmlinux: source.bytes(), name: "t")
        #expect(try image.symbols().all == source.symbols)
    }

    @Test func readsWhatTheImageSays() throws {
        let image = try KernelImage(vmlinux: SyntheticImage(.percpu).bytes(), name: "t")
        #expect(image.buildID == "abcdef01")
        #expect(image.arch == "x86_64")
        #expect(image.banner?.release == "6.1.0-t")
        #expect(image.banner?.compiler == "gcc-12 (Debian 12.2.0-14, x) 12.2.0")
        #expect(image.banner?.linker == "GNU ld (GNU Binutils) 2.40")
        #expect(image.banner?.version == "#1 SMP t (2026)")
        #expect(
            try KernelImage(vmlinux: SyntheticImage(.plain, is64Bit: false).bytes(), name: "t").arch == "i686"
        )
    }

    @Test func parsesBanners() {
        let clang = KernelBanner("Linux version 6.6.1 (u@h) (Debian clang version 14.0.6, LLD 14.0.6) #2 SMP")
        #expect(
            clang?.compiler == "Debian clang version 14.0.6" && clang?.linker == "LLD 14.0.6"
                && clang?.version == "#2 SMP")
        #expect(KernelBanner("Linux version 5.4 (u@h) (gcc version 9.3.0 (GCC)) #1 SMP")?.linker == "")
        for text in [
            "Linux version %s (x", "Linux version 6.1 (u@h) (gcc, ld) # SMP", "Linux version 6.1 (u", "Linux",
            "",
        ] {
            #expect(KernelBanner(text) == nil)
        }
    }

    @Test func memoryIsThatOfTheSegments() throws {
        let source = SyntheticImage(.percpu)
        let bytes = source.bytes()
        let memory = ImageMemory(try KernelImage(vmlinux: bytes, name: "t"))
        let base = SyntheticImage.base
        #expect(try memory.read(at: base + 4, count: 8) == Array(bytes[0x1004..<0x100c]))
        let end = base + UInt64(bytes.count - 0x1000)
        #expect(try memory.read(at: end - 2, count: 4) == Array(bytes[(bytes.count - 2)...]) + [0, 0])
        #expect(try memory.read(at: base + 0x7ff0, count: 16) == [UInt8](repeating: 0, count: 16))
        #expect(throws: Failure.self) { try memory.read(at: base + 0x7ff0, count: 17) }
        #expect(throws: Failure.self) { try memory.read(at: base - 1, count: 1) }
        #expect(throws: Failure.self) { try memory.read(at: UInt64.max, count: 2) }
    }

    @Test func refusesWhatIsNoImage() throws {
        let bytes = SyntheticImage(.percpu).bytes()
        for bad in [[], Array("MZ".utf8), Array(bytes[..<100]), Array(bytes[..<0x1800])] {
            #expect(throws: Failure.self) { try KernelImage(vmlinux: bad, name: "t") }
        }
        var altered = bytes
        // The token index: nothing else says where the tokens are.
        let index = try KallsymsTables(searching: bytes, is64Bit: true, name: "t").indexEnd - 512
        altered[index + 2 * 0x41] ^= 1
        #expect(throws: Failure.self) { try KernelImage(vmlinux: altered, name: "t").symbols() }
    }

    @Test func alteredImagesNeverTrap() throws {
        var random = SystemRandomNumberGenerator()
        let bytes = SyntheticImage(.percpuWithSequence).bytes()
        for _ in 0..<150 {
            var altered = bytes
            for _ in 0..<3 {
                altered[Int.random(in: 16..<200, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            let place = Int.random(in: 0x1000..<bytes.count, using: &random)
            altered[place] ^= UInt8.random(in: 1...255, using: &random)
            do { _ = try KernelImage(vmlinux: altered, name: "t").symbols() } catch {
                #expect(error is Failure)
            }
        }
    }

    @Test func opensABootableImage() async throws {
        let folder = try Files.temporaryDirectory()
        defer { try? Files.remove(folder) }
        let content = SyntheticImage(.percpu).bytes()
        // gzip's own end says the size; the other formats have it behind them.
        var boot = [UInt8](repeating: 0, count: 1024)
        boot[0x1f1] = 1
        boot.replaceSubrange(0x202..<0x206, with: Array("HdrS".utf8))
        boot.store(UInt16(0x20f), at: 0x206)
        let payload = try gzip(content)
        boot.store(UInt32(0), at: 0x248)
        boot.store(UInt32(payload.count), at: 0x24c)
        boot += payload
        try Files.write(boot, to: folder + "/vmlinuz")
        let image = try await KernelImage.open(folder + "/vmlinuz", uncompressed: folder + "/cache/vmlinux")
        #expect(image.buildID == "abcdef01")
        #expect(try Files.read(folder + "/cache/vmlinux") == content)
        #expect(try await BootImage(boot, path: "t").decompress() == content)
        boot.store(UInt32(payload.count + 1), at: 0x24c)
        #expect(throws: Failure.self) { try BootImage(boot, path: "t") }
        boot[1024] = 0x77
        boot.store(UInt32(payload.count), at: 0x24c)
        await #expect(throws: Failure.self) { try await BootImage(boot, path: "t").decompress() }
    }

    static let realImage = getenv("KSPLICE_TEST_IMAGE").map { String(cString: $0) }

    @Test(.enabled(if: realImage != nil, "KSPLICE_TEST_IMAGE is not set"))
    func readsARealImage() async throws {
        let path = try #require(Self.realImage)
        let folder = try Files.temporaryDirectory()
        defer { try? Files.remove(folder) }
        let image = try await KernelImage.open(path, uncompressed: folder + "/vmlinux")
        if let found = KernelImage.decompressWithLibdw(path) {
            // Both ways lead to the same image; libdw does not see what stands behind the loaded part.
            let other = try await BootImage(Files.read(path), path: path).decompress()
            #expect(found.prefix(image.bytes.count) == other.prefix(image.bytes.count))
        }
        #expect(image.buildID.count == 40)
        #expect(image.banner != nil)
        let symbols = try image.symbols()
        #expect(symbols.all.count > 50_000)
        #expect(symbols.unique("_text") == image.segments[0].address)
        for name in ["_stext", "_etext", "__x86_return_thunk", "schedule", "init_task", "do_exit"] {
            #expect(symbols.unique(name) != nil, "\(name)")
        }
        let exports = try readExports(memory: ImageMemory(image), symbols: symbols)
        #expect(exports.count > 5_000)
        #expect(
            exports.contains { $0.name == "init_task" } && exports.contains { $0.isGPL }
                && exports.contains { !$0.isGPL })
        let known = Set(symbols.all.map(\.name))
        #expect(exports.allSatisfy { known.contains($0.name) })
        #expect(try KernelSymbols(text: symbols.text(), name: "t").all == symbols.all)
    }
}
