// An update as one file: a gzip-compressed tar archive (POSIX.1-1988 ustar) with everything below one folder. It is
// written canonically: sorted, no owner, no date, so that equal updates give equal files. It is read
// suspiciously: what this writer would not make is refused, but for folder entries, which other tar programs add.
// What is accepted is then held against the manifest.

extension Update {
    /// Most bytes that an archive may hold, uncompressed.
    public static let archiveLimit = 256 << 20

    /// The content of `ksplice-<id>.tar.gz`.
    public func archive() throws -> [UInt8] {
        var files = self.files
        files[Path.manifest] = Array(manifestText.utf8)
        let folder = "ksplice-\(id.prefix(8))/"
        var tar: [UInt8] = []
        for (path, content) in files.sorted(by: { $0.key < $1.key }) {
            tar += try TarHeader(path: folder + path, size: content.count).block()
            tar += content
            tar += [UInt8](repeating: 0, count: TarHeader.padding(content.count))
        }
        tar += [UInt8](repeating: 0, count: 2 * TarHeader.blockSize)
        return try gzip(tar)
    }

    /// Reads an archive and verifies it.
    ///
    /// - Throws: status `verificationRefused` for anything but an intact update.
    public init(archive: [UInt8], limit: Int = Update.archiveLimit) throws {
        let tar = try gunzip(archive, limit: limit)
        // A stream that is whole without its last byte has something else behind it.
        guard (try? gunzip(archive.dropLast(), limit: limit)) == nil else {
            throw TarReader.refusal("something follows the compressed data")
        }
        var reader = TarReader(tar)
        var files = try reader.read()
        guard let manifest = files.removeValue(forKey: Path.manifest) else {
            throw TarReader.refusal("it holds no manifest")
        }
        try self.init(manifestText: String(decoding: manifest, as: UTF8.self), files: files)
    }
}

/// The header of a plain file: one block of 512 bytes, numbers in octal text.
struct TarHeader {
    static let blockSize = 512
    /// Offset and size of each field that matters (POSIX.1-1988, 10.1.1).
    enum Field {
        static let name = (0, 100)
        static let size = (124, 12)
        static let checksum = (148, 8)
        static let type = 156
        static let magic = (257, 8)
        static let prefix = (345, 155)
    }

    var path: String
    var size: Int

    /// Zero bytes behind a content of this size.
    static func padding(_ size: Int) -> Int { (blockSize - size % blockSize) % blockSize }

    func block() throws -> [UInt8] {
        var block = [UInt8](repeating: 0, count: Self.blockSize)
        func put(_ text: some Sequence<UInt8>, _ offset: Int) {
            for (index, byte) in text.enumerated() { block[offset + index] = byte }
        }
        func octal(_ value: Int, _ digits: Int) -> String.UTF8View {
            let text = String(value, radix: 8)
            return (String(repeating: "0", count: max(0, digits - text.utf8.count)) + text).utf8
        }
        let (prefix, name) = try split()
        put(name, Field.name.0)
        put(octal(0o644, 7), 100)
        put(octal(0, 7), 108)
        put(octal(0, 7), 116)
        put(octal(size, 11), Field.size.0)
        put(octal(0, 11), 136)
        put("        ".utf8, Field.checksum.0)
        put("0".utf8, Field.type)
        put("ustar\u{0}00".utf8, Field.magic.0)
        put(prefix, Field.prefix.0)
        put(octal(block.reduce(0) { $0 + Int($1) }, 6), Field.checksum.0)
        block[Field.checksum.0 + 6] = 0
        return block
    }

    /// A path of more than 100 bytes is split at a slash.
    private func split() throws -> (Substring.UTF8View, Substring.UTF8View) {
        let bytes = path.utf8
        if bytes.count <= Field.name.1 { return (""[...].utf8, path[...].utf8) }
        for slash in bytes.indices where bytes[slash] == UInt8(ascii: "/") {
            let (prefix, name) = (path[..<slash].utf8, path[path.index(after: slash)...].utf8)
            if prefix.count <= Field.prefix.1 && name.count <= Field.name.1 { return (prefix, name) }
        }
        throw Failure("'\(path)' is too long for an archive")
    }
}

/// Reads a whole archive.
struct TarReader {
    private let bytes: [UInt8]
    private var offset = 0
    private var top: Substring?
    private var files: [String: [UInt8]] = [:]

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    static func refusal(_ why: String) -> Failure {
        Failure("refused to read the archive: \(why)", status: .verificationRefused)
    }

    /// The plain files by their path below the one top folder.
    mutating func read() throws -> [String: [UInt8]] {
        while true {
            let header = try block()
            if header.allSatisfy({ $0 == 0 }) {
                let rest = bytes[offset...]
                guard rest.count >= TarHeader.blockSize else { throw Self.refusal("it is truncated") }
                guard rest.allSatisfy({ $0 == 0 }) else { throw Self.refusal("something follows its end") }
                return files
            }
            try entry(header)
        }
    }

    private mutating func block() throws -> ArraySlice<UInt8> {
        guard bytes.count - offset >= TarHeader.blockSize else { throw Self.refusal("it is truncated") }
        defer { offset += TarHeader.blockSize }
        return bytes[offset..<offset + TarHeader.blockSize]
    }

    private mutating func entry(_ slice: ArraySlice<UInt8>) throws {
        let header = Array(slice)
        try verifyChecksum(header)
        guard header[257..<262].elementsEqual("ustar".utf8) else {
            throw Self.refusal("it is no ustar archive")
        }
        let path = try path(header)
        let size = try number(header, TarHeader.Field.size)
        switch header[TarHeader.Field.type] {
        case UInt8(ascii: "0"), 0:
            let name = try place(path, isFolder: false)
            guard size <= bytes.count - offset else { throw Self.refusal("it is truncated inside '\(path)'") }
            let content = Array(bytes[offset..<offset + size])
            offset += size
            guard TarHeader.padding(size) <= bytes.count - offset else {
                throw Self.refusal("it is truncated")
            }
            offset += TarHeader.padding(size)
            guard files.updateValue(content, forKey: name) == nil else {
                throw Self.refusal("'\(path)' is in it twice")
            }
        case UInt8(ascii: "5"):
            guard size == 0 else { throw Self.refusal("the folder '\(path)' has content") }
            _ = try place(path.hasSuffix("/") ? String(path.dropLast()) : path, isFolder: true)
        case let type:
            throw Self.refusal("'\(path)' is neither file nor folder (type \(type))")
        }
    }

    private func verifyChecksum(_ header: [UInt8]) throws {
        let (start, length) = TarHeader.Field.checksum
        var sum = 0
        for (index, byte) in header.enumerated() {
            sum += start..<start + length ~= index ? 32 : Int(byte)
        }
        guard try number(header, TarHeader.Field.checksum) == sum else {
            throw Self.refusal("the checksum of a header is wrong")
        }
    }

    private func number(_ header: [UInt8], _ field: (Int, Int)) throws -> Int {
        let text = header[field.0..<field.0 + field.1].prefix { $0 != 0 && $0 != 32 }
        guard let value = Int(String(decoding: text, as: UTF8.self), radix: 8), value >= 0 else {
            throw Self.refusal("a number in a header is malformed")
        }
        return value
    }

    private func path(_ header: [UInt8]) throws -> String {
        func text(_ field: (Int, Int)) throws -> String {
            let part = header[field.0..<field.0 + field.1].prefix { $0 != 0 }
            guard let text = String(validating: part, as: UTF8.self) else {
                throw Self.refusal("a name is not UTF-8")
            }
            return text
        }
        // GNU tar's own format has other things in the place of the prefix.
        let isStandard = header[262] == 0
        let prefix = isStandard ? try text(TarHeader.Field.prefix) : ""
        return try (prefix.isEmpty ? "" : prefix + "/") + text(TarHeader.Field.name)
    }

    /// The path below the top folder; refuses what would lead elsewhere.
    private mutating func place(_ path: String, isFolder: Bool) throws -> String {
        let parts = path.split(separator: "/", omittingEmptySubsequences: false)
        guard !path.isEmpty, !parts.contains(where: { $0.isEmpty || $0 == "." || $0 == ".." }) else {
            throw Self.refusal("the path '\(path)' leads elsewhere")
        }
        guard parts.count > 1 || isFolder, top == nil || top == parts[0] else {
            throw Self.refusal("'\(path)' is outside of its one folder")
        }
        top = parts[0]
        return parts.dropFirst().joined(separator: "/")
    }
}
