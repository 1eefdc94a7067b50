// What ksplice.ko has in its books on a host: the modules of updates that are loaded, which of them are parts of one
// update, and which parts wait for a module. Everything that asks "is this update applied?" asks here, of the whole.

/// A part of an update that waits for a module to be loaded (`/sys/kernel/ksplice/late`).
public struct AwaitedModule: Sendable, Equatable {
    /// The identity of the whole update.
    public var update: String
    public var module: String
    /// What happens to the module if it cannot get its part.
    public var policy: LatePolicy
    /// The order in which they were asked for.
    var number: Int
    /// Whether the module is being loaded at this moment, and waits.
    var isComing: Bool
}

/// What becomes of a module that is loaded later and does not get its part of an update.
public enum LatePolicy: String, Sendable, CaseIterable {
    /// It is not loaded.
    case refuse
    /// It runs without.
    case allow
}

struct HostRecords: Sendable {
    /// One module of ksplice.ko's books.
    struct Record: Sendable {
        /// Of the part, or of an update that is not divided; the folder's name.
        var id: String
        /// Of the whole.
        var update: String
        /// `loaded`, `applied`, `undone`, or `lost`: the module that it was for did not come up.
        var state: String
    }

    /// In no order.
    private(set) var records: [Record] = []
    /// In the order of asking.
    private(set) var awaited: [AwaitedModule] = []

    private static let late = UpdateSysfs.root + "/late"

    /// Reads them; empty where ksplice.ko is not loaded.
    init(_ host: any Host) async throws {
        for id in try await UpdateSysfs.loaded(host) {
            let folder = "\(UpdateSysfs.root)/\(id)"
            guard try await host.exists(folder) else { continue }
            // Before interface version 4 an update was one module.
            let hasParts = try await host.exists(folder + "/update")
            records.append(
                Record(
                    id: id, update: hasParts ? try await Self.text(host, folder + "/update") : id,
                    state: try await Self.text(host, folder + "/state")))
        }
        guard try await host.exists(Self.late) else { return }
        for name in try await host.list(Self.late) {
            let words = name.split(separator: ":").map { String($0) }
            guard words.count == 2, let policy = LatePolicy(rawValue: try await text(host, name, "policy")),
                let number = Int(try await text(host, name, "number"))
            else { throw Failure("'\(Self.late)/\(name)' cannot be understood") }
            awaited.append(
                AwaitedModule(
                    update: words[0], module: words[1], policy: policy, number: number,
                    isComing: try await text(host, name, "state") == "coming"))
        }
        awaited.sort { $0.number < $1.number }
    }

    private func text(_ host: any Host, _ name: String, _ file: String) async throws -> String {
        try await Self.text(host, "\(Self.late)/\(name)/\(file)")
    }

    private static func text(_ host: any Host, _ path: String) async throws -> String {
        String(decoding: try await host.read(path), as: UTF8.self).trimmed
    }

    /// The modules of an update, given by the identity of the whole.
    func of(_ update: String) -> [Record] { records.filter { $0.update == update } }

    /// What an update waits for.
    func modules(awaitedBy update: String) -> [String] {
        awaited.filter { $0.update == update }.map(\.module)
    }

    /// Whether an update is in effect: a part of it is applied, or it waits for modules.
    func isApplied(_ update: String) -> Bool {
        records.contains { $0.update == update && $0.state == "applied" }
            || awaited.contains { $0.update == update }
    }

    /// `loaded`, `applied`, `undone`; nil for an update that is not there.
    func state(of update: String) -> String? {
        if isApplied(update) { return "applied" }
        let states = of(update).map(\.state)
        return states.contains("undone") ? "undone" : states.first
    }

    /// The names of the kernel modules that hold some updates.
    func moduleNames(of updates: some Collection<String>) -> [String] {
        records.filter { updates.contains($0.update) }.map { Applier.moduleName($0.id) }
    }

    /// Identities of all updates.
    var updates: [String] {
        var seen: Set<String> = []
        return (records.map(\.update) + awaited.map(\.update)).filter { seen.insert($0).inserted }
    }
}
