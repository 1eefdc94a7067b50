// A tiny linked "kernel" and its build tree, made with the compiler in a folder of its own.

@testable import Core

struct KernelFixture {
    let folder: String
    static let release = "6.1.0-t"
    static let compiler = "gcc-12 (Debian 12.2.0-14) 12.2.0"

    /// Builds `vmlinux`, `System.map`, `.config`, `Module.symvers` and the release in `folder/build`.
    init(buildID: String = "0xabcd01") async throws {
        folder = try Files.temporaryDirectory()
        try Files.createDirectory(build + "/include/generated")
        try Files.write(Self.assembly, to: folder + "/v.S")
        let banner = "Linux version \(Self.release) (b@h) (\(Self.compiler), GNU ld 2.40) #1 SMP t\\n"
        try await Command([
            "gcc", "-nostdlib", "-static", "-no-pie", "-Wl,-Ttext-segment=0xffffffff81000000",
            "-Wl,--build-id=\(buildID)",
            "-Wl,-e,_text", "-DBANNER=\"\(banner)\"", folder + "/v.S", "-o", build + "/vmlinux",
        ]).check()
        let symbols = try await Command(["nm", "-n", build + "/vmlinux"]).check().text
        try Files.write(symbols, to: build + "/System.map")
        try Files.write(Self.config, to: build + "/.config")
        try Files.write(
            "0x00000011\tfirst\tvmlinux\tEXPORT_SYMBOL\t\n0x00000033\tthird\tvmlinux\tEXPORT_SYMBOL_GPL\tSPACE\n"
                + "0x00000044\tm\tdrivers/net/dummy\tEXPORT_SYMBOL\t\n", to: build + "/Module.symvers")
        try Files.write(
            "#define UTS_RELEASE \"\(Self.release)\"\n", to: build + "/include/generated/utsrelease.h")
    }

    func remove() { try? Files.remove(folder) }

    var build: String { folder + "/build" }

    static let config =
        "# Linux/x86 6.1.187 Kernel Configuration\nCONFIG_CC_VERSION_TEXT=\"\(compiler)\"\nCONFIG_X86_64=y\n"

    /// Export tables as include/linux/export-internal.h of Linux makes them for x86-64. `second` has no checksum.
    private static let assembly = """
        .macro entry name space
            .long \\name - .
            .long str_\\name - .
            .long str_\\space - .
        .endm
            .globl _text
            .section .text.aa, "ax"
        _text: nop
        first: nop
        second: nop
        third: nop
            .section .rodata, "a"
            .asciz BANNER
        __start___ksymtab:
            entry first none
            entry second none
        __stop___ksymtab:
        __start___ksymtab_gpl:
            entry third space
        __stop___ksymtab_gpl:
        __start___kcrctab: .long 0x11, 0
        __stop___kcrctab:
        __start___kcrctab_gpl: .long 0x33
        __stop___kcrctab_gpl:
        str_none: .byte 0
        str_space: .asciz "SPACE"
        str_first: .asciz "first"
        str_second: .asciz "second"
        str_third: .asciz "third"
            .section .note.GNU-stack, ""

        """
}
