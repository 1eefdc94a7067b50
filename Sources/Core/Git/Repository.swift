// A git repository: found by the git program, so that `git -C`, GIT_DIR, worktrees, submodules and
// safe.directory mean what they mean to git. Configuration and revisions are also git's own answers.

import Glibc
import Synchronization

/// A repository. Nothing but its place is read until it is asked for.
public final class Repository: Sendable {
    /// The git directory of this worktree, absolute.
    public let gitDirectory: String
    /// The git directory that all worktrees share, absolute.
    public let commonDirectory: String
    /// The top of the worktree; nil in a bare repository.
    public let worktree: String?
    public let isBare: Bool

    /// Whether git's variables count for nothing.
    let isOnly: Bool
    /// How objects are named here.
    let format: ObjectFormat
    /// Which objects stand in the place of others (git-replace(1)), where these count.
    let replacements: [String: String]
    private let choice: StoreChoice?
    private let opened = Mutex<(any ObjectStore)?>(nil)

    /// Finds the repository that a folder belongs to. Fails with git's words where there is none.
    public convenience init(directory: String = ".") async throws {
        try await self.init(directory: directory, store: StoreChoice.named())
    }

    /// - Parameter choice: which way to its objects is used; nil for the one that serves it best.
    init(directory: String, store choice: StoreChoice?) async throws {
        let found = try await Command(
            [
                "git", "rev-parse", "--path-format=absolute", "--git-common-dir", "--git-dir",
                "--is-bare-repository", "--show-object-format", "--glob=" + Self.replacementBase + "*",
                "--show-toplevel",
            ], directory: directory
        ).run()
        var answers = found.text.lines.map(String.init)
        let replaced = answers.dropFirst(4).prefix { ObjectFormat.isName($0) }
        answers.removeSubrange(replaced.indices)
        // In a bare repository the last question fails after the others were answered.
        guard answers.count >= 4, found.succeeded || answers.count == 4 else {
            throw Self.notFound(found)
        }
        guard let format = ObjectFormat(rawValue: answers[3]) else {
            throw Failure(
                "cannot use repository '\(answers[0])': its object format \(answers[3]) is not known here")
        }
        self.format = format
        self.choice = choice
        isOnly = false
        commonDirectory = answers[0]
        gitDirectory = answers[1]
        isBare = answers[2] == "true"
        worktree = answers.count > 4 && !isBare ? answers[4] : nil
        replacements =
            replaced.isEmpty
            ? [:] : try await Self.replacements(git: Self.caller(gitDirectory, isOnly: false))
    }

    /// A repository of this program's own, whatever the environment says of where git should look.
    init(only path: String) async throws {
        let place = try Files.absolute(path)
        (gitDirectory, commonDirectory) = (place, place)
        (worktree, isBare, isOnly, replacements) = (nil, true, true, [:])
        choice = try StoreChoice.named()
        let found = try await Self.caller(place, isOnly: true)(["rev-parse", "--show-object-format"]).run()
        guard found.succeeded, let format = ObjectFormat(rawValue: found.text.trimmed) else {
            throw Failure(
                "'\(path)' is no repository: \(Self.words(of: found))", hint: "remove it, and fetch once more"
            )
        }
        self.format = format
    }

    private static func notFound(_ found: CommandResult) -> Failure {
        let said = words(of: found)
        // Of a repository that is somebody else's, git itself says what to do.
        if said.contains("safe.directory") { return Failure(said) }
        return Failure(said, hint: "run it inside a repository of the kernel's source")
    }

    /// The folder for everything private to this clone: workspaces, caches, logs, locks. It may not exist yet.
    public var stateDirectory: String { commonDirectory + "/ksplice" }

    /// The way to its objects, opened when it is first used. Whether libgit2 can serve the repository, it says itself: what it does
    /// not know, it does not open, and git, which has found the repository, does.
    var store: any ObjectStore {
        get throws {
            try opened.withLock { opened in
                if let opened { return opened }
                let store = try open()
                opened = store
                return store
            }
        }
    }

    private func open() throws -> any ObjectStore {
        let program = ProgramStore(format: format, git: Self.caller(gitDirectory, isOnly: isOnly))
        // Without the extension that says so, libgit2 takes a partial clone for a whole one.
        if try isPartial { return program }
        if choice == .git || format != .sha1 || !replacements.isEmpty { return program }
        do {
            return try LibraryStore(opening: commonDirectory, withQuarantine: !isOnly)
        } catch {
            if choice == .libgit2 { throw error }
            return program
        }
    }

    /// By these, somebody else's call of git would reach into a repository of our own.
    private static let redirections = [
        "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_CEILING_DIRECTORIES",
        "GIT_QUARANTINE_PATH", "GIT_REPLACE_REF_BASE", "GIT_CONFIG_COUNT", "GIT_CONFIG_PARAMETERS",
    ]

    /// A call of the git program on this repository, which sees no index and no worktree of the user.
    func git(
        _ arguments: [String], environment: [String: String?] = [:], input: [UInt8] = [],
        inside directory: String? = nil
    ) -> Command {
        var command = Self.caller(gitDirectory, isOnly: isOnly)(arguments)
        command.environment.merge(environment) { $1 }
        command.input = input
        if let directory { command.directory = directory }
        return command
    }

    private static func caller(_ gitDirectory: String, isOnly: Bool) -> @Sendable ([String]) -> Command {
        var values: [String: String?] = [:]
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_NAMESPACE"] {
            values[name] = .some(nil)
        }
        if isOnly { for name in redirections { values[name] = .some(nil) } }
        let environment = values
        return {
            Command(
                ["git", "--git-dir=" + gitDirectory] + $0, directory: gitDirectory, environment: environment)
        }
    }

    /// What git said, without its "fatal: ".
    static func words(of result: CommandResult) -> String {
        let text = result.errorText.trimmed
        guard !text.isEmpty else { return "git failed with exit status \(result.status)" }
        for prefix in ["fatal: ", "error: "] where text.hasPrefix(prefix) {
            return String(text.dropFirst(prefix.count))
        }
        return text
    }
}

extension Repository {
    /// The commit that a name means, in any way git knows to name one. Its full name.
    public func resolveCommit(_ name: String) async throws -> String {
        if let named = try await youngest(name) { return named }
        let result = try await git(["rev-parse", "--verify", "--end-of-options", name + "^{commit}"]).run()
        guard result.succeeded else {
            let said = result.errorText
            throw Failure(
                "no such commit: '\(name)'" + (said.contains("ambiguous") ? "\n\(said.trimmed)" : ""),
                status: .notFound)
        }
        return result.text.trimmed
    }

    /// What `:/TEXT` means: the youngest commit whose message has the text. Behind `:/` all is text. Commits that hold updates, with
    /// the subjects of the commits that they are made of, and notes are not meant. Nil for another name, and where there is none.
    private func youngest(_ name: String) async throws -> String? {
        guard name.hasPrefix(":/"), !name.hasPrefix(":/!"), name.count > 2 else { return nil }
        let result = try await git([
            "rev-list", "-1", "--grep=" + name.dropFirst(2), "--exclude=refs/ksplice/*",
            "--exclude=refs/ksplice-*",
            "--exclude=refs/notes/*", "--all", "HEAD",
        ]).run()
        return result.succeeded && !result.output.isEmpty ? result.text.trimmed : nil
    }

    /// The tag object of a name; for a tag without one, the commit. Nil where there is no such tag. Fails where the object is that of
    /// another tag: its signature is good for the name that stands in it, whichever ref leads to it.
    public func tagObject(_ name: String) async throws -> String? {
        let ref = "refs/tags/" + name
        guard let id = try await references([ref])[ref] else { return nil }
        let kind = try await git(["cat-file", "-t", id]).check("cannot read the tag '\(name)'").text.trimmed
        guard kind == "tag" else { return id }
        let text = try await git(["cat-file", "tag", id]).check("cannot read the tag '\(name)'").text
        let header = text.lines.prefix { !$0.isEmpty }.first { $0.hasPrefix("tag ") }
        let inside = header.map { String($0.dropFirst(4)) } ?? ""
        guard inside == name else {
            throw Failure(
                "the tag '\(name)' says of itself that it is '\(inside)'", status: .verificationRefused,
                hint: "git tag -d '\(name)', and get it from whom it is of; or name the release '\(inside)'")
        }
        return id
    }

    /// Short forms of commits' names, as long as `core.abbrev` says and unambiguous here. Key: the full name.
    public func shortIDs(_ ids: [String]) async throws -> [String: String] {
        if ids.isEmpty { return [:] }
        let result = try await git(
            ["rev-list", "--no-walk", "--no-commit-header", "--format=%H %h", "--stdin"],
            input: [UInt8]((ids.joined(separator: "\n") + "\n").utf8)
        ).check("cannot abbreviate the names of commits")
        var short: [String: String] = [:]
        for line in result.text.lines {
            let fields = line.split(separator: " ")
            if fields.count == 2 { short[String(fields[0])] = String(fields[1]) }
        }
        return short
    }

    /// What the user calls another repository, for git, which is not run in the folder that a path begins in.
    public func place(ofRemote name: String) async throws -> String {
        guard Files.exists(name), try await config("remote.\(name).url") == nil else { return name }
        return try Files.absolute(name)
    }

    /// The last value of a configuration variable, from wherever git reads it; nil where it is not set.
    public func config(_ key: String) async throws -> String? { try await configAll(key).last }

    /// All values of a configuration variable. `local`: only those that the repository itself sets.
    public func configAll(_ key: String, local: Bool = false) async throws -> [String] {
        let result = try await git(["config"] + (local ? ["--local"] : []) + ["-z", "--get-all", key]).run()
        if result.status == 1 { return [] }
        guard result.succeeded else { throw Failure("cannot read '\(key)': \(Self.words(of: result))") }
        return result.output.split(separator: 0, omittingEmptySubsequences: false).dropLast()
            .map { String(decoding: $0, as: UTF8.self) }
    }

    /// Sets a variable in the repository's own configuration, replacing all its values there.
    public func setConfig(_ key: String, _ value: String) async throws {
        try await git(["config", "--local", "--replace-all", key, value]).check("cannot set '\(key)'")
    }

    /// Adds one value to a variable in the repository's own configuration.
    public func addConfig(_ key: String, _ value: String) async throws {
        try await git(["config", "--local", "--add", key, value]).check("cannot set '\(key)'")
    }

    /// Removes a value (nil: all values) from the repository's own configuration. Returns whether there was one.
    @discardableResult
    public func unsetConfig(_ key: String, _ value: String? = nil) async throws -> Bool {
        let match = value.map { ["--fixed-value", "--unset-all", key, $0] } ?? ["--unset-all", key]
        let result = try await git(["config", "--local"] + match).run()
        if result.status == 5 { return false }
        guard result.succeeded else { throw Failure("cannot unset '\(key)': \(Self.words(of: result))") }
        return true
    }
}
