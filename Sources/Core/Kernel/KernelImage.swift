// A kernel image: the uncompressed ELF file `vmlinux`, taken out of a bootable image where need be. Only what the
// loaded kernel consists of is read (program headers and their content), never sections, symbols or debug
// information, so a stripped image is as good as a full one and a file of a gigabyte costs 60 MB.

import CShims
import Glibc

/// The uncompressed image of one kernel build.
public struct KernelImage: Sendable {
    /// The file up to the end of its last loaded segment.
    public let bytes: [UInt8]
    /// For failures: the path that it was read from.
    public let name: String
    public let is64Bit: Bool
    /// What is loaded (`PT_LOAD`), in the order of the file.
    public let segments: [Segment]
    /// The GNU build-id, lower-case hexadecimal; empty where the image has none.
    public let buildID: String
    /// What the image says of itself; nil where it has no banner.
    public let banner: KernelBanner?

    /// A part of the file that is loaded at an address.
    public struct Segment: Sendable, Equatable {
        /// The link address of its first byte.
        public var address: UInt64
        /// In bytes, in memory; what lies behind the file's content is zero.
        public var memorySize: UInt64
        /// Offsets of its content in the file.
        public var file: Range<Int>
        public var isExecutable: Bool
    }

    /// As `uname -m` says it.
    public var arch: String { is64Bit ? "x86_64" : "i686" }

    /// Whether an address lies in a loaded segment.
    public func contains(_ address: UInt64) -> Bool {
        segments.contains { address >= $0.address && address - $0.address < $0.memorySize }
    }

    /// The link address of a byte of the file; nil where it is not loaded.
    public func address(ofFileOffset offset: Int) -> UInt64? {
        segments.first { $0.file.contains(offset) }.map { $0.address &+ UInt64(offset - $0.file.lowerBound) }
    }
}

extension KernelImage {
    /// Reads the bytes of an uncompressed image. Fails on anything but a linked x86 ELF file with loaded segments.
    public init(vmlinux bytes: [UInt8], name: String) throws {
        let header = try ImageHeader(bytes, name: name)
        self.bytes = bytes
        self.name = name
        is64Bit = header.is64Bit
        var segments: [Segment] = []
        var buildID = ""
        for part in try header.programHeaders(bytes) {
            guard part.end <= bytes.count else { throw malformedImage(name, "it is truncated") }
            let range = Int(part.offset)..<part.end
            if part.type == ImageHeader.load {
                guard part.memorySize >= UInt64(range.count), part.memorySize <= 1 << 40 else {
                    throw malformedImage(name, "a segment has an impossible size")
                }
                segments.append(
                    Segment(
                        address: part.address, memorySize: part.memorySize, file: range,
                        isExecutable: part.flags & 1 != 0))
            } else if part.type == ImageHeader.note, buildID.isEmpty {
                buildID = gnuBuildID(inNotes: Array(bytes[range])) ?? ""
            }
        }
        guard !segments.isEmpty else { throw malformedImage(name, "it loads nothing") }
        self.segments = segments
        self.buildID = buildID
        banner = KernelBanner.find(in: bytes)
    }

    /// Reads an uncompressed image from a file: only as much of it as is loaded.
    public init(vmlinuxAt path: String) throws {
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Failure.system("open", path, errno: errno) }
        defer { close(descriptor) }
        let start = try readPart(descriptor, count: 1 << 16, path: path)
        let header = try ImageHeader(start, name: path)
        let end = try header.programHeaders(start).map(\.end).max() ?? 0
        try self.init(vmlinux: readPart(descriptor, count: end, path: path), name: path)
    }
}

/// The first `count` bytes of an open file, or all of it where it is shorter.
private func readPart(_ descriptor: Int32, count: Int, path: String) throws -> [UInt8] {
    var info = stat()
    guard fstat(descriptor, &info) == 0 else { throw Failure.system("read", path, errno: errno) }
    let wanted = min(count, Int(info.st_size))
    var failed: Int32 = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: wanted) { buffer, filled in
        filled = 0
        while filled < wanted {
            let n = pread(descriptor, buffer.baseAddress! + filled, wanted - filled, off_t(filled))
            if n < 0 && errno == EINTR { continue }
            if n < 0 { failed = errno }
            if n <= 0 { return }
            filled += n
        }
    }
    guard failed == 0 else { throw Failure.system("read", path, errno: failed) }
    return bytes
}

func malformedImage(_ name: String, _ what: String) -> Failure {
    Failure("malformed kernel image '\(name)': \(what)", status: .verificationRefused)
}

/// The parts of the ELF header that lead to the program headers, for both classes.
private struct ImageHeader {
    static let load: UInt32 = 1
    static let note: UInt32 = 4

    let is64Bit: Bool
    let name: String
    private let tableOffset: UInt64
    private let entrySize: Int
    private let count: Int

    struct Part {
        var type: UInt32
        var flags: UInt32
        var offset: UInt64
        var address: UInt64
        var fileSize: UInt64
        var memorySize: UInt64
        /// The offset behind its content.
        var end: Int { Int(offset + fileSize) }
    }

    init(_ bytes: [UInt8], name: String) throws {
        guard bytes.starts(with: [0x7f, 0x45, 0x4c, 0x46]), bytes.count >= 64, bytes[4] == 1 || bytes[4] == 2,
            bytes[5] == 1
        else { throw malformedImage(name, "not an x86 ELF file") }
        is64Bit = bytes[4] == 2
        self.name = name
        let type = bytes.load(UInt16.self, at: 16) ?? 0
        let machine = bytes.load(UInt16.self, at: 18) ?? 0
        guard machine == UInt16(is64Bit ? EM_X86_64 : EM_386) else {
            throw malformedImage(name, "it is for machine \(machine), only x86 is known")
        }
        guard type == UInt16(ET_EXEC) || type == UInt16(ET_DYN) else {
            throw malformedImage(name, "it is not linked")
        }
        let sizes = is64Bit ? 54 : 42
        tableOffset =
            is64Bit ? bytes.load(UInt64.self, at: 32) ?? 0 : UInt64(bytes.load(UInt32.self, at: 28) ?? 0)
        entrySize = Int(bytes.load(UInt16.self, at: sizes) ?? 0)
        count = Int(bytes.load(UInt16.self, at: sizes + 2) ?? 0)
        guard entrySize >= (is64Bit ? 56 : 32), tableOffset < 1 << 40 else {
            throw malformedImage(name, "it has no program headers")
        }
    }

    func programHeaders(_ bytes: [UInt8]) throws -> [Part] {
        try (0..<count).map { index in
            let at = Int(tableOffset) + index * entrySize
            guard at + entrySize <= bytes.count else {
                throw malformedImage(name, "its program headers are truncated")
            }
            func word(_ offset: Int) -> UInt32 { bytes.load(UInt32.self, at: at + offset) ?? 0 }
            func long(_ offset: Int) -> UInt64 { bytes.load(UInt64.self, at: at + offset) ?? 0 }
            let part =
                is64Bit
                ? Part(
                    type: word(0), flags: word(4), offset: long(8), address: long(16), fileSize: long(32),
                    memorySize: long(40))
                : Part(
                    type: word(0), flags: word(24), offset: UInt64(word(4)), address: UInt64(word(8)),
                    fileSize: UInt64(word(16)), memorySize: UInt64(word(20)))
            guard part.offset < 1 << 40, part.fileSize < 1 << 40 else {
                throw malformedImage(name, "a segment has an impossible size")
            }
            return part
        }
    }
}
