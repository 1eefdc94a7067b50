// The original tool's way of working: a folder `ksplice/` with the kernel's .config and System.map beside the source,
// a patch file, an archive. No kernel is registered by hand and no image is at hand; run-pre matching alone decides
// whether the update fits.

import Core
import Testing

extension VirtualMachineTests {
    @Suite struct OriginalFlow {
        /// As `diff -u` of two folders writes it, with names of its own and line numbers that are off.
        private static let patch = """
            --- linux-2.6/kernel/sys.c.orig
            +++ linux-2.6/kernel/sys.c
            @@ -2400,7 +2400,7 @@
             \t\terror = get_dumpable(me->mm);
             \t\tbreak;
             \tcase PR_SET_DUMPABLE:
            -\t\tif (arg2 != SUID_DUMP_DISABLE && arg2 != SUID_DUMP_USER) {
            +\t\tif (arg2 != SUID_DUMP_DISABLE && arg2 != SUID_DUMP_USER && arg2 != SUID_DUMP_ROOT) {
             \t\t\terror = -EINVAL;
             \t\t\tbreak;
             \t\t}

            """

        @Test("a patch, a config and a System.map become an archive that changes a stock kernel")
        func fromPatchToKernel() async throws {
            let laboratory = try await Laboratory.shared()
            let folder = laboratory.folder + "/original"
            try Files.remove(folder)
            defer { try? Files.remove(folder) }
            try await prepare(folder, laboratory)
            let create = try await Command(
                [
                    laboratory.program, "create", "--patch", "./prctl", "--release",
                    try await release(laboratory),
                ], directory: folder
            ).run()
            #expect(create.status == 0, "\(create.said)")
            #expect(create.text.contains("__do_sys_prctl"))
            #expect(create.errorText.contains("first checked when it is applied"), "\(create.errorText)")
            let list = try await Command([laboratory.program, "list"], directory: folder).check()
            let id = String(list.text.prefix(12))
            let export = try await Command([laboratory.program, "export", id], directory: folder).check()
            #expect(export.text == "ksplice-\(id.prefix(8)).tar.gz\n")

            var guest = Guest(laboratory)
            try await guest.add(.dumpable)
            guest.add(try Files.read("\(folder)/\(export.text.trimmed)"), as: "update.tar.gz")
            guest.step("before", "dumpable 2")
            guest.step("apply", "git-ksplice apply ./update.tar.gz")
            guest.step("after", "dumpable 2")
            guest.step("undo", "git-ksplice undo \(id)")
            guest.step("undone", "dumpable 2")
            let report = try await guest.run()
            #expect(try report.output("before") == "Invalid argument")
            #expect(try report.output("apply").hasSuffix("Done!"))
            #expect(try report.output("after") == "dumpable 2")
            #expect(try report.output("undo").hasSuffix("Done!"))
            #expect(try report.output("undone") == "Invalid argument")
            #expect(report.warnings == [])
        }

        /// A work tree with the folder `ksplice/`; the source itself need not be checked out.
        private func prepare(_ folder: String, _ laboratory: Laboratory) async throws {
            let source = laboratory.repository
            try await Command(["git", "clone", "-q", "--shared", "-n", source, folder]).check()
            try await Command(["git", "update-ref", "HEAD", laboratory.base], directory: folder).check()
            for (key, value) in [("user.name", "A U Thor"), ("user.email", "author@example.com")] {
                try await Command(["git", "config", key, value], directory: folder).check()
            }
            try Files.createDirectory(folder + "/ksplice")
            for (file, part) in [(".config", "config"), ("System.map", "symbols")] {
                let content = try await Command(
                    ["git", "cat-file", "blob", "\(laboratory.kernelRef):\(part)"], directory: source
                ).check()
                try Files.write(content.output, to: "\(folder)/ksplice/\(file)")
            }
            try Files.write(Self.patch, to: folder + "/prctl")
        }

        private func release(_ laboratory: Laboratory) async throws -> String {
            let show = try await Command(
                [laboratory.program, "kernel", "show", Laboratory.kernel], directory: laboratory.repository
            ).check()
            return try Laboratory.row("release", show.text)
        }
    }
}
