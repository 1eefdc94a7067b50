// `git ksplice hook install` and `uninstall`. Each hook of git is one file, which may be somebody's already:
//
// - none there: one with nothing but our lines; uninstall removes it;
// - a shell script: our lines are put into it; uninstall takes them out;
// - anything else (another language, a link, a file that may not be executed): it is kept under another name, and
//   ours calls it; uninstall renames it back.
//
// A file is replaced by a rename, so that a hook is there as a whole at every moment. A folder of hooks that other
// repositories have too, or that is in the worktree and so in everybody's clone, is not ours to change unasked.

import Glibc

/// The hooks of a repository that queue commits.
public struct CommitHooks: Sendable {
    public let repository: Repository
    /// Where git looks for hooks.
    public let folder: String
    /// `core.hooksPath`, where it is set.
    public let configured: String?
    private let block: String

    /// One thing that was looked at, as a line for people.
    public typealias Step = Initialisation.Step

    /// What one hook is.
    public enum State: String, Sendable {
        case installed
        /// Installed, and the hook that was there before is called from it.
        case chained
        /// With lines of another version or place of the program.
        case outdated
        /// The lines are in it, and git ignores it, because it may not be executed.
        case notExecutable = "not executable"
        case absent = "not installed"
    }

    /// - Parameter program: the path of git-ksplice.
    public init(_ repository: Repository, program: String) async throws {
        self.repository = repository
        let path = try await repository.hooksPath()
        configured = path
        let top = repository.worktree ?? repository.gitDirectory
        folder =
            path.map { $0.hasPrefix("/") ? $0 : "\(top)/\($0)" } ?? repository.commonDirectory + "/hooks"
        block = CommitHookText.block(program: program)
    }

    /// The lines, for those who put them into hooks themselves.
    public var lines: String { block }

    /// Why the folder of hooks is not to be changed unasked; nil where it is this repository's alone.
    public var objection: String? {
        get throws {
            let real = Files.exists(folder) ? try Files.absolute(folder) : folder
            func isBelow(_ top: String) throws -> Bool { real.hasPrefix(try Files.absolute(top) + "/") }
            if try isBelow(repository.commonDirectory) { return nil }
            if let worktree = repository.worktree, try isBelow(worktree) {
                return "the hooks are in the worktree, at '\(folder)': whoever gets these files gets them too"
            }
            return "the hooks are outside of the repository, at '\(folder)': other repositories may use them"
        }
    }

    /// Installs all hooks. Doing it again changes nothing.
    public func install(force: Bool = false) throws -> [Step] {
        if Files.exists(folder), !Files.isDirectory(folder) {
            throw Failure(
                "hooks are switched off: core.hooksPath is '\(configured ?? folder)'",
                hint: "git config --unset core.hooksPath")
        }
        if let objection = try objection, !force {
            throw Failure(
                objection,
                hints: [
                    "put these lines behind the first line of \(CommitHookText.names.joined(separator: ", "))",
                    "or let it be done: git ksplice hook install --force",
                ])
        }
        try Files.createDirectory(folder)
        return try CommitHookText.names.map { try HookFile("\(folder)/\($0)").install(block) }
    }

    /// Takes out what `install` has put in, also where `core.hooksPath` has led elsewhere since.
    public func uninstall() throws -> [Step] {
        try folders.flatMap { folder in
            try CommitHookText.names.compactMap { try HookFile("\(folder)/\($0)").uninstall() }
        }
    }

    private var folders: [String] {
        let own = repository.commonDirectory + "/hooks"
        return own == folder ? [own] : [folder, own]
    }

    /// What each hook is.
    public func states() throws -> [(name: String, state: State)] {
        try CommitHookText.names.map { ($0, try HookFile("\(folder)/\($0)").state(block)) }
    }
}

extension Repository {
    /// `core.hooksPath`, with a leading `~` resolved; nil where it is not set.
    func hooksPath() async throws -> String? {
        let result = try await git(["config", "--type=path", "-z", "--get", "core.hooksPath"]).run()
        if result.status == 1 { return nil }
        guard result.succeeded else {
            throw Failure("cannot read 'core.hooksPath': \(Self.words(of: result))")
        }
        return String(decoding: result.output.prefix { $0 != 0 }, as: UTF8.self)
    }
}

/// One file of git's hooks.
private struct HookFile {
    let path: String
    private var name: String { path.lastPathComponent }
    private var kept: String { path + CommitHookText.keptSuffix }

    init(_ path: String) { self.path = path }

    private static func information(_ path: String) -> stat? {
        var info = stat()
        return lstat(path, &info) == 0 ? info : nil
    }

    private static func isPlain(_ info: stat) -> Bool { info.st_mode & S_IFMT == S_IFREG }

    /// Its content, cut at our lines; nil where they are not in it.
    private func parts() throws -> (before: [UInt8], block: [UInt8], after: [UInt8])? {
        guard let info = Self.information(path), Self.isPlain(info) else { return nil }
        do { return try CommitHookText.parts(Files.read(path)) } catch var failure as Failure {
            failure.message = "cannot change '\(path)': \(failure.message)"
            throw failure
        }
    }

    func state(_ block: String) throws -> CommitHooks.State {
        guard let parts = try parts() else { return .absent }
        guard access(path, X_OK) == 0 else { return .notExecutable }
        guard parts.block == Array(block.utf8) else { return .outdated }
        return Self.information(kept) == nil ? .installed : .chained
    }

    func install(_ block: String) throws -> CommitHooks.Step {
        let new = Array(block.utf8)
        if let parts = try parts() {
            if parts.block == new { return .init(text: "\(name) is installed already", changed: false) }
            try replace(with: parts.before + new + parts.after)
            return .init(text: "renewed \(name)", changed: true)
        }
        let first = Array(CommitHookText.firstLine.utf8)
        guard let info = Self.information(path) else {
            try replace(with: first + new, mode: 0o755)
            return .init(text: "created \(name)", changed: true)
        }
        if Self.isPlain(info), access(path, X_OK) == 0,
            let text = CommitHookText.inserted(block, into: try Files.read(path))
        {
            try replace(with: text)
            return .init(text: "put lines into \(name)", changed: true)
        }
        // Its second name comes first, so that it is never without one.
        guard linkat(AT_FDCWD, path, AT_FDCWD, kept, 0) == 0 else {
            throw Failure.system("keep '\(name)' as", kept, errno: errno)
        }
        try replace(with: first + new + Array(CommitHookText.chaining.utf8), mode: 0o755)
        return .init(text: "created \(name), which calls \(kept.lastPathComponent)", changed: true)
    }

    /// Nil where there is nothing of ours.
    func uninstall() throws -> CommitHooks.Step? {
        guard let parts = try parts() else {
            guard let old = Self.information(kept), let now = Self.information(path), old.st_ino == now.st_ino
            else { return nil }
            // An installation that was interrupted between its two steps.
            guard unlink(kept) == 0 else { throw Failure.system("remove", kept, errno: errno) }
            return .init(text: "removed \(kept.lastPathComponent)", changed: true)
        }
        let rest = parts.before + parts.after
        if Self.information(kept) != nil {
            guard rest == Array((CommitHookText.firstLine + CommitHookText.chaining).utf8) else {
                throw Failure(
                    "'\(path)' was changed since it was installed, and calls '\(kept)'",
                    hint: "put what you want of both into '\(path)', and remove the other")
            }
            guard rename(kept, path) == 0 else { throw Failure.system("rename", kept, errno: errno) }
            return .init(text: "restored \(name)", changed: true)
        }
        if rest == Array(CommitHookText.firstLine.utf8) {
            guard unlink(path) == 0 else { throw Failure.system("remove", path, errno: errno) }
            return .init(text: "removed \(name)", changed: true)
        }
        try replace(with: rest)
        return .init(text: "took the lines out of \(name)", changed: true)
    }

    /// Writes the file anew, with the mode and owner that it has.
    private func replace(with bytes: [UInt8], mode: mode_t? = nil) throws {
        let temporary = path + ".ksplice.tmp"
        let info = Self.information(path)
        try Files.write(bytes, to: temporary, mode: UInt32(mode ?? 0o755))
        if mode == nil, let info {
            // Only root can give it back, and only root can have taken it.
            if info.st_uid != geteuid() { _ = chown(temporary, info.st_uid, info.st_gid) }
            guard chmod(temporary, info.st_mode & 0o7777) == 0 else {
                throw Failure.system("write", temporary, errno: errno)
            }
        }
        guard rename(temporary, path) == 0 else {
            let code = errno
            unlink(temporary)
            throw Failure.system("write", path, errno: code)
        }
    }
}
