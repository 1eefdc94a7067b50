// `/proc/kcore` presents the kernel's memory as an ELF core file, of the kernel's own class: each program header maps a range
// of virtual addresses to a range of the file.

/// Where a core file has the kernel's memory.
struct CoreFile: Sendable {
    struct Piece: Sendable, Equatable {
        var address: UInt64
        /// In bytes.
        var size: UInt64
        /// In the file.
        var offset: UInt64
    }

    let pieces: [Piece]

    /// How much of the file its first header needs.
    static let headerSize = 64

    /// Nil where this is no ELF file. Fails where it is not a core file of an x86 kernel, and where it maps nothing.
    /// - Parameter read: gives bytes at an offset of the file; fewer than asked for where it ends.
    init?(_ path: String, read: (_ offset: UInt64, _ count: Int) throws -> [UInt8]) throws {
        let header = try read(0, Self.headerSize)
        guard header.count == Self.headerSize, header.load(UInt32.self, at: 0) == 0x464c_457f else {
            return nil
        }
        let is64Bit = header[4] == 2
        let form = ELFForm(is64Bit: is64Bit)
        let (entry, place) = is64Bit ? (56, 54) : (32, 42)
        guard header[4] == 1 || header[4] == 2, header[5] == 1,
            let start = form.word(header, at: is64Bit ? 32 : 28),
            header.load(UInt16.self, at: place) == UInt16(entry),
            let count = header.load(UInt16.self, at: place + 2)
        else { throw Failure("'\(path)' is not a core file of an x86 kernel") }
        let table = try read(start, Int(count) * entry)
        guard table.count == Int(count) * entry else { throw Failure("'\(path)' is truncated") }
        // type, [flags,] offset, address, physical address, size in the file, size in memory
        let first = is64Bit ? 8 : 4
        pieces = stride(from: 0, to: table.count, by: entry).compactMap { at -> Piece? in
            guard table.load(UInt32.self, at: at) == 1,
                let offset = form.word(table, at: at + first),
                let address = form.word(table, at: at + first + form.word),
                let size = form.word(table, at: at + first + 4 * form.word)
            else { return nil }
            return Piece(address: address, size: size, offset: offset)
        }
        guard !pieces.isEmpty else { throw Failure("'\(path)' maps no memory") }
    }
}
