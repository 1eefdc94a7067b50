// Files that kbuild compiles into nothing that runs, but from which it generates sources and headers. The object tree is
// prepared from the kernel's own source, so what is generated stays as it was, and a change of these files would be left
// out without a word. Three kinds:
//
// 1. lists that a script reads, or a few lines of a header that has other readers, too: known by name;
// 2. programs that run during the build (`hostprogs` of a Makefile);
// 3. sources that include linux/kbuild.h, whose assembly becomes a header (`bounds.h`, `asm-offsets.h`): they are
//    compiled before and after the change, and what they say is compared (UnlistedReview.swift).

enum GeneratedFiles {
    /// A file that something is generated from.
    private struct Input {
        var path: String
        /// Stands in the lines that are read; empty where all are.
        var marker: String
        var made: String
        /// Without this option nothing is made.
        var option = ""
    }

    private static let inputs = [
        // lib/Makefile, arch/x86/kernel/cpu/Makefile, security/*/Makefile, drivers/scsi/Makefile, arch/x86/lib/Makefile,
        // arch/x86/entry/syscalls/Makefile, Kbuild of Linux 6.1 and 6.12.
        Input(
            path: "include/linux/oid_registry.h", marker: "OID_", made: "lib/oid_registry_data.c",
            option: "CONFIG_OID_REGISTRY"),
        Input(path: "lib/build_OID_registry", marker: "", made: "lib/oid_registry_data.c"),
        Input(
            path: "arch/x86/include/asm/cpufeatures.h", marker: "X86_", made: "arch/x86/kernel/cpu/capflags.c"
        ),
        Input(
            path: "arch/x86/include/asm/vmxfeatures.h", marker: "VMX_FEATURE_",
            made: "arch/x86/kernel/cpu/capflags.c"),
        Input(
            path: "arch/x86/kernel/cpu/mkcapflags.sh", marker: "", made: "arch/x86/kernel/cpu/capflags.c"),
        Input(
            path: "security/selinux/include/classmap.h", marker: "", made: "security/selinux/flask.h",
            option: "CONFIG_SECURITY_SELINUX"),
        Input(
            path: "security/selinux/include/initial_sid_to_string.h", marker: "",
            made: "security/selinux/flask.h",
            option: "CONFIG_SECURITY_SELINUX"),
        Input(
            path: "include/uapi/linux/capability.h", marker: "CAP_",
            made: "security/apparmor/capability_names.h",
            option: "CONFIG_SECURITY_APPARMOR"),
        Input(
            path: "include/uapi/asm-generic/resource.h", marker: "RLIMIT_",
            made: "security/apparmor/rlim_names.h",
            option: "CONFIG_SECURITY_APPARMOR"),
        Input(
            path: "include/linux/socket.h", marker: "AF_", made: "security/apparmor/net_names.h",
            option: "CONFIG_SECURITY_APPARMOR"),
        Input(
            path: "include/scsi/scsi_devinfo.h", marker: "BLIST_", made: "drivers/scsi/scsi_devinfo_tbl.c",
            option: "CONFIG_SCSI"),
        Input(
            path: "include/linux/crc32poly.h", marker: "POLY", made: "lib/crc32table.h",
            option: "CONFIG_CRC32"),
        Input(path: "lib/crc32defs.h", marker: "", made: "lib/crc32table.h", option: "CONFIG_CRC32"),
        Input(path: "arch/x86/lib/x86-opcode-map.txt", marker: "", made: "arch/x86/lib/inat-tables.c"),
        Input(
            path: "arch/x86/entry/syscalls/syscall_64.tbl", marker: "",
            made: "arch/x86/include/generated/asm/syscalls_64.h"),
        Input(
            path: "arch/x86/entry/syscalls/syscall_32.tbl", marker: "",
            made: "arch/x86/include/generated/asm/syscalls_32.h"),
        Input(path: "kernel/time/timeconst.bc", marker: "", made: "include/generated/timeconst.h"),
    ]

    /// Whether something is generated from a file that is not C.
    static func isInput(_ path: String) -> Bool { inputs.contains { $0.path == path } }

    /// What is generated from a file, where it changes what is read of it; nil for other files.
    /// - Parameter hasOption: whether the config has an option.
    static func input(
        _ path: String, pre: [UInt8]?, post: [UInt8]?, hasOption: (String) throws -> Bool
    ) rethrows -> Finding? {
        guard let input = inputs.first(where: { $0.path == path }),
            lines(pre, input.marker) != lines(post, input.marker),
            try input.option.isEmpty || hasOption(input.option)
        else { return nil }
        return finding(path, "'\(input.made)' is generated from '\(path)', which changes")
    }

    /// The lines that are read, blanks aside.
    private static func lines(_ text: [UInt8]?, _ marker: String) -> [String] {
        String(decoding: text ?? [], as: UTF8.self).lines.filter { marker.isEmpty || $0.contains(marker) }
            .map { $0.split(whereSeparator: \.isWhitespace).joined(separator: " ") }
    }

    /// Whether a Makefile names a source as a program that runs during the build, or as a part of one.
    static func isProgram(_ source: String, makefile: String) -> Bool {
        let stem = String(source.lastPathComponent.prefix { $0 != "." })
        let rules = makefile.replacing("\\\n", with: " ").lines.map { line in
            line.split { $0 == " " || $0 == "\t" || $0 == ":" || $0 == "=" || $0 == "+" }.map { String($0) }
        }
        let programs = Set(
            rules.filter { $0.first?.hasPrefix("hostprogs") == true }.flatMap { $0.dropFirst() })
        return programs.contains(stem)
            || rules.contains { words in
                guard let list = words.first, list.hasSuffix("-objs") else { return false }
                return programs.contains(String(list.dropLast("-objs".count)))
                    && words.contains(stem + ".o")
            }
    }

    /// Whether the assembly of a source becomes a header.
    static func isTable(_ text: String) -> Bool { text.contains("<linux/kbuild.h>") }

    /// The header that a source becomes.
    static func header(of source: String) -> String {
        switch source {
        case "kernel/bounds.c", "arch/x86/kernel/asm-offsets.c":
            "include/generated/\(source.lastPathComponent.dropLast(2)).h"
        default: "\(source.dropLast(2)).h"
        }
    }

    /// What a compiled table says, by name: `DEFINE(NAME, value)` leaves `->NAME $value expression` (linux/kbuild.h).
    static func values(of object: ObjectFile) -> [String: String] {
        var values: [String: String] = [:]
        for section in object.sections where section.isExecutable && section.hasContents {
            let text = String(decoding: section.contents, as: UTF8.self)
            for piece in text.split(separator: "->") {
                let words = piece.split(separator: " ", maxSplits: 2)
                if words.count >= 2, words[1].hasPrefix("$") {
                    values[String(words[0])] = String(words[1].dropFirst())
                }
            }
        }
        return values
    }

    static func finding(_ path: String, _ message: String) -> Finding {
        Finding(
            "generated-file", .error, file: path, message,
            advice:
                "the update is compiled with the generated file as the kernel was built with it; leave this part of the change to the next kernel, or, if what changes does not matter to the running one, use --force generated-file"
        )
    }
}
