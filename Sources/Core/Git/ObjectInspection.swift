// Objects looked at by somebody who expects damage: what cannot be read is an answer here, not a failure. The library
// computes the hash of everything that it reads, so what comes back intact is what its name says.

import CShims

/// What an object is found to be.
enum InspectedObject: Sendable {
    /// Its kind is `commit`, `tree`, `blob` or `tag`.
    case intact(kind: String, bytes: [UInt8])
    case missing
    /// It is there and cannot be read, or has another hash; with the library's words.
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
        try withLibrary { repository in
            var name = try objectID(id)
            var database: OpaquePointer?
            try check(git_repository_odb(&database, repository), "cannot open the object database")
            defer { git_odb_free(database) }
            var object: OpaquePointer?
            let status = git_odb_read(&object, database, &name)
            if status == GIT_ENOTFOUND.rawValue { return .missing }
            guard status == 0, let object else {
                return .corrupt(git_error_last().map { String(cString: $0.pointee.message) } ?? "\(status)")
            }
            defer { git_odb_object_free(object) }
            let size = git_odb_object_size(object)
            let data = git_odb_object_data(object)
            return .intact(
                kind: String(cString: git_object_type2string(git_odb_object_type(object))),
                bytes: size == 0 ? [] : Array(UnsafeRawBufferPointer(start: data, count: size)))
        }
    }

    /// The entries of a tree; nil for bytes that are none.
    static func entries(ofTree bytes: [UInt8]) -> [RawTreeEntry]? {
        var entries: [RawTreeEntry] = []
        var rest = bytes[...]
        while !rest.isEmpty {
            guard let blank = rest.firstIndex(of: UInt8(ascii: " ")), let end = rest.firstIndex(of: 0),
                blank < end, rest.endIndex - end > 20
            else { return nil }
            entries.append(
                RawTreeEntry(
                    mode: String(decoding: rest[..<blank], as: UTF8.self),
                    name: String(decoding: rest[(blank + 1)..<end], as: UTF8.self),
                    id: hex(rest[(end + 1)...(end + 20)])))
            rest = rest[(end + 21)...]
        }
        return entries
    }
}
