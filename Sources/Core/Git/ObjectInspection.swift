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
}
