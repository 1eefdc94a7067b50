import Testing

@testable import Core

@Suite struct ArchiveTests {
    /// A header with chosen fields and a right checksum.
    private func header(_ path: String, size: Int, type: Character = "0") throws -> [UInt8] {
        var block = try TarHeader(path: path, size: size).block()
        block[156] = type.asciiValue ?? 0
        return sealed(block)
    }

    private func sealed(_ header: [UInt8]) -> [UInt8] {
        var block = header
        for index in 148..<156 { block[index] = 32 }
        let sum = String(block.reduce(0) { $0 + Int($1) }, radix: 8)
        for (index, byte) in (String(repeating: "0", count: 6 - sum.count) + sum).utf8.enumerated() {
            block[148 + index] = byte
        }
        block[154] = 0
        return block
    }

    private func file(_ path: String, _ content: [UInt8]) throws -> [UInt8] {
        try header(path, size: content.count) + content
            + [UInt8](repeating: 0, count: TarHeader.padding(content.count))
    }

    private let end = [UInt8](repeating: 0, count: 1024)

    private func refusal(_ tar: [UInt8]) throws -> String {
        let archive = try gzip(tar)
        let failure = #expect(throws: Failure.self) { try Update(archive: archive) }
        #expect(failure?.status == .verificationRefused)
        return failure?.message ?? ""
    }

    @Test func survivesARoundTripAndIsReproducible() async throws {
        let update = GitFixture.update()
        let archive = try update.archive()
        #expect(try update.archive() == archive)
        let read = try Update(archive: archive)
        #expect(read.id == update.id && read.files == update.files)
    }

    @Test func otherTarProgramsReadAndMakeThem() async throws {
        let update = GitFixture.update()
        let place = try Files.temporaryDirectory()
        defer { try? Files.remove(place) }
        try Files.write(update.archive(), to: place + "/u.tar.gz")
        let listed = try await Command(["tar", "tvzf", "u.tar.gz"], directory: place).check().text
        #expect(listed.contains("-rw-r--r-- 0/0") && listed.contains("1970-01-01"))
        try await Command(["tar", "xzf", "u.tar.gz"], directory: place).check()
        for format in ["ustar", "gnu"] {
            try await Command(
                ["tar", "czf", "v.tar.gz", "--format=" + format, "ksplice-" + update.id.prefix(8)],
                directory: place
            ).check()
            #expect(try Update(archive: Files.read(place + "/v.tar.gz")).id == update.id)
        }
    }

    @Test func longPathsAreSplit() throws {
        let path = String(repeating: "folder/", count: 20) + "file.o"
        var update = GitFixture.update()
        update = Update(manifest: update.manifest, files: [path: [1]])
        #expect(try Update(archive: update.archive()).files == [path: [1]])
        let long = Update(manifest: update.manifest, files: [String(repeating: "x", count: 101): []])
        #expect(throws: Failure.self) { try long.archive() }
    }

    @Test func strangePathsAreRefused() throws {
        for path in ["/etc/passwd", "ksplice-1/../x", "../x", "ksplice-1//x", "ksplice-1/./x", ""] {
            #expect(try refusal(file(path, []) + end).contains("leads elsewhere"))
        }
        #expect(try refusal(file("alone", []) + end).contains("outside of its one folder"))
        #expect(
            try refusal(file("ksplice-1/a", []) + file("ksplice-2/b", []) + end).contains(
                "outside of its one folder"))
        #expect(try refusal(file("ksplice-1/a", [1]) + file("ksplice-1/a", [1]) + end).contains("twice"))
    }

    @Test(arguments: ["1", "2", "3", "4", "6", "7", "x", "g", "L", "K", "S"] as [Character])
    func linksAndDevicesAreRefused(type: Character) throws {
        #expect(
            try refusal(header("ksplice-1/a", size: 0, type: type) + end).contains("neither file nor folder"))
    }

    @Test func damageIsRefused() throws {
        let whole = try file("ksplice-1/a", [1, 2, 3])
        var wrong = whole
        wrong[0] ^= 1
        #expect(try refusal(wrong + end).contains("checksum"))
        var magic = Array(whole.prefix(512))
        magic[257] = 0
        #expect(try refusal(sealed(magic) + whole.dropFirst(512) + end).contains("no ustar"))
        var negative = Array(whole.prefix(512))
        for (index, byte) in "-0000000001".utf8.enumerated() { negative[124 + index] = byte }
        #expect(try refusal(sealed(negative) + end).contains("malformed"))
        #expect(try refusal(whole).contains("truncated"))
        #expect(try refusal(Array(whole.dropLast(511))).contains("truncated"))
        #expect(try refusal(whole + end.prefix(512)).contains("truncated"))
        #expect(try refusal([]).contains("truncated"))
        #expect(try refusal(header("ksplice-1/a", size: 8 << 30 - 1)).contains("truncated"))
        #expect(try refusal(whole + end + [1]).contains("follows its end"))
        #expect(try refusal(whole + end).contains("no manifest"))
    }

    @Test func damagedCompressionIsRefused() throws {
        let archive = try GitFixture.update().archive()
        for bad in [archive + [0], archive + archive, archive.dropLast(), Array(archive.prefix(20)), []] {
            #expect(throws: Failure.self) { try Update(archive: bad) }
        }
        var altered = archive
        altered[altered.count / 2] ^= 0x10
        #expect(throws: Failure.self) { try Update(archive: altered) }
        #expect(throws: Failure.self) { try Update(archive: archive, limit: 1024) }
    }

    @Test func contentIsHeldAgainstTheManifest() throws {
        let update = GitFixture.update()
        var parts = update.files
        parts["manifest"] = Array(update.manifestText.utf8)
        func tar(_ files: [String: [UInt8]]) throws -> [UInt8] {
            try files.sorted { $0.key < $1.key }.flatMap { try file("ksplice-1/" + $0.key, $0.value) } + end
        }
        #expect(try Update(archive: gzip(tar(parts))).id == update.id)
        #expect(try refusal(tar(parts.merging(["extra": []]) { $1 })).contains("does not list"))
        #expect(try refusal(tar(parts.merging(["update.ko": [1, 2, 4]]) { $1 })).contains("altered"))
        parts["patch"] = nil
        #expect(try refusal(tar(parts)).contains("lacks"))
    }
}
