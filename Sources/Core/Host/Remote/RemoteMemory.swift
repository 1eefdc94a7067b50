// The memory of a kernel at the far end of a shell: pieces of its `/proc/kcore`, fetched as base64, many with one script, and
// kept. What is read without having been fetched is fetched then.

/// Kernel memory behind a remote shell.
final class RemoteMemory: KernelMemory {
    private let shell: RemoteShell
    private let path: String
    private let file: CoreFile
    /// Content by the address of the window's first byte; shorter where the rest cannot be read.
    private var windows: [UInt64: [UInt8]] = [:]

    static let usualPath = "/proc/kcore"
    /// What dd counts in, in bytes: ranges of the file are whole pages.
    private static let page: UInt64 = 4096
    /// In bytes; a power of two.
    private static let windowSize: UInt64 = 32 << 10
    /// Most windows that one script fetches.
    private static let most = 64

    /// Nil where the host shows no memory: the file is missing, or something else is mounted over it.
    init?(_ shell: RemoteShell, path: String = RemoteMemory.usualPath) throws {
        guard
            let file = try CoreFile(
                path,
                read: { offset, count in
                    let first = offset / Self.page
                    let pages = (offset + UInt64(count) + Self.page - 1) / Self.page - first
                    let bytes = try Self.fetch(shell, path, [(first, pages)])[0]
                    let start = Int(offset - first * Self.page)
                    return Array(bytes.dropFirst(start).prefix(count))
                })
        else { return nil }
        self.shell = shell
        self.file = file
        self.path = path
    }

    /// Reads ranges of the file, given in pages; each gives what could be read of it.
    private static func fetch(
        _ shell: RemoteShell, _ path: String, _ ranges: [(first: UInt64, count: UInt64)]
    ) throws
        -> [[UInt8]]
    {
        let calls = ranges.map { "r \($0.first) \($0.count)" }.joined(separator: "\n")
        let lines = try shell.lines(
            """
            r() { dd if=\(RemoteShell.quoted(path)) bs=\(page) skip=$1 count=$2 2>/dev/null | base64; echo .; }
            \(calls)
            """)
        let texts = lines.filter { !$0.isEmpty }.split(separator: ".", omittingEmptySubsequences: false)
            .dropLast()
        let parts = texts.map { Base64.decode($0.lazy.flatMap(\.utf8)) }
        guard parts.count == ranges.count, parts.allSatisfy({ $0 != nil }) else {
            throw Failure(
                "cannot read '\(path)' through '\(shell.command)': what came back is not understood",
                hint: "the host needs dd and base64, as busybox has them")
        }
        return parts.map { $0! }
    }

    /// A window: as much of an aligned piece of the address space as one piece of the file holds.
    private struct Window {
        var first: UInt64
        var last: UInt64
        /// In the file, in pages.
        var place: (first: UInt64, count: UInt64)
    }

    /// The window that an address is in; nil where it is not mapped.
    private func window(at address: UInt64) -> Window? {
        guard
            let piece = file.pieces.first(where: { address >= $0.address && address - $0.address < $0.size }),
            (piece.offset &- piece.address) % Self.page == 0
        else { return nil }
        let base = address & ~(Self.windowSize - 1)
        let first = max(base, piece.address)
        let last = min(base + (Self.windowSize - 1), piece.address + (piece.size - 1))
        let start = piece.offset + (first - piece.address)
        return Window(
            first: first, last: last,
            place: (start / Self.page, (start % Self.page + (last - first) + Self.page) / Self.page))
    }

    /// Fetches the windows that cover ranges and are not there yet. What is not mapped is left out.
    func fetch(covering ranges: [Range<UInt64>]) throws {
        var wanted: [UInt64: Window] = [:]
        for range in ranges where !range.isEmpty {
            var next = range.lowerBound
            while next < range.upperBound {
                let window = window(at: next)
                if let window, windows[window.first] == nil { wanted[window.first] = window }
                let last = window?.last ?? next | (Self.windowSize - 1)
                if last == .max { break }
                next = last + 1
            }
        }
        let order = wanted.values.sorted { $0.first < $1.first }
        for start in stride(from: 0, to: order.count, by: Self.most) {
            let part = order[start..<min(start + Self.most, order.count)]
            let found = try Self.fetch(shell, path, part.map(\.place))
            for (window, bytes) in zip(part, found) {
                let skip = Int(window.first % Self.page)
                windows[window.first] = Array(
                    bytes.dropFirst(skip).prefix(Int(window.last - window.first) + 1))
            }
        }
    }

    func read(at address: UInt64, count: Int) throws -> [UInt8] {
        if count == 0 { return [] }
        let (end, overflow) = address.addingReportingOverflow(UInt64(clamping: count))
        guard count > 0, count <= 1 << 26, !overflow else { throw unmapped(address) }
        try fetch(covering: [address..<end])
        var result: [UInt8] = []
        result.reserveCapacity(count)
        var next = address
        while next < end {
            guard let window = window(at: next), let bytes = windows[window.first] else {
                throw unmapped(address)
            }
            let (from, to) = (
                Int(next - window.first), Int(min(end - window.first, window.last - window.first + 1))
            )
            guard to <= bytes.count else { throw unmapped(address) }
            result += bytes[from..<to]
            next = window.first + UInt64(to)
        }
        return result
    }

    private func unmapped(_ address: UInt64) -> Failure {
        Failure("\(hex(address)) is not mapped in '\(path)' of '\(shell.command)'")
    }
}
