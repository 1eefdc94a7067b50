// The reviewer's remarks about a change, from the text of its files and what became of its units.

extension CreateJob {
    /// Remarks about all changed C files and headers, and about units that only a header changes.
    func review(_ compared: [UnitDifference], _ changed: [ChangedFile]) throws -> [Finding] {
        let differences = Dictionary(compared.map { ($0.path, $0) }) { first, _ in first }
        let newNames = ChangeReview.newNames(compared)
        let files = changed.filter { $0.status != .deleted }.map(\.path).filter { path in
            differences[path] != nil || path.hasSuffix(".h")
        }
        let others = compared.filter { !$0.isEmpty }.map(\.path).filter { !files.contains($0) }
        return try (files + others).flatMap { path -> [Finding] in
            guard let post = try repository.blob(path, tree: postTree) else { return [] }
            let file = ChangeReview.File(
                path: path, pre: try repository.blob(path, tree: preTree), post: post)
            return ChangeReview.findings(file, differences[path], newNames: newNames)
        }
    }
}
