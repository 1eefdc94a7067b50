import Testing

@testable import Core

@Suite struct ConfigFileTests {
    private let text = """
        #
        # Automatically generated file; DO NOT EDIT.
        # Linux/x86 6.1.187 Kernel Configuration
        #
        CONFIG_CC_VERSION_TEXT="gcc-12 (Debian 12.2.0-14) 12.2.0"
        CONFIG_X86_64=y
        # CONFIG_SMP is not set
        CONFIG_BUG=m
        CONFIG_NAME="a \\"b\\" \\\\c"

        """

    @Test func readsOptionsAndHeading() throws {
        let config = try ConfigFile(text)
        #expect(config.options.count == 4)
        #expect(config["SMP"] == nil)
        #expect(config["NAME"] == "a \"b\" \\c")
        #expect(config.compiler == "gcc-12 (Debian 12.2.0-14) 12.2.0")
        #expect(config.arch == "x86_64")
        #expect(config.sourceVersion == "6.1.187")
        #expect(try ConfigFile("CONFIG_X86_32=y\n").arch == "i686")
        #expect(try ConfigFile("").sourceVersion == nil)
    }

    @Test func refusesWhatIsNoConfig() {
        #expect(throws: Failure.self) { try ConfigFile("CONFIG_A\n") }
        let failure = #expect(throws: Failure.self) { try ConfigFile("CONFIG_A=y\nelf\n", name: "f") }
        #expect(failure?.message.contains("'f', line 2") == true)
    }

    @Test func namesTheCauseOfEachDifference() throws {
        let before = try ConfigFile(
            "CONFIG_A=y\nCONFIG_PAHOLE_VERSION=124\nCONFIG_GCC_VERSION=120200\nCONFIG_LD_VERSION=240\n")
        let after = try ConfigFile(
            "CONFIG_A=m\nCONFIG_PAHOLE_VERSION=0\nCONFIG_BUILD_SALT=\"x\"\nCONFIG_LD_VERSION=241\n")
        let found = ConfigFile.differences(from: before, to: after)
        #expect(found.map(\.option) == ["A", "BUILD_SALT", "GCC_VERSION", "LD_VERSION", "PAHOLE_VERSION"])
        #expect(found.map(\.cause) == [.source, .harmless, .compiler, .binutils, .pahole])
        #expect(found[2].before == "120200" && found[2].after == nil)
        #expect(found[0].description == "CONFIG_A: y -> m (another version of the source than the kernel's)")
        #expect(ConfigFile.differences(from: before, to: before).isEmpty)
    }

    @Test("a Rust compiler matters to a kernel with Rust only", arguments: [false, true])
    func rustCompiler(isUsed: Bool) throws {
        let rust = isUsed ? "CONFIG_RUST=y\n" : "CONFIG_A=y\n"
        let found = ConfigFile.differences(
            from: try ConfigFile(rust + "CONFIG_RUSTC_VERSION=0\n"),
            to: try ConfigFile(
                rust + "CONFIG_RUSTC_VERSION=109500\nCONFIG_RUSTC_HAS_UNNECESSARY_TRANSMUTES=y\n"))
        #expect(found.map(\.cause) == [isUsed ? .compiler : .harmless, isUsed ? .compiler : .harmless])
    }
}
