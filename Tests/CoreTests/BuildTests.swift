// Compile commands as kbuild records them.

import Testing

@testable import Core

@Suite struct BuildTests {
    @Test func words() {
        #expect(shellWords("a  b\tc"[...]) == ["a", "b", "c"])
        #expect(shellWords(#"-DX='"a b"' "c d" e\ f"#[...]) == [#"-DX="a b""#, "c d", "e f"])
        #expect(
            shellWords("gcc -c x.c ; ./objtool x.o"[...]) == ["gcc", "-c", "x.c", ";", "./objtool", "x.o"])
        #expect(shellWords(""[...]) == [])
    }

    private static let record = """
        cmd_fs/ext4/namei.o := gcc-12 -Wp,-MMD,fs/ext4/.namei.o.d -nostdinc -I/s/include -include /s/k.h -D__KERNEL__ -DMODULE -DKBUILD_MODFILE='"fs/ext4/ext4"' -O2 -c -o fs/ext4/namei.o /s/fs/ext4/namei.c ; ./tools/objtool/objtool --orc --module fs/ext4/namei.o
        source_fs/ext4/namei.o := /s/fs/ext4/namei.c
        """

    @Test func recordedCommand() throws {
        let command = try CompileCommand(parsing: Self.record, source: "fs/ext4/namei.c")
        #expect(
            command.compiler == [
                "gcc-12", "-nostdinc", "-I/s/include", "-include", "/s/k.h", "-D__KERNEL__", "-DMODULE",
                "-DKBUILD_MODFILE=\"fs/ext4/ext4\"", "-O2",
            ])
        #expect(command.objtool == ["./tools/objtool/objtool", "--orc", "--module"])
        #expect(command.isModule)
        // ksplice.h is found, and nothing beside it stands in for a header of the kernel.
        #expect(
            command.preprocess("in.c", to: "out.i", headers: "/h").suffix(6) == [
                "-idirafter", "/h", "-E", "-o", "out.i", "in.c",
            ])
    }

    @Test func compilingWhatThePreprocessorLeft() throws {
        let words = try CompileCommand(parsing: Self.record, source: "x").compile("in.i", to: "out.o")
        #expect(
            !words.contains { $0.hasPrefix("-I") || $0.hasPrefix("-D") || $0 == "-include" || $0 == "/s/k.h" }
        )
        #expect(words.contains("-ffunction-sections") && words.contains("-fdata-sections"))
        #expect(words.contains("-O2"))
        #expect(words.suffix(3) == ["-o", "out.o", "in.i"])
    }

    /// make prints what it would run: what fixdep gets is what it would write into the record.
    @Test func recordsOfADryRun() throws {
        let output = #"""
            make -C /o -f /s/Makefile fs/a.o
            set -e;  exec >/dev/null;   trap 'rm -f fs/a.o; trap - HUP; kill -s HUP $$' HUP;  gcc-12 -Wp,-MMD,fs/.a.o.d -DN='"a b"' -c -o fs/a.o /s/fs/a.c   ; ./objtool --orc fs/a.o; scripts/basic/fixdep fs/.a.o.d fs/a.o 'gcc-12 -Wp,-MMD,fs/.a.o.d -DN='\''"a b"'\'' -c -o fs/a.o /s/fs/a.c   ; ./objtool --orc fs/a.o' > fs/.a.o.cmd; rm -f fs/.a.o.d
            :
            """#
        let records = CompileCommand.records(ofDryRun: output)
        #expect(records.map(\.target) == ["fs/a.o"])
        let command = try CompileCommand(parsing: records[0].text, source: "fs/a.c")
        #expect(
            command == CompileCommand(compiler: ["gcc-12", "-DN=\"a b\""], objtool: ["./objtool", "--orc"]))
    }

    @Test func unknownRecordsAreRefused() {
        #expect(throws: Failure.self) { try CompileCommand(parsing: "", source: "x.c") }
        #expect(throws: Failure.self) { try CompileCommand(parsing: "cmd_x := ld -r a.o", source: "x.c") }
    }

    @Test("what objtool says of new code is an error, and nothing is not")
    func wordsOfObjtool() async throws {
        let folder = try Files.temporaryDirectory()
        defer { do { try Files.remove(folder) } catch { Issue.record("\(error)") } }
        let workspace = Workspace(root: folder)
        try Files.createDirectory(workspace.object)
        let builder = ModuleBuilder(workspace: workspace, kernelSources: folder)
        try await builder.runObjtool("u.o", like: ["sh", "-c", "test \"$0 $1\" = '--module u.o'"])
        try await builder.runObjtool("u.o", like: [])
        for script in ["echo 'u.o: warning: objtool: f+0x7: stack state mismatch' >&2", "exit 1"] {
            let failure = await #expect(throws: Failure.self) {
                try await builder.runObjtool("u.o", like: ["sh", "-c", script])
            }
            let finding = try #require(failure.flatMap { Finding($0, file: "u.c") })
            #expect(finding.code == "objtool" && finding.severity == .error && !finding.canBeForced)
            #expect(finding.message.contains("stack state") == script.hasPrefix("echo"))
        }
    }
}
