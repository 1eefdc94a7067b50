// Trees as git stores them: `MODE NAME`, a zero byte and the name of the object in binary, one entry behind the other, folders
// sorted as if their names ended in a slash (gitformat-pack(5), fsck.c). Names are bytes: they need not be UTF-8.

/// An entry of a tree.
struct TreeEntry: Sendable, Equatable {
    /// As git writes it, in octal digits: `100644`, `40000`.
    var mode: String
    var name: [UInt8]
    var id: String

    /// Old programs wrote a zero before it.
    var isFolder: Bool { mode == Self.folder || mode == "0" + Self.folder }
    /// A file with content of its own: neither a link nor the commit of a submodule.
    var isPlainFile: Bool { mode.hasPrefix("100") }
    var isExecutable: Bool { mode == "100755" }
    /// The commit of a submodule, which is in another repository.
    var isModule: Bool { mode == "160000" }
    var text: String { String(decoding: name, as: UTF8.self) }

    static let folder = "40000"
    static let file = "100644"

    /// By what git sorts.
    fileprivate var key: [UInt8] { isFolder ? name + [UInt8(ascii: "/")] : name }

    /// Whether git has it before another one.
    func isBefore(_ other: TreeEntry) -> Bool { key.lexicographicallyPrecedes(other.key) }
}

/// The entries of a tree, in git's order.
struct TreeObject: Sendable, Equatable {
    var entries: [TreeEntry] = []

    init(entries: [TreeEntry] = []) { self.entries = entries.sorted { $0.isBefore($1) } }

    /// Reads a tree. Fails where it is not well formed.
    init(parsing bytes: [UInt8], format: ObjectFormat) throws {
        var scanner = TreeScanner(bytes: bytes, format: format)
        while try scanner.advance() { entries.append(scanner.entry) }
    }

    /// The entry of one name alone.
    static func entry(_ name: some StringProtocol, of bytes: [UInt8], format: ObjectFormat) throws
        -> TreeEntry?
    {
        var scanner = TreeScanner(bytes: bytes, format: format)
        while try scanner.advance() { if scanner.name.elementsEqual(name.utf8) { return scanner.entry } }
        return nil
    }

    var bytes: [UInt8] {
        var bytes: [UInt8] = []
        for entry in entries {
            bytes += entry.mode.utf8
            bytes.append(UInt8(ascii: " "))
            bytes += entry.name
            bytes.append(0)
            bytes += unhex(entry.id) ?? []
        }
        return bytes
    }

    func entry(_ name: some StringProtocol) -> TreeEntry? {
        let wanted = Array(name.utf8)
        return entries.first { $0.name == wanted }
    }
}

/// Goes over the entries of a tree without taking them out.
private struct TreeScanner {
    let bytes: [UInt8]
    let format: ObjectFormat
    private var start = 0
    private var blank = 0
    private var zero = 0
    private var end = 0

    init(bytes: [UInt8], format: ObjectFormat) { (self.bytes, self.format) = (bytes, format) }

    /// Whether there is a further one.
    mutating func advance() throws -> Bool {
        if end == bytes.count { return false }
        start = end
        guard let blank = bytes[start...].prefix(8).firstIndex(of: UInt8(ascii: " ")),
            let zero = bytes[blank...].firstIndex(of: 0), zero + format.digits / 2 < bytes.count
        else { throw Failure("a tree is damaged", hint: "git fsck") }
        (self.blank, self.zero, end) = (blank, zero, zero + format.digits / 2 + 1)
        return true
    }

    var name: ArraySlice<UInt8> { bytes[(blank + 1)..<zero] }

    var entry: TreeEntry {
        TreeEntry(
            mode: String(decoding: bytes[start..<blank], as: UTF8.self), name: Array(name),
            id: hex(bytes[(zero + 1)..<end]))
    }
}
