// All codes of findings. Tests hold the list against the sources, the pages and the completions.

extension Finding {
    /// Every code that `create` gives to a finding.
    public static let codes: Set<String> = [
        // Files.
        "assembly", "boot-code", "file-deleted", "generated-file", "kconfig", "makefile", "unknown-file",
        "too-many-units",
        // Data.
        "data-changed", "data-removed", "constant-changed", "percpu-changed", "type-layout", "ambiguous",
        // Code that runs only once.
        "init-changed", "exit-changed", "registration-changed",
        // Interfaces.
        "export-added", "export-removed", "export-crc-changed", "export-crc-mismatch", "symbol-missing",
        "exists-elsewhere",
        // What stands in the way of comparing or building one file.
        "unknown-section", "init-reference", "nameless-reference", "objtool",
        // Redirects.
        "entry-code", "no-room", "sealed-entry",
        // Code of the patch's author.
        "hook-unpaired", "shadow-undeclared",
        // A careful reviewer's warnings.
        "always-on-stack", "nmi-context", "exit-path", "lock-imbalance", "sleeping-in-atomic",
        "static-in-inline",
        "address-outlives-undo",
    ]
}
