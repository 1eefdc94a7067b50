// ksplice.ko on its way into a running kernel. Its symbols are resolved before it is loaded, as those of updates are: what
// the kernel exports is left to the loader with a checksum, everything else gets its address from the kernel's symbols.
//
// The checksums are those that the kernel itself has in memory, where that was read before. Where it can be read only once
// ksplice.ko is there, they are those that `create` knew: so the kernel still proves that the module was made for it.

struct CoreModule {
    static let name = "ksplice"
    /// Holds the version of its interface while it is loaded.
    static let versionPath = "/sys/kernel/ksplice/version"

    private var module: ModuleResolver
    private let symbols: KernelSymbols

    /// - Parameter symbols: those of the kernel that runs, as `release` is its.
    init(_ bytes: [UInt8], symbols: KernelSymbols, release: String) throws {
        module = try ModuleResolver(bytes, name: Update.Path.kernelModule)
        try module.setRelease(release)
        self.symbols = symbols
    }

    /// Whether it is loaded. Fails where it is, and speaks another language.
    static func isLoaded(_ host: any Host) async throws -> Bool {
        guard try await host.exists(versionPath) else { return false }
        let version = String(decoding: try await host.read(versionPath), as: UTF8.self).trimmed
        guard version == "\(ModuleResolver.tableVersion)" else {
            throw Failure(
                "the loaded ksplice.ko has interface version \(version), this program wants \(ModuleResolver.tableVersion)",
                status: .busy, hint: "undo all updates, then rmmod ksplice")
        }
        return true
    }

    /// The module with its symbols resolved. `exports` are the kernel's, with their checksums; nil where they are not known yet.
    func resolved(exports: [String: UInt32]?) throws -> [UInt8] {
        let known = try exports ?? module.versions()
        if exports == nil, known["module_layout"] == nil, symbols.unique("__start___kcrctab") != nil {
            throw Failure(
                "ksplice.ko of this update has no checksums, without which this kernel cannot tell whether it fits",
                status: .verificationRefused,
                hint: "make the update anew, for a kernel that was registered with its exports")
        }
        var module = module
        try module.resolve { name in
            if known[name] != nil { return nil }
            let found = Set(symbols.named(name, in: nil).map(\.address))
            guard found.count == 1, let address = found.first else {
                throw Failure(
                    found.isEmpty
                        ? "the kernel has no '\(name)', which ksplice.ko needs"
                        : "'\(name)' is ambiguous in this kernel",
                    status: .verificationRefused)
            }
            return address
        }
        if let exports { try module.setVersions(exports) }
        return module.bytes
    }
}
