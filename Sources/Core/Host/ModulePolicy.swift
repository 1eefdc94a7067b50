// What would keep a host from showing its kernel to this program and from loading its modules, known before anything is
// tried: the kernel's own refusals are error numbers that mean several things. The sources are lockdown (security/lockdown
// of Linux), the module loader's demand for signatures (kernel/module/signing.c), and two sysctls.
//
// What cannot be read is taken for absent: the kernel has the last word anyway.

/// What a host's kernel allows to be read and loaded.
public struct ModulePolicy: Sendable, Equatable {
    /// How far the kernel trusts its administrator. Each level forbids what the one before forbids, too.
    public enum Lockdown: String, Sendable {
        case none
        /// Nobody changes the kernel: only modules with a trusted signature are loaded.
        case integrity
        /// Nobody reads its memory either.
        case confidentiality
    }

    /// Nil where the kernel does not say: it has no lockdown, or securityfs is not mounted.
    public var lockdown: Lockdown?
    /// Whether only modules with a trusted signature are loaded, whatever lockdown says.
    public var demandsSignatures: Bool
    /// Whether loading of modules was switched off until the next boot.
    public var isLoadingDisabled: Bool
    /// The sysctl kernel.kptr_restrict: from 2 on, the addresses of symbols are hidden from root, too.
    public var pointerRestriction: Int

    static let lockdownPath = "/sys/kernel/security/lockdown"
    static let signaturesPath = "/sys/module/module/parameters/sig_enforce"
    static let disabledPath = "/proc/sys/kernel/modules_disabled"
    static let pointersPath = "/proc/sys/kernel/kptr_restrict"

    /// What a kernel without any restriction has.
    public init(
        lockdown: Lockdown? = nil, demandsSignatures: Bool = false, isLoadingDisabled: Bool = false,
        pointerRestriction: Int = 0
    ) {
        self.lockdown = lockdown
        self.demandsSignatures = demandsSignatures
        self.isLoadingDisabled = isLoadingDisabled
        self.pointerRestriction = pointerRestriction
    }

    /// Asks a host. Fails where a file is there and cannot be read.
    public init(of host: any Host) async throws {
        func text(_ path: String) async throws -> String {
            guard try await host.exists(path) else { return "" }
            return String(decoding: try await host.read(path), as: UTF8.self).trimmed
        }
        self.init(
            lockdown: Self.lockdown(try await text(Self.lockdownPath)),
            demandsSignatures: try await text(Self.signaturesPath) == "Y",
            isLoadingDisabled: try await text(Self.disabledPath) == "1",
            pointerRestriction: Int(try await text(Self.pointersPath)) ?? 0)
    }

    /// The level in brackets, as in `none [integrity] confidentiality`.
    static func lockdown(_ text: String) -> Lockdown? {
        guard let open = text.firstIndex(of: "["), let close = text[open...].firstIndex(of: "]") else {
            return nil
        }
        return Lockdown(rawValue: String(text[text.index(after: open)..<close]))
    }

    // MARK: - What is in the way

    private static let bootHint =
        "lockdown ends with a boot without it: look for 'lockdown=' in /proc/cmdline; some kernels turn it on by themselves under Secure Boot"

    /// Why symbols have no addresses here; nil where that is not known to be so.
    public var symbolsRefusal: Failure? {
        guard pointerRestriction >= 2 else { return nil }
        return Failure(
            "the kernel hides the addresses of its symbols from root, too: kernel.kptr_restrict is \(pointerRestriction)",
            hint: "sysctl kernel.kptr_restrict=1, which hides them from others only")
    }

    /// Why the kernel's memory cannot be read here, through whatever; nil where that is not known to be so.
    public var memoryRefusal: Failure? {
        guard lockdown == .confidentiality else { return nil }
        return Failure(
            "this kernel is locked down for confidentiality: it lets nobody read its memory, neither through /proc/kcore nor through ksplice.ko",
            hint: Self.bootHint)
    }

    /// Why modules that are not signed cannot be loaded here; nil where that is not known to be so.
    public var loadingRefusal: Failure? {
        if isLoadingDisabled {
            return Failure(
                "loading modules is switched off until the next boot",
                hint: "kernel.modules_disabled is 1, which cannot be undone")
        }
        let unsigned = "it loads only modules that are signed by a key it trusts, and updates are not signed"
        if let lockdown, lockdown != .none {
            return Failure(
                "this kernel is locked down for \(lockdown.rawValue): \(unsigned)",
                status: .verificationRefused, hint: Self.bootHint)
        }
        guard demandsSignatures else { return nil }
        return Failure(
            "this kernel demands signatures: \(unsigned)", status: .verificationRefused,
            hint:
                "either 'module.sig_enforce' is in /proc/cmdline, or CONFIG_MODULE_SIG_FORCE in the kernel's config: only another boot or another kernel changes that"
        )
    }

    /// All that is known to be in the way of an update, the hardest first.
    public var refusals: [Failure] { [loadingRefusal, memoryRefusal, symbolsRefusal].compactMap { $0 } }
}
