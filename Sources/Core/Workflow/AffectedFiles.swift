// Which translation units a change can affect, and which of its files cannot be hot-patched at all.

/// The files of a change, sorted by what can be done about them.
struct AffectedFiles {
    /// Sources to compile before and after.
    var sources: [String] = []
    /// Of those that the headers reach, some that mention what changes themselves.
    var closest: [String] = []
    /// Headers: every source that includes one, directly or not, may change.
    var headers: [String] = []
    /// Files about which more must be known before anything is said (`FileReview`).
    var kconfigs: [String] = []
    var assembly: [String] = []
    var deleted: [String] = []
    /// Other files from which sources and headers are generated.
    var inputs: [String] = []
    /// The sources that each header reaches.
    var reached: [String: [String]] = [:]
    var findings: [Finding] = []

    /// Whether the workspace is needed to say what the change means.
    var isOpen: Bool { !(sources + headers + kconfigs + assembly + deleted + inputs).isEmpty }

    /// - Parameter architecture: the folder under `arch/` of the kernel.
    /// - Parameter text: the content of a file before and after; nil where it does not exist.
    init(
        _ changed: [ChangedFile], architecture: String,
        text: (String) throws -> (pre: [UInt8]?, post: [UInt8]?) = { _ in (nil, nil) }
    ) rethrows {
        for file in changed { add(file, architecture) }
        try dropComments(text)
    }

    /// A Makefile of which only comments change is left out.
    private mutating func dropComments(_ text: (String) throws -> (pre: [UInt8]?, post: [UInt8]?)) rethrows {
        findings = try findings.filter { finding in
            guard finding.code == "makefile", Self.isMakefile(finding.file.lastPathComponent),
                case (let pre?, let post?) = try text(finding.file)
            else { return true }
            return Self.withoutComments(pre) != Self.withoutComments(post)
        }
    }

    private static func isMakefile(_ name: String) -> Bool {
        name == "Makefile" || name == "Kbuild" || name.hasPrefix("Makefile.")
    }

    /// The lines of a Makefile without comments that have lines of their own, and without blank lines. A backslash
    /// continues a comment too. What begins with a tab is a recipe's, where `#` is the shell's.
    static func withoutComments(_ makefile: [UInt8]) -> [String] {
        var kept: [String] = []
        var (isContinued, isComment) = (false, false)
        for line in String(decoding: makefile, as: UTF8.self).lines {
            let text = line.drop { $0 == " " }
            if !isContinued { isComment = text.isEmpty || text.first == "#" }
            if !isComment { kept.append(String(line)) }
            isContinued = line.hasSuffix("\\")
        }
        return kept
    }

    private mutating func add(_ file: ChangedFile, _ architecture: String) {
        let path = file.path
        let name = path.lastPathComponent
        if Workspace.isOutside(path) { return }
        if path.hasPrefix("arch/") && !path.hasPrefix("arch/\(architecture)/") && name != "Kconfig" { return }
        if ["MAINTAINERS", "CREDITS", "COPYING", "README", ".gitignore", ".mailmap", ".clang-format"]
            .contains(name)
            || name.hasSuffix(".rst") || name.hasSuffix(".md") || name.hasSuffix(".txt") && !Self.isRead(path)
        {
            return
        }
        if let reason = Self.bootPart(path, architecture), !Self.isMixed(path) || file.status == .deleted {
            findings.append(Self.boot(path, reason))
        } else if name.hasPrefix("Kconfig") {
            kconfigs.append(path)
        } else if Self.isMakefile(name) || path.hasPrefix("scripts/") {
            refuse(
                "makefile", path, "the change touches '\(path)'",
                "what is built and how cannot change in a running kernel; if it does not matter to this config, use --force makefile"
            )
        } else if name.hasSuffix(".c") {
            if file.status == .deleted {
                deleted.append(path)
            } else {
                sources.append(path)
            }
        } else if name.hasSuffix(".h") {
            headers.append(path)
        } else if name.hasSuffix(".S") {
            if file.status == .deleted { deleted.append(path) } else { assembly.append(path) }
        } else if GeneratedFiles.isInput(path) {
            inputs.append(path)
        } else {
            refuse(
                "unknown-file", path, "git-ksplice does not know what '\(path)' does to the kernel",
                "if it does not matter to the running kernel, use --force unknown-file")
        }
    }

    private mutating func refuse(_ code: String, _ path: String, _ message: String, _ advice: String) {
        findings.append(Finding(code, .error, file: path, message, advice: advice))
    }

    /// Whether a file is one that scripts of the build may read, and no documentation.
    private static func isRead(_ path: String) -> Bool {
        ["arch/", "lib/", "scripts/"].contains { path.hasPrefix($0) }
    }

    static func boot(_ path: String, _ reason: String) -> Finding {
        Finding(
            "boot-code", .error, file: path, "'\(path)' is part of \(reason)",
            advice: "it is not kernel code that a redirect can reach")
    }

    /// Whether a folder has code of the kernel beside other code: kbuild's lists tell which a source is.
    private static func isMixed(_ path: String) -> Bool {
        path.contains("/entry/vdso/") && [".c", ".S", ".h"].contains { path.hasSuffix($0) }
            && !path.hasSuffix(".lds.S")
    }

    /// What other than the kernel a file is a part of, if kbuild does not build it into the kernel.
    static func bootPart(_ path: String, _ architecture: String) -> String? {
        if path.hasSuffix(".lds.S") || path.hasSuffix(".lds.h") { return "the linker script" }
        guard !path.lastPathComponent.hasPrefix("Kconfig") else { return nil }
        let parts: [(String, String)] = [
            ("arch/\(architecture)/boot/", "the boot code"),
            ("arch/\(architecture)/realmode/rm/", "the real-mode code"),
            ("arch/\(architecture)/entry/vdso/", "the vdso, which processes have mapped"),
            ("arch/\(architecture)/purgatory/", "the code that runs between two kernels"),
            ("lib/vdso/", "the vdso, which processes have mapped"), ("usr/", "the initial file system"),
        ]
        return parts.first { path.hasPrefix($0.0) }?.1
    }
}
