// The whole way on a small Debian: its systemd with the units that `make install` installs, and an initial file system that
// mkinitramfs has made with the hook. The disk stays between the boots.

import Glibc
import Testing

@testable import Core

/// A machine with a disk and a Debian on it.
private struct DebianMachine {
    let folder: String
    let bootImage: String
    private static let script = #filePath.directoryPart.directoryPart + "/Support/boot-disk.sh"

    /// Whether one can be made here: with Debian's tools, and the right to mount.
    @Sendable static func isPossible() async throws -> Bool {
        let tools = ["/usr/sbin/mkinitramfs", "/usr/lib/systemd/systemd", "/sbin/mke2fs"]
        guard geteuid() == 0, tools.allSatisfy(Files.exists) else { return false }
        let mount = "mount --make-rprivate / && mount -t overlay -o lowerdir=/etc:/usr x /usr"
        return try await Command(["unshare", "-m", "sh", "-c", mount]).run().succeeded
    }

    init(_ folder: String, _ laboratory: Laboratory, holding updates: [TestUpdate]) async throws {
        self.folder = folder
        bootImage = laboratory.oldBootImage
        try Files.write(
            try await GuestProgram.auxv.executable(), to: folder + "/probe", mode: 0o755)
        var archives: [String] = []
        for (position, update) in updates.enumerated() {
            archives.append("\(folder)/\(position).tar.gz")
            try Files.write(update.archive, to: archives[position])
        }
        let package = laboratory.oldBootImage.directoryPart.directoryPart
        try await Command(
            [
                Self.script, folder, laboratory.program, package,
                laboratory.modules.lastPathComponent, folder + "/probe",
            ] + archives
        ).check("cannot make the disk")
    }

    /// Boots it. Returns what the console showed, and what the machine said when it was up.
    func boot(_ parameters: String = "") async throws -> (console: String, report: String) {
        try Files.remove(folder + "/report")
        let result = try await Command([
            "timeout", "-k", "5", "240", "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-smp", "2",
            "-m",
            "1024", "-display", "none", "-monitor", "none", "-no-reboot", "-nic", "none", "-kernel",
            bootImage,
            "-initrd", folder + "/initrd", "-drive", "file=\(folder)/disk,format=raw,if=virtio", "-append",
            "console=ttyS0 root=/dev/vda ro panic=-1 loglevel=4 no_timer_check random.trust_cpu=on \(parameters)",
            "-serial", "file:\(folder)/console", "-serial", "file:\(folder)/report",
        ]).run()
        #expect(result.succeeded, "\(result.said)")
        func read(_ name: String) throws -> String {
            String(decoding: try Files.read("\(folder)/\(name)").filter { $0 != 13 }, as: UTF8.self)
        }
        return (try read("console"), try read("report"))
    }
}

extension VirtualMachineTests {
    @Suite(
        .tags(.long),
        .enabled(
            "it needs root who may mount, and the packages systemd, initramfs-tools-core and e2fsprogs",
            DebianMachine.isPossible))
    struct DebianBoot {
        @Test(
            "the hook and the units apply updates, and a machine that one of them kills comes up without it")
        func comesUp() async throws {
            let laboratory = try await Laboratory.shared()
            let folder = try Files.temporaryDirectory()
            defer { try? Files.remove(folder) }
            let updates = [try await laboratory.update(.auxv), try await laboratory.update(.killer)]
            let (auxv, killer) = (updates[0].id.prefix(12), updates[1].id.prefix(12))
            let machine = try await DebianMachine(folder, laboratory, holding: updates)

            let inside = try await Command(["lsinitramfs", folder + "/initrd"]).check().text.lines
            for file in ["usr/bin/git-ksplice", "scripts/init-bottom/git-ksplice"] {
                #expect(inside.contains(Substring(file)))
            }

            let death = try await machine.boot()
            #expect(death.console.contains("Kernel panic - not syncing: an update that kills"))
            #expect(death.report == "" && !death.console.contains("systemd[1]"))

            let second = try await machine.boot()
            #expect(second.console.contains("update \(auxv) (\(KernelChange.auxv.name)) applied"))
            for line in [
                "probe: replaced\n", "ksplice-boot: exit-code 1\n",
                "update \(auxv) (\(KernelChange.auxv.name)) is applied already\n",
                "hint: git ksplice boot release \(killer)\n", "ksplice-boot-confirm: success 0\n",
                "the system came up with update \(auxv)\n", "  \(auxv)  ready  ", "  \(killer)  held   ",
                "marks: \(killer)", "/ ext4 rw,",
            ] { #expect(second.report.contains(line), "'\(line)' in:\n\(second.report)") }

            // A root that was not checked is left alone: the unit applies.
            let third = try await machine.boot("fsck.mode=skip")
            #expect(third.console.contains("updates are left for later: the root was not checked"))
            for line in [
                "probe: replaced\n", "update \(auxv) (\(KernelChange.auxv.name)) applied\n",
                "the system came up with update \(auxv)\n", "marks: \(killer)",
            ] { #expect(third.report.contains(line), "'\(line)' in:\n\(third.report)") }

            let off = try await machine.boot("ksplice=off")
            for line in ["probe: mixed\n", "ksplice-boot: success 0\nksplice-boot-confirm:"] {
                #expect(off.report.contains(line), "'\(line)' in:\n\(off.report)")
            }
        }
    }
}
