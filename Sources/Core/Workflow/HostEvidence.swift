// What a running kernel says of who else has changed its code, for matching.

extension Host {
    /// For objects that were compiled for a kernel, where that is known.
    func matchEvidence(madeFor: KernelIdentity? = nil) async throws -> MatchEvidence {
        MatchEvidence(
            madeFor: madeFor, livePatches: try await livePatches(), probes: try await Tracing.probes(of: self)
        )
    }

    /// What the kernel's own live patching replaces now, from `/sys/kernel/livepatch/PATCH/OBJECT/FUNCTION,SYMPOS`
    /// (Documentation/ABI/testing/sysfs-kernel-livepatch of Linux). kpatch loads its patches through it, too.
    ///
    /// Functions by the name of the live patch, which is its module's; empty where the kernel has none.
    func livePatches() async throws -> [String: [String]] {
        let root = "/sys/kernel/livepatch"
        guard try await exists(root) else { return [:] }
        var patches: [String: [String]] = [:]
        for patch in try await list(root) {
            var functions: [String] = []
            // Objects are the folders with functions; the rest are files.
            for object in try await list("\(root)/\(patch)") {
                do {
                    functions += try await list("\(root)/\(patch)/\(object)")
                        .compactMap { $0.contains(",") ? String($0.prefix { $0 != "," }) : nil }
                } catch { continue }
            }
            patches[patch] = functions
        }
        return patches
    }
}
