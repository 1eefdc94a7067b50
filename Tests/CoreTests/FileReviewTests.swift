// Files that are not C: which changes mean nothing, and which entry points of assembly differ.

import Testing

@testable import Core

@Suite struct FileReviewTests {
    private func makefile(_ pre: String, _ post: String) -> [String] {
        let changed = [ChangedFile(path: "net/Makefile", status: .modified)]
        return AffectedFiles(changed, architecture: "x86") { _ in (Array(pre.utf8), Array(post.utf8)) }
            .findings.map(\.code)
    }

    @Test func commentsOfMakefilesMeanNothing() {
        #expect(makefile("obj-y += a.o\n", "# two\n\nobj-y += a.o\n").isEmpty)
        #expect(makefile("# a \\\n b\nobj-y += a.o\n", "obj-y += a.o\n").isEmpty)
        #expect(makefile("obj-y += a.o\n", "obj-y += a.o b.o\n") == ["makefile"])
        // A recipe's comment is the shell's, and a continued line is no comment.
        #expect(makefile("a:\n\t# x\n", "a:\n\t# y\n") == ["makefile"])
        #expect(makefile("a := b \\\n# x\n", "a := b \\\n# y\n") == ["makefile"])
    }

    @Test func whatIsNotBuiltAsCIsLeftOpen() throws {
        let changed = [
            ChangedFile(path: "net/Kconfig", status: .modified),
            ChangedFile(path: "lib/a.S", status: .modified),
            ChangedFile(path: "lib/b.S", status: .deleted), ChangedFile(path: "lib/c.c", status: .deleted),
            ChangedFile(path: "arch/x86/boot/main.c", status: .modified),
        ]
        let affected = try AffectedFiles(changed, architecture: "x86")
        #expect(affected.kconfigs == ["net/Kconfig"] && affected.assembly == ["lib/a.S"])
        #expect(affected.deleted == ["lib/b.S", "lib/c.c"])
        #expect(affected.findings.map(\.code) == ["boot-code"] && affected.isOpen)
        #expect(try !AffectedFiles([changed[4]], architecture: "x86").isOpen)
    }

    private func remarks(_ path: String) throws -> [String] {
        try AffectedFiles([ChangedFile(path: path, status: .modified)], architecture: "x86").findings.map {
            "\($0.severity.rawValue) \($0.code) \($0.file)"
        }
    }

    @Test(
        "a kind of file that nobody knows",
        arguments: ["drivers/gpu/a.reg", "crypto/a.asn1", "arch/x86/a.pl"])
    func unknownFiles(_ path: String) throws {
        #expect(try remarks(path) == ["error unknown-file \(path)"])
        #expect(try remarks("arch/arm/" + path.lastPathComponent).isEmpty)
    }

    @Test(
        "what runs before or beside the kernel",
        arguments: [
            "arch/x86/boot/header.S", "arch/x86/purgatory/purgatory.c", "arch/x86/kernel/vmlinux.lds.S",
            "include/asm-generic/vmlinux.lds.h", "usr/gen_init_cpio.c", "lib/vdso/gettimeofday.c",
        ])
    func bootCode(_ path: String) throws {
        #expect(try remarks(path) == ["error boot-code \(path)"])
    }

    private func differences(_ pre: String, _ post: String) async throws -> [String] {
        let folder = try Files.temporaryDirectory()
        defer { do { try Files.remove(folder) } catch {} }
        var objects: [ObjectFile] = []
        for (name, text) in [("pre", pre), ("post", post)] {
            try Files.write(text + "\n", to: "\(folder)/\(name).S")
            try await Command(["gcc", "-g", "-c", "-o", "\(folder)/\(name).o", "\(folder)/\(name).S"]).check()
            objects.append(try ObjectFile(path: "\(folder)/\(name).o"))
        }
        return AssemblyComparison.differences(pre: objects[0], post: objects[1])
    }

    private let source = """
        .globl one, two
        one: mov %rdi, %rax
        1: dec %rax
        jnz 1b
        ret
        two: call helper
        lea inner(%rip), %rax
        ret
        inner: nop
        .section .rodata
        .quad inner
        """

    @Test func assemblyThatIsTheSame() async throws {
        #expect(try await differences(source, "# a comment\n\n" + source).isEmpty)
    }

    @Test func entryPointsThatDiffer() async throws {
        #expect(try await differences(source, source.replacing("mov %rdi", with: "mov %rsi")) == ["one"])
        #expect(try await differences(source, source.replacing("helper", with: "other")) == ["two"])
        // What moves because something before it grew is the same.
        #expect(
            try await differences(source, source.replacing("mov %rdi, %rax", with: "mov %rdi, %rax\nnop"))
                == ["one"])
        #expect(try await differences(source, source + "\n.globl three\n.text\nthree: ret") == ["three"])
        #expect(try await differences(source, source + "\n.quad 1") == [".rodata"])
    }
}
