// The other kernels that the distribution ships: flavours of the older one, and one of another series. Each is registered
// in the same repository, with its own source, when a test asks for it.

import Testing

@testable import Core

/// A kernel beside the one that most tests use.
struct OtherKernel: Sendable, CustomTestStringConvertible {
    let name: String
    private let image: String
    private let headers: String
    private let source: Source
    var testDescription: String { name }

    private enum Source: Sendable {
        /// That of the older kernel.
        case same
        /// The same with a series of patches: the folder that holds `series`.
        case patched(String)
        /// An unpacked source tree.
        case tree(String)
    }

    static let all = [
        OtherKernel(
            name: "cloud", image: Material.value("KSPLICE_IMAGE_CLOUD"),
            headers: Material.value("KSPLICE_HEADERS_CLOUD"), source: .same),
        OtherKernel(
            name: "rt", image: Material.value("KSPLICE_IMAGE_RT"),
            headers: Material.value("KSPLICE_HEADERS_RT"),
            source: .patched(Material.value("KSPLICE_PATCHES_RT"))),
        OtherKernel(
            name: "other series", image: Material.value("KSPLICE_PACKAGE_OTHER"),
            headers: Material.value("KSPLICE_HEADERS_OTHER"),
            source: .tree(Material.value("KSPLICE_SOURCE_OTHER"))),
    ]

    /// Whether the archive had all that it is made of.
    var isThere: Bool {
        let origin: String =
            switch source {
            case .same: Material.oldSource
            case .patched(let folder), .tree(let folder): folder
            }
        return ![image, headers, origin].contains("")
    }

    /// The name that it is registered under.
    var registered: String { "test-" + name.replacing(" ", with: "-") }

    /// Registers it, once, and gives all that is known of it. The test is cancelled where the archive does not have all of it.
    func descriptor(_ laboratory: Laboratory) async throws -> KernelDescriptor {
        guard isThere else { try Test.cancel("the archive does not have all of this kernel") }
        return try await Registered.shared.get(self, laboratory)
    }

    private actor Registered {
        static let shared = Registered()
        private var running: [String: Task<KernelDescriptor, any Error>] = [:]

        func get(_ kernel: OtherKernel, _ laboratory: Laboratory) async throws -> KernelDescriptor {
            let task = running[kernel.name] ?? Task { try await kernel.register(laboratory) }
            running[kernel.name] = task
            return try await task.value
        }
    }

    private func register(_ laboratory: Laboratory) async throws -> KernelDescriptor {
        let added = try await laboratory.run(
            "kernel", "add", registered, "--source", try await commit(laboratory), "--from", image, "--from",
            headers)
        guard added.status == 0 else { throw Failure("kernel add of '\(name)': \(added.said)") }
        let registry = KernelRegistry(try await Repository(directory: laboratory.repository))
        return try await registry.descriptor(try await registry.summary(registered))
    }

    private func commit(_ laboratory: Laboratory) async throws -> String {
        let index = laboratory.folder + "/index." + registered
        let parents: [String]
        switch source {
        case .same: return laboratory.base
        case .patched(let folder):
            _ = try await Laboratory.git(["read-tree", laboratory.base], index: index)
            // Of three lines around a hunk one is enough: the distribution has changed others.
            let patches = try Files.readText(folder + "/series").lines.filter {
                !$0.isEmpty && !$0.hasPrefix("#")
            }
            _ = try await Laboratory.git(
                ["apply", "--cached", "-C1"] + patches.map { "\(folder)/\($0)" }, index: index)
            parents = ["-p", laboratory.base]
        case .tree(let folder):
            try Files.remove(index)
            _ = try await Laboratory.git(
                ["--work-tree=" + folder, "-c", "core.compression=1", "add", "-A", "-f", folder], index: index
            )
            parents = []
        }
        let tree = try await Laboratory.git(["write-tree"], index: index)
        let commit = try await Laboratory.git(["commit-tree", tree] + parents, input: "\(name)\n")
        _ = try await Laboratory.git(["update-ref", "refs/heads/ksplice-test/" + registered, commit])
        return commit
    }
}
