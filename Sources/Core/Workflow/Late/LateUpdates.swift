// Updates that are applied and wait for modules that are not loaded yet (kernel/README.md, "late"). ksplice.ko knows which
// modules are awaited by which update; when one comes, it starts this program, which finds the update in a folder here.
// The folder may forget at a reboot, as ksplice.ko does.

import Glibc

public struct LateUpdates: Sendable {
    let host: any Host & Sendable
    private let folder: DurableFolder
    /// What ksplice.ko starts with the words `late MODULE`.
    private let program: String

    /// Where Debian's and most others' systems keep what is gone after a reboot.
    public static let defaultFolder = "/run/git-ksplice"
    private static let suffix = ".tar.gz"
    private static let awaitFile = UpdateSysfs.root + "/await"
    private static let helperFile = UpdateSysfs.root + "/helper"

    /// - Parameters:
    ///   - folder: need not exist.
    ///   - program: the path of this program, as the first process of the system sees it.
    public init(host: any Host & Sendable, folder: String = Self.defaultFolder, program: String) {
        self.host = host
        self.folder = DurableFolder(folder)
        self.program = program
    }

    /// Does something while no other process of this program applies, undoes, or serves a module that comes.
    ///
    /// - Parameter patience: how many seconds to wait for whoever does.
    func locked<Result>(patience: Double = 60, _ body: () async throws -> Result) async throws -> Result {
        try folder.create(isPrivate: true)
        try folder.refuseForeign([])
        return try await folder.locked(patience: patience, body)
    }

    /// Keeps an update for modules that are not loaded, and has ksplice.ko, which must be there, wait for them. Those that were
    /// awaited before are left as they are. If it fails, what was not awaited before is not either.
    ///
    /// - Returns: the modules that are awaited from now on and were not before.
    func wait(for modules: [String], _ update: Update, _ policy: LatePolicy) async throws -> [String] {
        let known = try await HostRecords(host).modules(awaitedBy: update.wholeID)
        let new = modules.filter { !known.contains($0) }
        if new.isEmpty { return [] }
        try refuseForeignProgram()
        try folder.write(try update.archive(), to: update.wholeID + Self.suffix)
        var done: [String] = []
        do {
            try await write(program, to: Self.helperFile, "name this program to the kernel")
            for module in new {
                try await write(
                    "+\(update.wholeID) \(module) \(policy.rawValue)", to: Self.awaitFile,
                    "have the kernel wait for the module '\(module)'")
                done.append(module)
            }
        } catch {
            try? await forget(update.wholeID, modules: done)
            throw error
        }
        return new
    }

    /// Names this program to ksplice.ko once more, if anything waits.
    public func announce() async throws {
        guard try await !HostRecords(host).awaited.isEmpty else { return }
        try await write(program, to: Self.helperFile, "name this program to the kernel")
    }

    /// The kernel will start the program as root, whenever a module comes.
    private func refuseForeignProgram() throws {
        var path = program
        while path != "/" && !path.isEmpty {
            var info = stat()
            guard lstat(path, &info) == 0 else { throw Failure.system("find", path, errno: errno) }
            guard info.st_uid == 0, info.st_mode & 0o022 == 0 || info.st_mode & S_IFMT == S_IFLNK else {
                throw Failure(
                    "no module can be waited for: others than root may change '\(path)', which the kernel would start",
                    status: .verificationRefused,
                    hint: "load them first, or install this program (make install)")
            }
            path = path.directoryPart
        }
    }

    private func write(_ text: String, to file: String, _ what: String) async throws {
        let code = try await host.store(text, into: file)
        guard code == 0 else {
            throw Failure("cannot \(what): \(describe(errno: code))", hint: "dmesg")
        }
    }

    /// Waits no longer for some modules, or for any. What is not awaited is no failure.
    func forget(_ id: String, modules: [String]? = nil) async throws {
        for awaited in try await HostRecords(host).awaited
        where awaited.update == id && modules?.contains(awaited.module) ?? true {
            try await write(
                "-\(id) \(awaited.module)", to: Self.awaitFile,
                "have the kernel wait no longer for the module '\(awaited.module)'")
        }
        try await removeLeftovers()
    }

    /// Archives that nothing waits for.
    private func removeLeftovers() async throws {
        let wanted = Set(try await HostRecords(host).awaited.map(\.update))
        for name in try Files.isDirectory(folder.path) ? Files.list(folder.path) : []
        where name.hasSuffix(Self.suffix) && !wanted.contains(String(name.dropLast(Self.suffix.count))) {
            try folder.remove(name)
        }
    }

    /// Updates that wait for a module of an update, too, and replace a function of it that this one does, with that
    /// function's name. Those it was made on are none.
    func rivals(of update: Update) async throws -> [(id: String, function: String)] {
        let own = update.manifest.lateFunctions
        var rivals: [(id: String, function: String)] = []
        for id in Set(try await HostRecords(host).awaited.map(\.update)).sorted()
        where id != update.id && !update.manifest.depends.contains(id) {
            let awaited = Set(try await HostRecords(host).modules(awaitedBy: id))
            // An archive that is gone says nothing; its module is refused in any case.
            guard let other = try? self.update(id) else { continue }
            let both = other.manifest.lateFunctions.intersection(own).filter { awaited.contains($0.module) }
            if let function = both.map(\.function).min() { rivals.append((id, function)) }
        }
        return rivals
    }

    /// An update that is kept.
    func update(_ id: String) throws -> Update {
        guard let bytes = try folder.read(id + Self.suffix) else {
            throw Failure(
                "'\(folder.path)' does not hold update \(id.prefix(12)) any more", status: .notFound,
                hint: "git ksplice undo \(id.prefix(12)), and apply it again")
        }
        let update = try Update(archive: bytes)
        guard update.id == id else {
            throw Failure(
                "'\(folder.path)/\(id)\(Self.suffix)' holds another update", status: .verificationRefused)
        }
        return update
    }
}

private struct LateFunction: Hashable {
    var module: String
    var unit: String
    var function: String
}

extension Manifest {
    /// The functions of modules that it replaces.
    fileprivate var lateFunctions: Set<LateFunction> {
        Set(
            replacements.filter { $0.partOf == nil }.compactMap { replacement in
                let unit = units[replacement.unit]
                return unit.module.map {
                    LateFunction(module: $0, unit: unit.path, function: replacement.symbol)
                }
            })
    }
}
