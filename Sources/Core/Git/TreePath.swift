// Paths that a person gives, as git takes them: relative to the folder where the command runs.

extension Repository {
    /// The path from the top of the tree that an argument means, without `.` and `..`. Absolute ones must lead into the worktree.
    /// In a bare repository, and from a folder outside of the worktree, arguments are relative to the top of the tree.
    public func treePath(_ argument: String, from folder: String = ".") throws -> String {
        let outside = Failure(
            "'\(argument)' is outside of the repository" + (worktree.map { " at '\($0)'" } ?? ""),
            hint: "name files of the kernel's source, for example kernel/sys.c")
        let top = worktree.map { $0 + "/" }
        let here = try Files.absolute(folder) + "/"
        var path = argument
        if argument.hasPrefix("/") {
            let parent = argument.directoryPart
            if Files.exists(parent) { path = try Files.absolute(parent) + "/" + argument.lastPathComponent }
        } else if let top, here.hasPrefix(top) {
            path = here + argument
        }
        if let top, path.hasPrefix(top) { path = String(path.dropFirst(top.count)) }
        if path.hasPrefix("/") { throw outside }
        var parts: [Substring] = []
        for part in path.split(separator: "/") where part != "." {
            if part != ".." {
                parts.append(part)
            } else if parts.popLast() == nil {
                throw outside
            }
        }
        if parts.isEmpty { throw outside }
        return parts.joined(separator: "/")
    }
}
