// A registered kernel for programs.

extension KernelSummary {
    /// As git-ksplice-kernel(1) describes the lines of `kernel list --json`.
    public var json: JSON {
        .object([
            ("v", .number(1)), ("name", .string(name)), ("arch", .string(identity.arch)),
            ("build_id", .string(identity.refName)), ("release", .string(identity.release)),
            ("version", .string(identity.version)), ("compiler", .string(identity.compiler)),
            ("config", .string("sha256:" + identity.configDigest)), ("source", .string(sourceCommit)),
        ])
    }
}

extension KernelDescriptor {
    /// As git-ksplice-kernel(1) describes what `kernel show --json` prints.
    public var json: JSON {
        func path(_ value: String?) -> JSON { value.map { .string($0) } ?? .null }
        return .object([
            ("v", .number(1)), ("name", .string(name)), ("arch", .string(identity.arch)),
            ("build_id", .string(identity.refName)), ("release", .string(identity.release)),
            ("version", .string(identity.version)), ("compiler", .string(identity.compiler)),
            ("config", .string("sha256:" + identity.configDigest)), ("source", .string(sourceCommit)),
            ("symbols", .number(symbols.all.count)), ("exports", .number(exports.count)),
            ("image", path(imagePath)), ("boot_image", path(bootImagePath)), ("modules", path(modulesPath)),
        ])
    }
}
