// What the updates that are applied have done to the code that runs, as ksplice.ko shows it (kernel/README.md): for matching
// that is to look through some of them, or to follow those that leave no jump in memory.

/// One replaced function of an applied update.
struct AppliedRedirect: Sendable, Equatable {
    /// How calls reach the new code.
    enum Kind: String, Sendable { case jump, ftrace }

    /// The update's identity, and that of the part that has it.
    var update: String
    var part: String
    var function: String
    /// Entries of the code that was there before and of the new code.
    var old: UInt64
    var new: UInt64
    var kind: Kind
    /// Where the jump stands, and the bytes that stood there before.
    var site: UInt64
    var saved: [UInt8]

    /// Those of all updates that are applied on a host.
    static func all(_ host: any Host) async throws -> [AppliedRedirect] {
        guard try await CoreModule.isLoaded(host) else { return [] }
        var found: [AppliedRedirect] = []
        for record in try await HostRecords(host).records where record.state == "applied" {
            for name in try await host.list("\(UpdateSysfs.root)/\(record.id)/functions") {
                found.append(try await AppliedRedirect(host, record, name: name))
            }
        }
        return found
    }

    private init(_ host: any Host, _ record: HostRecords.Record, name: String) async throws {
        let folder = "\(UpdateSysfs.root)/\(record.id)/functions/\(name)"
        func address(_ file: String) async throws -> UInt64 {
            let text = try await Self.text(host, "\(folder)/\(file)")
            guard text.hasPrefix("0x"), let value = UInt64(text.dropFirst(2), radix: 16) else {
                throw Failure("'\(folder)/\(file)' cannot be understood")
            }
            return value
        }
        guard let kind = Kind(rawValue: try await Self.text(host, folder + "/kind")),
            let saved = unhex(try await Self.text(host, folder + "/saved"))
        else { throw Failure("'\(folder)' cannot be understood") }
        update = record.update
        part = record.id
        function = name.lastIndex(of: ",").map { String(name[..<$0]) } ?? name
        old = try await address("old_addr")
        new = try await address("new_addr")
        site = try await address("site")
        self.kind = kind
        self.saved = saved
    }

    private static func text(_ host: any Host, _ path: String) async throws -> String {
        String(decoding: try await host.read(path), as: UTF8.self).trimmed
    }
}

/// Memory as it is once some updates are undone: what stood under their jumps is put back.
final class RestoredMemory: KernelMemory {
    let base: any KernelMemory
    private let pieces: [(address: UInt64, bytes: [UInt8])]

    init(_ base: any KernelMemory, without redirects: [AppliedRedirect]) {
        self.base = base
        pieces = redirects.filter { $0.kind == .jump }.map { ($0.site, $0.saved) }
    }

    func read(at address: UInt64, count: Int) throws -> [UInt8] {
        var bytes = try base.read(at: address, count: count)
        for piece in pieces {
            for (index, byte) in piece.bytes.enumerated() {
                let place = piece.address &+ UInt64(index) &- address
                if place < UInt64(bytes.count) { bytes[Int(place)] = byte }
            }
        }
        return bytes
    }
}
