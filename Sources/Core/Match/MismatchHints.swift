// What to do about a mismatch: the next step, for what was seen and for what may be behind it. The pages of
// Documentation/mismatches say more.

enum MismatchHints {
    /// For what was seen; nothing where only the reason tells.
    static func of(
        _ cause: MatchFailure.Cause, function: String, running: KernelBanner?, isImage: Bool
    ) -> [String] {
        switch cause {
        case .differentCode, .differentContent, .symbolConflict: []
        case .patchSite:
            ["say with a report what /proc/cmdline and lscpu print: this is a content that is not known here"]
        case .unsupported:
            ["report it with this output and the kernel's release: what stands here is not known"]
        case .ambiguous:
            ["match more units of this kernel together, those that call '\(function)'"]
        case .notFound:
            [
                isImage
                    ? "the linker or the config has left '\(function)' out; see git ksplice kernel show"
                    : "grep ' \(function)' /proc/kallsyms; if it is of a module, load that"
            ]
        case .unreadable: ["/proc/kcore must be readable, and the module must not go away meanwhile"]
        case .kprobe:
            [
                "remove the probe, then try again: /sys/kernel/debug/kprobes/list has those that are set (if it is not there: mount -t debugfs debugfs /sys/kernel/debug)"
            ]
        case .traced: ["switch off what traces '\(function)', then try again"]
        case .redirected: ["unload what has redirected it (lsmod), then try again"]
        case .otherUpdate:
            ["undo that update (git ksplice status), or make this one on it: git ksplice create --on UPDATE"]
        case .livePatched:
            ["remove the live patch first: its code would run instead of the update's"]
        }
    }

    /// For what may be behind it.
    static func of(_ code: MismatchCode, running: KernelBanner?) -> String {
        switch code {
        case .otherCompiler:
            "compile with the kernel's compiler" + (running.map { ": \($0.compiler)" } ?? "")
        case .otherConfig:
            "take the config from the kernel's own package: git ksplice kernel add NAME --from PACKAGE"
        case .otherSource:
            "register the kernel with the commit that it was built from: git ksplice kernel add NAME --source COMMIT --from PACKAGE"
        case .modifiedCode:
            "find out what writes to the kernel's code (lsmod, dmesg); a reboot takes it away"
        case .livePatched: "remove the live patch first: its code would run instead of the update's"
        default: "git ksplice explain \(code.rawValue)"
        }
    }
}
