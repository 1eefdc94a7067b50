// The queue of commits that updates are to be built of in the background: the folder `ksplice/queue` in the common git
// directory, so that all worktrees have one.
//
//     waiting/COMMIT      an empty file: this commit is to be looked at
//     waiting/A..B        the same for what a merge has brought
//     building            what is being built, and how often that was begun
//     results             what became of the last ones, a BuildRecord a line
//     lock                held by the one worker
//     results.lock        held while `results` is written
//     log                 what the last worker said that ended with an error
//
// An entry is made with one system call by a hook that knows nothing of others, and is removed when its result is on the
// disk. So whoever is killed, whenever: what waits still waits, and what is built twice gives the same update. An entry
// that is made while the worker looks away is found when it looks again, after it has let go of the lock; a worker
// that comes meanwhile and finds the lock taken can go.

import Glibc

/// The queue of a repository.
public struct BuildQueue: Sendable {
    /// What waits: a commit, or the commits of a range.
    public struct Entry: Sendable, Equatable {
        /// The file's name: a commit, or `A..B`.
        public var name: String
        /// Nanoseconds since 1970.
        public var time: Int

        /// The start of a range; nil for one commit.
        public var start: String? { parts.count == 2 ? String(parts[0]) : nil }
        /// The commit, or the last one of a range.
        public var commit: String { String(parts[parts.count - 1]) }
        private var parts: [Substring] { name.split(separator: "..", omittingEmptySubsequences: false) }

        /// Nil for a name that no hook makes.
        init?(name: String, time: Int) {
            self.name = name
            self.time = time
            guard parts.count <= 2, parts.allSatisfy({ ObjectFormat.isName($0) }) else { return nil }
        }
    }

    /// What the worker is at.
    public struct Building: Sendable, Equatable {
        public var commit: String
        public var kernel: String
        /// How often it was begun, this time included.
        public var tries: Int
        /// Seconds since 1970.
        public var since: Int
    }

    var folder: DurableFolder
    private static let waiting = "waiting"
    private static let kept = 1000

    public init(_ repository: Repository) { self.init(folder: repository.stateDirectory + "/queue") }

    init(folder: String) { self.folder = DurableFolder(folder) }

    /// Whether there ever was one here.
    public var exists: Bool { Files.isDirectory(folder.path) }

    /// The file that the worker's errors go to.
    public var log: String { folder.path + "/log" }

    /// What waits, the oldest first.
    public func entries() throws -> [Entry] {
        try folder.names(in: Self.waiting).compactMap { name in
            var info = stat()
            guard stat("\(folder.path)/\(Self.waiting)/\(name)", &info) == 0 else { return nil }
            return Entry(
                name: name, time: info.st_mtim.tv_sec * 1_000_000_000 + info.st_mtim.tv_nsec)
        }.sorted { ($0.time, $0.name) < ($1.time, $1.name) }
    }

    /// Puts a commit, or a range, into the queue, as a hook does it.
    func add(_ name: String) throws { try folder.write([], to: "\(Self.waiting)/\(name)") }

    func remove(_ entry: Entry) throws { try folder.remove("\(Self.waiting)/\(entry.name)") }

    // MARK: - Results

    /// What became of the last ones, the newest last.
    public func results() throws -> [BuildRecord] {
        guard let text = try folder.read("results") else { return [] }
        return String(decoding: text, as: UTF8.self).lines.compactMap { BuildRecord(line: $0) }
    }

    /// Keeps a result in place of an older one about the same commit and kernel.
    ///
    /// The worker is not the only one that does: a lock of its own, held for a moment, keeps one from losing the other's.
    func keep(_ record: BuildRecord) throws {
        let lock = try lock("results.lock", waits: true)
        defer { lock?.release() }
        let others = try results().filter { !$0.isAbout(record) }.suffix(Self.kept - 1)
        let text = (others + [record]).map { $0.json.text + "\n" }.joined()
        try folder.write(Array(text.utf8), to: "results")
    }

    // MARK: - What is being built

    /// What the worker is at, or was at when it was killed.
    func lastBuilding() throws -> Building? {
        guard let text = try folder.read("building"),
            let json = try? JSON(parsing: String(decoding: text, as: UTF8.self).trimmed),
            let commit = json["commit"]?.string, let kernel = json["kernel"]?.string,
            let tries = json["tries"]?.number, let since = json["since"]?.number
        else { return nil }
        return Building(commit: commit, kernel: kernel, tries: tries, since: since)
    }

    /// What is being built now; nil where no worker is.
    public func building() throws -> Building? { try isWorkedOn() ? lastBuilding() : nil }

    func begin(_ building: Building) throws {
        let json = JSON.object([
            ("v", .number(1)), ("commit", .string(building.commit)), ("kernel", .string(building.kernel)),
            ("tries", .number(building.tries)), ("since", .number(building.since)),
        ])
        try folder.write(Array((json.text + "\n").utf8), to: "building")
    }

    func end() throws { try folder.remove("building") }

    // MARK: - The one worker

    /// Held until it is released, and by no program that is started meanwhile.
    struct Lock: Sendable {
        fileprivate let descriptor: Int32

        /// A program that this process is just starting has the file, too, until it is its own: closing it is not enough.
        func release() {
            var none = BuildQueue.wholeFile
            none.l_type = Int16(F_UNLCK)
            _ = fcntl(descriptor, BuildQueue.setLock, &none)
            close(descriptor)
        }
    }

    // Commands of fcntl(2) that Swift does not see (asm-generic/fcntl.h). Locks of this kind can be asked about without
    // taking them: who only looks must not make a worker believe that there is another one.
    fileprivate static let (askLock, setLock, waitLock) = (Int32(36), Int32(37), Int32(38))

    /// Nil where another worker has it.
    func lock() throws -> Lock? { try lock("lock", waits: false) }

    /// Nil where another process has it, unless one waits for that.
    private func lock(_ name: String, waits: Bool) throws -> Lock? {
        try folder.create()
        let file = folder.path + "/" + name
        let descriptor = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o644)
        guard descriptor >= 0 else { throw Failure.system("open", file, errno: errno) }
        var wanted = Self.wholeFile
        while fcntl(descriptor, waits ? Self.waitLock : Self.setLock, &wanted) != 0 {
            let code = errno
            if waits, code == EINTR { continue }
            close(descriptor)
            guard !waits, code == EAGAIN || code == EACCES else {
                throw Failure.system("lock", file, errno: code)
            }
            return nil
        }
        return Lock(descriptor: descriptor)
    }

    /// Whether a worker is there.
    public func isWorkedOn() throws -> Bool {
        let file = folder.path + "/lock"
        let descriptor = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        if descriptor < 0 {
            if errno == ENOENT { return false }
            throw Failure.system("open", file, errno: errno)
        }
        defer { close(descriptor) }
        var asked = Self.wholeFile
        guard fcntl(descriptor, Self.askLock, &asked) == 0 else {
            throw Failure.system("look at", file, errno: errno)
        }
        return Int32(asked.l_type) != F_UNLCK
    }

    fileprivate static var wholeFile: flock {
        var lock = flock()
        lock.l_type = Int16(F_WRLCK)
        lock.l_whence = Int16(SEEK_SET)
        return lock
    }
}
