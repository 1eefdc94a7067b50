// Names from standard input: one a line, or with NUL behind each. Each is what could stand on the command line. Where one
// begins with `^` or `-`, the lines together are what `git rev-list --stdin` takes, and mean the commits that it lists.

/// What was read for `--stdin`.
public struct InputNames: Sendable {
    public let lines: [String]

    /// Blank lines mean nothing.
    public init(_ bytes: [UInt8], endsWithNull: Bool) {
        lines = bytes.split(separator: endsWithNull ? 0 : UInt8(ascii: "\n")).map {
            String(decoding: $0, as: UTF8.self)
        }.filter { !$0.trimmed.isEmpty }
    }

    /// For `git rev-list --stdin`.
    public var text: [UInt8] { Array(lines.map { $0 + "\n" }.joined().utf8) }

    private var isSet: Bool { lines.contains { $0.hasPrefix("^") || $0.hasPrefix("-") } }

    /// `A..B` and `A...B`, but no path to a folder above.
    private static func isRange(_ line: String) -> Bool {
        line.contains("..") && !line.hasPrefix("../") && !line.contains("/../")
    }

    /// What updates are to be made of: the names as they are, `A..B` as one change; or the commits of a set, the oldest first.
    public func changes(in repository: () async throws -> Repository) async throws -> [String] {
        guard isSet else { return lines }
        return try await repository().revisions(["--no-merges"], input: text).reversed().map(\.id)
    }

    /// Names of updates: the names as they are, and for the commits of a range or a set the updates that were made of them. A
    /// commit that has none is passed over there.
    public func updates(in repository: () async throws -> Repository) async throws -> [String] {
        if isSet { return try await Self.updates(of: text, in: repository()) }
        var names: [String] = []
        for line in lines {
            names +=
                Self.isRange(line)
                ? try await Self.updates(of: Array((line + "\n").utf8), in: repository()) : [line]
        }
        return names
    }

    private static func updates(of revisions: [UInt8], in repository: Repository) async throws -> [String] {
        let stored = try await UpdateStore(repository).list()
        let commits = try await repository.revisions([], input: revisions).reversed().map(\.id)
        return commits.flatMap { commit in stored.filter { $0.commits.last == commit }.map(\.id) }
    }
}

extension UpdateStore {
    /// Those of some updates that names mean.
    public func named(_ names: InputNames, among updates: [StoredUpdate]) async throws -> [StoredUpdate] {
        var wanted: Set<String> = []
        for name in try await names.updates(in: { repository }) {
            wanted.formUnion(try await findAll(name).map(\.id))
        }
        return updates.filter { wanted.contains($0.id) }
    }
}

extension StoredUpdate {
    /// As git-ksplice-list(1) describes it.
    public var json: JSON {
        .object([
            ("v", .number(1)), ("update", .string(id)), ("ref", .string(ref)),
            ("arch", .string(arch)), ("build_id", .string(buildID)),
            ("release", .string(release)), ("description", .string(description)),
            ("commits", .strings(commits)),
        ])
    }
}
