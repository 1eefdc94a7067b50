// The running kernel's memory through `/proc/kcore`, which presents it as an ELF core file: each program header maps
// a range of virtual addresses to a range of the file. Reads go through windows, so that matching thousands of
// functions costs few system calls. What was read is kept: make a new object to see later changes.

import Glibc

/// Kernel memory read from a core file.
public final class KcoreMemory: KernelMemory {
    private struct Piece {
        var address: UInt64
        var size: UInt64
        var offset: UInt64
    }

    /// In bytes; a power of two.
    private static let windowSize: UInt64 = 64 << 10
    /// Most windows that are kept: 64 MiB.
    private static let windowLimit = 1024

    private let path: String
    private let descriptor: Int32
    private var ranges: [Piece] = []
    private var windows: [UInt64: [UInt8]] = [:]

    /// Opens the file and reads its headers. Fails with what is missing: rights, the config, or a lifted lockdown.
    public init(path: String = "/proc/kcore") throws {
        self.path = path
        descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Self.explain(path, errno) }
        do { ranges = try Self.readRanges(path, descriptor) } catch {
            close(descriptor)
            throw error
        }
    }

    deinit { close(descriptor) }

    private static func explain(_ path: String, _ code: Int32) -> Failure {
        let failure = Failure.system("open", path, errno: code)
        switch code {
        case ENOENT:
            return Failure(
                failure.message, hint: "the kernel has no CONFIG_PROC_KCORE, or /proc is not the host's")
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

    private static func readRanges(_ path: String, _ descriptor: Int32) throws -> [Piece] {
        let header: [UInt8]
        do { header = try read(path, descriptor, at: 0, count: 64) } catch let failure as Failure {
            throw Failure(
                failure.message,
                hint: "something hides the kernel's memory: is another file mounted over '\(path)'?")
        }
        guard header.load(UInt32.self, at: 0) == 0x464c_457f, header[4] == 2, header[5] == 1,
            let start = header.load(UInt64.self, at: 32), header.load(UInt16.self, at: 54) == 56,
            let count = header.load(UInt16.self, at: 56)
        else { throw Failure("'\(path)' is not a core file of a 64-bit kernel") }
        let table = try read(path, descriptor, at: start, count: Int(count) * 56)
        let found = stride(from: 0, to: table.count, by: 56).compactMap { place -> Piece? in
            guard table.load(UInt32.self, at: place) == 1,
                let offset = table.load(UInt64.self, at: place + 8),
                let address = table.load(UInt64.self, at: place + 16),
                let size = table.load(UInt64.self, at: place + 40)
            else { return nil }
            return Piece(address: address, size: size, offset: offset)
        }
        guard !found.isEmpty else { throw Failure("'\(path)' maps no memory") }
        return found
    }

    private static func read(_ path: String, _ descriptor: Int32, at offset: UInt64, count: Int) throws
        -> [UInt8]
    {
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
        guard failed == 0 else { throw Failure.system("read", path, errno: failed) }
        return bytes
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
            guard let window = try window(base, in: range) else {
                return try Self.read(
                    path, descriptor, at: range.offset + (address - range.address), count: count)
            }
            let first = max(base, range.address)
            let stop = min(end, first + UInt64(window.count))
            result += window[Int(next - first)..<Int(stop - first)]
            next = stop
        }
        return result
    }

    /// The part of a window that lies in a range; nil where some page of it cannot be read.
    private func window(_ base: UInt64, in range: Piece) throws -> [UInt8]? {
        // Two ranges may meet in one window.
        let first = max(base, range.address)
        if let known = windows[first] { return known }
        let size = min(base &+ (Self.windowSize - 1) - first, range.address &+ (range.size - 1) - first) + 1
        let bytes: [UInt8]
        do {
            bytes = try Self.read(
                path, descriptor, at: range.offset + (first - range.address), count: Int(size))
        } catch { return nil }
        if windows.count >= Self.windowLimit { windows.removeAll(keepingCapacity: true) }
        windows[first] = bytes
        return bytes
    }
}
