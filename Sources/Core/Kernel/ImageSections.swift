// Where the sections of an image are loaded. Distributions strip the symbols of an image but not its section headers;
// they lead to tables whose bounds kallsyms does not name where CONFIG_KALLSYMS_ALL is off. In a file with debug
// information the headers lie behind a gigabyte of it, so only they are read.

import Glibc

/// The loaded sections of an ELF image by name, as addresses. Empty where the file has no section headers.
public func readImageSections(_ path: String) throws -> [String: Range<UInt64>] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw Failure.system("open", path, errno: errno) }
    defer { close(descriptor) }
    let file = SectionHeaders(descriptor: descriptor, path: path)
    return try file.read()
}

private struct SectionHeaders {
    let descriptor: Int32
    let path: String

    func read() throws -> [String: Range<UInt64>] {
        let head = try bytes(at: 0, count: 64)
        guard head.starts(with: [0x7f, 0x45, 0x4c, 0x46]), head[5] == 1 else {
            throw malformedImage(path, "not an x86 ELF file")
        }
        let is64Bit = head[4] == 2
        let place = is64Bit ? 58 : 46
        func half(_ offset: Int) -> Int { Int(head.load(UInt16.self, at: offset) ?? 0) }
        let start =
            is64Bit ? head.load(UInt64.self, at: 40) ?? 0 : UInt64(head.load(UInt32.self, at: 32) ?? 0)
        let (size, count, names) = (half(place), half(place + 2), half(place + 4))
        guard count > 0, start > 0 else { return [:] }
        guard size >= (is64Bit ? 64 : 40), names < count else {
            throw malformedImage(path, "its section headers are damaged")
        }
        let table = try bytes(at: start, count: size * count)
        func field(_ section: Int, _ wide: Int, _ narrow: Int) -> UInt64 {
            let at = section * size
            return is64Bit
                ? table.load(UInt64.self, at: at + wide) ?? 0
                : UInt64(table.load(UInt32.self, at: at + narrow) ?? 0)
        }
        let textSize = field(names, 32, 20)
        guard textSize <= 1 << 20 else { throw malformedImage(path, "its section names are damaged") }
        let text = try bytes(at: field(names, 24, 16), count: Int(textSize))
        var sections: [String: Range<UInt64>] = [:]
        for section in 0..<count where field(section, 8, 8) & SectionFlags.alloc != 0 {
            let label = Int(table.load(UInt32.self, at: section * size) ?? 0)
            let address = field(section, 16, 12)
            let (end, overflow) = address.addingReportingOverflow(field(section, 32, 20))
            guard let name = text.string(at: label), !overflow else {
                throw malformedImage(path, "a section header is damaged")
            }
            sections[name] = address..<end
        }
        return sections
    }

    private func bytes(at offset: UInt64, count: Int) throws -> [UInt8] {
        var failed: Int32 = 0
        let result = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            let n = pread(descriptor, buffer.baseAddress, count, off_t(clamping: offset))
            if n < 0 { failed = errno }
            filled = max(0, n)
        }
        guard failed == 0 else { throw Failure.system("read", path, errno: failed) }
        guard result.count == count else { throw malformedImage(path, "it is truncated") }
        return result
    }
}
