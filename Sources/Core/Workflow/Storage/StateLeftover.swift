// What can go of the folder of state. All of it can be made anew; so what nobody has used for long goes, and what no process
// and no kernel owns any more. A folder gets another name first: nobody must find half of it and take it for the whole.

import Glibc

/// One thing of the folder of state that goes.
public struct StateLeftover: Sendable, Equatable {
    public var path: String
    public var reason: String
    /// On the disk.
    public var bytes: Int
    /// The workspace that it is, or is in: held while it is removed.
    var workspace: String?

    /// All that can go, sorted. What a process works on is left out.
    ///
    /// - Parameter moment: what was not used since then goes, in seconds since 1970.
    static func all(in repository: Repository, before moment: Int64) async throws -> [StateLeftover] {
        let folder = StateFolder(repository.stateDirectory)
        let registered = Set(
            try await KernelStore(repository).list().map { "\($0.arch)-\($0.refName)" })
        var found = try folder.leftovers().map {
            StateLeftover(
                path: $0, reason: "left by a process that was killed", bytes: try StateFolder.bytes($0))
        }
        for name in try folder.names("kernels")
        where !registered.contains(name) && !StateFolder.isTemporary(name) {
            let path = "\(folder.path)/kernels/\(name)"
            found.append(
                .init(path: path, reason: "of no registered kernel", bytes: try StateFolder.bytes(path)))
        }
        for place in KernelRegistry(repository).workspaceFolders where Files.isDirectory(place) {
            for name in try Files.list(place) where !StateFolder.isTemporary(name) {
                let root = "\(place)/\(name)"
                found += try workspace(root, isRegistered: registered.contains(name), before: moment)
            }
        }
        return try (found + imports(folder, before: moment)).sorted { $0.path < $1.path }
    }

    private static func workspace(_ root: String, isRegistered: Bool, before moment: Int64) throws
        -> [StateLeftover]
    {
        if StateFolder.isLocked(root + "/lock") { return [] }
        let used = StateFolder.time(root + "/lock") ?? StateFolder.time(root) ?? 0
        if !isRegistered || used < moment {
            let reason =
                isRegistered
                ? "a workspace not used since \(CalendarTime.text(used))"
                : "a workspace of no registered kernel"
            return [.init(path: root, reason: reason, bytes: try StateFolder.bytes(root), workspace: root)]
        }
        let cache = root + "/cache"
        guard Files.isDirectory(cache) else { return [] }
        return try Files.list(cache).map { "\(cache)/\($0)" }.compactMap { file in
            guard let used = StateFolder.lastUse(file), used < moment else { return nil }
            return .init(
                path: file, reason: "compiled code not used since \(CalendarTime.text(used))",
                bytes: try StateFolder.bytes(file), workspace: root)
        }
    }

    /// Unpacked packages and images that no kernel's record names.
    private static func imports(_ folder: StateFolder, before moment: Int64) throws -> [StateLeftover] {
        let place = folder.path + "/import"
        let records = try folder.names("kernels").map { try Files.readText("\(folder.path)/kernels/\($0)") }
        let named = records.flatMap(\.lines).compactMap { $0.split(separator: " ", maxSplits: 1).last }
        return try folder.names("import").filter { !StateFolder.isTemporary($0) }.compactMap { name in
            let path = "\(place)/\(name)"
            // The files in a package have its own times.
            guard let made = StateFolder.changed(path), made < moment,
                !named.contains(where: { $0 == path || $0.hasPrefix(path + "/") })
            else { return nil }
            return .init(
                path: path, reason: "unpacked, and used by no registered kernel",
                bytes: try StateFolder.bytes(path))
        }
    }

    /// Removes it, and says whether it is gone: what a process has begun to work on meanwhile stays.
    func remove() throws -> Bool {
        guard let workspace else {
            try Self.remove(path)
            return true
        }
        // Something else than a folder is no workspace, and nobody's.
        if Files.isDirectory(workspace) {
            guard let lock = try? WorkspaceLock.free(workspace + "/lock") else { return false }
            try Self.remove(path)
            _ = consume lock
        } else {
            try Self.remove(path)
        }
        return true
    }

    private static func remove(_ path: String) throws {
        guard Files.isDirectory(path), !StateFolder.isTemporary(path.lastPathComponent) else {
            return try Files.remove(path)
        }
        let other = "\(path).tmp.\(getpid())"
        guard rename(path, other) == 0 else {
            if errno == ENOENT { return }
            throw Failure.system("remove", path, errno: errno)
        }
        try Files.remove(other)
    }
}
