// What a channel says: which updates there are for one kernel, in which order they are applied, which of them are withdrawn or
// replaced by others, which belong to which release. A text, so that `git show` reads it:
//
//     ksplice-channel 1
//     update ID COMMIT BYTES          the next one to be applied, the commit that its ref names, and how large its files are
//     cve ID CVE-2026-1234            which hole it closes, as its source commits say
//     supersedes ID OLDER             once ID is applied, OLDER need not be
//     depends ID OTHER                OTHER must be applied first
//     withdrawn ID REASON
//     release NAME                    everything above is what this release has

/// One update of a channel.
public struct ChannelEntry: Sendable, Equatable {
    public var id: String
    /// The orphan commit that holds it.
    public var commit: String
    /// Of all its files together.
    public var size: Int
    public var cves: [String] = []
    public var supersedes: [String] = []
    public var depends: [String] = []
    /// Why it must not be applied any more; nil where it may.
    public var withdrawn: String?
}

/// The content of a channel at one moment.
public struct ChannelIndex: Sendable, Equatable {
    static let formatVersion = 1
    static let path = "channel"
    /// What a host reads of one without thinking: 5,000 updates are a megabyte.
    static let limit = 16 << 20

    /// In the order in which they are applied.
    public var entries: [ChannelEntry] = []
    /// Names of releases, and how many of the entries each has.
    public var releases: [(name: String, count: Int)] = []

    public static func == (a: ChannelIndex, b: ChannelIndex) -> Bool { a.text == b.text }

    public init() {}

    public func entry(_ id: String) -> ChannelEntry? { entries.first { $0.id == id } }

    /// Those that are to be applied, in order: neither withdrawn nor replaced by one that is to be applied. `release`: only what
    /// that release has. Fails where the channel does not know the release.
    public func wanted(release: String? = nil) throws -> [ChannelEntry] {
        var listed = entries[...]
        if let release {
            guard let found = releases.last(where: { $0.name == release }) else {
                throw Failure(
                    "this channel has no release '\(release)'", status: .notFound,
                    hint: "git ksplice channel show lists its releases")
            }
            listed = entries.prefix(found.count)
        }
        let alive = listed.filter { $0.withdrawn == nil }
        // What stands on one that goes cannot stay, and replaces nothing.
        let able = Self.standing(alive, without: Set(entries.map(\.id)).subtracting(alive.map(\.id)))
        let replaced = Set(able.flatMap(\.supersedes))
        return Self.standing(able.filter { !replaced.contains($0.id) }, without: replaced)
    }

    /// Those that need none of some others, nor one that does. What is needed is listed first.
    private static func standing(_ entries: [ChannelEntry], without others: Set<String>) -> [ChannelEntry] {
        var gone = others
        return entries.filter { entry in
            if gone.isDisjoint(with: entry.depends) { return true }
            gone.insert(entry.id)
            return false
        }
    }

    /// Reads the text above. Fails on a line that it does not know, and on one that speaks of an update which is not listed.
    public init(parsing text: String) throws {
        func wrong(_ line: String) -> Failure {
            Failure(
                "a channel has a line that is not understood: '\(line.prefix(100))'",
                status: .verificationRefused)
        }
        var lines = text.lines.map { String($0) }.filter { !$0.isEmpty }
        guard lines.first == "ksplice-channel \(Self.formatVersion)" else {
            throw Failure(
                "not the content of a channel, or one of a newer format", status: .verificationRefused)
        }
        lines.removeFirst()
        var places: [String: Int] = [:]
        for line in lines {
            let words = line.split(separator: " ", maxSplits: 2).map { String($0) }
            guard words.count >= 2 else { throw wrong(line) }
            if words[0] == "update" {
                let rest = words.count == 3 ? words[2].split(separator: " ").map { String($0) } : []
                guard rest.count == 2, Self.isDigest(words[1]), ObjectFormat.isName(rest[0]),
                    let size = Int(rest[1]),
                    (0...1 << 28).contains(size), places[words[1]] == nil
                else { throw wrong(line) }
                places[words[1]] = entries.count
                entries.append(ChannelEntry(id: words[1], commit: rest[0], size: size))
                continue
            }
            if words[0] == "release" {
                guard words.count == 2 else { throw wrong(line) }
                releases.append((words[1], entries.count))
                continue
            }
            guard let place = places[words[1]] else { throw wrong(line) }
            let value = words.count == 3 ? words[2] : ""
            switch words[0] {
            case "cve": entries[place].cves.append(value)
            case "supersedes" where Self.isDigest(value): entries[place].supersedes.append(value)
            case "depends" where Self.isDigest(value): entries[place].depends.append(value)
            case "withdrawn": entries[place].withdrawn = value
            default: throw wrong(line)
            }
        }
    }

    /// Whether a text is a SHA-256 digest in lower-case hexadecimal digits.
    static func isDigest(_ text: String) -> Bool {
        text.utf8.count == 64 && text.utf8.allSatisfy { hexDigit($0) != nil && !(65...70).contains($0) }
    }

    /// The text that `init(parsing:)` reads.
    public var text: String {
        var text = "ksplice-channel \(Self.formatVersion)\n"
        var names = releases[...]
        func endReleases(_ count: Int) {
            while let first = names.first, first.count <= count {
                text += "release \(first.name)\n"
                names.removeFirst()
            }
        }
        for (place, entry) in entries.enumerated() {
            endReleases(place)
            text += "update \(entry.id) \(entry.commit) \(entry.size)\n"
            for cve in entry.cves { text += "cve \(entry.id) \(cve)\n" }
            for older in entry.supersedes { text += "supersedes \(entry.id) \(older)\n" }
            for other in entry.depends { text += "depends \(entry.id) \(other)\n" }
            if let reason = entry.withdrawn { text += "withdrawn \(entry.id) \(reason)\n" }
        }
        endReleases(entries.count)
        return text
    }

    /// Names of holes in a text, each once.
    public static func cves(in text: String) -> [String] {
        var found: [String] = []
        for match in text.matches(of: /CVE-[0-9]{4}-[0-9]{4,}/) where !found.contains(String(match.output)) {
            found.append(String(match.output))
        }
        return found
    }
}
