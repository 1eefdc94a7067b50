// What one `--from` path gives of a kernel build: found by the names that kernel builds and distributions use, each
// with the path that it came from, so that contradictions can name both sides. Nothing is decided here.

import Glibc

/// A fact and the path that says it.
struct Sourced<Value: Sendable>: Sendable {
    var value: Value
    var path: String
}

/// Everything that was found, in the order of the paths.
struct KernelPieces: Sendable {
    /// Kernel images, bootable or not.
    var images: [String] = []
    /// Texts of config files.
    var configs: [Sourced<String>] = []
    var systemMaps: [String] = []
    var moduleSymvers: [String] = []
    /// Folders `lib/modules/RELEASE` that hold modules.
    var modules: [String] = []
    var arches: [Sourced<String>] = []
    var releases: [Sourced<String>] = []
    var versions: [Sourced<String>] = []
    var buildIDs: [Sourced<String>] = []

    var isEmpty: Bool {
        images.isEmpty && configs.isEmpty && systemMaps.isEmpty && moduleSymvers.isEmpty && modules.isEmpty
    }

    mutating func add(_ other: KernelPieces) {
        images += other.images
        configs += other.configs
        systemMaps += other.systemMaps
        moduleSymvers += other.moduleSymvers
        modules += other.modules
        arches += other.arches
        releases += other.releases
        versions += other.versions
        buildIDs += other.buildIDs
    }
}

extension KernelPieces {
    /// A single file: an image, a config, a System.map, a Module.symvers.
    init(file path: String) throws {
        let name = path.lastPathComponent
        if try KernelImage.isELF(path) || KernelImage.isBootable(path) {
            addImage(path)
        } else if name.hasPrefix("System.map") {
            systemMaps.append(path)
        } else if name.hasPrefix("Module.symvers") {
            moduleSymvers.append(path)
        } else if name == ".config" || name.hasPrefix("config") {
            try addConfig(path)
        }
    }

    /// A folder: an unpacked package or several over one another, a build tree, or a config with what else there is.
    init(folder: String) throws {
        try addBuildTree(folder)
        let boots = ["boot", "usr/lib/debug/boot"].map { folder + "/" + $0 }
        for boot in boots where Files.isDirectory(boot) {
            for name in try Files.list(boot) where Files.isRegular(boot + "/" + name) {
                if name.hasPrefix("vmlinuz-") || name.hasPrefix("vmlinux-") { addImage(boot + "/" + name) }
                if name.hasPrefix("config-") { try addConfig(boot + "/" + name) }
                if name.hasPrefix("System.map-") { systemMaps.append(boot + "/" + name) }
            }
        }
        let sources = folder + "/usr/src"
        if Files.isDirectory(sources) {
            for name in try Files.list(sources) where name.hasPrefix("linux-headers-") {
                try addBuildTree(sources + "/" + name)
            }
        }
        // Where lib is a link to usr/lib, both names lead to one folder.
        var seen: Set<String> = []
        for parent in ["lib/modules", "usr/lib/modules"].map({ folder + "/" + $0 })
        where Files.isDirectory(parent) {
            guard seen.insert(try Files.absolute(parent)).inserted else { continue }
            for release in try Files.list(parent) { try addModules(parent + "/" + release, release: release) }
        }
    }

    /// The running machine. `root` is empty but in tests.
    init(machine root: String, name: SystemName) throws {
        let release = name.release
        releases.append(Sourced(value: release, path: "uname -r"))
        versions.append(Sourced(value: name.version, path: "uname -v"))
        let isOld = name.machine.hasPrefix("i") && name.machine.hasSuffix("86")
        arches.append(Sourced(value: isOld ? "i686" : name.machine, path: "uname -m"))
        let notes = root + "/sys/kernel/notes"
        if Files.exists(notes), let id = gnuBuildID(inNotes: try Files.read(notes)) {
            buildIDs.append(Sourced(value: id, path: notes))
        }
        let folder = ["/lib/modules/", "/usr/lib/modules/"].map { root + $0 + release }.first(
            where: Files.isDirectory)
        if let folder { try addModules(folder, release: release) }
        let image = root + "/boot/vmlinuz-" + release
        if images.isEmpty, Files.isRegular(image) { addImage(image) }
        for path in [root + "/boot/config-" + release, (folder ?? root) + "/config"]
        where configs.isEmpty && Files.isRegular(path) {
            try addConfig(path)
        }
        let packed = root + "/proc/config.gz"
        if configs.isEmpty, Files.exists(packed) {
            let text = try gunzip(Files.read(packed), limit: 16 << 20)
            configs.append(Sourced(value: String(decoding: text, as: UTF8.self), path: packed))
        }
        let map = root + "/boot/System.map-" + release
        if Files.isRegular(map) { systemMaps.append(map) }
        if let build = folder.map({ $0 + "/build" }), Files.isDirectory(build) { try addBuildTree(build) }
    }

    private mutating func addImage(_ path: String) {
        images.append(path)
        addRelease(ofFile: path)
    }

    private mutating func addConfig(_ path: String) throws {
        configs.append(Sourced(value: try Files.readText(path), path: path))
        addRelease(ofFile: path)
    }

    /// Distributions put the release behind the names of the files in /boot.
    private mutating func addRelease(ofFile path: String) {
        for prefix in ["vmlinuz-", "vmlinux-", "config-"] where path.lastPathComponent.hasPrefix(prefix) {
            let release = path.lastPathComponent.dropFirst(prefix.count)
            if release.first?.isNumber == true {
                releases.append(Sourced(value: String(release), path: path))
            }
        }
    }

    private mutating func addModules(_ path: String, release: String) throws {
        if Files.isRegular(path + "/vmlinuz") { images.append(path + "/vmlinuz") }
        if Files.isRegular(path + "/config") { try addConfig(path + "/config") }
        if Files.isRegular(path + "/System.map") { systemMaps.append(path + "/System.map") }
        // Other packages have the folder too: with links to the sources, or with lists of what is built in.
        guard Files.isDirectory(path + "/kernel") else { return }
        modules.append(path)
        releases.append(Sourced(value: release, path: path))
    }

    private mutating func addBuildTree(_ folder: String) throws {
        func path(_ name: String) -> String? {
            let path = folder + "/" + name
            return Files.isRegular(path) ? path : nil
        }
        guard let config = path(".config") else { return }
        try addConfig(config)
        for name in ["vmlinux", "arch/x86/boot/bzImage"] { if let image = path(name) { addImage(image) } }
        if let map = path("System.map") { systemMaps.append(map) }
        if let exports = path("Module.symvers") { moduleSymvers.append(exports) }
        // What a vendor calls the release is in the header; kernel.release may have the source's own version.
        if let file = path("include/generated/utsrelease.h") {
            let parts = try Files.readText(file).split(separator: "\"")
            if parts.count > 1 { releases.append(Sourced(value: String(parts[1]), path: file)) }
        } else if let file = path("include/config/kernel.release") {
            releases.append(Sourced(value: try Files.readText(file).trimmed, path: file))
        }
    }
}

/// What uname(2) says.
struct SystemName: Sendable {
    var release: String
    var version: String
    var machine: String

    /// Of the running kernel.
    static func current() throws -> SystemName {
        var name = utsname()
        guard uname(&name) == 0 else {
            throw Failure("cannot ask the kernel for its name: \(describe(errno: errno))")
        }
        func text<T>(_ field: T) -> String {
            withUnsafeBytes(of: field) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        }
        return SystemName(
            release: text(name.release), version: text(name.version), machine: text(name.machine))
    }
}
