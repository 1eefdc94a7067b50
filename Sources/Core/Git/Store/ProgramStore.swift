// Objects by the git program, for repositories that libgit2 cannot open: other names than SHA-1, refs in tables, clones whose objects
// come when they are asked for. One `git cat-file` is kept and answers all questions; writing starts one `git hash-object` for
// all objects of a kind.
//
// What git reads is compared with its name here, as libgit2 does it. Needs git 2.38.

import Glibc
import Synchronization

/// The objects of one repository.
final class ProgramStore: ObjectStore {
    private let format: ObjectFormat
    /// How git is called on the repository.
    private let git: @Sendable ([String]) -> Command
    private let reader = Mutex<Reader?>(nil)

    init(format: ObjectFormat, git: @escaping @Sendable ([String]) -> Command) {
        (self.format, self.git) = (format, git)
    }

    func header(of id: String) throws -> (kind: GitObjectKind, size: Int)? {
        try asking(id) { try $0.header("info", id) }
    }

    func read(_ id: String) throws -> GitObject? {
        let object = try asking(id) { reader -> GitObject? in
            guard let (kind, size) = try reader.header("contents", id) else { return nil }
            return GitObject(kind: kind, bytes: try reader.content(size))
        }
        guard let object else { return nil }
        guard format.name(of: object) == id else {
            throw Failure("object '\(id)' is damaged: its content has another name", hint: "git fsck")
        }
        return object
    }

    /// Asks the kept program. One that has died, because it could not fetch an object, is followed by another.
    private func asking<T: Sendable>(_ id: String, _ question: (Reader) throws -> T?) throws -> T? {
        guard id.utf8.count == format.digits, ObjectFormat.isName(id) else {
            throw Failure("not an object name: '\(id)'")
        }
        return try reader.withLock { kept in
            let reader = try kept ?? Reader(git(["cat-file", "--batch-command"]))
            kept = reader
            do { return try question(reader) } catch let failure as Reader.Ended {
                kept = nil
                if failure.words.contains("promisor remote") { return nil }
                throw Failure("cannot read '\(id)': \(failure.words)")
            } catch {
                // What it says next would be the answer to something else.
                kept = nil
                throw error
            }
        }
    }

    func write(_ objects: [GitObject]) throws {
        for kind in [GitObjectKind.blob, .tree, .commit] {
            let some = objects.filter { $0.kind == kind }
            if !some.isEmpty { try write(some, kind) }
        }
    }

    private func write(_ objects: [GitObject], _ kind: GitObjectKind) throws {
        var command = git(["hash-object", "-w", "-t", kind.rawValue, "--no-filters"])
        var folder: String?
        defer { if let folder { try? Files.remove(folder) } }
        if objects.count == 1 {
            command.arguments.append("--stdin")
            command.input = objects[0].bytes
        } else {
            let place = try Files.temporaryDirectory()
            folder = place
            command.arguments.append("--stdin-paths")
            for (number, object) in objects.enumerated() {
                try Files.write(object.bytes, to: "\(place)/\(number)")
                command.input += Array("\(place)/\(number)\n".utf8)
            }
        }
        let result = try command.runHere()
        guard result.succeeded else {
            throw Failure("cannot write to the object database: \(Repository.words(of: result))")
        }
        guard result.text.lines.map(String.init) == objects.map({ format.name(of: $0) }) else {
            throw Failure("git has given an object another name than it has")
        }
    }

    /// `git merge-tree` wants commits, whose common ancestor it merges on: three without a name are made for it, always the same.
    func merge(base: String, ours: String, theirs: String) throws -> TreeMerge {
        func commit(_ tree: String, _ parents: [String]) -> GitObject {
            let person = "git-ksplice <> 0 +0000"
            let text =
                "tree \(tree)\n" + parents.map { "parent \($0)\n" }.joined()
                + "author \(person)\ncommitter \(person)\n\nmerge\n"
            return GitObject(kind: .commit, bytes: Array(text.utf8))
        }
        let ancestor = commit(base, [])
        let sides = [ours, theirs].map { commit($0, [format.name(of: ancestor)]) }
        try write([ancestor] + sides)
        var command = git(
            Self.mergeConfiguration + ["merge-tree", "--write-tree", "-z", "--no-messages"]
                + sides.map { format.name(of: $0) })
        command.environment["GIT_ATTR_NOSYSTEM"] = "1"
        // Here, too, what stands in the place of others counts where it does for the caller, who has named the trees.
        let result = try command.runHere()
        guard result.status == 0 || result.status == 1 else {
            throw Failure("cannot merge the change: \(Repository.words(of: result))")
        }
        let fields = result.output.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
        guard let tree = fields.first, ObjectFormat.isName(tree) else {
            throw Failure("cannot merge the change: git does not say what it gives")
        }
        if result.status == 0 { return .tree(tree) }
        return .conflicts(Self.conflicts(fields.dropFirst()))
    }

    /// What makes a merge depend on the trees only.
    private static let mergeConfiguration = [
        "-c", "core.bare=true", "-c", "core.attributesFile=/dev/null", "-c", "merge.renames=true", "-c",
        "merge.directoryRenames=false", "-c", "merge.renormalize=false", "-c", "diff.renames=true", "-c",
        "merge.renameLimit=0",
    ]

    /// From `MODE OBJECT STAGE<tab>PATH`, in the order of paths.
    private static func conflicts(_ fields: some Sequence<String>) -> [MergeConflict] {
        var found: [MergeConflict] = []
        for field in fields {
            let parts = field.split(separator: "\t", maxSplits: 1).map(String.init)
            let words = (parts.first ?? "").split(separator: " ").map(String.init)
            guard parts.count == 2, words.count == 3 else { continue }
            if found.last?.path != parts[1] { found.append(MergeConflict(path: parts[1])) }
            switch words[2] {
            case "1": found[found.count - 1].base = words[1]
            case "2": found[found.count - 1].ours = words[1]
            default: found[found.count - 1].theirs = words[1]
            }
        }
        return found
    }
}

/// A kept `git cat-file --batch-command`.
private final class Reader: @unchecked Sendable {
    // Used under its owner's lock.
    private let process: ChildProcess
    private var pending: [UInt8] = []

    /// The program has gone, with these words.
    struct Ended: Error { var words: String }

    init(_ command: Command) throws {
        process = try ChildProcess(
            command.arguments, directory: command.directory,
            environment: ["LC_ALL": "C", "GIT_NO_REPLACE_OBJECTS": "1"].merging(command.environment) { $1 },
            name: "git cat-file", keepsErrors: true)
    }

    private func more() throws {
        let bytes = try process.read()
        guard !bytes.isEmpty else {
            let status = process.finish()
            let said = process.errorText.trimmed
            throw Ended(words: said.isEmpty ? "git cat-file failed with exit status \(status)" : said)
        }
        pending += bytes
    }

    /// Asks a question and reads the line `NAME KIND SIZE`; nil for one that says the object is missing.
    func header(_ question: String, _ id: String) throws -> (kind: GitObjectKind, size: Int)? {
        try process.write(Array("\(question) \(id)\n".utf8))
        while !pending.contains(10) { try more() }
        let line = String(decoding: pending.prefix { $0 != 10 }, as: UTF8.self)
        pending.removeFirst(pending.prefix { $0 != 10 }.count + 1)
        let words = line.split(separator: " ").map(String.init)
        guard words.count == 3, words[0] == id, let kind = GitObjectKind(rawValue: words[1]),
            let size = Int(words[2])
        else {
            if words == [id, "missing"] { return nil }
            throw Failure("cannot read '\(id)': git says '\(line)'")
        }
        return (kind, size)
    }

    /// The content behind such a line, and the end of its line.
    func content(_ size: Int) throws -> [UInt8] {
        while pending.count < size + 1 { try more() }
        defer { pending.removeFirst(size + 1) }
        return Array(pending[..<size])
    }
}
