// The Debian package as its user meets it: on a small Debian 12 without Swift apt installs it, its commands, manual pages and
// completions work, and apt removes it. No kernel is booted for that; the Debian is in a namespace of this one.

import Glibc
import Testing

@testable import Core

private enum PackageTools {
    static let support = #filePath.directoryPart.directoryPart + "/Support"
    static let root = Material.value("KSPLICE_DEBIAN_ROOT")

    @Sendable static func areThere() async throws -> Bool {
        let tools = ["/usr/bin/lintian", "/usr/bin/dpkg-gencontrol", "/usr/bin/strip"]
        guard geteuid() == 0, !root.isEmpty, tools.allSatisfy(Files.exists) else { return false }
        let mount = "mount -t proc proc /proc"
        return try await Command([
            "unshare", "-m", "-p", "-f", "--propagation", "private", "sh", "-c", mount,
        ]).run().succeeded
    }
}

extension VirtualMachineTests {
    @Suite(
        .tags(.long),
        .enabled(
            "it needs root who may mount, the packages lintian and dpkg-dev, and a small Debian (KSPLICE_DEBIAN_ROOT)",
            PackageTools.areThere))
    struct DebianPackage {
        @Test("the package is in order, is installed without Swift, works, and is removed without a trace")
        func package() async throws {
            let folder = try Files.temporaryDirectory()
            defer { try? Files.remove(folder) }
            let build = try Files.absolute("/proc/self/exe").directoryPart
            let program = folder + "/git-ksplice"
            try await Command([PackageTools.support + "/link-static.sh", build, program]).check(
                "cannot link the program with Swift's library inside")
            let made = try await Command([
                "make", "-s", "-C", PackageTools.support.directoryPart.directoryPart, "deb",
                "PROGRAM_FILE=\(program)", "DEBS=\(folder)",
            ]).check("cannot make the package")
            let package = try #require(made.text.lines.last.map { String($0) })

            let objections = try await Command([
                "lintian", "--allow-root", "--fail-on", "error,warning", package,
            ]).run()
            #expect(objections.succeeded && objections.text == "", "\(objections.said)")

            let tried = try await Command([
                PackageTools.support + "/try-package.sh", PackageTools.root, package, folder,
            ]).run()
            #expect(tried.succeeded, "\(tried.said)")
            #expect(tried.text.hasSuffix("removal\n"))
        }
    }
}
