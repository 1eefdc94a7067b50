// Files and folders through the system calls, with failures that name the path.

import Glibc

/// The C library's text for an error number.
public func describe(errno code: Int32) -> String {
    String(cString: strerror(code))
}

/// File operations. Paths are strings as the kernel takes them.
public enum Files {
    public static func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    public static func isDirectory(_ path: String) -> Bool {
        var info = stat()
        return stat(path, &info) == 0 && info.st_mode & S_IFMT == S_IFDIR
    }

    public static func isRegular(_ path: String) -> Bool {
        var info = stat()
        return stat(path, &info) == 0 && info.st_mode & S_IFMT == S_IFREG
    }

    /// The whole content of a file; also of files in `/proc` and `/sys`, whose size is not known beforehand.
    public static func read(_ path: String) throws -> [UInt8] {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Failure.system("open", path, errno: errno) }
        defer { close(descriptor) }
        var info = stat()
        guard fstat(descriptor, &info) == 0 else { throw Failure.system("read", path, errno: errno) }
        var bytes: [UInt8] = []
        var chunk = max(Int(info.st_size) + 1, 1 << 16)
        while true {
            var failed: Int32 = 0
            let part = [UInt8](unsafeUninitializedCapacity: chunk) { buffer, count in
                repeat {
                    count = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
                } while count < 0 && errno == EINTR
                if count < 0 {
                    failed = errno
                    count = 0
                }
            }
            guard failed == 0 else { throw Failure.system("read", path, errno: failed) }
            if part.isEmpty { return bytes }
            if bytes.isEmpty { bytes = part } else { bytes += part }
            chunk = 1 << 20
        }
    }

    public static func readText(_ path: String) throws -> String {
        String(decoding: try read(path), as: UTF8.self)
    }

    /// Writes a file in one step: to a temporary name beside it, then renamed, so that no reader sees half of it.
    public static func write(_ bytes: [UInt8], to path: String, mode: UInt32 = 0o644) throws {
        let temporary = path + ".tmp.\(getpid())"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
        guard descriptor >= 0 else { throw Failure.system("create", path, errno: errno) }
        do {
            defer { close(descriptor) }
            try writeAll(bytes, to: descriptor, path: path)
        } catch {
            unlink(temporary)
            throw error
        }
        guard rename(temporary, path) == 0 else {
            let code = errno
            unlink(temporary)
            throw Failure.system("write", path, errno: code)
        }
    }

    public static func write(_ text: String, to path: String) throws {
        try write([UInt8](text.utf8), to: path)
    }

    /// Adds to the end of a file with one write, creating it where it does not exist.
    public static func append(_ text: String, to path: String) throws {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw Failure.system("open", path, errno: errno) }
        defer { close(descriptor) }
        try writeAll([UInt8](text.utf8), to: descriptor, path: path)
    }

    /// Writes to an existing file in place with one write, as `/sys` wants it.
    /// Returns the error number, or 0.
    public static func store(_ text: String, into path: String) -> Int32 {
        let descriptor = open(path, O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return errno }
        defer { close(descriptor) }
        let bytes = [UInt8](text.utf8)
        return Glibc.write(descriptor, bytes, bytes.count) == bytes.count ? 0 : errno
    }

    /// Writes everything to an open file. `path` is for the failure.
    public static func writeAll(_ bytes: [UInt8], to descriptor: Int32, path: String) throws {
        var offset = 0
        while offset < bytes.count {
            let n = bytes.withUnsafeBytes {
                Glibc.write(descriptor, $0.baseAddress! + offset, bytes.count - offset)
            }
            if n < 0 && errno == EINTR { continue }
            guard n > 0 else { throw Failure.system("write", path, errno: errno) }
            offset += n
        }
    }

    /// Creates a folder and the folders above it.
    public static func createDirectory(_ path: String) throws {
        if isDirectory(path) { return }
        if let slash = path.lastIndex(of: "/"), slash != path.startIndex {
            try createDirectory(String(path[..<slash]))
        }
        guard mkdir(path, 0o755) == 0 || errno == EEXIST else {
            throw Failure.system("create directory", path, errno: errno)
        }
    }

    /// The names in a folder, sorted, without `.` and `..`.
    public static func list(_ path: String) throws -> [String] {
        guard let directory = opendir(path) else { throw Failure.system("open", path, errno: errno) }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    /// What a symbolic link holds; nil where there is none.
    public static func linkTarget(_ path: String) -> String? {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = buffer.withUnsafeMutableBytes {
            readlink(path, $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
        }
        return count < 0 ? nil : String(decoding: buffer[..<count], as: UTF8.self)
    }

    /// Removes a file, or a folder with everything in it. What does not exist is no failure.
    public static func remove(_ path: String) throws {
        var info = stat()
        guard lstat(path, &info) == 0 else {
            if errno == ENOENT { return }
            throw Failure.system("remove", path, errno: errno)
        }
        if info.st_mode & S_IFMT == S_IFDIR {
            for name in try list(path) { try remove(path + "/" + name) }
            guard rmdir(path) == 0 else { throw Failure.system("remove", path, errno: errno) }
        } else {
            guard unlink(path) == 0 else { throw Failure.system("remove", path, errno: errno) }
        }
    }

    /// A new empty folder below `TMPDIR` or `/tmp`. The caller removes it.
    public static func temporaryDirectory(_ prefix: String = "git-ksplice") throws -> String {
        let parent = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        var template = Array("\(parent)/\(prefix).XXXXXX".utf8CString)
        let made = template.withUnsafeMutableBufferPointer { mkdtemp($0.baseAddress!) != nil }
        guard made else { throw Failure.system("create a folder in", parent, errno: errno) }
        return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// The absolute path with symbolic links resolved.
    public static func absolute(_ path: String) throws -> String {
        guard let resolved = realpath(path, nil) else { throw Failure.system("open", path, errno: errno) }
        defer { free(resolved) }
        return String(cString: resolved)
    }
}

extension String {
    /// A relative path without `.` and `..`; what leads above its start is dropped.
    var pathWithoutDots: String {
        var parts: [Substring] = []
        for part in split(separator: "/") {
            if part == ".." { parts = parts.dropLast() } else if part != "." { parts.append(part) }
        }
        return parts.joined(separator: "/")
    }

    /// The part behind the last slash.
    public var lastPathComponent: String {
        guard let slash = lastIndex(of: "/") else { return self }
        return String(self[index(after: slash)...])
    }

    /// The part before the last slash; `.` where there is none.
    public var directoryPart: String {
        guard let slash = lastIndex(of: "/") else { return "." }
        return slash == startIndex ? "/" : String(self[..<slash])
    }
}
