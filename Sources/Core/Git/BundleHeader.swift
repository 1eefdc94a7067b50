// The first lines of a bundle, a file in which git brings refs and objects (gitformat-bundle(5)).

import Glibc

/// What a bundle says of itself.
struct BundleHeader: Sendable, Equatable {
    var format = ObjectFormat.sha1
    /// Which objects were left out, as `git bundle create --filter` takes it; nil where it is whole.
    var filter: String?

    /// Nil for what is no bundle, or names its objects in a way that is not known.
    init?(of path: String) {
        let file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var buffer = [UInt8](repeating: 0, count: 1024)
        let count = read(file, &buffer, buffer.count)
        self.init(String(decoding: buffer.prefix(max(0, count)), as: UTF8.self))
    }

    /// Fails where objects were left out: git refuses such a bundle, too, but keeps its pack, and takes the repository for a partial
    /// clone from then on.
    func refusePartial(_ path: String) throws {
        guard let filter else { return }
        throw Failure(
            "the bundle '\(path)' leaves objects out (\(filter))",
            hint: "git ksplice bundle makes a whole one")
    }

    /// - Parameter text: begins as a bundle does.
    init?(_ text: String) {
        let lines = text.lines
        guard let first = lines.first, first.hasPrefix("# v"), first.hasSuffix(" git bundle") else {
            return nil
        }
        for line in lines.dropFirst().prefix(while: { $0.hasPrefix("@") }) {
            let parts = line.dropFirst().split(separator: "=", maxSplits: 1)
            guard parts.count == 2 else { continue }
            switch parts[0] {
            case "object-format":
                guard let format = ObjectFormat(rawValue: String(parts[1])) else { return nil }
                self.format = format
            case "filter": filter = String(parts[1])
            default: continue
            }
        }
    }
}
