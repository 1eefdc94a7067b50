// Findings that need a kernel's tree, its config or its image: each with a change that has it. Nothing is booted.

import Core
import Testing

extension VirtualMachineTests {
    @Suite struct CreateFindings {
        /// What create says of a change that it refuses, with nothing left in the repository.
        private func refused(_ change: KernelChange, sourceLocation: SourceLocation = #_sourceLocation)
            async throws -> String
        {
            let laboratory = try await Laboratory.shared()
            let commit = try await laboratory.commit(change)
            let before = try await laboratory.traces(of: commit)
            let result = try await laboratory.run("create", "--kernel", Laboratory.kernel, commit)
            #expect(
                result.status == Status.cannotBePatched, "\(result.said)", sourceLocation: sourceLocation)
            #expect(result.text.isEmpty, "\(result.said)", sourceLocation: sourceLocation)
            #expect(try await laboratory.traces(of: commit) == before, sourceLocation: sourceLocation)
            return result.errorText
        }

        @Test func optionsOfThisConfig() async throws {
            let said = try await refused(
                KernelChange(
                    "sched: no high resolution ticks", "kernel/Kconfig.hz", "\tdef_bool HIGH_RES_TIMERS",
                    "\tdef_bool n"))
            #expect(said.contains("CONFIG_SCHED_HRTICK: y -> off"), "\(said)")
            #expect(said.contains("[kconfig]"), "\(said)")
        }

        @Test func assemblyCode() async throws {
            let said = try await refused(
                KernelChange(
                    "x86: a longer copy", "arch/x86/lib/iomap_copy_64.S", "\tmovl %edx,%ecx\n",
                    "\tmovl %edx,%ecx\n\tnop\n"))
            #expect(said.contains("assembly code changes: '__iowrite32_copy'"), "\(said)")
            #expect(said.contains("[assembly]"), "\(said)")
        }

        @Test func aFileThatIsDeleted() async throws {
            var change = KernelChange("groups: without them", edits: [])
            change.removed = ["kernel/groups.c"]
            let said = try await refused(change)
            #expect(said.contains("kernel/groups.c: error: 'kernel/groups.c' is deleted"), "\(said)")
            #expect(said.contains("[file-deleted]"), "\(said)")
        }

        @Test func aFunctionThatIsNowhere() async throws {
            let said = try await refused(
                KernelChange(
                    "sys: a function of another commit", "kernel/sys.c",
                    "SYSCALL_DEFINE0(getppid)\n{\n\tint pid;\n",
                    "int only_in_another_commit(int);\n\nSYSCALL_DEFINE0(getppid)\n{\n\tint pid = only_in_another_commit(1);\n"
                ))
            #expect(said.contains("refers to 'only_in_another_commit'"), "\(said)")
            #expect(said.contains("[symbol-missing]"), "\(said)")
        }

        @Test("code that leaves the stack other than it was")
        func wordsOfObjtool() async throws {
            let said = try await refused(
                KernelChange(
                    "sys: a stack that grows", "kernel/sys.c",
                    "SYSCALL_DEFINE0(getuid)\n{\n",
                    "SYSCALL_DEFINE0(getuid)\n{\n\tasm volatile(\"pushq %rax\");\n"))
            #expect(said.contains("objtool does not accept the new code"), "\(said)")
            #expect(said.contains("[objtool]"), "\(said)")
        }

        @Test("the vdso stands beside code of the kernel")
        func vdso() async throws {
            let said = try await refused(
                KernelChange(
                    "vdso: another node",
                    edits: [
                        .init(
                            path: "arch/x86/entry/vdso/vgetcpu.c",
                            old: "\tvdso_read_cpunode(cpu, node);\n",
                            new: "\tvdso_read_cpunode(node, cpu);\n"),
                        .init(
                            path: "kernel/sys.c",
                            old: "if (arg2 != SUID_DUMP_DISABLE && arg2 != SUID_DUMP_USER) {",
                            new: "if (arg2 > 3) {"),
                    ]))
            #expect(said.contains("'arch/x86/entry/vdso/vgetcpu.c' is part of the vdso"), "\(said)")
            #expect(said.contains("[boot-code]"), "\(said)")
        }

        @Test("what is generated is as it was, however the files that it is made from change")
        func generatedFiles() async throws {
            let said = try await refused(
                KernelChange(
                    "generators: all kinds",
                    edits: [
                        .init(
                            path: "kernel/bounds.c", old: "DEFINE(SPINLOCK_SIZE, sizeof(spinlock_t));",
                            new: "DEFINE(SPINLOCK_SIZE, sizeof(spinlock_t) + 1);"),
                        .init(
                            path: "lib/gen_crc32table.c", old: "#define ENTRIES_PER_LINE 4",
                            new: "#define ENTRIES_PER_LINE 8"),
                        .init(
                            path: "include/linux/oid_registry.h", old: "\tOID__NR\n",
                            new: "\tOID_forTests,\t\t/* 2.23.133.10.1.6 */\n\n\tOID__NR\n"),
                    ]))
            #expect(
                said.contains("kernel/bounds.c: error: 'include/generated/bounds.h' is generated"), "\(said)")
            #expect(said.contains("SPINLOCK_SIZE ("), "\(said)")
            #expect(said.contains("'lib/gen_crc32table.c' is a program"), "\(said)")
            #expect(said.contains("'lib/oid_registry_data.c' is generated"), "\(said)")
            #expect(said.ranges(of: "[generated-file]").count == 3, "\(said)")
        }
    }
}
