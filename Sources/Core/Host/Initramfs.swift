// An initial file system for a virtual machine: a cpio archive in the kernel's "newc" form
// (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel).

struct Initramfs {
    private var bytes: [UInt8] = []
    private var folders: Set<String> = []
    private var inode = 1

    /// Adds a file with its folders. `path` has no slash at the start.
    mutating func add(_ content: [UInt8], at path: String, mode: UInt32 = 0o755) {
        addFolders(above: path)
        entry(path, mode: 0o100000 | mode, content)
    }

    mutating func addLink(_ path: String, to target: String) {
        addFolders(above: path)
        entry(path, mode: 0o120777, Array(target.utf8))
    }

    mutating func addFolder(_ path: String) {
        guard !path.isEmpty, path != ".", folders.insert(path).inserted else { return }
        addFolders(above: path)
        entry(path, mode: 0o040755, [])
    }

    private mutating func addFolders(above path: String) {
        if path.contains("/") { addFolder(path.directoryPart) }
    }

    /// The archive.
    func finished() -> [UInt8] {
        var copy = self
        copy.entry("TRAILER!!!", mode: 0, [])
        return copy.bytes
    }

    private mutating func entry(_ path: String, mode: UInt32, _ content: [UInt8]) {
        let name = Array(path.utf8) + [0]
        let fields: [UInt32] = [
            UInt32(inode), mode, 0, 0, 1, 0, UInt32(content.count), 0, 0, 0, 0, UInt32(name.count), 0,
        ]
        inode += 1
        bytes += Array("070701".utf8)
        for field in fields {
            let digits = String(field, radix: 16)
            bytes += Array((String(repeating: "0", count: 8 - digits.count) + digits).utf8)
        }
        bytes += name
        pad()
        bytes += content
        pad()
    }

    private mutating func pad() {
        while bytes.count % 4 != 0 { bytes.append(0) }
    }
}
