// Where an update comes from that is to be applied, checked or tested: an archive, or this repository.

import Core

enum UpdateSource {
    /// Reads an update named by an archive's path, an identity, a ref or a commit.
    static func load(_ spec: String, kernel: KernelIdentity? = nil) async throws -> Update {
        if spec.hasSuffix(".tar.gz") || (spec.contains("/") && Files.isRegular(spec)) {
            return try Update(archive: Files.read(spec))
        }
        let store: UpdateStore
        do {
            store = UpdateStore(try await Repository())
        } catch let failure as Failure {
            if Files.isRegular(spec) { return try Update(archive: Files.read(spec)) }
            throw Failure(
                failure.message, status: failure.status, hint: "outside of a repository name an archive: git ksplice apply FILE")
        }
        return try await store.load(try await store.find(spec, kernel: kernel).ref)
    }

    /// The identity of this machine's kernel, for the choice among several updates of one commit.
    static func runningKernel(_ host: LocalHost) async -> KernelIdentity? {
        try? await host.identity()
    }
}
