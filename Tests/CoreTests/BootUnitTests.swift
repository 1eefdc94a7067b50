// What `make install` puts where systemd and initramfs-tools look.

import Testing

@testable import Core

@Suite struct BootUnitTests {
    /// Installs into a folder and gives its files, by their path from `/`.
    private func installed(_ prefix: String, _ body: (String, [String]) async throws -> Void) async throws {
        let folder = try Files.temporaryDirectory()
        defer { try? Files.remove(folder) }
        func make(_ target: String) async throws {
            try await Command([
                "make", "-s", "-C", SourceTree.root, target, "PREFIX=\(prefix)", "DESTDIR=\(folder)",
            ]).check()
        }
        func files() async throws -> [String] {
            try await Command(["find", ".", "!", "-type", "d"], directory: folder).check().text.lines.map {
                String($0.dropFirst())
            }.sorted()
        }
        try await make("install-boot")
        try await body(folder, try await files())
        try await make("uninstall")
        #expect(try await files() == [])
    }

    @Test(
        "units and hooks are installed where they are looked for, with the program's path, and removed",
        arguments: [("/usr", "/usr/share/initramfs-tools"), ("/usr/local", "/etc/initramfs-tools")])
    func places(_ prefix: String, _ initramfs: String) async throws {
        try await installed(prefix) { folder, files in
            let units = prefix + "/lib/systemd/system"
            #expect(
                files
                    == [
                        initramfs + "/hooks/git-ksplice", initramfs + "/scripts/init-bottom/git-ksplice",
                        units + "/ksplice-boot-confirm.service", units + "/ksplice-boot.service",
                        units + "/ksplice-update.service", units + "/ksplice-update.timer",
                        units + "/multi-user.target.wants/ksplice-boot-confirm.service",
                        units + "/sysinit.target.wants/ksplice-boot.service",
                        units + "/timers.target.wants/ksplice-update.timer",
                    ].sorted())
            for file in files where Files.linkTarget(folder + file) == nil && !file.hasSuffix(".timer") {
                let text = try Files.readText(folder + file)
                let programs = Set(text.matches(of: /[ =](\/\S*bin\/git-ksplice)/).map { String($0.1) })
                #expect(programs == [prefix + "/bin/git-ksplice"], "\(file)")
            }
        }
    }

    @Test(
        "systemd accepts the units",
        .enabled(if: Files.exists("/usr/bin/systemd-analyze"), "systemd is not installed"))
    func systemdAcceptsThem() async throws {
        try await installed("/usr") { folder, _ in
            let units = folder + "/usr/lib/systemd/system/"
            // They name a program that is not installed here; a line about that would be one about nothing else.
            for name in [
                "ksplice-boot.service", "ksplice-boot-confirm.service", "ksplice-update.service",
                "ksplice-update.timer",
            ] {
                let text = try Files.readText(units + name)
                try Files.remove(units + name)
                try Files.write(
                    text.replacing("/usr/bin/git-ksplice", with: "/usr/bin/env").replacing(
                        "Documentation=", with: "#"), to: units + name)
                let result = try await Command(["systemd-analyze", "verify", "--man=no", units + name]).run()
                #expect(result.succeeded && result.errorText == "", "\(result.errorText)")
            }
        }
    }

    @Test("the initial file system tries nothing where nobody would confirm it")
    func unconfirmed() async throws {
        let folder = try Files.temporaryDirectory()
        defer { try? Files.remove(folder) }
        let root = folder + "/root"
        let (units, masks) = (root + "/usr/lib/systemd/system", root + "/etc/systemd/system")
        let kernels = root + "/var/lib/git-ksplice/boot/kernels"
        for path in [units, masks, kernels] { try Files.createDirectory(path) }
        let (confirm, systemd) = (units + "/ksplice-boot-confirm.service", root + "/usr/lib/systemd/systemd")
        for path in [confirm, systemd, kernels + "/x86_64-ab12"] { try Files.write("", to: path) }

        let script = try Files.readText(SourceTree.root + "/hooks/boot/initramfs-tools/init-bottom")
        try Files.write(
            script.replacing("/usr/bin/git-ksplice", with: "echo"), to: folder + "/init-bottom")
        func said() async throws -> String {
            try await Command(["sh", folder + "/init-bottom"], environment: ["rootmnt": root]).check().text
        }
        #expect(try await said() == "boot run --early\n")
        for unit in ["ksplice-boot.service", "ksplice-boot-confirm.service"] {
            try await Command(["ln", "-s", "/dev/null", "\(masks)/\(unit)"]).check()
            #expect(try await said() == "", "\(unit) is masked")
            try Files.remove("\(masks)/\(unit)")
        }
        for file in [confirm, systemd] {
            try Files.remove(file)
            #expect(try await said() == "", "without \(file)")
            try Files.write("", to: file)
        }
        #expect(try await said() == "boot run --early\n")
    }

    @Test("the scripts of the initial file system are scripts of sh, and say in which order they run")
    func scripts() async throws {
        for name in ["hook", "init-bottom"] {
            let path = SourceTree.root + "/hooks/boot/initramfs-tools/" + name
            try await Command(["sh", "-n", path]).check()
            let order = try await Command(["sh", path, "prereqs"]).check()
            #expect(order.text == "" && order.errorText == "")
        }
    }
}
