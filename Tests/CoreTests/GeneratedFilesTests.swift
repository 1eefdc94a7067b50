// What kbuild generates sources and headers from, and what it compiles for others than the kernel.

import Testing

@testable import Core

@Suite struct GeneratedFilesTests {
    private func input(_ path: String, _ pre: String, _ post: String, has: Bool = true) -> Finding? {
        GeneratedFiles.input(path, pre: Array(pre.utf8), post: Array(post.utf8)) { _ in has }
    }

    @Test func onlyTheLinesThatAreRead() throws {
        let path = "include/linux/socket.h"
        let text = "struct a { int b; };\n#define AF_X\t1\n"
        let finding = try #require(input(path, text, text + "#define AF_Y\t2\n"))
        #expect(finding.code == "generated-file" && finding.severity == .error && finding.file == path)
        #expect(finding.canBeForced && finding.message.contains("'security/apparmor/net_names.h'"))
        #expect(input(path, text, text + "struct c;\n") == nil)
        #expect(input(path, text, text.replacing("\t1", with: "  1")) == nil)
        #expect(input(path, text, text.replacing("\t1", with: "\t3")) != nil)
        #expect(input(path, text, text + "#define AF_Y\t2\n", has: false) == nil)
        #expect(input("include/linux/net.h", text, text + "#define AF_Y\t2\n") == nil)
        // A file that is new or goes.
        #expect(
            GeneratedFiles.input("lib/crc32defs.h", pre: nil, post: Array("x".utf8)) { _ in true } != nil)
    }

    @Test func programsOfTheBuild() {
        let makefile = """
            hostprogs\t:= gen_crc32table \\
            \tsecond
            hostprogs += relocs
            relocs-objs := relocs_32.o relocs_64.o
            other-objs := part.o
            obj-y += second_part.o
            """
        for (path, isProgram) in [
            ("lib/gen_crc32table.c", true), ("lib/second.c", true), ("lib/relocs_64.c", true),
            ("lib/part.c", false), ("lib/second_part.c", false), ("lib/crc32.c", false),
        ] {
            #expect(GeneratedFiles.isProgram(path, makefile: makefile) == isProgram, "\(path)")
        }
    }

    /// As include/linux/kbuild.h and its users write it.
    @Test func valuesOfTables() async throws {
        #expect(GeneratedFiles.isTable("#include <linux/kbuild.h>\n"))
        #expect(!GeneratedFiles.isTable("#include <linux/kernel.h>\n"))
        let folder = try Files.temporaryDirectory()
        defer { do { try Files.remove(folder) } catch { Issue.record("\(error)") } }
        try Files.write(
            """
            #define DEFINE(sym, val) asm volatile("\\n.ascii \\"->" #sym " %0 " #val "\\"" : : "i" (val))
            #define OFFSET(sym, str, mem) DEFINE(sym, __builtin_offsetof(struct str, mem))
            struct s { long a; int b[3]; };
            enum { FLAGS = 24 };
            int main(void) { DEFINE(NR_FLAGS, FLAGS); asm volatile("\\n.ascii \\"->\\""); OFFSET(S_b, s, b); DEFINE(LAST, sizeof(struct s)); return 0; }
            """, to: folder + "/t.c")
        for flags in [["-O2"], ["-O2", "-ffunction-sections", "-g"]] {
            try await Command(["gcc"] + flags + ["-c", "-o", folder + "/t.o", folder + "/t.c"]).check()
            let values = GeneratedFiles.values(of: try ObjectFile(path: folder + "/t.o"))
            #expect(values == ["NR_FLAGS": "24", "S_b": "8", "LAST": "24"])
        }
        #expect(GeneratedFiles.header(of: "kernel/bounds.c") == "include/generated/bounds.h")
        #expect(
            GeneratedFiles.header(of: "arch/x86/kvm/kvm-asm-offsets.c") == "arch/x86/kvm/kvm-asm-offsets.h")
    }

    @Test func recordsOfAssembly() throws {
        let record =
            "savedcmd_kernel/bounds.s := gcc-12 -Wp,-MMD,kernel/.bounds.s.d -nostdinc -O2 -fverbose-asm -S -o kernel/bounds.s /s/kernel/bounds.c\n"
        let command = try CompileCommand(parsing: record, source: "kernel/bounds.c")
        #expect(command.compiler == ["gcc-12", "-nostdinc", "-O2", "-fverbose-asm"])
        #expect(command.objtool.isEmpty)
    }

    private func affected(_ paths: String..., status: ChangedFile.Status = .modified) throws -> AffectedFiles
    {
        try AffectedFiles(paths.map { ChangedFile(path: $0, status: status) }, architecture: "x86")
    }

    @Test func textsThatScriptsRead() throws {
        let map = try affected("arch/x86/lib/x86-opcode-map.txt")
        #expect(map.inputs == ["arch/x86/lib/x86-opcode-map.txt"] && map.findings.isEmpty && map.isOpen)
        #expect(try affected("lib/words.txt").findings.map(\.code) == ["unknown-file"])
        #expect(try affected("scripts/spelling.txt").findings.map(\.code) == ["makefile"])
        for path in ["net/notes.txt", "kernel/bpf/notes.txt", "arch/arm/words.txt", "lib/notes.rst"] {
            let files = try affected(path)
            #expect(files.findings.isEmpty && !files.isOpen, "\(path)")
        }
    }

    @Test("a folder of the vdso has code of the kernel, too")
    func mixedFolders() throws {
        let vma = "arch/x86/entry/vdso/vma.c"
        #expect(try affected(vma).sources == [vma] && affected(vma).findings.isEmpty)
        #expect(try affected("arch/x86/realmode/init.c").findings.isEmpty)
        #expect(try affected("arch/x86/entry/vdso/vdso2c.h").headers.count == 1)
        #expect(try affected("lib/vdso/Kconfig").kconfigs == ["lib/vdso/Kconfig"])
        for path in ["arch/x86/realmode/rm/stack.S", "arch/x86/entry/vdso/vdso.lds.S"] {
            #expect(try affected(path).findings.map(\.code) == ["boot-code"], "\(path)")
        }
        #expect(try affected(vma, status: .deleted).findings.map(\.code) == ["boot-code"])
    }

    @Test("what kbuild does not build into the kernel, and headers that nothing else includes")
    func unlistedFiles() throws {
        let (vma, getcpu) = ("arch/x86/entry/vdso/vma.c", "arch/x86/entry/vdso/vgetcpu.c")
        var files = try affected(
            vma, getcpu, "drivers/off.c", "include/own.h", "include/both.h", "include/off.h")
        files.reached = [
            "include/own.h": [getcpu], "include/both.h": [getcpu, vma], "include/off.h": ["drivers/off.c"],
        ]
        func boot(_ changed: Set<String>) -> [String] {
            UnlistedReview.boot(
                files, built: [vma], notBuilt: ["drivers/off.c", getcpu], changed: changed, "x86"
            ).map { "\($0.code) \($0.file)" }
        }
        #expect(boot([vma, getcpu, "drivers/off.c"]) == ["boot-code \(getcpu)", "boot-code include/own.h"])
        #expect(boot([]) == ["boot-code include/own.h"])
    }
}
