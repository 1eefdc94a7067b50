// Taking the uncompressed image out of a bootable one. libdw knows how, as far as its build knows the compression;
// where it does not, the boot header says where the compressed payload lies (Documentation/arch/x86/boot.rst of
// Linux) and the compression's own program undoes it.

import CShims
import Glibc

extension KernelImage {
    /// Opens `vmlinux`, `vmlinuz` or `bzImage`. An image that had to be decompressed is kept at `uncompressed`.
    ///
    /// Fails where the file is none of them, and names the program that is missing to decompress it.
    public static func open(_ path: String, uncompressed: String) async throws -> KernelImage {
        if try isELF(path) { return try KernelImage(vmlinuxAt: path) }
        let boot = try Files.read(path)
        let bytes: [UInt8]
        if let found = decompressWithLibdw(path) {
            bytes = found
        } else {
            bytes = try await BootImage(boot, path: path).decompress()
        }
        let image = try KernelImage(vmlinux: bytes, name: path)
        try Files.createDirectory(uncompressed.directoryPart)
        try Files.write(bytes, to: uncompressed)
        return image
    }

    /// Whether a file is an uncompressed image.
    static func isELF(_ path: String) throws -> Bool {
        try firstBytes(path, 4) == [0x7f, 0x45, 0x4c, 0x46]
    }

    /// Whether a file is a bootable image: it has the boot header's magic number.
    static func isBootable(_ path: String) throws -> Bool {
        let start = try firstBytes(path, 0x206)
        return start.count == 0x206 && Array(start[0x202...]) == Array("HdrS".utf8)
    }

    private static func firstBytes(_ path: String, _ count: Int) throws -> [UInt8] {
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Failure.system("open", path, errno: errno) }
        defer { close(descriptor) }
        return [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            filled = max(0, pread(descriptor, buffer.baseAddress, count, 0))
        }
    }

    /// The uncompressed image as libdw sees it; nil where it does not know the compression.
    static func decompressWithLibdw(_ path: String) -> [UInt8]? {
        let callbacks = UnsafeMutablePointer<Dwfl_Callbacks>.allocate(capacity: 1)
        defer { callbacks.deallocate() }
        callbacks.initialize(to: Dwfl_Callbacks())
        callbacks.pointee.find_elf = dwfl_build_id_find_elf
        callbacks.pointee.find_debuginfo = dwfl_standard_find_debuginfo
        callbacks.pointee.section_address = dwfl_offline_section_address
        guard let session = dwfl_begin(callbacks) else { return nil }
        defer { dwfl_end(session) }
        dwfl_report_begin(session)
        guard let module = dwfl_report_offline(session, "", path, -1) else { return nil }
        dwfl_report_end(session, nil, nil)
        var bias: GElf_Addr = 0
        var size = 0
        guard let elf = dwfl_module_getelf(module, &bias), let start = elf_rawfile(elf, &size), size > 0
        else { return nil }
        return start.withMemoryRebound(to: UInt8.self, capacity: size) {
            Array(UnsafeBufferPointer(start: $0, count: size))
        }
    }
}

/// A bootable x86 image, read through its boot header.
struct BootImage {
    let path: String
    let payload: [UInt8]

    init(_ bytes: [UInt8], path: String) throws {
        guard bytes.count > 0x264, Array(bytes[0x202..<0x206]) == Array("HdrS".utf8) else {
            throw Failure("'\(path)' is not an x86 kernel image: neither ELF nor a boot header")
        }
        let version = bytes.load(UInt16.self, at: 0x206) ?? 0
        guard version >= 0x208, let offset = bytes.load(UInt32.self, at: 0x248),
            let length = bytes.load(UInt32.self, at: 0x24c)
        else {
            throw malformedImage(
                path, "boot protocol \(version >> 8).\(version & 255) does not name the payload")
        }
        let sectors = bytes[0x1f1] == 0 ? 4 : Int(bytes[0x1f1])
        let start = (sectors + 1) * 512 + Int(offset)
        guard length > 4, start + Int(length) <= bytes.count else {
            throw malformedImage(path, "its payload is truncated")
        }
        self.path = path
        payload = Array(bytes[start..<start + Int(length)])
    }

    /// The first bytes of each compression's format, and the command that undoes it.
    static let formats: [(magic: [UInt8], command: [String])] = [
        ([0x1f, 0x8b], ["gzip", "-dc"]),
        ([0xfd, 0x37, 0x7a, 0x58, 0x5a], ["xz", "-dc"]),
        ([0x28, 0xb5, 0x2f, 0xfd], ["zstd", "-dc"]),
        ([0x02, 0x21, 0x4c, 0x18], ["lz4", "-dc"]),
        ([0x42, 0x5a, 0x68], ["bzip2", "-dc"]),
        ([0x89, 0x4c, 0x5a, 0x4f], ["lzop", "-dc"]),
        ([0x5d, 0x00, 0x00], ["xz", "--format=lzma", "-dc"]),
    ]

    /// The payload as an ELF file. Behind the compressed data of every format but gzip, whose own end says it, stands
    /// the size of the result in four bytes.
    func decompress() async throws -> [UInt8] {
        if payload.starts(with: [0x7f, 0x45, 0x4c, 0x46]) { return payload }
        guard let format = Self.formats.first(where: { payload.starts(with: $0.magic) }) else {
            throw malformedImage(
                path, "its compression begins with \(hex(payload.prefix(4))), which is not known")
        }
        let program = format.command[0]
        let data = program == "gzip" ? payload : Array(payload.dropLast(4))
        let result: CommandResult
        do {
            var command = Command(format.command, input: data)
            command.outputLimit = 1 << 30
            result = try await command.run()
        } catch {
            throw Failure(
                "cannot decompress the kernel image '\(path)': \(error)",
                hint: "install the program '\(program)'")
        }
        guard result.succeeded,
            result.output.count == Int(payload.load(UInt32.self, at: payload.count - 4) ?? 0)
        else {
            let said = result.errorText.trimmed
            throw malformedImage(path, "'\(program)' cannot decompress it\(said.isEmpty ? "" : ": \(said)")")
        }
        return result.output
    }
}
