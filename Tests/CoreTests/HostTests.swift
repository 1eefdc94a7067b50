import Glibc
import Testing

@testable import Core

@Suite struct HostTests {
    @Test func kallsymsTextIsReadAndHiddenAddressesAreExplained() throws {
        let text = "0000000000000000 A fixed\nffffffff81000000 T _text\nffffffffc0000000 t f\t[dummy]\n"
        let symbols = try ProcKallsyms.parse(Array(text.utf8))
        #expect(symbols.named("f", in: "dummy").map(\.address) == [0xffff_ffff_c000_0000])
        #expect(symbols.unique("_text") == 0xffff_ffff_8100_0000)
        let hidden = try #require(throws: Failure.self) {
            try ProcKallsyms.parse(Array("0000000000000000 T _text\n".utf8))
        }
        #expect(hidden.hints.contains { $0.contains("kptr_restrict") })
        #expect(throws: Failure.self) { try ProcKallsyms.parse(Array("ffff_text\n".utf8)) }
        #expect(throws: Failure.self) { try ProcKallsyms.parse([]) }
    }

    @Test func notesModulesAndStacksAreRead() throws {
        var notes: [UInt8] = []
        for (type, content) in [(6, [1, 2, 3]), (3, [0xab, 0xcd])] as [(UInt32, [UInt8])] {
            notes.append(littleEndian: UInt32(4))
            notes.append(littleEndian: UInt32(content.count))
            notes.append(littleEndian: type)
            notes += [0x47, 0x4e, 0x55, 0] + content + [UInt8](repeating: 0, count: 4 - content.count)
        }
        #expect(HostText.buildID(notes: notes) == "abcd")
        #expect(HostText.buildID(notes: Array(notes.dropLast(4))) == nil)
        let module = try HostText.modules(
            "virtio 16384 2 virtio_blk,virtio_net, Live 0xffffffffc0372000 (E)\n")
        #expect(
            module.first?.users == ["virtio_blk", "virtio_net"]
                && module.first?.address == 0xffff_ffff_c037_2000)
        #expect(throws: Failure.self) { try HostText.modules("virtio\n") }
        #expect(
            HostText.stack("[<0>] do_wait+0x1/0x2\n[<0>] x+0x3/0x4 [dummy]\n") == [
                "do_wait+0x1/0x2", "x+0x3/0x4 [dummy]",
            ])
    }

    /// A core file of one range of two windows and a bit.
    private func coreFile(_ folder: String) throws -> (path: String, content: [UInt8], address: UInt64) {
        let content = (0..<150_000).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 8) }
        let address: UInt64 = 0xffff_ffff_8100_3000
        var file = [UInt8](repeating: 0, count: 4096)
        file.replaceSubrange(0..<6, with: [0x7f, 0x45, 0x4c, 0x46, 2, 1])
        file.store(UInt64(64), at: 32)
        file.store(UInt16(56), at: 54)
        file.store(UInt16(1), at: 56)
        file.store(UInt32(1), at: 64)
        file.store(UInt64(4096), at: 72)
        file.store(address, at: 80)
        file.store(UInt64(content.count), at: 104)
        try Files.write(file + content, to: folder + "/core")
        return (folder + "/core", content, address)
    }

    @Test func whatTheKernelSaysBeforeTheStepsIsNotTheirs() {
        let boot = "[ 1.0] WARNING: CPU: 0 PID: 1 at crypto/testmgr.c:1\n[ 1.1] fine\n"
        let steps = "[ 2.0] \(GuestReport.readyMark)\n[ 2.1] BUG: bad\n[ 2.2] fine\n"
        let report = GuestReport(results: [], kernelLog: boot + steps)
        #expect(report.bootWarnings == ["[ 1.0] WARNING: CPU: 0 PID: 1 at crypto/testmgr.c:1"])
        #expect(report.warnings == ["[ 2.1] BUG: bad"])
        // A machine that did not come so far: nothing is excused.
        #expect(GuestReport(results: [], kernelLog: boot).warnings.count == 1)
    }

    @Test func coreFilesAreReadAcrossWindows() throws {
        let folder = try Files.temporaryDirectory()
        defer { do { try Files.remove(folder) } catch {} }
        let (path, content, address) = try coreFile(folder)
        let memory = try #require(try KcoreMemory.open(path))
        for (offset, count) in [(0, 1), (0xcff0, 0x40), (100, 140_000), (content.count - 5, 5)] {
            let read = try memory.read(at: address + UInt64(offset), count: count)
            #expect(read == Array(content[offset..<offset + count]))
        }
        #expect(throws: Failure.self) { try memory.read(at: address - 1, count: 2) }
        #expect(throws: Failure.self) { try memory.read(at: address, count: content.count + 1) }
        memory.close()
        #expect(throws: Failure.self) { try memory.read(at: address + 140_000, count: 1) }
    }

    @Test func whatHidesTheKernelsMemoryIsNoCoreFile() throws {
        let folder = try Files.temporaryDirectory()
        defer { do { try Files.remove(folder) } catch {} }
        #expect(try KcoreMemory.open(folder + "/none") == nil)
        #expect(try KcoreMemory.open("/dev/null") == nil)
        for (name, content) in [("empty", ""), ("text", String(repeating: "no core file", count: 10))] {
            try Files.write(content, to: "\(folder)/\(name)")
            #expect(try KcoreMemory.open("\(folder)/\(name)") == nil)
        }
        // A core file of a machine that this program does not know is there, and not for us.
        var other = [UInt8](repeating: 0, count: 4096)
        other.replaceSubrange(0..<6, with: [0x7f, 0x45, 0x4c, 0x46, 1, 1])
        try Files.write(other, to: folder + "/other")
        #expect(throws: Failure.self) { try KcoreMemory.open(folder + "/other") }
    }

    @Test func aWindowIsReadAtAddressesWithoutTheirHighestBit() throws {
        let folder = try Files.temporaryDirectory()
        defer { do { try Files.remove(folder) } catch {} }
        let content = (0..<70_000).map { UInt8(truncatingIfNeeded: $0 &* 5) }
        try Files.write(content, to: folder + "/window")
        let descriptor = open(folder + "/window", O_RDONLY)
        let memory = KcoreMemory.window(descriptor)
        #expect(
            try memory.read(at: 0x8000_0000_0000_0010, count: 66_000) == Array(content[16..<66_016]))
        // The end of what is shown lies within a read of many bytes at once.
        #expect(try memory.read(at: 0x8000_0000_0001_1168, count: 8) == Array(content[0x11168..<0x11170]))
        for (address, count) in [
            (0x8000_0000_0001_1168, 9), (0x7fff_ffff_ffff_ffff, 1), (0xffff_ffff_ffff_fff0, 16),
            (0xffff_ffff_ffff_ffff, 1),
        ] as [(UInt64, Int)] {
            #expect(throws: Failure.self) { try memory.read(at: address, count: count) }
        }
        memory.close()
        #expect(throws: Failure.self) { try memory.read(at: 0x8000_0000_0000_0010, count: 1) }
    }

    @Test func refusalsOfModulesAreExplained() {
        #expect(ModuleLoading.refusal("m", errno: EKEYREJECTED).message.contains("signed"))
        #expect(ModuleLoading.refusal("m", errno: ENOEXEC).status == .wrongKernel)
        #expect(ModuleLoading.refusal("m", errno: EEXIST).status == .busy)
    }
}
