// The running kernel's memory through `/proc/kcore`, which presents it as a core file (`CoreFile`). Reads go through windows, so that matching thousands of
// functions costs few system calls. What was read is kept: make a new object to see later changes.
//
// The window of ksplice.ko (kernel/window.c) is read the same way: one range, whose offsets are addresses without their
// highest bit.

import Glibc

/// Kernel memory read from a core file, or through a window.
public final class KcoreMemory: OpenMemory {
    private typealias Piece = CoreFile.Piece

    /// In bytes; a power of two.
    private static let windowSize: UInt64 = 64 << 10
    /// Most windows that are kept: 64 MiB.
    private static let windowLimit = 1024

    private let path: String
    private var descriptor: Int32
    private let ranges: [Piece]
    private var windows: [UInt64: [UInt8]] = [:]

    /// Takes over the descriptor.
    private init(_ path: String, _ descriptor: Int32, _ ranges: [Piece]) {
        self.path = path
        self.descriptor = descriptor
        self.ranges = ranges
    }

    /// Opens the file and reads its headers. Nil where the kernel's memory is not there: the file is missing, or something
    /// else is mounted over it. Fails where it is there and may not be read.
    public static func open(_ path: String = "/proc/kcore") throws -> KcoreMemory? {
        let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            if errno == ENOENT { return nil }
            throw explain(path, errno)
        }
        do {
            if let ranges = try readRanges(path, descriptor) {
                return KcoreMemory(path, descriptor, ranges)
            }
        } catch {
            Glibc.close(descriptor)
            throw error
        }
        Glibc.close(descriptor)
        return nil
    }

    /// The window that a descriptor of ksplice.ko is; takes the descriptor over.
    static func window(_ descriptor: Int32) -> KcoreMemory {
        // The last page holds error numbers, never memory.
        let upperHalf: UInt64 = 1 << 63
        return KcoreMemory(
            "the window of ksplice.ko", descriptor,
            [Piece(address: upperHalf, size: upperHalf - 4096, offset: 0)])
    }

    deinit { close() }

    public func close() {
        guard descriptor >= 0 else { return }
        Glibc.close(descriptor)
        descriptor = -1
        windows.removeAll()
    }

    private static func explain(_ path: String, _ code: Int32) -> Failure {
        let failure = Failure.system("open", path, errno: code)
        switch code {
        case EPERM:
            return Failure(
                failure.message,
                hints: [
                    "this needs root with CAP_SYS_RAWIO",
                    "a kernel locked down for confidentiality (/sys/kernel/security/lockdown) lets nobody read its memory",
                ])
        case EACCES: return Failure("\(failure.message): must be root", hint: "run this as root")
        default: return failure
        }
    }

    /// Nil where this is no core file.
    private static func readRanges(_ path: String, _ descriptor: Int32) throws -> [Piece]? {
        try CoreFile(path) { offset, count in
            // Nothing where it cannot be read: then it is no core file, whatever it is.
            offset == 0
                ? readSome(descriptor, at: offset, count: count).0
                : try read(path, descriptor, at: offset, count: count)
        }?.pieces
    }

    private static func read(_ path: String, _ descriptor: Int32, at offset: UInt64, count: Int) throws
        -> [UInt8]
    {
        let (bytes, code) = readSome(descriptor, at: offset, count: count)
        guard bytes.count == count else { throw Failure.system("read", path, errno: code) }
        return bytes
    }

    /// What can be read in one go, and why it is not more.
    private static func readSome(_ descriptor: Int32, at offset: UInt64, count: Int) -> ([UInt8], Int32) {
        var failed: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, done in
            done = 0
            while done < count {
                let n = pread(
                    descriptor, buffer.baseAddress! + done, count - done,
                    off_t(truncatingIfNeeded: offset) + done)
                if n < 0 && errno == EINTR { continue }
                if n <= 0 {
                    failed = n < 0 ? errno : EIO
                    break
                }
                done += n
            }
        }
        return (bytes, failed)
    }

    public func read(at address: UInt64, count: Int) throws -> [UInt8] {
        if count == 0 { return [] }
        guard count > 0, count <= 1 << 30,
            let range = ranges.first(where: { address >= $0.address && address - $0.address < $0.size }),
            UInt64(count) <= range.size - (address - range.address)
        else { throw Failure("\(hex(address)) is not mapped in '\(path)'") }
        var result: [UInt8] = []
        result.reserveCapacity(count)
        var next = address
        let end = address + UInt64(count)
        while next < end {
            let base = next & ~(Self.windowSize - 1)
            // Two ranges may meet in one window.
            let first = max(base, range.address)
            let last = min(base &+ (Self.windowSize - 1), range.address &+ (range.size - 1))
            let stop = min(end, last + 1)
            let window = window(first...last, in: range)
            guard Int(stop - first) <= window.count else {
                return try Self.read(
                    path, descriptor, at: range.offset + (address - range.address), count: count)
            }
            result += window[Int(next - first)..<Int(stop - first)]
            next = stop
        }
        return result
    }

    /// The part of a window that lies in a range, up to the first byte that cannot be read.
    private func window(_ place: ClosedRange<UInt64>, in range: Piece) -> [UInt8] {
        let first = place.lowerBound
        if let known = windows[first] { return known }
        let (bytes, _) = Self.readSome(
            descriptor, at: range.offset + (first - range.address), count: Int(place.upperBound - first) + 1)
        if windows.count >= Self.windowLimit { windows.removeAll(keepingCapacity: true) }
        windows[first] = bytes
        return bytes
    }
}
