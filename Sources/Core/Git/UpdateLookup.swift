// Finding stored updates: from refs and the trailers of their commits alone, with one call of git, never by
// reading the updates themselves. What the refs' names can answer, commits are not read for: there may be thousands of others.

extension UpdateStore {
    /// The stored updates, of one architecture and one kernel where given, the newest first.
    public func list(arch: String? = nil, buildID: String? = nil) async throws -> [StoredUpdate] {
        let pattern = Self.prefix + (arch.map { $0 + "/" + (buildID.map { $0 + "/" } ?? "") } ?? "")
        return try await list(pattern: pattern).filter { buildID == nil || $0.buildID == buildID }
    }

    /// The updates for a kernel that change exactly this tree into that one: what a repeated `create` would make.
    public func find(kernel: KernelIdentity, preTree: String, postTree: String) async throws -> [StoredUpdate]
    {
        try await list(arch: kernel.arch, buildID: kernel.refName).filter {
            $0.preTree == preTree && $0.postTree == postTree
        }
    }

    /// The one update that `spec` means: an identity or an unambiguous start of one (4 digits or more), also behind
    /// `ksplice-`; a ref; or any name of a commit that has one update for the kernel.
    ///
    /// - Throws: `notFound`; `wrongKernel` where only other kernels have one; `stale` where the commit was
    ///   rewritten since; and a failure that lists the candidates where there are several.
    public func find(_ spec: String, kernel: KernelIdentity? = nil) async throws -> StoredUpdate {
        func fits(_ update: StoredUpdate) -> Bool {
            kernel.map { $0.arch == update.arch && $0.refName == update.buildID } ?? true
        }
        if spec.hasPrefix(Self.prefix) {
            guard !spec.hasSuffix("/"),
                let match = try await list(pattern: spec).first(where: { $0.ref == spec })
            else {
                throw Failure("no such update: '\(spec)'", status: .notFound)
            }
            return match
        }
        let prefixed = spec.hasPrefix("ksplice-")
        let digits = (prefixed ? String(spec.dropFirst("ksplice-".count)) : spec).lowercased()
        if digits.count >= 4, digits.allSatisfy(\.isHexDigit) {
            let matches = try await list(pattern: "\(Self.prefix)*/*/\(digits)*")
            if !matches.isEmpty { return try only(matches, spec: spec) }
        }
        if prefixed { throw Failure("no such update: '\(spec)'", status: .notFound) }
        let commit: String
        do {
            commit = try await repository.resolveCommit(spec)
        } catch let failure as Failure where failure.status == .notFound {
            throw Failure("no such update or commit: '\(spec)'", status: .notFound, hint: "git ksplice list")
        }
        if let kernel {
            let own = try await list(arch: kernel.arch, buildID: kernel.refName).filter {
                $0.commits.contains(commit)
            }
            if !own.isEmpty { return try only(newest(own), spec: spec) }
        }
        let matches = try await updates(of: commit, among: list())
        let fitting = matches.filter(fits)
        if fitting.isEmpty, let other = matches.first {
            throw Failure(
                "'\(spec)' has no update for this kernel, only for \(other.release) (\(other.arch))",
                status: .wrongKernel,
                hint: "git ksplice kernel list shows the kernels that updates are made for")
        }
        guard !fitting.isEmpty else {
            throw Failure("'\(spec)' has no update", status: .notFound, hint: "git ksplice create \(spec)")
        }
        return try only(newest(fitting), spec: spec)
    }

    /// All that are meant, one for each kernel: for an identity or a ref the one, for a commit one of each kernel, or of `kernel` only.
    public func findAll(_ spec: String, kernel: KernelIdentity? = nil) async throws -> [StoredUpdate] {
        do { return [try await find(spec, kernel: kernel)] } catch let failure as Failure {
            guard kernel == nil, failure.message.contains("is ambiguous") else { throw failure }
            let commit = try await repository.resolveCommit(spec)
            let matches = newest(try await updates(of: commit, among: try await list()))
            let kernels = Set(matches.map { $0.arch + "/" + $0.buildID })
            guard !matches.isEmpty, kernels.count == matches.count else { throw failure }
            return matches
        }
    }

    /// Of updates that make the same change to the same kernel, the one that was stored last: a newer program makes
    /// another update of the same commit, and means it to be used.
    private func newest(_ updates: [StoredUpdate]) -> [StoredUpdate] {
        let same = Dictionary(grouping: updates) {
            [$0.arch, $0.buildID, $0.preTree, $0.postTree] + $0.commits
        }
        return same.values.compactMap { $0.max { ($0.time, $0.id) < ($1.time, $1.id) } }.sorted {
            $0.id < $1.id
        }
    }

    private func only(_ matches: [StoredUpdate], spec: String) throws -> StoredUpdate {
        if matches.count == 1 { return matches[0] }
        let lines = matches.map { "  \($0.id.prefix(12)) \($0.release) (\($0.arch)): \($0.description)" }
        throw Failure(
            "'\(spec)' is ambiguous; it may mean\n" + lines.joined(separator: "\n"),
            hint: "name one by its identity")
    }

    /// The updates made from a commit. Of a commit that no update names, those that make its change count: what git's notes,
    /// which follow a rewritten commit, or its patch-id lead to is compared by trees.
    func updates(of commit: String, among all: [StoredUpdate]) async throws -> [StoredUpdate] {
        let direct = all.filter { $0.commits.contains(commit) }
        if !direct.isEmpty { return direct }
        let found = try await resemblances(of: [commit], among: all)[commit] ?? Resemblance()
        guard found.same.isEmpty, let other = found.other.first else { return found.same }
        throw Failure(
            "the update \(other.id.prefix(12)) was made from another version of '\(commit.prefix(12))'",
            status: .stale, hint: "git ksplice create \(commit.prefix(12))")
    }

    /// Reads refs that match a pattern, with what their commits' trailers say.
    func list(pattern: String) async throws -> [StoredUpdate] {
        let format = "%(refname)%00%(objectname)%00%(authordate:unix)%00%(contents)%00"
        let result = try await repository.git(
            [
                "for-each-ref", "--sort=-authordate", "--format=" + format, pattern,
            ], environment: Repository.asStored
        )
        .check("cannot list updates")
        let fields = result.output.split(separator: 0, omittingEmptySubsequences: false)
            .map { String(decoding: $0, as: UTF8.self) }
        var updates: [StoredUpdate] = []
        for start in stride(from: 0, to: fields.count - 4, by: 4) {
            // Each record but the first begins with the end of the line before.
            let ref = fields[start].trimmed
            let parts = ref.dropFirst(Self.prefix.count).split(separator: "/")
            guard ref.hasPrefix(Self.prefix), parts.count == 3 else { continue }
            let message = fields[start + 3]
            let trailers = Self.trailers(message)
            let trees = (trailers["Trees"] ?? "").split(separator: ".").map(String.init)
            let release = trailers["Release"] ?? ""
            let subject = message.lines.first.map(String.init) ?? ""
            let opening = "ksplice: \(parts[0]) \(release): "
            updates.append(
                StoredUpdate(
                    id: String(parts[2]), ref: ref, commit: fields[start + 1], arch: String(parts[0]),
                    buildID: String(parts[1]), release: release,
                    description: subject.hasPrefix(opening)
                        ? String(subject.dropFirst(opening.count)) : subject,
                    commits: (trailers["Commits"] ?? "").split(separator: " ").map(String.init),
                    preTree: trees.first ?? "", postTree: trees.count == 2 ? trees[1] : "",
                    time: Int64(fields[start + 2]) ?? 0))
        }
        return updates
    }

    /// The project's trailers of a commit message, without `Ksplice-`.
    private static func trailers(_ message: String) -> [String: String] {
        var trailers: [String: String] = [:]
        for line in message.lines where line.hasPrefix("Ksplice-") {
            guard let colon = line.firstIndex(of: ":") else { continue }
            trailers[String(line.dropFirst("Ksplice-".count).prefix(upTo: colon))] =
                String(line[line.index(after: colon)...]).trimmed
        }
        return trailers
    }
}
