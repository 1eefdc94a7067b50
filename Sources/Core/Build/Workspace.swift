// A workspace: the source tree and the object tree of one kernel, kept under the repository's common git directory
// and used again for every create. Nothing outside of it is written.
//
//     lock      held while a process works here
//     tree      the id of the source tree that `source/` holds; absent while `source/` is being changed
//     index     the git index of `source/`
//     source/   the kernel's source
//     object/   kbuild's O=: the config, generated headers, .cmd files
//     prepared  what the object tree was prepared from
//     cache/    compiled objects by content
//     listings/ what each folder's Makefile makes of its sources
//     commands/ how kbuild would compile what was never built here
//     includes  the tree's id, and its #include lines; those that name sources also in includes.sources
//     work/     a folder with files of the run that holds the lock
//     module/   ksplice.ko and what is linked into each update
//
// Interrupted at any point, the next process finds the record of the step missing and repeats it.

import CShims
import Glibc

/// What a sub-make must not inherit from a make that runs this program, and what neither make nor a compiler may take
/// from the user: options, include paths and settings of another build would make another update of the same change.
let makeEnvironment: [String: String?] = {
    var variables: [String: String?] = [
        "MAKEFLAGS": "", "MFLAGS": "", "MAKELEVEL": "", "GNUMAKEFLAGS": "", "KBUILD_BUILD_TIMESTAMP": "@0",
        "KBUILD_BUILD_USER": "ksplice", "KBUILD_BUILD_HOST": "ksplice", "SOURCE_DATE_EPOCH": "0",
    ]
    let users = [
        "KCFLAGS", "KCPPFLAGS", "KAFLAGS", "CPATH", "C_INCLUDE_PATH", "DEPENDENCIES_OUTPUT",
        "SUNPRO_DEPENDENCIES", "GCC_EXEC_PREFIX", "COMPILER_PATH", "ARCH", "CROSS_COMPILE", "LLVM",
        "LLVM_IAS",
        "LOCALVERSION", "KBUILD_BUILD_VERSION", "KBUILD_OUTPUT", "KBUILD_EXTMOD", "KBUILD_VERBOSE",
        "KCONFIG_CONFIG", "KCONFIG_ALLCONFIG", "INSTALL_MOD_PATH", "M", "O", "V", "W", "C",
    ]
    for name in users { variables.updateValue(nil, forKey: name) }
    return variables
}()

public struct Workspace: Sendable {
    public let root: String
    /// Where `cache/`, `module/` and `work/` are instead, so that nothing compiled earlier is taken.
    public var scratch: String?
    public var source: String { root + "/source" }
    public var object: String { root + "/object" }
    public var index: String { root + "/index" }
    public var cache: String { (scratch ?? root) + "/cache" }
    var listings: String { root + "/listings" }
    var commands: String { root + "/commands" }
    public var moduleFolder: String { (scratch ?? root) + "/module" }
    private var works: String { (scratch ?? root) + "/work" }
    /// Files of one run. The compiler of a run that was killed may still write to that one's.
    public var work: String { works + "/\(getpid())" }
    private var treeRecord: String { root + "/tree" }
    private var preparedRecord: String { root + "/prepared" }

    /// What the object tree is prepared for.
    public struct Configuration: Sendable {
        public var config: String
        /// `uname -r` of the kernel; empty where unknown: the source's own release is used then.
        public var release: String
        /// `x86_64` or `i686`.
        public var arch: String
        public var toolchain: Toolchain
        /// Decides about options that changed in `make olddefconfig`: returns the explanations of those that matter.
        public var configCheck: @Sendable (_ before: String, _ after: String) -> [String]

        public init(
            config: String, release: String, arch: String, toolchain: Toolchain,
            configCheck: @escaping @Sendable (_ before: String, _ after: String) -> [String]
        ) {
            self.config = config
            self.release = release
            self.arch = arch
            self.toolchain = toolchain
            self.configCheck = configCheck
        }
    }

    public init(root: String) { self.root = root }

    /// Whether the kernel can be built below a path. Its makefiles refuse blanks and colons, and the compiler's option
    /// that takes the path out of the code (`-fmacro-prefix-map=FROM=TO`) ends at the first `=`.
    public static func canBuild(in path: String) -> Bool {
        path.utf8.allSatisfy { c in
            (0x30...0x39).contains(c) || (0x41...0x5a).contains(c) || (0x61...0x7a).contains(c) || c > 0x7f
                || "/._+-@,~^".utf8.contains(c)
        }
    }

    /// Empties the folder for files of one run, before and after the run: what it preprocesses of a wide header's users are
    /// gigabytes. What a killed run left goes when the next one begins.
    func withWorkFolder<Value>(_ body: () async throws -> Value) async throws -> Value {
        for left in Files.isDirectory(works) ? try Files.list(works) : [] where Int32(left) != nil {
            remove(works + "/" + left)
        }
        try Files.createDirectory(work)
        defer { remove(work) }
        return try await body()
    }

    /// What the compiler of a run that was killed still writes to, the next run removes.
    private func remove(_ folder: String) {
        do { try Files.remove(folder) } catch {}
    }

    /// Holds the workspace for one process; waits for another that holds it.
    /// `waiting` is called once if there is one.
    public func lock(waiting: (Int32?) -> Void) throws -> WorkspaceLock {
        try Files.createDirectory(root)
        return try WorkspaceLock(path: root + "/lock", waiting: waiting)
    }

    /// The folder under `arch/` for a machine name.
    public static func sourceArchitecture(_ arch: String) -> String {
        arch == "x86_64" || arch.hasSuffix("86") ? "x86" : arch
    }

    /// Folders of the tree whose files are not part of a kernel.
    private static let outside = [
        "Documentation/", "samples/", "tools/", "LICENSES/", "debian/", ".github/", "rust/.gitignore",
    ]

    static func isOutside(_ path: String) -> Bool { outside.contains { path.hasPrefix($0) } }

    // MARK: - Source

    /// Makes `source/` hold a tree. `export` brings a folder to it with an index file.
    public func checkOut(
        tree: String, export: (_ folder: String, _ index: String) async throws -> Void
    ) async throws {
        if let current = try? Files.readText(treeRecord), current.trimmed == tree { return }
        try Files.remove(treeRecord)
        try Files.remove(listings)
        try Files.remove(commands)
        try Files.createDirectory(source)
        try await export(source, index)
        try Files.write(tree + "\n", to: treeRecord)
    }

    /// Replaces files of `source/` while `body` runs, and puts the old ones back. A nil content removes a file.
    public func withFiles<Result>(
        _ replacements: [String: [UInt8]?], _ body: () async throws -> Result
    ) async throws -> Result {
        // Nil inside of another replacement, whose end brings the record back.
        let tree = Files.exists(treeRecord) ? try Files.readText(treeRecord) : nil
        var saved: [String: [UInt8]?] = [:]
        for path in replacements.keys {
            saved.updateValue(
                Files.exists("\(source)/\(path)") ? try Files.read("\(source)/\(path)") : nil, forKey: path)
        }
        try Files.remove(treeRecord)
        try put(replacements)
        let result: Result
        do {
            result = try await body()
        } catch {
            try put(saved)
            if let tree { try Files.write(tree, to: treeRecord) }
            throw error
        }
        try put(saved)
        if let tree { try Files.write(tree, to: treeRecord) }
        return result
    }

    private func put(_ files: [String: [UInt8]?]) throws {
        for (path, content) in files {
            let full = "\(source)/\(path)"
            if let content {
                try Files.createDirectory(full.directoryPart)
                try Files.write(content, to: full)
            } else {
                try Files.remove(full)
            }
        }
    }

    /// Which file of `source/` includes which. `source/` must hold the tree; its include lines are searched once.
    /// - Parameter sourcesOnly: only includes of `.c` files, which are few.
    func includeGraph(tree: String, architecture: String, sourcesOnly: Bool) async throws -> IncludeGraph {
        let (all, few) = (root + "/includes", root + "/includes.sources")
        let head = Array((tree + "\n").utf8)
        func read(_ path: String) throws -> [UInt8]? {
            guard Files.exists(path) else { return nil }
            let text = try Files.read(path)
            return text.starts(with: head) ? Array(text.dropFirst(head.count)) : nil
        }
        var text = try read(sourcesOnly ? few : all)
        if text == nil {
            let found = try await IncludeGraph.search(source)
            let sources = IncludeGraph.ofSources(found)
            try Files.write(head + found, to: all)
            try Files.write(head + sources, to: few)
            text = sourcesOnly ? sources : found
        }
        return IncludeGraph(text ?? [], architecture: architecture) { Files.exists("\(source)/\($0)") }
    }

    // MARK: - Object tree

    /// Prepares `object/` once: config, its check, generated headers and the kernel's build tools, the release.
    public func prepare(_ configuration: Configuration, progress: (String) -> Void) async throws {
        let key = sha256(
            "4\n\(root)\n\(configuration.config)\n\(configuration.release)\n\(configuration.toolchain.versionText)"
        )
        if let record = try? Files.readText(preparedRecord), record.trimmed == key { return }
        try Files.remove(preparedRecord)
        try Files.remove(listings)
        try Files.remove(commands)
        progress("preparing the kernel's build tree (once for this kernel)")
        // Recorded commands hold paths and options: those of another place or config would compile other headers.
        try Files.remove(object)
        try Files.createDirectory(object)
        try Files.createDirectory(root + "/cache")
        try Files.write(configuration.config, to: object + "/.config")
        try await make(["olddefconfig"], configuration).check("cannot configure the kernel")
        let after = try Files.readText(object + "/.config")
        let drift = configuration.configCheck(configuration.config, after)
        guard drift.isEmpty else {
            throw Failure(
                "the kernel's config changes in this build environment\n" + drift.joined(separator: "\n"),
                hints: ["an update that is built with another config does not match the running kernel"]
                    + (drift.contains { $0.hasPrefix("CONFIG_CC_CAN_LINK") }
                        ? ["for a 32-bit kernel, on Debian: apt-get install gcc-12-multilib"] : []))
        }
        try await make(["-j\(Self.processors)", "modules_prepare"], configuration).check(
            "cannot prepare the kernel's build tree")
        try Files.write(key + "\n", to: preparedRecord)
    }

    func make(_ targets: [String], _ configuration: Configuration) -> Command {
        // The vendor's release is not the source's. It must be given to every make: each one writes utsrelease.h anew,
        // and code (override_release) and vermagic hold it.
        let release = configuration.release.isEmpty ? [] : ["KERNELRELEASE=" + configuration.release]
        return Command(
            [
                "make", "-s", "-C", source, "O=" + object,
                "ARCH=" + Self.sourceArchitecture(configuration.arch),
                "CC=" + configuration.toolchain.compiler, "HOSTCC=" + Self.hostCompiler,
            ] + release + targets, environment: makeEnvironment)
    }

    private static let hostCompiler = "gcc"

    /// Those that this process may use.
    public static var processors: Int { max(1, Int(ks_processors())) }
}

/// An exclusive lock on a file, released when it goes out of scope or the process ends.
public struct WorkspaceLock: ~Copyable {
    private let descriptor: Int32

    /// - Parameter waiting: told the process that holds the lock, where it says so.
    init(path: String, waiting: (Int32?) -> Void) throws {
        guard let descriptor = try Self.locked(path, waits: true, waiting) else {
            throw Failure("cannot lock '\(path)'", status: .busy)
        }
        self.descriptor = descriptor
    }

    private init(_ descriptor: Int32) { self.descriptor = descriptor }

    /// The lock, in a folder that exists; nil where a process holds it.
    static func free(_ path: String) throws -> WorkspaceLock? {
        guard let descriptor = try locked(path, waits: false, { _ in }) else { return nil }
        return WorkspaceLock(descriptor)
    }

    private static func locked(_ path: String, waits: Bool, _ waiting: (Int32?) -> Void) throws -> Int32? {
        while true {
            if waits { try Files.createDirectory(path.directoryPart) }
            let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
            guard descriptor >= 0 else { throw Failure.system("open", path, errno: errno) }
            do {
                guard try lock(descriptor, path, waits, waiting) else {
                    close(descriptor)
                    return nil
                }
                // When it was signed last, is when the workspace was used.
                if waits { try sign(descriptor, path) }
            } catch {
                close(descriptor)
                throw error
            }
            // Whoever has removed the workspace meanwhile has taken the file along, and the next one would find another.
            var (held, named) = (stat(), stat())
            if fstat(descriptor, &held) == 0, stat(path, &named) == 0, held.st_ino == named.st_ino,
                held.st_dev == named.st_dev
            {
                return descriptor
            }
            close(descriptor)
        }
    }

    /// False where another one has it and is not waited for.
    private static func lock(
        _ descriptor: Int32, _ path: String, _ waits: Bool, _ waiting: (Int32?) -> Void
    ) throws -> Bool {
        if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { return true }
        guard errno == EWOULDBLOCK else { throw Failure.system("lock", path, errno: errno) }
        guard waits else { return false }
        var text = [UInt8](repeating: 0, count: 16)
        let count = pread(descriptor, &text, text.count, 0)
        waiting(Int32(String(decoding: text.prefix(max(0, count)), as: UTF8.self).trimmed))
        while flock(descriptor, LOCK_EX) != 0 {
            guard errno == EINTR else { throw Failure.system("lock", path, errno: errno) }
        }
        return true
    }

    private static func sign(_ descriptor: Int32, _ path: String) throws {
        let text = Array("\(getpid())\n".utf8)
        guard ftruncate(descriptor, 0) == 0, pwrite(descriptor, text, text.count, 0) == text.count else {
            throw Failure.system("write", path, errno: errno)
        }
    }

    deinit { close(descriptor) }
}
