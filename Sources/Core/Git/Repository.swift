// A git repository: found by the git program, so that `git -C`, GIT_DIR, worktrees, submodules and
// safe.directory mean what they mean to git. Configuration and revisions are also git's own answers.

import CShims
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

    private let library = Mutex<LibraryHandle?>(nil)

    /// Finds the repository that a folder belongs to. Fails with git's words where there is none.
    public init(directory: String = ".") async throws {
        let found = try await Command(
            [
                "git", "rev-parse", "--path-format=absolute", "--git-common-dir", "--git-dir",
                "--is-bare-repository",
                "--show-object-format", "--show-toplevel",
            ], directory: directory
        ).run()
        // In a bare repository the last question fails after the others were answered.
        let answers = found.text.lines.map(String.init)
        guard answers.count >= 4, found.succeeded || answers.count == 4 else {
            throw Failure(Self.words(of: found), hint: "run it inside a repository of the kernel's source")
        }
        guard answers[3] == "sha1" else {
            throw Failure(
                "cannot use repository '\(answers[0])': its object format is \(answers[3]), not sha1")
        }
        isOnly = false
        commonDirectory = answers[0]
        gitDirectory = answers[1]
        isBare = answers[2] == "true"
        worktree = answers.count > 4 && !isBare ? answers[4] : nil
    }

    /// A repository of this program's own, whatever the environment says of where git should look.
    init(only path: String) async throws {
        gitDirectory = try Files.absolute(path)
        (commonDirectory, worktree, isBare, isOnly) = (gitDirectory, nil, true, true)
        let found = try await git(["rev-parse", "--show-object-format"]).run()
        guard found.succeeded, found.text.trimmed == "sha1" else {
            throw Failure(
                "'\(path)' is no repository: \(Self.words(of: found))", hint: "remove it, and fetch once more"
            )
        }
    }

    deinit {
        if let handle = library.withLock({ $0 }) { git_repository_free(handle.repository) }
    }

    /// The folder for everything private to this clone: workspaces, caches, logs, locks. It may not exist yet.
    public var stateDirectory: String { commonDirectory + "/ksplice" }

    /// Lends the library's handle. Calls must not be nested.
    func withLibrary<T: Sendable>(_ body: (OpaquePointer) throws -> T) throws -> T {
        try library.withLock { handle in
            let open = try handle ?? LibraryHandle(opening: commonDirectory, withQuarantine: !isOnly)
            handle = open
            return try body(open.repository)
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
        var values: [String: String?] = [:]
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_NAMESPACE"] {
            values[name] = .some(nil)
        }
        if isOnly { for name in Self.redirections { values[name] = .some(nil) } }
        values.merge(environment) { $1 }
        return Command(
            ["git", "--git-dir=" + gitDirectory] + arguments, directory: directory ?? gitDirectory,
            environment: values,
            input: input)
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
    /// The commit that a name means, in any way git knows to name one. 40 hexadecimal digits.
    public func resolveCommit(_ name: String) async throws -> String {
        let result = try await git(["rev-parse", "--verify", "--end-of-options", name + "^{commit}"]).run()
        guard result.succeeded else {
            let said = result.errorText
            throw Failure(
                "no such commit: '\(name)'" + (said.contains("ambiguous") ? "\n\(said.trimmed)" : ""),
                status: .notFound)
        }
        return result.text.trimmed
    }

    /// The tag object of a name; for a tag without one, the commit. Nil where there is no such tag.
    public func tagObject(_ name: String) async throws -> String? {
        try await references(["refs/tags/" + name])["refs/tags/" + name]
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
