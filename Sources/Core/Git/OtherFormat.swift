// Two repositories of which one names objects by SHA-1 and the other by SHA-256: git brings nothing from one to the other. What is
// signed holds these names, so nobody could translate it either.

/// The other side names its objects otherwise.
struct OtherFormat: Error {
    var format: ObjectFormat

    init(_ format: ObjectFormat) { self.format = format }

    /// What git has said about it (fetch-pack.c, send-pack.c); nil where it speaks of something else.
    init?(said: String, here: ObjectFormat) {
        if said.contains("does not support this repository's hash algorithm") {
            format = here == .sha1 ? .sha256 : .sha1
        } else if let server = said.firstRange(of: "; server "), said.contains("mismatched algorithms") {
            let word = said[server.upperBound...].prefix { $0.isLetter || $0.isNumber }
            guard let format = ObjectFormat(rawValue: String(word)) else { return nil }
            self.format = format
        } else {
            return nil
        }
    }

    /// Why a fetch or push has failed, where that is it.
    static func failure(_ said: String, remote: String, _ repository: Repository) -> Failure? {
        OtherFormat(said: said, here: repository.format)?.failure(
            "'\(remote)'", repository,
            hint:
                "git init --object-format=\(repository.format.rawValue) makes a repository of the same kind there"
        )
    }

    /// For people.
    func failure(_ other: String, _ repository: Repository, hint: String) -> Failure {
        func words(_ format: ObjectFormat) -> String { format == .sha1 ? "SHA-1" : "SHA-256" }
        return Failure(
            "'\(repository.commonDirectory)' names objects by \(words(repository.format)) and \(other) by \(words(format)): git brings nothing from one to the other",
            hint: hint)
    }
}
