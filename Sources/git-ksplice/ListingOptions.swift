import ArgumentParser
import Core

/// How updates are put into channels.
struct ListingOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Which channel.", valueName: "name"))
    var channel = "stable"

    @Option(help: ArgumentHelp("Only updates for this kernel.", valueName: "name"))
    var kernel: String?

    @Option(
        help: ArgumentHelp(
            "An update that the new ones replace; can be given several times.", valueName: "update"))
    var supersedes: [String] = []

    @Option(
        help: ArgumentHelp("For how many days hosts may believe what the channel says.", valueName: "count"))
    var days = 30

    /// Puts updates into the channel of the kernel that each is for; without any, only says that there is a release.
    /// Gives those that were named, sorted.
    @discardableResult
    func add(_ specs: [String], release: String?, tag: String?) async throws -> [StoredUpdate] {
        let repository = try await Repository()
        let updates = UpdateStore(repository)
        var store = ChannelStore(repository)
        guard (1...3660).contains(days) else { throw Failure("'\(days)' days cannot be", status: .usage) }
        store.validity = Int64(days) * 86400
        var only: KernelIdentity?
        if let kernel { only = try await KernelRegistry(repository).summary(kernel).identity }
        var groups: [ChannelName: [StoredUpdate]] = [:]
        for spec in specs {
            for update in try await updates.findAll(spec, kernel: only) {
                let name = try ChannelName(arch: update.arch, kernel: update.buildID, name: channel)
                groups[name, default: []].append(update)
            }
        }
        if specs.isEmpty {
            for name in try await store.names(only) where name.name == channel { groups[name] = [] }
        }
        guard !groups.isEmpty else {
            throw Failure("there is no channel '\(channel)'", status: .notFound, hint: "name updates, too")
        }
        var replaced: [String] = []
        for spec in supersedes { replaced += try await updates.findAll(spec, kernel: only).map(\.id) }
        for (name, group) in groups.sorted(by: { $0.key.ref < $1.key.ref }) {
            let state = try await store.add(group, to: name, release: release, tag: tag, supersedes: replaced)
            print(
                "channel \(name.name) of \(name.arch) \(name.kernel.prefix(12)): number \(state.serial), "
                    + "\(state.index.entries.count) update(s)")
        }
        return groups.values.flatMap(\.self).sorted { $0.ref < $1.ref }
    }
}
