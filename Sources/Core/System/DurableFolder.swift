// A folder whose files outlive a crash at any moment: a reader finds a file as it was before or as it is after, never
// half of it, and what a call has written when it returns is on the disk. What a crash leaves behind has a name that
// ends in `.tmp`, which no reader looks at and the next write of that file replaces.

import CShims
import Glibc

struct DurableFolder: Sendable {
    let path: String
    /// For tests: called before each step; where it throws, the machine has died there, and nothing is cleaned up.
    var interruption: (@Sendable (String) throws -> Void)?

    init(_ path: String) { self.path = path }

    private static let temporary = ".tmp"

    /// Writes a file, with the folders above it.
    func write(_ bytes: [UInt8], to name: String) throws {
        let file = "\(path)/\(name)"
        try createFolder(file.directoryPart)
        try interruption?("create")
        let descriptor = open(file + Self.temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw Failure.system("create", file, errno: errno) }
        do {
            defer { close(descriptor) }
            try interruption?("write")
            try Files.writeAll(bytes, to: descriptor, path: file)
            try interruption?("sync")
            guard fsync(descriptor) == 0 else { throw Failure.system("write", file, errno: errno) }
        }
        try interruption?("rename")
        guard rename(file + Self.temporary, file) == 0 else {
            throw Failure.system("write", file, errno: errno)
        }
        try interruption?("sync folder")
        try Self.sync(file.directoryPart)
    }

    /// Removes a file. What does not exist is no failure.
    func remove(_ name: String) throws {
        let file = "\(path)/\(name)"
        try interruption?("remove")
        guard unlink(file) == 0 else {
            if errno == ENOENT { return }
            throw Failure.system("remove", file, errno: errno)
        }
        try interruption?("sync folder")
        try Self.sync(file.directoryPart)
    }

    /// A file's content; nil where there is none.
    func read(_ name: String) throws -> [UInt8]? {
        let file = "\(path)/\(name)"
        guard Files.exists(file) else { return nil }
        return try Files.read(file)
    }

    /// The names of the files in a folder below this one, sorted; none where there is no such folder.
    func names(in folder: String) throws -> [String] {
        guard Files.isDirectory("\(path)/\(folder)") else { return [] }
        return try Files.list("\(path)/\(folder)").filter { !$0.hasSuffix(Self.temporary) }
    }

    /// Fails where somebody besides root, or the user who runs this, could have put something here.
    func refuseForeign(_ folders: [String]) throws {
        for folder in [path] + folders.map({ "\(path)/\($0)" }) {
            var info = stat()
            guard lstat(folder, &info) == 0 else { continue }
            guard info.st_uid == 0 || info.st_uid == geteuid(), info.st_mode & 0o022 == 0,
                info.st_mode & S_IFMT == S_IFDIR
            else {
                throw Failure(
                    "others than root may write to '\(folder)'", status: .verificationRefused,
                    hint: "look what is in it, then: chown root '\(folder)' && chmod go-w '\(folder)'")
            }
        }
    }

    /// What keeps a folder's files where that is something that has forgotten them after a reboot; else nil.
    static func forgetfulFileSystem(_ folder: String) -> String? {
        switch ks_file_system_type(folder) {
        case 0x0102_1994: "tmpfs"
        case 0x8584_58f6: "ramfs"
        // What it writes to may outlive the reboot, and often does not.
        case 0x794c_7630: "overlayfs"
        case 0x6175_6673: "aufs"
        default: nil
        }
    }

    /// Does something that nobody else does at this time.
    ///
    /// - Parameters:
    ///   - patience: in seconds; fails where somebody goes on for longer.
    ///   - mode: of the file that is locked: who may open it may hold it.
    ///   - busy: what is said where somebody goes on; nil for words about the folder.
    func locked<Result>(
        patience: Double = 2, mode: mode_t = 0o600, busy: String? = nil,
        _ body: () async throws -> Result
    ) async throws -> Result {
        // Not the folder: whoever may read it could lock it.
        let file = path + "/lock"
        let descriptor = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, mode)
        guard descriptor >= 0 else { throw Failure.system("open", file, errno: errno) }
        defer { close(descriptor) }
        var tries = Int(patience * 20)
        // A program that this process has just started has the lock, too, until it is its own.
        while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            guard tries > 0 else {
                throw Failure(
                    busy ?? "another process works in '\(path)'", status: .busy, hint: "try again")
            }
            tries -= 1
            try await Task.sleep(nanoseconds: 50_000_000)
        }
        return try await body()
    }

    /// Creates the folder itself, durably; nobody else may look into a private one.
    func create(isPrivate: Bool = false) throws {
        try createFolder(path)
        guard !isPrivate || chmod(path, 0o700) == 0 else {
            throw Failure.system("protect", path, errno: errno)
        }
    }

    private func createFolder(_ folder: String) throws {
        if Files.isDirectory(folder) { return }
        let parent = folder.directoryPart
        try createFolder(parent)
        try interruption?("create folder")
        guard mkdir(folder, 0o755) == 0 || errno == EEXIST else {
            throw Failure.system("create directory", folder, errno: errno)
        }
        try Self.sync(parent)
    }

    private static func sync(_ folder: String) throws {
        let descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Failure.system("open", folder, errno: errno) }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw Failure.system("write", folder, errno: errno) }
    }
}
