// What an update is made on: the source that the kernel was built from, or that with the changes of older updates, for a
// kernel on which those are applied. Then the old code is the older updates' new code, and what they have brought cannot be
// proven against the kernel's image: it is proven when the update is applied, where matching follows their redirects.

/// The source that a change is made to.
struct Ground {
    /// The source of the kernel itself.
    let sourceTree: String
    /// The updates that are applied before, in this order.
    let updates: [Update]
    /// The source with their changes; the same where there are none.
    let tree: String

    /// - Parameter sourceCommit: of the kernel.
    init(_ repository: Repository, sourceCommit: String, updates: [Update] = []) async throws {
        sourceTree = try repository.tree(of: sourceCommit)
        self.updates = updates
        var tree = sourceTree
        for update in updates {
            let change = try await repository.change(
                patch: update.file(Update.Path.patch), name: "update \(update.id.prefix(12))", tree: tree)
            tree = try repository.postTree(change, preTree: tree)
        }
        self.tree = tree
    }

    /// The files that the updates change, as they were compiled then: with markers that give unchanged lines the numbers
    /// that they have in the kernel's source.
    func files(_ repository: Repository) throws -> [String: [UInt8]?] {
        guard tree != sourceTree else { return [:] }
        var files: [String: [UInt8]?] = [:]
        for path in try repository.changedFiles(pre: sourceTree, post: tree).map(\.path)
        where path.hasSuffix(".c") || path.hasSuffix(".h") {
            files.updateValue(
                try marked(path, post: repository.blob(path, tree: tree), repository), forKey: path)
        }
        return files
    }

    /// A file of a later tree with those markers; nil for one that is not there.
    func marked(_ path: String, post: [UInt8]?, _ repository: Repository) throws -> [UInt8]? {
        let pre = try repository.blob(path, tree: sourceTree)
        let hunks = try repository.hunks(pre: pre ?? [], post: post ?? [])
        return post.map { addLineMarkers($0, hunks: pre == nil ? [] : hunks) }
    }

    /// Names of functions and objects that the updates bring along: those that they replace, and new ones.
    func names() throws -> Set<String> {
        var names = Set<String>()
        for update in updates {
            let module = try ObjectFile(update.file(Update.Path.module), name: Update.Path.module)
            for symbol in module.symbols where symbol.isDefinedInSection && !symbol.name.isEmpty {
                names.insert(symbol.name)
            }
            names.formUnion(update.manifest.replacements.map(\.symbol))
        }
        return names
    }
}
