// What may go. Only what somebody has chosen goes at all, by options or configuration; of that, nothing goes that something
// needs (Pruner.swift).

/// Which updates, and how old state, may go.
public struct PrunePolicy: Sendable {
    /// The newest ones of each kernel stay, so many.
    public var keep: Int?
    /// Only what was stored before this moment goes, in seconds since 1970.
    public var before: Int64?
    /// Those whose place newer ones have taken go; together with `withdrawn`, these and those.
    public var superseded = false
    /// Those that were withdrawn go.
    public var withdrawn = false
    /// Only updates for this kernel go.
    public var kernel: (arch: String, refName: String)?
    /// Of the folder of state goes what was not used since this moment, in seconds since 1970.
    public var expire: Int64

    public init(expire: Int64) { self.expire = expire }

    /// Whether nothing says which updates may go: then none does.
    public var isEmpty: Bool { keep == nil && before == nil && !superseded && !withdrawn }

    /// What `ksplice.prune.*` says.
    public static func configured(_ repository: Repository) async throws -> PrunePolicy {
        func value(_ name: String) async throws -> String? {
            try await repository.config("ksplice.prune." + name)
        }
        var policy = PrunePolicy(
            expire: try await repository.moment(try await value("expire") ?? "3.months"))
        if let text = try await value("keep") { policy.keep = try count(text, "ksplice.prune.keep") }
        if let text = try await value("olderThan") { policy.before = try await repository.moment(text) }
        policy.superseded = try await repository.isTrue("ksplice.prune.superseded")
        policy.withdrawn = try await repository.isTrue("ksplice.prune.withdrawn")
        return policy
    }

    private static func count(_ text: String, _ key: String) throws -> Int {
        guard let number = Int(text), number >= 0 else {
            throw Failure("'\(key)' is no number of updates: '\(text)'", hint: "git config \(key) 10")
        }
        return number
    }

    /// Why an update may go; nil where it may not.
    ///
    /// - Parameter same: all updates for its kernel.
    func reason(_ update: StoredUpdate, among same: [StoredUpdate], withdrawn gone: Set<String>) -> String? {
        if isEmpty { return nil }
        if let kernel, kernel != (update.arch, update.buildID) { return nil }
        if let before, update.time >= before { return nil }
        if let keep {
            let newer = same.count { ($0.time, $0.id) > (update.time, update.id) }
            if newer < keep { return nil }
        }
        if superseded || withdrawn {
            if withdrawn, gone.contains(update.id) { return "withdrawn" }
            guard superseded, let newer = same.first(where: { !gone.contains($0.id) && $0.replaces(update) })
            else {
                return nil
            }
            return "replaced by \(newer.id.prefix(12))"
        }
        if let keep { return keep == 0 ? "none is to be kept" : "not one of the newest \(keep)" }
        return "stored before \(CalendarTime.text(before ?? 0))"
    }
}

extension StoredUpdate {
    /// Whether it has everything of an older one for the same kernel: all its commits and more, or the same change, made anew.
    fileprivate func replaces(_ older: StoredUpdate) -> Bool {
        if id == older.id || older.commits.isEmpty { return false }
        if Set(older.commits).isStrictSubset(of: commits) { return true }
        return commits == older.commits && preTree == older.preTree && postTree == older.postTree
            && (time, id) > (older.time, older.id)
    }
}

extension Repository {
    /// Whether a variable of the configuration says yes, in any of git's words.
    public func isTrue(_ key: String, default usual: Bool = false) async throws -> Bool {
        let result = try await git(["config", "--type=bool", "--get", key]).run()
        if result.status == 1 { return usual }
        guard result.succeeded else { throw Failure("cannot read '\(key)': \(Self.words(of: result))") }
        return result.text.trimmed == "true"
    }
}
