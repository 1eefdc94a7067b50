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

    /// - Parameter sourceCommit: of the kernel. The updates must be for that kernel, and all of them must be able to be applied
    ///   together, in their order.
    init(
        _ repository: Repository, kernel: KernelIdentity, sourceCommit: String, updates: [Update] = []
    ) async throws {
        sourceTree = try repository.tree(of: sourceCommit)
        self.updates = updates
        var tree = sourceTree
        var known = Set<String>()
        for (index, update) in updates.enumerated() {
            let name = "update \(update.id.prefix(12))"
            if known.contains(update.id) { throw Failure("\(name) is named twice with --on") }
            guard update.manifest.kernel == kernel else {
                throw Failure(
                    "\(name) is for the kernel \(update.manifest.kernel.release), not for \(kernel.release)",
                    status: .wrongKernel, hint: "git ksplice list shows which updates a commit has")
            }
            try Self.checkTogether(update, updates[..<index])
            if let missing = update.manifest.depends.first(where: { !known.contains($0) }) {
                throw Failure(
                    "\(name) was itself made on update \(missing.prefix(12))",
                    hint: "--on \(missing.prefix(12)) --on \(update.id.prefix(12))")
            }
            if let constant = update.manifest.constants.first {
                throw Failure(
                    "\(name) replaces the constant '\(constant.symbol)' in place: nothing can be made on it",
                    status: .cannotBePatched, hint: "make one update of both changes, from a range of commits"
                )
            }
            known.insert(update.id)
            let change = try await repository.change(
                patch: update.file(Update.Path.patch), name: name, tree: tree)
            tree = try repository.postTree(change, preTree: tree)
        }
        self.tree = tree
    }

    /// Fails where an update replaces a function that one before it, on which it was not made, replaces too: only one of them
    /// can be applied.
    private static func checkTogether(_ update: Update, _ before: ArraySlice<Update>) throws {
        func functions(_ update: Update) -> Set<[String]> {
            Set(update.manifest.replacements.map { [update.manifest.units[$0.unit].path, $0.symbol] })
        }
        let mine = functions(update)
        for other in before where !update.manifest.depends.contains(other.id) {
            guard let both = mine.intersection(functions(other)).map({ $0[1] }).min() else { continue }
            throw Failure(
                "the updates \(other.id.prefix(12)) and \(update.id.prefix(12)) both replace '\(both)', and the second was not made on the first: they cannot be applied together",
                hint: "git ksplice create --on \(other.id.prefix(12)) makes one that can")
        }
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

    /// Fails where new code refers to something of a unit that an older update has brought there: where that is in memory is
    /// not certain to be learned, and the kernel may have another thing of that name.
    func check(_ references: [Manifest.Reference], _ units: [Manifest.Unit], _ pre: [ObjectFile]) throws {
        var original: [String: Set<String>] = [:]
        for update in updates.reversed() {
            for unit in update.manifest.units {
                let object = try ObjectFile(update.file(unit.object), name: unit.path)
                original[unit.path] = Set(
                    object.symbols.lazy.filter(\.isDefinedInSection).map(\.name))
            }
        }
        for reference in references {
            guard let index = reference.preSymbol, let known = original[units[reference.unit].path],
                case let symbol = pre[reference.unit].symbols[index], symbol.isDefinedInSection,
                !symbol.name.isEmpty, !known.contains(symbol.name)
            else { continue }
            throw Failure(
                "new code refers to '\(symbol.name)' of \(units[reference.unit].path), which an update before it has brought",
                status: .cannotBePatched, hint: "make one update of both changes, from a range of commits")
        }
    }

    /// Names of functions and objects that the updates bring along: those that they replace, and new ones.
    func names() throws -> Set<String> {
        var names = Set<String>()
        for update in updates {
            for part in try update.parts() {
                let module = try ObjectFile(part.file(Update.Path.module), name: Update.Path.module)
                for symbol in module.symbols where symbol.isDefinedInSection && !symbol.name.isEmpty {
                    names.insert(symbol.name)
                }
            }
            names.formUnion(update.manifest.replacements.map(\.symbol))
        }
        return names
    }
}
