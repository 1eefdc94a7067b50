// What must hold before the code of a kernel is looked at. Each is asked for by itself, so that apply fails with the first
// that does not hold, and a dry run reports them all.

/// The conditions of one update on one host.
struct ApplyConditions {
    let update: Update
    let host: any Host & Sendable

    /// The kernel's own live patching redirects a function at its fentry site, in front of ours: the new code would
    /// never run, and everything would look right.
    func livePatches() async throws {
        let root = "/sys/kernel/livepatch"
        guard try await host.exists(root) else { return }
        for replacement in update.manifest.replacements where replacement.partOf == nil {
            let object = update.manifest.units[replacement.unit].module ?? "vmlinux"
            for patch in try await host.list(root) where try await host.exists("\(root)/\(patch)/\(object)") {
                let functions = try await host.list("\(root)/\(patch)/\(object)")
                guard functions.contains(where: { $0.hasPrefix(replacement.symbol + ",") }) else { continue }
                throw Failure(
                    "'\(replacement.symbol)' is patched by the kernel's own live patching ('\(patch)')",
                    status: .verificationRefused,
                    hint: "remove that live patch first; its code would run instead of the update's")
            }
        }
    }

    /// The module loader takes no name that is exported already, by another update for example, and does not say why.
    func exports(_ symbols: KernelSymbols) throws {
        let module = try ObjectFile(update.file(Update.Path.module), name: Update.Path.module)
        for export in try readExports(module: module, object: Update.Path.module) {
            // What an earlier apply of the same update has left does not count.
            guard
                let holder = symbols.named("__ksymtab_" + export.name).first(where: {
                    $0.module != Applier.moduleName(update.id)
                })
            else { continue }
            throw Failure(
                "the update exports '\(export.name)', which \(holder.module.map { "the module '\($0)'" } ?? "the kernel") exports already",
                status: .busy, hint: "undo the update that exports it first")
        }
    }

    /// The update must be for the running kernel, and for no other build of it.
    func identity(_ running: KernelIdentity) throws {
        let wanted = update.manifest.kernel
        let pairs = [
            ("architecture", wanted.arch, running.arch), ("build-id", wanted.buildID, running.buildID),
            ("release", wanted.release, running.release),
        ]
        for (what, a, b) in pairs where !a.isEmpty && a != b {
            throw Failure(
                "the update is for another kernel: \(what) is \(a), \(host.title) runs \(b) (\(running.release))",
                status: .wrongKernel,
                hint: "git ksplice list shows the updates of a repository with their kernels")
        }
    }

    /// The updates that this one was made on must be applied.
    func dependencies() async throws {
        let records = try await HostRecords(host)
        for id in update.manifest.depends where !records.isApplied(id) {
            throw Failure(
                "the update was made on update \(id.prefix(12)), which is not applied", status: .no,
                hint: "git ksplice apply \(id.prefix(12))")
        }
    }

    /// The modules whose code is replaced, or referred to, must be there.
    ///
    /// - Parameter coming: one that is being loaded, and waits.
    func modules(_ loaded: [LoadedModule], coming: String? = nil) throws {
        for module in update.manifest.modules
        where !loaded.contains(where: {
            $0.name == module && ($0.state == "Live" || $0.state == "Loading" && module == coming)
        }) {
            throw Failure(
                "the update changes the module '\(module)', which is not loaded", status: .no,
                hint: "modprobe \(module)")
        }
    }
}
