// Objects looked at by somebody who expects damage: what cannot be read is an answer here, not a failure. A store
// computes the hash of everything that it reads, so what comes back intact is what its name says.

/// What an object is found to be.
enum InspectedObject: Sendable {
    /// Its kind is `commit`, `tree`, `blob` or `tag`.
    case intact(kind: String, bytes: [UInt8])
    case missing
    /// It is there and cannot be read, or has another hash; with the store's words.
    case corrupt(String)
}

/// An entry of a tree, as its bytes have it.
struct RawTreeEntry: Sendable, Equatable {
    /// In octal digits, without leading zeros.
    var mode: String
    var name: String
    var id: String

    var isFolder: Bool { mode == "40000" }
    var isPlainFile: Bool { mode.hasPrefix("100") }
}

extension Repository {
    /// Reads an object by its full name, whatever it is. Fails only where the object database cannot be opened.
    func inspect(_ id: String) throws -> InspectedObject {
        let store = try store
        do {
            guard let object = try store.read(id) else { return .missing }
            return .intact(kind: object.kind.rawValue, bytes: object.bytes)
        } catch let failure as Failure {
            return .corrupt(failure.message)
        }
    }

    /// The entries of a tree; nil for bytes that are none.
    func entries(ofTree bytes: [UInt8]) -> [RawTreeEntry]? {
        let size = format.digits / 2
        var entries: [RawTreeEntry] = []
        var rest = bytes[...]
        while !rest.isEmpty {
            guard let blank = rest.firstIndex(of: UInt8(ascii: " ")), let end = rest.firstIndex(of: 0),
                blank < end, rest.endIndex - end > size
            else { return nil }
            entries.append(
                RawTreeEntry(
                    mode: String(decoding: rest[..<blank], as: UTF8.self),
                    name: String(decoding: rest[(blank + 1)..<end], as: UTF8.self),
                    id: hex(rest[(end + 1)...(end + size)])))
            rest = rest[(end + size + 1)...]
        }
        return entries
    }
}
