// What a running kernel says of who else has changed its code, for matching.

extension Host {
    /// For objects that were compiled for a kernel, where that is known.
    /// - Parameter undoing: updates that will have been undone.
    func matchEvidence(
        madeFor: KernelIdentity? = nil, undoing: Set<String> = []
    ) async throws -> MatchEvidence {
        // A kernel that hides addresses does not say where its probes are.
        let probes = await Tracing.probes(of: self).flatMap { list in
            list.contains { $0.address == 0 } ? nil : list
        }
        let redirects = try await AppliedRedirect.all(self).filter { !undoing.contains($0.update) }
        let traced = redirects.filter { $0.kind == .ftrace }
        let jumps = redirects.filter { $0.kind == .jump }
        return MatchEvidence(
            madeFor: madeFor, livePatches: try await livePatches(), probes: probes,
            redirects: Dictionary(traced.map { ($0.old, $0.new) }) { $1 },
            underJumps: Dictionary(jumps.map { ($0.site, $0.saved) }) { $1 })
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
