// The table of sections against real kernels: each section that the linker scripts name, that a module of an image package
// has, or that an object of a broad sample has, must be known. What a kernel of another series adds shows here first.

import Glibc
import Testing

@testable import Core

/// A kernel whose sections are looked at.
struct SectionMaterial: Sendable, CustomTestStringConvertible {
    var source: String
    var config: String
    var modules: String
    var release: String
    var testDescription: String { release }

    /// The kernels that are at hand.
    static func all() async throws -> [SectionMaterial] {
        let laboratory = try await Laboratory.shared()
        let boot = laboratory.modules.directoryPart.directoryPart.directoryPart + "/boot"
        let release = laboratory.modules.lastPathComponent
        return [
            SectionMaterial(
                source: Material.oldSource, config: "\(boot)/config-\(release)", modules: laboratory.modules,
                release: release)
        ] + (Material.other.map { [$0] } ?? [])
    }
}

extension Material {
    /// A kernel of another series; nil where the archive has none.
    static let other: SectionMaterial? = {
        let (image, release) = (value("KSPLICE_IMAGE_OTHER"), value("KSPLICE_RELEASE_OTHER"))
        guard !image.isEmpty else { return nil }
        return SectionMaterial(
            source: value("KSPLICE_SOURCE_OTHER"), config: "\(image)/boot/config-\(release)",
            modules: "\(image)/lib/modules/\(release)", release: release)
    }()
}

extension VirtualMachineTests {
    @Suite struct Sections {
        /// Sources with sections of their own kinds: tables of boot, of drivers and of security modules, scheduler classes,
        /// code for entry and interrupts, assembly.
        static let sample = [
            "arch/x86/entry/common", "arch/x86/entry/entry_64", "arch/x86/entry/vsyscall/vsyscall_emu_64",
            "arch/x86/kernel/alternative", "arch/x86/kernel/apic/apic_flat_64",
            "arch/x86/kernel/apic/apic_noop",
            "arch/x86/kernel/cpu/intel", "arch/x86/kernel/head_64", "arch/x86/kernel/traps",
            "arch/x86/lib/getuser", "arch/x86/lib/retpoline", "arch/x86/mm/extable", "arch/x86/mm/tlb",
            "drivers/base/firmware_loader/builtin/main", "drivers/clocksource/acpi_pm",
            "drivers/iommu/amd/init",
            "drivers/pci/quirks", "drivers/thermal/gov_step_wise", "drivers/tty/serial/8250/8250_early",
            "fs/dcache", "fs/read_write", "init/initramfs", "init/main", "ipc/shm", "kernel/bpf/helpers",
            "kernel/jump_label", "kernel/kprobes", "kernel/params", "kernel/rcu/srcutree",
            "kernel/sched/build_policy", "kernel/softirq", "kernel/static_call", "kernel/trace/trace_printk",
            "lib/dynamic_debug", "mm/failslab", "mm/init-mm", "net/core/dst", "net/ipv4/tcp_cong",
            "net/netfilter/nf_conntrack_core", "net/netfilter/nft_set_pipapo_avx2", "security/commoncap",
            "security/lsm_audit",
        ]

        private func unknown(_ object: ObjectFile, _ name: String) -> [String] {
            object.sections.compactMap { section in
                do {
                    _ = try TableSections.role(of: section, object: name)
                    return nil
                } catch { return "\(error)" }
            }
        }

        @Test func everySectionOfEveryModuleIsKnown() async throws {
            for kernel in try await SectionMaterial.all() {
                let found = try await Command(["find", kernel.modules, "-name", "*.ko"]).check().text.lines
                #expect(found.count > 3000, "\(kernel)")
                var complaints: Set<String> = []
                for path in found {
                    complaints.formUnion(unknown(try ObjectFile(path: String(path)), String(path)))
                }
                #expect(complaints.isEmpty, "\(kernel)")
            }
        }

        @Test(.enabled(if: Material.other != nil, "the archive has no kernel of another series"))
        func anotherSeriesIsLookedAtToo() async throws {
            #expect(try await SectionMaterial.all().count == 2)
        }

        @Test func everySectionOfTheSampleAndOfTheLinkerScriptsIsKnown() async throws {
            for kernel in try await SectionMaterial.all() {
                let folder = try await build(kernel)
                var seen = 0
                for name in Self.sample where Files.exists("\(folder)/\(name).o") {
                    let object = try ObjectFile(path: "\(folder)/\(name).o")
                    let complaints = unknown(object, name)
                    #expect(complaints.isEmpty, "\(kernel)")
                    seen += 1
                }
                #expect(seen > Self.sample.count * 3 / 4, "\(kernel)")
                let names = try sectionNames(of: Files.readText("\(folder)/arch/x86/kernel/vmlinux.lds"))
                #expect(names.count > 100)
                for name in names where !Self.ofTheLinker.contains(where: { name.hasPrefix($0) }) {
                    let section = Section(name: name, type: SectionType.progBits, flags: SectionFlags.alloc)
                    #expect(throws: Never.self, "\(kernel): \(name)") {
                        try TableSections.role(of: section, object: "the linker script")
                    }
                }
            }
        }

        /// What linkers make themselves or what other languages and formats bring; no kernel object has them.
        private static let ofTheLinker = [
            ".got", ".igot", ".plt", ".iplt", ".rel", ".gnu.warning", ".gnu.linkonce", ".stab", ".line",
            ".xiptext",
            ".rodata1", ".symtab", ".strtab", ".shstrtab", "init.data", ".__restore_ph",
        ]

        /// Names in `*(...)` of a linker script, with their stars left out.
        private func sectionNames(of script: String) throws -> Set<String> {
            var names: Set<String> = []
            for match in script.matches(of: /\*\(([^()]+)\)/) {
                for word in match.1.split(whereSeparator: { $0 == " " || $0 == "\n" || $0 == "\t" }) {
                    let name = word.replacing("*", with: "").replacing("[_A-Z]", with: "").replacing(
                        "[0-9a-zA-Z_]", with: "")
                    if !name.isEmpty && name != "COMMON" { names.insert(String(name)) }
                }
            }
            return names
        }

        /// Builds what of the sample the config includes, in a folder that later runs use again.
        private func build(_ kernel: SectionMaterial) async throws -> String {
            let folder = try await "\(Laboratory.shared().folder)/sections-\(kernel.release)"
            try Files.createDirectory(folder)
            try Files.write(try Files.readText(kernel.config), to: folder + "/.config")
            let make = [
                "make", "-s", "-k", "-C", kernel.source, "O=" + folder, "CC=gcc-12",
                "KERNELRELEASE=" + kernel.release,
            ]
            try await Command(make + ["olddefconfig"], environment: makeEnvironment).check()
            try await Command(
                make + ["-j\(Workspace.processors)", "modules_prepare"], environment: makeEnvironment
            )
            .check()
            let objects = Self.sample.filter {
                Files.exists("\(kernel.source)/\($0).c") || Files.exists("\(kernel.source)/\($0).S")
            }.map { $0 + ".o" }
            // -k: a file that this config leaves out may not compile; the test counts what is there.
            _ = try await Command(
                make + ["-j\(Workspace.processors)", "arch/x86/kernel/vmlinux.lds"] + objects,
                environment: makeEnvironment
            ).run()
            return folder
        }
    }
}
