// Updates of the distribution's other kernels: made from their packages, applied and undone on them, with nothing in their logs;
// and the window, which depends on the kernel's headers.

import Core
import Testing

extension VirtualMachineTests {
    @Suite struct OtherKernelUpdates {
        @Test(
            "an update is made, applied and undone, and the window shows what /proc/kcore does",
            arguments: OtherKernel.all)
        func update(kernel: OtherKernel) async throws {
            let laboratory = try await Laboratory.shared()
            let source = try await kernel.descriptor(laboratory).sourceCommit
            // A commit of its own: one that has updates of several kernels names none of them.
            var change = KernelChange.dumpable
            change.name = "prctl: another range, for the other kernels"
            let commit = try await laboratory.commit(change, on: source)
            let created = try await laboratory.run("create", "--kernel", kernel.registered, commit)
            #expect(created.succeeded, "\(created.said)")
            #expect(created.text.contains("are those of the kernel's files"), "\(created.said)")
            let tried = try await laboratory.run(
                "test", "--kernel", kernel.registered, "--run",
                "mount --bind /dev/null /proc/kcore; git-ksplice check --window /root/*.tar.gz; umount /proc/kcore",
                commit)
            #expect(tried.succeeded, "\(tried.said)")
            #expect(tried.text.contains("the kernel log has no warning"), "\(tried.said)")
            #expect(
                tried.text.ranges(of: "it can be applied").count == 2
                    && tried.text.contains("is applied already"), "\(tried.said)")
            // Code without these tables is not what the kernel expects of a module: it warns of unpatched returns, and its unwinder
            // stops there.
            let update = try await laboratory.run(
                "export", "--output", laboratory.folder + "/other.tar.gz", commit)
            #expect(update.succeeded, "\(update.said)")
            let archive = try Update(archive: Files.read(laboratory.folder + "/other.tar.gz"))
            for file in [Update.Path.module, Update.Path.kernelModule] {
                let names = Set(try ObjectFile(archive.file(file), name: file).sections.map(\.name))
                #expect(names.isSuperset(of: [".return_sites", ".orc_unwind"]), "\(file): \(names)")
            }
        }
    }
}
