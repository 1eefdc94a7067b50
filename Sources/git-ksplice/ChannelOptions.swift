import ArgumentParser
import Core

/// Which channels of which kernels.
struct ChannelOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Only for this kernel.", valueName: "name"))
    var kernel: String?

    func identity(_ repository: Repository) async throws -> KernelIdentity? {
        guard let kernel else { return nil }
        return try await KernelRegistry(repository).summary(kernel).identity
    }

    /// The channels of a name; `nil` for all. Fails where there is none.
    func channels(_ name: String?, in store: ChannelStore) async throws -> [ChannelName] {
        let all = try await store.names(try await identity(store.repository)).filter {
            name == nil || $0.name == name
        }
        guard !all.isEmpty else {
            throw Failure(
                name.map { "no such channel: '\($0)'" } ?? "there is no channel", status: .notFound,
                hint: "git ksplice tag RELEASE UPDATE... makes one")
        }
        return all
    }
}
