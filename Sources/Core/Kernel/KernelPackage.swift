// Distribution packages as sources of a kernel: unpacked into the cache once, and the module index made that the
// package's own installation script would make.

import Glibc

enum KernelPackage {
    /// Whether a file is a Debian package: an ar archive whose first member is `debian-binary`.
    static func isPackage(_ path: String) throws -> Bool {
        guard path.hasSuffix(".deb") || path.hasSuffix(".udeb") else { return false }
        guard Files.isRegular(path) else { throw Failure.system("open", path, errno: ENOENT) }
        return true
    }

    /// The folder in the cache with the package's files. What was unpacked before is used again.
    static func unpack(_ path: String, cache: String) async throws -> String {
        let target = cache + "/" + path.lastPathComponent + "-" + (try fileKey(path))
        if Files.isDirectory(target) { return target }
        let part = target + ".tmp.\(getpid())"
        do {
            try Files.createDirectory(part)
            do {
                try await Command(["dpkg-deb", "-x", path, part]).check("cannot unpack '\(path)'")
            } catch let failure as Failure where failure.message.hasPrefix("cannot run") {
                throw Failure(
                    failure.message, hint: "install dpkg, or give the unpacked package in place of '\(path)'")
            }
            try await indexModules(in: part)
            guard rename(part, target) == 0 else { throw Failure.system("create", target, errno: errno) }
        } catch {
            try? Files.remove(part)
            throw error
        }
        return target
    }

    /// Makes `modules.dep` and its like where they are missing. Without depmod they stay missing: nothing but the
    /// loading of modules by name in a virtual machine needs them.
    private static func indexModules(in root: String) async throws {
        let programs = ["/usr/sbin/depmod", "/sbin/depmod", "/usr/bin/depmod"]
        guard let depmod = programs.first(where: Files.exists) else { return }
        for parent in ["/lib/modules", "/usr/lib/modules"].map({ root + $0 }) where Files.isDirectory(parent)
        {
            for release in try Files.list(parent)
            where Files.isDirectory(parent + "/" + release + "/kernel")
                && !Files.exists(parent + "/" + release + "/modules.dep")
            {
                let base = parent.hasSuffix("/usr/lib/modules") ? root + "/usr" : root
                try await Command([depmod, "-b", base, release]).check(
                    "cannot index the modules of \(release)")
            }
        }
    }

    /// A short name for the content of a file, cheap for files of a gigabyte: a digest of its path, size and time.
    static func fileKey(_ path: String) throws -> String {
        var info = stat()
        guard stat(path, &info) == 0 else { throw Failure.system("open", path, errno: errno) }
        let text =
            "\(try Files.absolute(path)) \(info.st_size) \(info.st_mtim.tv_sec) \(info.st_mtim.tv_nsec)"
        return String(sha256(text).prefix(16))
    }
}
