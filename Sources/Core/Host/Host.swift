// A machine that runs a kernel: what matching and loading need of it, and nothing else. Whether it is this machine,
// one at the end of a remote shell or a virtual one is known only to the types that conform.

/// A loaded module, as `/proc/modules` lists it.
public struct LoadedModule: Sendable, Equatable {
    public var name: String
    /// In bytes.
    public var size: Int
    public var references: Int
    public var users: [String]
    /// `Live`, `Loading` or `Unloading`.
    public var state: String
    /// 0 where the kernel hides it.
    public var address: UInt64
}

/// A task and where it sleeps.
public struct HostTask: Sendable, Equatable {
    public var pid: Int
    public var name: String
    /// Names of functions, innermost first, as `/proc/PID/stack` gives them (`name+0x12/0x34 [module]`).
    public var stack: [String]
}

/// Memory that can be read until it is closed.
public protocol OpenMemory: KernelMemory {
    func close()
}

public protocol Host: AnyObject {
    /// For messages: `this machine`, the name in a remote shell's command, ...
    var title: String { get }
    /// Architecture, build-id, release and version of the running kernel; compiler and config digest are empty.
    func identity() async throws -> KernelIdentity
    /// The running kernel's symbols, those of loaded modules included.
    func symbols() async throws -> KernelSymbols
    /// Memory as it is now; nil where the host does not show it (`/proc/kcore` is missing or hidden). A host that is not
    /// this machine fetches the ranges beforehand, all at once; reads outside of them may then be slow.
    func memory(covering ranges: [Range<UInt64>]) async throws -> (any KernelMemory)?
    /// Whether every read of memory is a way to go, so that all that will be needed should be named beforehand.
    var isFarAway: Bool { get }
    /// Code and constants of the kernel through ksplice.ko, which must be loaded.
    func window() async throws -> any OpenMemory
    /// The content of a file in `/sys`, `/proc` or elsewhere.
    func read(_ path: String) async throws -> [UInt8]
    /// Whether a path exists.
    func exists(_ path: String) async throws -> Bool
    /// The names in a folder, sorted.
    func list(_ path: String) async throws -> [String]
    /// Writes to a file in `/sys` with one write. Returns the error number, or 0.
    func store(_ text: String, into path: String) async throws -> Int32
    /// The same while tasks are held where they leave the kernel. Those that cannot be held, because they are the kernel's or
    /// sleep too deeply, run on; afterwards all do. A system call that slept begins again.
    func store(_ text: String, into path: String, holding tasks: [Int]) async throws -> Int32
    /// Loads a module. Fails with the kernel's reason in words.
    func load(module bytes: [UInt8], name: String, parameters: String) async throws
    func unload(module name: String) async throws
    func modules() async throws -> [LoadedModule]
    /// Adds a line to the host's journal of updates.
    func appendToJournal(_ line: String) async throws
    /// All tasks with their kernel stacks.
    func tasks() async throws -> [HostTask]
}

extension Host {
    public var isFarAway: Bool { false }

    public func store(_ text: String, into path: String, holding tasks: [Int]) async throws -> Int32 {
        try await store(text, into: path)
    }
}

/// Parsing of what every host's kernel prints the same way.
public enum HostText {
    /// The GNU build-id in the notes of `/sys/kernel/notes`, lower-case hexadecimal; nil where there is none.
    public static func buildID(notes: [UInt8]) -> String? {
        var offset = 0
        while let nameSize = notes.load(UInt32.self, at: offset),
            let size = notes.load(UInt32.self, at: offset + 4),
            let type = notes.load(UInt32.self, at: offset + 8)
        {
            let name = offset + 12
            let content = name + (Int(nameSize) + 3) & ~3
            guard content + Int(size) <= notes.count else { return nil }
            if type == 3, nameSize == 4, notes[name..<name + 4].elementsEqual([0x47, 0x4e, 0x55, 0]) {
                return hex(notes[content..<content + Int(size)])
            }
            offset = content + (Int(size) + 3) & ~3
        }
        return nil
    }

    /// The lines of `/proc/modules`.
    public static func modules(_ text: String) throws -> [LoadedModule] {
        try text.lines.map { line in
            let fields = line.split(separator: " ")
            guard fields.count >= 6, let size = Int(fields[1]) else {
                throw Failure("malformed line in '/proc/modules': '\(line)'")
            }
            let users = fields[3] == "-" ? [] : fields[3].split(separator: ",").map { String($0) }
            return LoadedModule(
                name: String(fields[0]), size: size, references: Int(fields[2]) ?? 0, users: users,
                state: String(fields[4]), address: UInt64(fields[5].dropFirst(2), radix: 16) ?? 0)
        }
    }

    /// The lines of `/proc/PID/stack` without their addresses.
    public static func stack(_ text: String) -> [String] {
        text.lines.compactMap { line in
            guard let end = line.firstIndex(of: "]"), line.hasPrefix("[<") else { return nil }
            let name = String(line[line.index(after: end)...]).trimmed
            return name.isEmpty ? nil : name
        }
    }
}

extension Failure {
    static let onlyRoot = Failure(
        "only root may read the kernel's memory and change it",
        hint: "run this as root, for instance with sudo")
}
