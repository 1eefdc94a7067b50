// Registered kernels in git: refs/ksplice/kernels/<arch>/<build-id>, each an orphan commit of plain files. What the
// files mean is not this file's business.

/// A kernel as its ref shows it.
public struct StoredKernel: Sendable, Equatable {
    public var arch: String
    /// The last part of the ref: `KernelIdentity.refName`.
    public var refName: String
    public var ref: String
    /// The commit that the ref names.
    public var commit: String
    /// One line for people.
    public var subject: String
}

/// The registered kernels of a repository.
public struct KernelStore: Sendable {
    public let repository: Repository
    static let prefix = "refs/ksplice/kernels/"

    public init(_ repository: Repository) { self.repository = repository }

    /// Stores the files of a kernel, in place of what was stored for it before. Storing the same again changes
    /// nothing.
    public func save(arch: String, refName: String, subject: String, files: [String: [UInt8]]) async throws {
        let ref = Self.prefix + arch + "/" + refName
        let tree = try repository.writeTree(files: files)
        let identity = try await repository.identity()
        try await repository.changeReferences([ref], reason: "ksplice: kernel \(refName)") { now in
            if let present = now[ref] {
                let commit = try repository.commit(present, as: .stored)
                if commit.tree == tree && commit.subject == subject { return [] }
            }
            let commit = try repository.writeCommit(
                tree: tree, message: subject, parents: [], identity: identity)
            return [.init(name: ref, new: commit, old: now[ref])]
        }
    }

    /// The files of a kernel.
    public func load(arch: String, refName: String) async throws -> [String: [UInt8]] {
        let ref = Self.prefix + arch + "/" + refName
        guard let commit = try await repository.references([ref])[ref] else {
            throw Failure(
                "no such kernel: \(refName) (\(arch))", status: .notFound, hint: "git ksplice kernel list")
        }
        return try repository.files(tree: repository.tree(of: commit, as: .stored))
    }

    /// The registered kernels, by architecture and name.
    public func list() async throws -> [StoredKernel] {
        let format = "%(objectname) %(refname) %(contents:subject)"
        let result = try await repository.git(
            ["for-each-ref", "--format=" + format, Self.prefix], environment: Repository.asStored
        ).check("cannot list kernels")
        return result.text.lines.compactMap { line in
            let fields = line.split(separator: " ", maxSplits: 2).map(String.init)
            guard fields.count >= 2 else { return nil }
            let parts = fields[1].dropFirst(Self.prefix.count).split(separator: "/").map(String.init)
            guard parts.count == 2 else { return nil }
            return StoredKernel(
                arch: parts[0], refName: parts[1], ref: fields[1], commit: fields[0],
                subject: fields.count == 3 ? fields[2] : "")
        }
    }

    /// Forgets a kernel. Its updates stay.
    public func remove(arch: String, refName: String) async throws {
        let ref = Self.prefix + arch + "/" + refName
        try await repository.changeReferences([ref], reason: "ksplice: remove kernel \(refName)") { now in
            guard let present = now[ref] else {
                throw Failure("no such kernel: \(refName) (\(arch))", status: .notFound)
            }
            return [.init(name: ref, new: nil, old: present)]
        }
    }
}
