// Exports that an update adds: a module that needs them is refused before, is loaded after, calls new code and old code
// through them, and holds the update. The module is built by kbuild, against the export tables that the update really
// holds.

import Core
import Testing

extension VirtualMachineTests {
    @Suite struct ExportedSymbols {
        /// What kbuild would read from `Module.symvers` if the kernel had been built with the change.
        private static func symvers(_ updates: [TestUpdate]) throws -> String {
            try updates.flatMap { update -> [KernelExport] in
                let module = try ObjectFile(
                    Update(archive: update.archive).file(Update.Path.module), name: Update.Path.module)
                return try readExports(module: module, object: "vmlinux")
            }.map { export in
                let crc = String(try #require(export.crc, "\(export.name)"), radix: 16)
                let kind = export.isGPL ? "EXPORT_SYMBOL_GPL" : "EXPORT_SYMBOL"
                return "0x\(crc)\t\(export.name)\tvmlinux\t\(kind)\t\(export.namespace)\n"
            }.joined()
        }

        private static let user = """
            #include <linux/module.h>
            #include <linux/cordic.h>
            extern int probe_answer(int);
            extern int probe_data;
            extern long __sys_setfsuid(uid_t);
            extern long __sys_setfsgid(gid_t);
            extern int probe_cordic(void);
            static int show(char *buffer, const struct kernel_param *kp)
            {
                return sprintf(buffer, "%d %d %ld %ld %d\\n", probe_answer(3), probe_data, __sys_setfsuid(0x6b7301),
                               __sys_setfsgid(0x6b7301), probe_cordic());
            }
            static const struct kernel_param_ops ops = { .get = show };
            module_param_cb(answer, &ops, NULL, 0444);
            MODULE_IMPORT_NS(PROBE);
            MODULE_LICENSE("GPL");

            """

        static let boot = SharedBoot { laboratory in
            var guest = Guest(laboratory)
            let image = try await laboratory.update(.exports)
            let module = try await laboratory.update(.moduleExport)
            let later = try await laboratory.update(.replacesExported)
            guest.add(image, as: "image")
            guest.add(module, as: "module")
            guest.add(later, as: "later")
            guest.add(try await laboratory.update(.exportsTwice), as: "twice")
            guest.add(
                try await laboratory.buildModule("probe_user", user, exports: symvers([image, module])),
                as: "probe_user.ko")
            guest.load("lib/math/cordic.ko")
            let answer = "cat /sys/module/probe_user/parameters/answer"
            guest.step("before", "insmod probe_user.ko")
            let folder = "/sys/kernel/ksplice/\(image.id)*"
            func until(_ command: String) -> String {
                "n=0; until \(command) 2>/dev/null; do test $((n += 1)) -lt 40 || exit 1; sleep 1; done; "
            }
            guest.step("apply module", "git-ksplice apply module.tar.gz")
            guest.step(
                "while applying",
                "git-ksplice apply image.tar.gz > said & \(until("cat \(folder)/state"))insmod probe_user.ko")
            guest.step("apply", "\(until("grep Done! said"))cat \(folder)/enabled")
            guest.step("after", "insmod probe_user.ko && \(answer)")
            guest.step("holders", "lsmod")
            guest.step("later", "git-ksplice apply later.tar.gz && \(answer)")
            guest.step("later undone", "git-ksplice undo \(later.id) && \(answer)")
            guest.step("twice", "git-ksplice apply twice.tar.gz")
            guest.step("undo", "git-ksplice undo \(image.id)")
            guest.step(
                "kernel's undo", "cd \(folder) && echo 0 > enabled; cat cause enabled")
            guest.step("undo all", "git-ksplice undo --all")
            guest.step("still there", answer)
            guest.step(
                "inert",
                "rmmod probe_user && (cd \(folder) && echo 0 > enabled) && lsmod | grep ksplice_ && insmod probe_user.ko"
            )
            guest.step("again", "(cd \(folder) && echo 1 > enabled) && insmod probe_user.ko && \(answer)")
            guest.step("unload", "rmmod probe_user && git-ksplice undo --all && lsmod")
            guest.step("gone", "insmod probe_user.ko")
            return try await guest.run()
        }

        @Test("create says what an added export means")
        func isRemarked() async throws {
            let update = try await Laboratory.shared().update(.exports)
            let findings = String(
                decoding: try Update(archive: update.archive).file(Update.Path.findings), as: UTF8.self)
            for name in ["probe_answer", "probe_data", "__sys_setfsuid", "__sys_setfsgid"] {
                let line = findings.lines.first { $0.contains("'\(name)' is newly exported") }
                #expect(line?.contains("\"severity\":\"note\"") == true, "\(findings)")
            }
            let shown = try await Laboratory.shared().run("show", update.commit)
            #expect(shown.text.contains(" probe_answer (GPL only)\n"), "\(shown.said)")
            #expect(shown.text.contains(" __sys_setfsuid (GPL only) in namespace PROBE\n"), "\(shown.said)")
        }

        @Test("a module links to them once the updates are applied, also to a function of a module")
        func isUsable() async throws {
            let report = try await Self.boot.report()
            #expect(try report.output("before", status: 2).contains("nknown symbol"))
            #expect(try report.output("apply module").contains("Done!"))
            #expect(try report.output("apply") == "Done!\n1")
            let answer = try report.output("after")
            #expect(answer == "21 5 0 4712 65541")
            let update = try await Laboratory.shared().update(.exports)
            let name = "ksplice_" + update.id.prefix(12)
            let row = try #require(try report.output("holders").lines.first { $0.hasPrefix(name) })
            #expect(row.contains("probe_user"), "\(row)")
        }

        @Test("no module links to an update that is loaded and not applied, or not any more")
        func isHidden() async throws {
            let report = try await Self.boot.report()
            let early = try report.output("while applying", status: 2)
            #expect(early.lines.contains("loaded") && early.contains("nknown symbol"), "\(early)")
            let update = try await Laboratory.shared().update(.exports)
            let inert = try report.output("inert", status: 2)
            #expect(inert.contains("ksplice_\(update.id.prefix(12))"), "\(inert)")
            #expect(inert.contains("nknown symbol"), "\(inert)")
            #expect(try report.output("again") == "21 5 0 4712 65541")
        }

        @Test("the kernel itself refuses to undo an update while a module uses an export")
        func isHeldByTheKernel() async throws {
            let said = try await Self.boot.report().output("kernel's undo")
            #expect(said.hasSuffix("used\n1"), "\(said)")
        }

        @Test("an exported function leads to the newest code")
        func isReplacedLater() async throws {
            let report = try await Self.boot.report()
            #expect(try report.output("later").hasSuffix("21 5 4711 4712 65541"))
            #expect(try report.output("later undone").hasSuffix("21 5 0 4712 65541"))
        }

        @Test("a name that another update exports is refused")
        func isExportedOnce() async throws {
            let said = try await Self.boot.report().output("twice", status: Int(Status.busy))
            let first = try await Laboratory.shared().update(.exports)
            let holder = "the module 'ksplice_\(first.id.prefix(12))' exports already"
            #expect(said.contains("the update exports '__sys_setfsuid', which \(holder)"), "\(said)")
        }

        @Test("undo is refused as long as a module uses an export, and names it")
        func isHeld() async throws {
            let report = try await Self.boot.report()
            let update = try await Laboratory.shared().update(.exports)
            let refusal = "update \(update.id.prefix(12)) exports symbols that are used by 'probe_user'"
            let said = try report.output("undo", status: Int(Status.busy))
            #expect(said.contains(refusal) && said.contains("rmmod probe_user"), "\(said)")
            _ = try report.output("undo all", status: Int(Status.busy))
            #expect(try report.output("still there") == "21 5 0 4712 65541")
            #expect(report.warnings.isEmpty, "\(report.warnings)")
        }

        @Test("a module's user gone, the exports go with the updates")
        func isGone() async throws {
            let report = try await Self.boot.report()
            #expect(try !report.output("unload").contains("ksplice_"))
            #expect(try report.output("gone", status: 2).contains("nknown symbol"))
        }

        @Test("a changed declaration of an export is refused, with both checksums and the type")
        func refusesAnotherDeclaration() async throws {
            let laboratory = try await Laboratory.shared()
            let commit = try await laboratory.commit(.declaration)
            let created = try await laboratory.run("create", "--kernel", Laboratory.kernel, commit)
            #expect(created.status == Status.cannotBePatched, "\(created.said)")
            let line = created.errorText.lines.first { $0.contains("[export-crc-changed]") } ?? ""
            #expect(
                line
                    == "lib/math/cordic.c:88: error: the checksum of the exported symbol 'cordic_calc_iq' changes from 0x7e431c15 to 0xb330bf94 because of struct cordic_iq [export-crc-changed]",
                "\(created.said)")
        }
    }
}

extension KernelChange {
    /// Exports a function that stays as it is, one that changes, a new one and a new variable, and lets apply take a while.
    static let exports = KernelChange(
        "sys: new exports",
        .init(
            path: "kernel/sys.c", old: "long __sys_setfsuid(uid_t uid)\n{\n",
            new: "int probe_data = 5;\nEXPORT_SYMBOL(probe_data);\n\nint probe_answer(int x);\n"
                + "int probe_answer(int x)\n{\n\treturn x * 7;\n}\nEXPORT_SYMBOL_GPL(probe_answer);\n"
                + "EXPORT_SYMBOL_NS_GPL(__sys_setfsuid, PROBE);\n\nlong __sys_setfsuid(uid_t uid)\n{\n"),
        .init(
            path: "kernel/sys.c", old: "long __sys_setfsgid(gid_t gid)\n{\n",
            new: "#include \"ksplice.h\"\n#include <linux/delay.h>\nstatic int probe_wait(void)\n{\n"
                + "\tmsleep(6000);\n\treturn 0;\n}\nksplice_pre_apply(probe_wait);\n\n"
                + "EXPORT_SYMBOL_GPL(__sys_setfsgid);\nlong __sys_setfsgid(gid_t gid)\n{\n"
                + "\tif (gid == 0x6b7301)\n\t\treturn 4712;\n"))
    static let exportsTwice = KernelChange(
        "sys: an export alone", "kernel/sys.c", "long __sys_setfsuid(uid_t uid)\n{\n",
        "EXPORT_SYMBOL(__sys_setfsuid);\n\nlong __sys_setfsuid(uid_t uid)\n{\n")
    static let replacesExported = KernelChange(
        "sys: another answer", "kernel/sys.c", "long __sys_setfsuid(uid_t uid)\n{\n",
        "long __sys_setfsuid(uid_t uid)\n{\n\tif (uid == 0x6b7301)\n\t\treturn 4711;\n")
    /// A new function of a module that calls its exported one.
    static let moduleExport = KernelChange(
        "cordic: new export", "lib/math/cordic.c", "EXPORT_SYMBOL(cordic_calc_iq);\n",
        "EXPORT_SYMBOL(cordic_calc_iq);\n\nint probe_cordic(void);\nint probe_cordic(void)\n{\n"
            + "\treturn cordic_calc_iq(0).i;\n}\nEXPORT_SYMBOL(probe_cordic);\n")
    /// An exported function returns a structure, which gets another member.
    static let declaration = KernelChange(
        "cordic: another structure", "include/linux/cordic.h", "\ts32 q;\n};", "\ts32 q;\n\ts32 added;\n};")
}
