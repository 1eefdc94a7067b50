// A tree that differs from another in some files: only the folders on the way to them are written anew, and all new objects
// at once, because their names are known beforehand.

extension Repository {
    /// Writes a tree that differs from another (nil: the empty one) in the given files; nil content removes a file, and a folder that
    /// has nothing left.
    func updateTree(_ base: String?, with files: [String: [UInt8]?], as view: ObjectView) throws -> String {
        if let base, files.isEmpty { return base }
        var new: [GitObject] = []
        func add(_ object: GitObject) -> String {
            new.append(object)
            return format.name(of: object)
        }
        var changes: [Edit] = []
        for (path, content) in files.sorted(by: { $0.key < $1.key }) {
            let id = content.map { add(GitObject(kind: .blob, bytes: $0)) }
            changes.append(Edit(path: path.split(separator: "/")[...], blob: id))
        }
        func level(_ base: String?, _ changes: [Edit]) throws -> TreeObject {
            var entries = try base.map { try self.entries($0, as: view) }?.entries ?? []
            for (name, group) in Dictionary(grouping: changes, by: { $0.path.first ?? "" })
                .sorted(by: { $0.key < $1.key })
            {
                let bytes = Array(name.utf8)
                let old = entries.firstIndex { $0.name == bytes }
                let below = group.filter { $0.path.count > 1 }
                var entry: TreeEntry?
                if below.isEmpty {
                    guard old.map({ !entries[$0].isFolder }) ?? true else {
                        throw Failure("'\(name)' is a folder where a file is to be")
                    }
                    entry = group.last?.blob.map { TreeEntry(mode: TreeEntry.file, name: bytes, id: $0) }
                } else {
                    guard old.map({ entries[$0].isFolder }) ?? true, below.count == group.count else {
                        throw Failure("'\(name)' is a file where a folder is to be")
                    }
                    let folder = try level(
                        old.map { entries[$0].id },
                        below.map { Edit(path: $0.path.dropFirst(), blob: $0.blob) })
                    if !folder.entries.isEmpty {
                        let id = add(GitObject(kind: .tree, bytes: folder.bytes))
                        entry = TreeEntry(mode: TreeEntry.folder, name: bytes, id: id)
                    }
                }
                if let old { entries.remove(at: old) }
                if let entry { entries.append(entry) }
            }
            return TreeObject(entries: entries)
        }
        let tree = add(GitObject(kind: .tree, bytes: try level(base, changes).bytes))
        try store.write(new)
        return tree
    }
}

/// A file below the folder that is looked at: its path from there, and what it becomes; nil where it goes.
private struct Edit {
    var path: ArraySlice<Substring>
    var blob: String?
}
