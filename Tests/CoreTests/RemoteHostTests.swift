// A host behind a shell, with a shell of this machine in its place: what goes there and back, and what is said where that fails.
// Nothing of this machine's kernel is changed: the programs that would do so are others here.

import Glibc
import Testing

@testable import Core

@Suite struct RemoteHostTests {
    private func withFolder(_ body: (String) async throws -> Void) async throws {
        let folder = try Files.temporaryDirectory()
        defer { do { try Files.remove(folder) } catch { Issue.record("\(error)") } }
        try await body(folder)
    }

    @Test func whateverIsInAFileComesBack() async throws {
        try await withFolder { folder in
            let host = RemoteHost(command: "sh")
            let name = folder + "/it's a $(name) with \"quotes\" and \\n"
            let content = (0..<70_001).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 9) }
            try Files.write(content, to: name)
            #expect(try await host.read(name) == content)
            try Files.write([UInt8](), to: folder + "/empty")
            #expect(try await host.read(folder + "/empty") == [])
            #expect(try await host.list(folder) == ["empty", String(name.lastPathComponent)])
            #expect(try await host.exists(name))
            #expect(try await !host.exists(folder + "/none"))
            let failure = try await #require(throws: Failure.self) { try await host.read(folder + "/none") }
            #expect(failure.message.contains("none") && failure.message.contains("'sh'"), "\(failure)")
        }
    }

    @Test func writesTellTheirErrorNumbers() async throws {
        try await withFolder { folder in
            let host = RemoteHost(command: "sh", journal: folder + "/state/journal")
            #expect(try await host.store("1", into: folder + "/enabled") == 0)
            #expect(try Files.readText(folder + "/enabled") == "1")
            #expect(try await host.store("1", into: "/dev/full") == ENOSPC)
            #expect(try await host.store("1", into: folder + "/none/x") == ENOENT)
            #expect(try await host.store("1", into: folder) == EISDIR)
            try await host.appendToJournal("it's\\one")
            try await host.appendToJournal("two\n")
            #expect(try Files.readText(folder + "/state/journal") == "it's\\one\ntwo\n")
        }
    }

    @Test func modulesAreLoadedWithTheHostsOwnProgram() async throws {
        try await withFolder { folder in
            try Files.createDirectory(folder + "/bin")
            let insmod = """
                #!/bin/sh
                cp "$1" '\(folder)/loaded'; echo "$1" > '\(folder)/name'
                [ "$2" != bad ] || { echo "insmod: can't insert '$1': invalid module format"; exit 1; }
                """
            for (name, text) in [
                ("insmod", insmod),
                (
                    "rmmod",
                    "#!/bin/sh\necho \"rmmod: can't unload module '$1': Device or resource busy\"; exit 1"
                ),
            ] {
                try Files.write(text, to: "\(folder)/bin/\(name)")
                try await Command(["chmod", "+x", "\(folder)/bin/\(name)"]).check()
            }
            let host = RemoteHost(command: "PATH='\(folder)/bin':$PATH sh")
            let module = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 13 &+ $0 >> 7) }
            try await host.load(module: module, name: "m", parameters: "")
            #expect(try Files.read(folder + "/loaded") == module)
            #expect(try !Files.exists(Files.readText(folder + "/name").trimmed), "what was sent is gone")
            let refused = try await #require(throws: Failure.self) {
                try await host.load(module: module, name: "m", parameters: "bad")
            }
            #expect(refused.status == .wrongKernel && refused.message.contains("format"), "\(refused)")
            let busy = try await #require(throws: Failure.self) { try await host.unload(module: "m") }
            #expect(busy.status == .busy, "\(busy)")
        }
    }

    @Test func aShellThatDiesIsToldAndNotWaitedFor() async throws {
        let none = RemoteHost(command: "echo no such host; exit 7")
        let failure = try await #require(throws: Failure.self) { try await none.exists("/") }
        #expect(
            failure.message.contains("has ended") && failure.message.contains("exit status 7"), "\(failure)")
        #expect(failure.message.contains("no such host") && !failure.hints.isEmpty)
        // In the middle of a script; afterwards it says the same, and starts no other one.
        let dying = RemoteShell(command: "sh")
        #expect(try dying.run("echo here").output == Array("here\n".utf8))
        for _ in 0..<2 {
            let failure = try #require(throws: Failure.self) { try dying.run("kill -9 $$") }
            #expect(failure.message.contains("exit status 137"), "\(failure)")
        }
        // Much is on its way there when it dies: this program goes on.
        let deaf = RemoteShell(command: "exec sleep 0.2")
        #expect(throws: Failure.self) { try deaf.run(String(repeating: "#\n", count: 1 << 20)) }
        let silent = RemoteShell(command: "exec sleep 30", patience: 0.2)
        let late = try #require(throws: Failure.self) { try silent.run("true") }
        #expect(late.message.contains("has not answered"), "\(late)")
    }

    @Test func aGreetingDoesNoHarm() throws {
        let plain = RemoteShell(command: "echo 'Welcome!'; echo; exec sh")
        #expect(try plain.run("printf 'a\\r\\n'; exit 3").output == Array("a\r\n".utf8))
        #expect(try plain.run("exit 3").status == 3)
        #expect(try plain.lines("echo a; echo b") == ["a", "b"])
    }

    @Test func memoryIsFetchedInPieces() throws {
        let folder = try Files.temporaryDirectory()
        defer { do { try Files.remove(folder) } catch { Issue.record("\(error)") } }
        let content = (0..<150_000).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 8) }
        for is64Bit in [true, false] {
            let address: UInt64 = is64Bit ? 0xffff_ffff_8100_3000 : 0xc100_3000
            let path = "\(folder)/it's core \(is64Bit)"
            try Files.write(Self.core(is64Bit, address, content), to: path)
            let memory = try #require(try RemoteMemory(RemoteShell(command: "sh"), path: path))
            try memory.fetch(covering: [address + 100..<address + 200, address + 90_000..<address + 140_000])
            for (offset, count) in [(0, 1), (0x7ff0, 0x40), (100, 140_000), (content.count - 5, 5)] {
                let read = try memory.read(at: address + UInt64(offset), count: count)
                #expect(read == Array(content[offset..<offset + count]))
            }
            #expect(throws: Failure.self) { try memory.read(at: address - 1, count: 2) }
            #expect(throws: Failure.self) { try memory.read(at: address, count: content.count + 1) }
            // This machine's own reader sees the same.
            let own = try #require(try KcoreMemory.open(path))
            #expect(try own.read(at: address + 7, count: 99_000) == Array(content[7..<99_007]))
        }
        try Files.write("no core file", to: folder + "/text")
        #expect(try RemoteMemory(RemoteShell(command: "sh"), path: folder + "/text") == nil)
    }

    /// A core file of one range, of either class.
    static func core(_ is64Bit: Bool, _ address: UInt64, _ content: [UInt8]) -> [UInt8] {
        var file = [UInt8](repeating: 0, count: 4096)
        file.replaceSubrange(0..<6, with: [0x7f, 0x45, 0x4c, 0x46, is64Bit ? 2 : 1, 1])
        if is64Bit {
            file.store(UInt64(64), at: 32)
            file.store(UInt16(56), at: 54)
            file.store(UInt16(1), at: 56)
            file.store(UInt32(1), at: 64)
            file.store(UInt64(4096), at: 72)
            file.store(address, at: 80)
            file.store(UInt64(content.count), at: 104)
        } else {
            file.store(UInt32(52), at: 28)
            file.store(UInt16(32), at: 42)
            file.store(UInt16(1), at: 44)
            file.store(UInt32(1), at: 52)
            file.store(UInt32(4096), at: 56)
            file.store(UInt32(address), at: 60)
            file.store(UInt32(content.count), at: 72)
        }
        return file + content
    }

    @Test func whatProgramsSayIsUnderstood() {
        for (said, code) in [
            ("dd: error writing 'x': Device or resource busy", EBUSY),
            ("sh: write error: Resource temporarily unavailable", EAGAIN),
            ("insmod: can't insert 'm.ko': unknown symbol in module, or unknown parameter", ENOENT),
            ("insmod: ERROR: could not insert module m.ko: Key was rejected by service", EKEYREJECTED),
            ("dd: x: Not supported\n", EOPNOTSUPP), ("dd: x: Stale file handle", ESTALE),
        ] as [(String, Int32)] {
            #expect(SpokenErrors.number(in: said) == code, "\(said)")
        }
        #expect(SpokenErrors.number(in: "1+0 records in") == nil)
        let tasks = RemoteHost.tasks(
            "@ 2\nkthreadd\n[<0>] kthreadd+0x1/0x2\n@ 1\ninit\n[<0>] f+0x3/0x4 [m]\n[<0>] g+0x5/0x6\n@ 9\n")
        #expect(tasks.map(\.pid) == [1, 2] && tasks[0].stack == ["f+0x3/0x4 [m]", "g+0x5/0x6"])
    }

    @Test func base64IsThatOfTheTool() async throws {
        for count in [0, 1, 2, 3, 56, 57, 58, 1000] {
            let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ 200) }
            let made = try await Command(["base64"], input: bytes).check().output
            #expect(Base64.decode(made) == bytes)
            let back = try await Command(["base64", "-d"], input: Array(Base64.encode(bytes).utf8)).check()
            #expect(back.output == bytes)
        }
        for bad in ["A", "AAA", "A===", "AB=C", "A*AA"] {
            #expect(Base64.decode(Array(bad.utf8)) == nil, "\(bad)")
        }
    }
}
