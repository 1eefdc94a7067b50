// What `make install` installs, `make uninstall` removes, and `make deb` packs. Another program stands for this one, which is
// not built for that.

import Testing

@testable import Core

@Suite struct InstallationTests {
    private static let program = "/usr/bin/make"

    private func make(_ target: String, _ variables: String...) async throws -> String {
        try await Command(
            ["make", "-s", "-C", SourceTree.root, target, "PROGRAM_FILE=\(Self.program)"] + variables
        ).check().text
    }

    private func find(_ folder: String, _ condition: String...) async throws -> [String] {
        try await Command(["find", "."] + condition, directory: folder).check().text.lines.map {
            String($0.dropFirst())
        }.sorted()
    }

    @Test("what was installed is removed", arguments: ["/usr", "/usr/local"])
    func uninstall(_ prefix: String) async throws {
        let folder = try Files.temporaryDirectory()
        defer { try? Files.remove(folder) }
        let places = ["PREFIX=\(prefix)", "DESTDIR=\(folder)"]
        _ = try await make("install", places[0], places[1])
        let files = try await find(folder, "!", "-type", "d")
        let share = prefix + "/share"
        for file in [
            prefix + "/bin/git-ksplice", share + "/man/man1/git-ksplice.1",
            share + "/bash-completion/completions/git-ksplice",
            share + "/fish/vendor_completions.d/git-ksplice.fish",
            share + "/fish/vendor_conf.d/git-ksplice.fish",
            share + "/git-ksplice/kernel/Kbuild", share + "/git-ksplice/findings/type-layout.md",
            share + "/git-ksplice/mismatches/different-code.md", share + "/git-ksplice/schemas/list.json",
        ] { #expect(files.contains(file), "\(file)") }
        #expect(files.contains { $0.hasPrefix(share + "/zsh/") && $0.hasSuffix("/_git-ksplice") })

        _ = try await make("uninstall", places[0], places[1])
        #expect(try await find(folder, "!", "-type", "d") == [])
        // What a system has anyway is left, and nothing else.
        let own = try await find(folder, "-type", "d").filter {
            $0.matches(of: /ksplice|completion|zsh|fish|wants/).count > 0
        }
        #expect(own == [])
    }

    @Test("git help finds the manual", .enabled(if: Files.exists("/usr/bin/man"), "man-db is not installed"))
    func help() async throws {
        let folder = try Files.temporaryDirectory()
        defer { try? Files.remove(folder) }
        _ = try await make("install", "PREFIX=/usr", "DESTDIR=\(folder)")
        for (words, title) in [
            ("ksplice", "GIT-KSPLICE(1)"), ("git-ksplice-journal", "GIT-KSPLICE-JOURNAL(1)"),
        ] {
            let result = try await Command(
                ["sh", "-c", "PATH='\(folder)/usr/bin':$PATH git help -m \(words)"], directory: folder,
                environment: [
                    "MANPATH": folder + "/usr/share/man", "MANPAGER": "cat", "PAGER": "cat", "HOME": folder,
                    "GIT_CONFIG_NOSYSTEM": "1", "TERM": "dumb",
                ]
            ).run()
            #expect(result.text.contains(title), "\(result.status): \(result.text)\(result.errorText)")
        }
    }

    @Test("what others installed beside it is left") func neighbours() async throws {
        let folder = try Files.temporaryDirectory()
        defer { try? Files.remove(folder) }
        let places = ["PREFIX=/usr", "DESTDIR=\(folder)"]
        _ = try await make("install", places[0], places[1])
        let others = [
            "/usr/lib/systemd/system/sysinit.target.wants/other.service",
            "/usr/share/fish/vendor_conf.d/other.fish",
            "/usr/share/man/man1/git-other.1",
        ]
        for file in others { try Files.write("", to: folder + file) }
        _ = try await make("uninstall", places[0], places[1])
        #expect(try await find(folder, "!", "-type", "d") == others.sorted())
    }

    @Test(
        "the same program and commit give the same package",
        .enabled(if: Files.exists("/usr/bin/dpkg-gencontrol"), "dpkg-dev is not installed"))
    func reproducible() async throws {
        let folder = try Files.temporaryDirectory()
        defer { try? Files.remove(folder) }
        var packages: [String] = []
        for name in ["first", "second"] {
            let path = try await make("deb", "DEBS=\(folder)/\(name)").lines.last.map { String($0) }
            packages.append(try #require(path))
        }
        #expect(packages[0].lastPathComponent == packages[1].lastPathComponent)
        #expect(try Files.read(packages[0]) == Files.read(packages[1]))

        let control = try await Command(["dpkg-deb", "-f", packages[0]]).check().text
        #expect(control.contains("\nVersion: \(programVersion)"), "\(control)")
        #expect(control.firstMatch(of: /\nDepends: git, .*libc6 \(>=/) != nil, "\(control)")
        // Only the packages are left.
        #expect(try await find(folder, "-type", "f").count == 2)
    }
}
