// A kernel's workspace while one command works in it.

extension Workspace {
    /// Runs work in the workspace of a kernel when it is this command's alone, holds the source of a tree, and its build tree
    /// is prepared. Waits while another command works there.
    func whenReady<Result>(
        for kernel: KernelDescriptor, tree: String, of repository: Repository, allowsOtherCompiler: Bool,
        progress: @Sendable (String) -> Void, _ work: (Configuration) async throws -> Result
    ) async throws -> Result {
        let configuration = Configuration(
            config: kernel.config, release: kernel.identity.release, arch: kernel.identity.arch,
            toolchain: try await Toolchain.find(kernel.identity.compiler, allowOther: allowsOtherCompiler),
            configCheck: Self.configDrift)
        let lock = try lock { process in
            let other = process.map { "process \($0)" } ?? "another git-ksplice"
            progress("waiting for \(other), which works in this kernel's workspace")
        }
        defer { _ = lock }
        try await checkOut(tree: tree) { folder, index in
            progress("writing the kernel's source (once)")
            try await repository.exportTree(tree, to: folder, index: index)
        }
        try await prepare(configuration, progress: progress)
        return try await withWorkFolder { try await work(configuration) }
    }

    private static let configDrift: @Sendable (String, String) -> [String] = { before, after in
        do {
            return ConfigFile.differences(from: try ConfigFile(before), to: try ConfigFile(after))
                .filter { $0.cause != .harmless }.map(\.description)
        } catch {
            return ["\(error)"]
        }
    }
}
