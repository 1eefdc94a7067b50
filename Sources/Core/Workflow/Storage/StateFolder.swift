// The folder of state (`ksplice/` in the common git directory), as it is seen by whoever tidies it.

import Glibc

/// Looks at a folder of state.
struct StateFolder: Sendable {
    let path: String

    init(_ path: String) { self.path = path }

    /// The names in a folder below it; none where there is no such folder.
    func names(_ folder: String) throws -> [String] {
        Files.isDirectory("\(path)/\(folder)") ? try Files.list("\(path)/\(folder)") : []
    }

    /// What killed processes have left: files that were not renamed yet, and the working folders of runs.
    func leftovers() throws -> [String] {
        var found: [String] = []
        for folder in ["", "import", "kernels", "queue", "queue/waiting", "workspaces"] {
            let place = folder.isEmpty ? path : "\(path)/\(folder)"
            found += try names(folder).filter { Self.isTemporary($0) && Self.isAbandoned("\(place)/\($0)") }
                .map { "\(place)/\($0)" }
        }
        for workspace in try names("workspaces") where !Self.isTemporary(workspace) {
            let root = "\(path)/workspaces/\(workspace)"
            if Self.isLocked(root + "/lock") { continue }
            found += try names("workspaces/\(workspace)").filter { Self.isTemporary($0) }.map {
                "\(root)/\($0)"
            }
            found += try names("workspaces/\(workspace)/work").filter { Int32($0) != nil }.map {
                "\(root)/work/\($0)"
            }
        }
        return found
    }

    /// Whether a name is one that a file has before it is whole: `NAME.tmp`, `NAME.tmp.PID`.
    static func isTemporary(_ name: String) -> Bool { name.hasSuffix(".tmp") || owner(name) != nil }

    private static func owner(_ name: String) -> Int32? {
        let parts = name.split(separator: ".")
        guard parts.count >= 3, parts[parts.count - 2] == "tmp" else { return nil }
        return Int32(parts[parts.count - 1])
    }

    /// Whether nobody writes there any more: not for an hour, and its process, where it names one, is gone.
    private static func isAbandoned(_ file: String) -> Bool {
        if let owner = owner(file.lastPathComponent), kill(owner, 0) == 0 || errno == EPERM { return false }
        guard let time = time(file) else { return false }
        return CalendarTime.now - time > 3600
    }

    /// Whether a process holds a lock on a file, as far as can be told: one that cannot be opened may be another user's.
    static func isLocked(_ file: String) -> Bool {
        let descriptor = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard descriptor >= 0 else { return errno != ENOENT && errno != ENOTDIR }
        defer { close(descriptor) }
        if flock(descriptor, LOCK_SH | LOCK_NB) != 0 { return errno == EWOULDBLOCK }
        flock(descriptor, LOCK_UN)
        return false
    }

    /// When a file was changed, in seconds since 1970; nil where it is not there.
    static func time(_ file: String) -> Int64? {
        var info = stat()
        return lstat(file, &info) == 0 ? Int64(info.st_mtim.tv_sec) : nil
    }

    /// When a file was changed or renamed.
    static func changed(_ file: String) -> Int64? {
        var info = stat()
        return lstat(file, &info) == 0 ? Int64(info.st_ctim.tv_sec) : nil
    }

    /// When a file was written or read last, as far as the file system keeps that.
    static func lastUse(_ file: String) -> Int64? {
        var info = stat()
        return lstat(file, &info) == 0 ? Int64(max(info.st_mtim.tv_sec, info.st_atim.tv_sec)) : nil
    }

    /// What a file or a folder with everything in it takes on the disk, in bytes.
    static func bytes(_ file: String) throws -> Int {
        var info = stat()
        guard lstat(file, &info) == 0 else { return 0 }
        var sum = Int(info.st_blocks) * 512
        if info.st_mode & S_IFMT == S_IFDIR {
            for name in try Files.list(file) { sum += try bytes("\(file)/\(name)") }
        }
        return sum
    }
}
