import Testing

@testable import Core

@Suite struct KernelImporterTests {
    private func load(_ paths: String..., cache: String) async throws -> ImportedKernel {
        try await KernelImporter.load(paths: paths, cache: cache + "/cache")
    }

    /// The message of the failure that loading must give.
    private func refusal(_ fixture: KernelFixture, _ paths: [String]) async -> String {
        do {
            _ = try await KernelImporter.load(paths: paths, cache: fixture.folder + "/cache")
            return "no failure"
        } catch { return "\(error)" }
    }

    @Test func learnsABuildTree() async throws {
        let fixture = try await KernelFixture()
        defer { fixture.remove() }
        let kernel = try await load(fixture.build, cache: fixture.folder)
        #expect(
            kernel.identity
                == KernelIdentity(
                    arch: "x86_64", buildID: "abcd01", release: "6.1.0-t", version: "#1 SMP t",
                    compiler: KernelFixture.compiler, configDigest: sha256(KernelFixture.config)))
        #expect(kernel.symbols.unique("third") != nil)
        #expect(kernel.exports.map(\.name) == ["first", "third", "m"])
        #expect(kernel.imagePath == (try Files.absolute(fixture.build)) + "/vmlinux")
        #expect(kernel.missing.isEmpty && kernel.bootImagePath == nil)
        // The tiny image has no kallsyms tables.
        #expect(kernel.ignored.count == 1)

        try Files.remove(fixture.build + "/Module.symvers")
        let without = try await load(fixture.build, cache: fixture.folder)
        #expect(without.exports.map(\.name) == ["first", "second", "third"])
        #expect(without.missing.map(\.kind) == [.moduleExports])
    }

    @Test func aFolderWithAConfigIsEnough() async throws {
        let fixture = try await KernelFixture()
        defer { fixture.remove() }
        let folder = fixture.folder + "/config"
        try Files.createDirectory(folder)
        try Files.write(KernelFixture.config + "CONFIG_MODULES=y\n", to: folder + "/.config")
        let kernel = try await load(folder, cache: fixture.folder)
        #expect(kernel.identity.buildID.isEmpty && kernel.identity.release.isEmpty)
        #expect(kernel.identity.refName.hasPrefix("config-"))
        #expect(kernel.missing.map(\.kind) == [.image, .symbols, .exports, .modules])
        try Files.write("ffffffff81000000 T _text\n", to: folder + "/System.map")
        #expect(try await load(folder, cache: fixture.folder).symbols.all.count == 1)
    }

    @Test func ignoresAStub() async throws {
        let fixture = try await KernelFixture()
        defer { fixture.remove() }
        try Files.write(
            "ffffffffffffffff B The real System.map is elsewhere\n", to: fixture.build + "/System.map")
        #expect(await refusal(fixture, [fixture.build]).contains("no symbol tables in the kernel image"))
        let other = fixture.folder + "/boot"
        try Files.createDirectory(other)
        try Files.write(SyntheticImage(.percpu).bytes(), to: other + "/vmlinux-6.1.0-t")
        try Files.write(
            "ffffffffffffffff B The real System.map is elsewhere\n", to: other + "/System.map-6.1.0-t")
        try Files.write("CONFIG_X86_64=y\n", to: other + "/config-6.1.0-t")
        let kernel = try await load(fixture.folder, cache: fixture.folder)
        #expect(kernel.symbols.all == SyntheticImage(.percpu).symbols)
        #expect(kernel.ignored == [], "a stub is not worth a word where the image has the symbols")
        #expect(kernel.missing.map(\.kind) == [.exports])
    }

    @Test func namesBothSidesOfAContradiction() async throws {
        let fixture = try await KernelFixture()
        defer { fixture.remove() }
        let other = try await KernelFixture(buildID: "0xabcd02")
        defer { other.remove() }
        let ids = await refusal(fixture, [fixture.build, other.build])
        #expect(ids.contains("build-id 'abcd01'") && ids.contains("'abcd02'"))
        #expect(ids.contains(fixture.build) && ids.contains(other.build))

        let config = fixture.folder + "/config-6.1.0-u"
        try Files.write(KernelFixture.config, to: config)
        let releases = await refusal(fixture, [fixture.build, config])
        #expect(
            releases.contains("release '6.1.0-t'") && releases.contains("'6.1.0-u' in '")
                && releases.contains(config))

        let series = fixture.folder + "/.config"
        try Files.write(KernelFixture.config.replacing("6.1.187", with: "6.12.1"), to: series)
        let version = await refusal(
            fixture, [series, fixture.build + "/vmlinux", fixture.build + "/System.map"])
        #expect(version.contains("version '6.12.1'"))

        try Files.write(KernelFixture.config.replacing("12.2.0-14", with: "12.2.0-13"), to: series)
        let compiler = await refusal(
            fixture, [series, fixture.build + "/vmlinux", fixture.build + "/System.map"])
        #expect(
            compiler.contains("compiler 'gcc-12 (Debian 12.2.0-14) 12.2.0'") && compiler.contains("12.2.0-13")
        )

        let options = await refusal(fixture, [fixture.build, series])
        #expect(options.contains("CONFIG_CC_VERSION_TEXT"))

        let arch = fixture.folder + "/.config"
        try Files.write("CONFIG_X86_32=y\n", to: arch)
        #expect(await refusal(fixture, [arch, fixture.build + "/vmlinux"]).contains("architecture"))
    }

    @Test func harmlessOptionsAreNoContradiction() async throws {
        let fixture = try await KernelFixture()
        defer { fixture.remove() }
        let installed = fixture.folder + "/config-6.1.0-t"
        try Files.write(KernelFixture.config, to: installed)
        try Files.write(
            KernelFixture.config + "CONFIG_BUILD_SALT=\"t\"\nCONFIG_MODULE_SIG_ALL=y\n",
            to: fixture.build + "/.config")
        // Whatever the order, the config is that which was installed with the kernel.
        for paths in [[fixture.build, installed], [installed, fixture.build]] {
            let kernel = try await KernelImporter.load(paths: paths, cache: fixture.folder + "/cache")
            #expect(kernel.config == KernelFixture.config)
        }
    }

    @Test func checksumsAndAddressesMustBeThoseOfTheImage() async throws {
        let fixture = try await KernelFixture()
        defer { fixture.remove() }
        let text = try Files.readText(fixture.build + "/Module.symvers")
        try Files.write(
            text.replacing("0x00000011", with: "0x00000012"), to: fixture.build + "/Module.symvers")
        let checksum = await refusal(fixture, [fixture.build])
        #expect(checksum.contains("checksum of 'first' 0x11") && checksum.contains("0x12"))

        let image = fixture.folder + "/vmlinux"
        let source = SyntheticImage(.percpu)
        try Files.write(source.bytes(), to: image)
        let map = fixture.folder + "/System.map"
        try Files.write(KernelSymbols(source.symbols).text(), to: map)
        let config = fixture.folder + "/.config"
        try Files.write("CONFIG_X86_64=y\n", to: config)
        let kernel = try await KernelImporter.load(
            paths: [image, map, config], cache: fixture.folder + "/cache")
        #expect(kernel.ignored.isEmpty && kernel.symbols.all == source.symbols)
        var moved = source.symbols
        moved[9].address += 1
        try Files.write(KernelSymbols(moved).text(), to: map)
        let address = await refusal(fixture, [image, map, config])
        #expect(address.contains("address of '\(moved[9].name)'") && address.contains(map))
    }

    @Test func namesWhatIsMissing() async throws {
        let fixture = try await KernelFixture()
        defer { fixture.remove() }
        #expect(await refusal(fixture, [fixture.build + "/vmlinux"]).contains("no config"))
        #expect(await refusal(fixture, [fixture.folder + "/none"]).contains("/none"))
        let empty = fixture.folder + "/empty"
        try Files.createDirectory(empty)
        #expect(await refusal(fixture, [empty]).contains("nothing that describes a kernel build"))
        try Files.write("x", to: fixture.folder + "/x.deb")
        #expect(await refusal(fixture, [fixture.folder + "/x.deb"]).contains("cannot unpack"))
    }

    @Test(.enabled(if: Files.exists("/usr/bin/dpkg-deb"), "dpkg-deb is not installed"))
    func learnsPackages() async throws {
        let fixture = try await KernelFixture()
        defer { fixture.remove() }
        func package(_ name: String, _ files: [(from: String, to: String)]) async throws -> String {
            let root = fixture.folder + "/" + name
            try Files.createDirectory(root + "/DEBIAN")
            try Files.write(
                "Package: \(name)\nVersion: 1\nArchitecture: all\nMaintainer: m\nDescription: d\n",
                to: root + "/DEBIAN/control")
            for file in files {
                try Files.createDirectory((root + "/" + file.to).directoryPart)
                try Files.write(Files.read(fixture.build + "/" + file.from), to: root + "/" + file.to)
            }
            try await Command(["dpkg-deb", "-b", root, root + ".deb"]).check()
            return root + ".deb"
        }
        let image = try await package(
            "image",
            [
                ("vmlinux", "boot/vmlinux-6.1.0-t"), (".config", "boot/config-6.1.0-t"),
                ("System.map", "boot/System.map-6.1.0-t"),
                (".config", "lib/modules/6.1.0-t/kernel/list"),
                (".config", "lib/modules/6.1.0-t/modules.dep"),
            ])
        let headers = try await package(
            "headers",
            [
                (".config", "usr/src/linux-headers-6.1.0-t/.config"),
                ("Module.symvers", "usr/src/linux-headers-6.1.0-t/Module.symvers"),
            ])
        for _ in 0..<2 {
            let kernel = try await load(image, headers, cache: fixture.folder)
            #expect(kernel.identity.buildID == "abcd01" && kernel.exports.count == 3)
            #expect(kernel.modulesPath?.hasSuffix("/lib/modules/6.1.0-t") == true)
            #expect(kernel.missing.isEmpty)
        }
    }

    @Test func learnsAMachine() async throws {
        let fixture = try await KernelFixture()
        defer { fixture.remove() }
        let root = fixture.folder + "/root"
        for folder in ["/boot", "/sys/kernel", "/proc", "/lib/modules/6.1.0-t/kernel"] {
            try Files.createDirectory(root + folder)
        }
        try Files.write(Files.read(fixture.build + "/vmlinux"), to: root + "/boot/vmlinuz-6.1.0-t")
        try Files.write(Files.read(fixture.build + "/System.map"), to: root + "/boot/System.map-6.1.0-t")
        try Files.write(gzip(Array(KernelFixture.config.utf8)), to: root + "/proc/config.gz")
        var notes: [UInt8] = []
        for value: UInt32 in [4, 3, 3] { notes.append(littleEndian: value) }
        notes += Array("GNU\0".utf8) + [0xab, 0xcd, 0x01, 0]
        try Files.write(notes, to: root + "/sys/kernel/notes")
        let name = SystemName(release: "6.1.0-t", version: "#1 SMP t", machine: "x86_64")
        let pieces = try KernelPieces(machine: root, name: name)
        let kernel = try await KernelImporter.merge(pieces, cache: fixture.folder)
        #expect(kernel.identity.buildID == "abcd01" && kernel.config == KernelFixture.config)
        #expect(kernel.modulesPath == root + "/lib/modules/6.1.0-t")
        notes[16] = 0xac
        try Files.write(notes, to: root + "/sys/kernel/notes")
        await #expect(throws: Failure.self) {
            try await KernelImporter.merge(try KernelPieces(machine: root, name: name), cache: fixture.folder)
        }
    }

    @Test func theDescriptorSurvivesARoundTrip() async throws {
        let fixture = try await KernelFixture()
        defer { fixture.remove() }
        let kernel = try await load(fixture.build, cache: fixture.folder).descriptor(
            name: "my kernel", sourceCommit: "c")
        var files = kernel.files()
        let paths = KernelDescriptor.LocalPaths(image: "/i")
        let again = try KernelDescriptor(files: files, localPaths: paths)
        #expect(again.identity == kernel.identity && again.name == "my kernel" && again.sourceCommit == "c")
        #expect(
            again.config == kernel.config && again.symbols.all == kernel.symbols.all
                && again.exports == kernel.exports)
        #expect(again.imagePath == "/i" && again.bootImagePath == nil && again.files() == files)
        for (name, content) in files {
            #expect(throws: Failure.self) {
                try KernelDescriptor(files: files.filter { $0.key != name }, localPaths: paths)
            }
            #expect(!content.contains(text: fixture.folder), "\(name) holds a path of this machine")
        }
        files["config"]?.append(10)
        #expect(throws: Failure.self) { try KernelDescriptor(files: files, localPaths: paths) }
        files = kernel.files()
        files["descriptor"] = Array(
            String(decoding: files["descriptor"]!, as: UTF8.self).replacing("kernel 1", with: "kernel 2").utf8
        )
        #expect(throws: Failure.self) { try KernelDescriptor(files: files, localPaths: paths) }
    }
}
