// The kernels that a repository makes updates for. What a kernel is stands in git; where its files are on this
// machine stands in the state folder, for it means nothing to anybody else.

import Glibc

public struct KernelRegistry: Sendable {
    public let repository: Repository
    private var store: KernelStore { KernelStore(repository) }

    public init(_ repository: Repository) { self.repository = repository }

    /// What `add` did.
    public struct Addition: Sendable {
        public var kernel: KernelDescriptor
        public var missing: [ImportedKernel.MissingPiece]
        /// What the same build was registered as before.
        public var former: KernelSummary?
        /// Pieces that were seen and not used, with the reason.
        public var ignored: [String]
    }

    /// Registers one kernel build. Adding the same again renews it; another build under the same name is refused.
    /// - Parameter release: `uname -r` of the kernel, for a description that does not hold it (`.config`, System.map).
    public func add(name: String, source: String, paths: [String], release: String? = nil) async throws
        -> Addition
    {
        guard !name.isEmpty, name.allSatisfy({ $0.isASCII && !$0.isWhitespace && $0 != "/" }) else {
            throw Failure("'\(name)' is no name for a kernel", hint: "use letters, digits, '.', '-' and '+'")
        }
        let commit = try await repository.resolveCommit(source)
        let folder = repository.stateDirectory + "/import"
        var imported = try await KernelImporter.load(paths: paths, cache: folder)
        if let release {
            guard imported.identity.release.isEmpty || imported.identity.release == release else {
                throw Failure("the kernel's release is \(imported.identity.release), not \(release)")
            }
            imported.identity.release = release
        } else if imported.identity.release.isEmpty {
            try await takeRunning(&imported)
        }
        var former: KernelSummary?
        for known in try await all() where known.identity.refName == imported.identity.refName {
            former = known
        }
        for known in try await all()
        where known.name == name && known.identity.refName != imported.identity.refName {
            throw Failure(
                "the name '\(name)' belongs to another kernel build (\(known.identity.release), \(known.identity.refName.prefix(12)))",
                hint: "git ksplice kernel remove \(name)")
        }
        let kernel = imported.descriptor(name: name, sourceCommit: commit)
        try checkSource(kernel)
        let identity = kernel.identity
        try await store.save(
            arch: identity.arch, refName: identity.refName,
            subject: "ksplice: kernel \(name): \(identity.arch) \(identity.release)", files: kernel.files())
        try savePaths(kernel)
        return Addition(kernel: kernel, missing: imported.missing, former: former, ignored: imported.ignored)
    }

    /// A config that is the running kernel's describes the running kernel: its release and build-id are known.
    private func takeRunning(_ imported: inout ImportedKernel) async throws {
        guard Files.exists("/sys/kernel/notes") else { return }
        let running = try await LocalHost().identity()
        let config = "/boot/config-" + running.release
        guard Files.exists(config), sha256(try Files.read(config)) == imported.identity.configDigest else {
            return
        }
        imported.identity.release = running.release
        imported.identity.version = running.version
        imported.identity.buildID = running.buildID
    }

    /// The source must be a kernel's, and its version the beginning of what the build says of itself.
    private func checkSource(_ kernel: KernelDescriptor) throws {
        let tree = try repository.tree(of: kernel.sourceCommit)
        guard let makefile = try repository.blob("Makefile", tree: tree) else {
            throw Failure(
                "commit \(kernel.sourceCommit.prefix(12)) holds no kernel source: it has no Makefile",
                hint: "name the commit that the kernel was built from with --source")
        }
        var values: [String: String] = [:]
        for line in String(decoding: makefile.prefix(1000), as: UTF8.self).lines {
            let parts = line.split(separator: "=", maxSplits: 1).map { String($0).trimmed }
            if parts.count == 2 { values[parts[0]] = parts[1] }
        }
        guard let version = values["VERSION"], let patch = values["PATCHLEVEL"], let sub = values["SUBLEVEL"]
        else {
            throw Failure(
                "commit \(kernel.sourceCommit.prefix(12)) holds no kernel source: its Makefile names no version"
            )
        }
        // Vendors put their own number into the release (6.1.0-53) and the source's into the version (6.1.187-1).
        let short = "\(version).\(patch)"
        let full = "\(short).\(sub)"
        let said = kernel.identity.release + " " + kernel.identity.version
        let release = kernel.identity.release
        guard
            release.isEmpty || release == short || release.hasPrefix(short + ".")
                || release.hasPrefix(short + "-")
        else {
            throw Failure(
                "the source is Linux \(full), the kernel is \(release)",
                hint: "name the right commit with --source")
        }
        let version3 = said.split(whereSeparator: { !($0.isNumber || $0 == ".") }).first {
            $0.hasPrefix(short + ".") && $0.split(separator: ".").count == 3 && !$0.hasSuffix(".0")
        }
        if let version3, version3 != full, !full.hasPrefix(version3 + ".") {
            throw Failure(
                "the source is Linux \(full), the kernel says that it is \(version3) (\(kernel.identity.version))",
                hint: "name the right commit with --source")
        }
    }

    /// All registered kernels, by name.
    public func all() async throws -> [KernelSummary] {
        try await store.list().compactMap { stored in
            let tree = try repository.tree(of: stored.commit, as: .stored)
            guard
                let bytes = try repository.blob(
                    KernelDescriptor.FileName.descriptor, tree: tree, as: .stored)
            else { return nil }
            return try KernelSummary(descriptor: bytes)
        }.sorted { $0.name < $1.name }
    }

    /// The kernel of a name, or the only one for nil, or the one that `ksplice.kernel` names.
    public func summary(_ name: String?) async throws -> KernelSummary {
        let kernels = try await all()
        let configured = try await repository.config("ksplice.kernel")
        guard let wanted = name ?? configured else {
            if kernels.count == 1 { return kernels[0] }
            if kernels.isEmpty {
                throw Failure(
                    "no kernel is registered in this repository", status: .notFound,
                    hint: "git ksplice kernel add NAME --source COMMIT --from PACKAGE")
            }
            throw Failure(
                "several kernels are registered: " + kernels.map(\.name).joined(separator: ", "),
                status: .notFound,
                hint: "name one with --kernel, or set ksplice.kernel")
        }
        let found = kernels.filter {
            $0.name == wanted || $0.identity.release == wanted || $0.identity.buildID == wanted
        }
        guard let kernel = found.first, found.count == 1 else {
            throw Failure(
                found.isEmpty ? "no such kernel: '\(wanted)'" : "several kernels are called '\(wanted)'",
                status: .notFound,
                hint: "git ksplice kernel list")
        }
        return kernel
    }

    /// Everything of a kernel.
    public func descriptor(_ summary: KernelSummary) async throws -> KernelDescriptor {
        let files = try await store.load(arch: summary.identity.arch, refName: summary.identity.refName)
        return try KernelDescriptor(files: files, localPaths: localPaths(summary.identity))
    }

    /// Forgets a kernel and what was built for it on this machine. Its updates stay.
    ///
    /// - Throws: `busy` where a process builds for it.
    public func remove(_ name: String) async throws -> KernelSummary {
        let kernel = try await summary(name)
        let root = try workspaceRoot(kernel.identity)
        guard Files.isDirectory(root) else {
            try await forget(kernel)
            return kernel
        }
        guard let lock = try WorkspaceLock.free(root + "/lock") else {
            throw Failure("something is being built for kernel '\(name)'", status: .busy, hint: "try again")
        }
        try await forget(kernel)
        try Files.remove(root)
        _ = consume lock
        return kernel
    }

    private func forget(_ kernel: KernelSummary) async throws {
        try await store.remove(arch: kernel.identity.arch, refName: kernel.identity.refName)
        try Files.remove(pathsFile(kernel.identity))
    }

    /// Where the kernel is built: in the state folder, or in the user's cache where a kernel cannot be built below the
    /// repository's path.
    public func workspaceRoot(_ identity: KernelIdentity) throws -> String {
        let folder = workspaceFolders.last { Workspace.canBuild(in: $0) }
        guard let folder else {
            throw Failure(
                "a kernel cannot be built below '\(repository.stateDirectory)': its makefiles do not take every character in a path",
                hint:
                    "set XDG_CACHE_HOME to a folder whose path has only letters, digits, '/', '.', '_' and '-'"
            )
        }
        return "\(folder)/\(identity.arch)-\(identity.refName)"
    }

    /// The folders that may have this repository's workspaces; the last one in which a kernel can be built has.
    var workspaceFolders: [String] {
        func variable(_ name: String) -> String? {
            getenv(name).map { String(cString: $0) }.flatMap { $0.hasPrefix("/") ? $0 : nil }
        }
        let state = repository.stateDirectory
        let cache = variable("XDG_CACHE_HOME") ?? variable("HOME").map { $0 + "/.cache" }
        return (cache.map { ["\($0)/git-ksplice/\(sha256(state).prefix(16))"] } ?? []) + [
            "\(state)/workspaces"
        ]
    }

    private func pathsFile(_ identity: KernelIdentity) -> String {
        "\(repository.stateDirectory)/kernels/\(identity.arch)-\(identity.refName)"
    }

    private func savePaths(_ kernel: KernelDescriptor) throws {
        let file = pathsFile(kernel.identity)
        try Files.createDirectory(file.directoryPart)
        let lines = [
            ("image", kernel.imagePath), ("boot-image", kernel.bootImagePath),
            ("modules", kernel.modulesPath),
        ]
        try Files.write(lines.compactMap { key, path in path.map { "\(key) \($0)\n" } }.joined(), to: file)
    }

    /// Paths that no longer exist count as not known.
    public func localPaths(_ identity: KernelIdentity) throws -> KernelDescriptor.LocalPaths {
        let file = pathsFile(identity)
        var paths = KernelDescriptor.LocalPaths()
        guard Files.exists(file) else { return paths }
        for line in try Files.readText(file).lines {
            let parts = line.split(separator: " ", maxSplits: 1).map(String.init)
            guard parts.count == 2, Files.exists(parts[1]) else { continue }
            switch parts[0] {
            case "image": paths.image = parts[1]
            case "boot-image": paths.bootImage = parts[1]
            case "modules": paths.modules = parts[1]
            default: continue
            }
        }
        return paths
    }
}
