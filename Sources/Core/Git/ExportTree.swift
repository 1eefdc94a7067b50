// Keeping a folder equal to a git tree, where only what differs is rewritten, so that make's time stamps stay right.
//
// The work is done by the git program in a private git directory that borrows the repository's objects. It has its
// own index, configuration and attributes: filters, line ends and sparse checkouts of the user do not alter the
// content, and nothing of the user's is touched. What an interruption or another program left in the folder is
// found by its time stamps and put right.

import Glibc

extension Repository {
    /// Makes `directory` equal to a tree, creating it where needed. Everything in it that is not in the tree is
    /// removed: it must belong to the caller alone.
    ///
    /// - Parameter index: where to remember the folder's state. A file of this name, `index.git` and `index.guard`
    ///   beside it are made; each folder needs its own.
    /// - Throws: status `busy` where another process exports to the same folder.
    public func exportTree(_ tree: String, to directory: String, index: String) async throws {
        try Files.createDirectory(directory)
        try Files.createDirectory(index.directoryPart)
        let (directory, index) = try (
            Files.absolute(directory), Files.absolute(index.directoryPart) + "/" + index.lastPathComponent
        )
        let guardFile = open(index + ".guard", O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard guardFile >= 0 else { throw Failure.system("create", index + ".guard", errno: errno) }
        defer {
            // Not by closing alone: a program that this process starts just now has the file open until it runs.
            flock(guardFile, LOCK_UN)
            close(guardFile)
        }
        guard flock(guardFile, LOCK_EX | LOCK_NB) == 0 else {
            throw Failure(
                "another process is writing '\(directory)'", status: .busy,
                hint: "try again when it has ended")
        }
        // With the guard held, only a git that was killed can have left this.
        try Files.remove(index + ".lock")
        let git = try exporter(directory: directory, index: index)
        if try await !git(["read-tree", "--reset", "-u", tree]).run().succeeded {
            // An index that was cut short cannot be read: begin anew.
            try Files.remove(index)
            try await git(["read-tree", "--reset", "-u", tree]).check(
                "cannot write tree \(tree) to '\(directory)'")
        }
        try await git(["clean", "-ffdxq"]).check("cannot tidy '\(directory)'")
    }

    /// Makes the private git directory and returns how to call git with it.
    private func exporter(directory: String, index: String) throws -> ([String]) -> Command {
        let own = index + ".git"
        for folder in ["refs", "objects", "info"] { try Files.createDirectory(own + "/" + folder) }
        try Files.write("* -text -eol -ident -filter -working-tree-encoding\n", to: own + "/info/attributes")
        try Files.write("[core]\n\trepositoryFormatVersion = 0\n\tbare = false\n", to: own + "/config")
        try Files.write("ref: refs/heads/none\n", to: own + "/HEAD")
        let objects = commonDirectory + "/objects"
        let options = [
            "core.autocrlf=false", "core.symlinks=true", "core.fileMode=true", "core.sparseCheckout=false",
            "core.fsmonitor=false", "core.splitIndex=false", "core.ignoreCase=false",
            "core.excludesFile=/dev/null",
            "clean.requireForce=false", "index.sparse=false",
        ].flatMap { ["-c", $0] }
        return { arguments in
            self.git(
                options + ["--git-dir=" + own, "--work-tree=" + directory] + arguments,
                environment: ["GIT_INDEX_FILE": index, "GIT_OBJECT_DIRECTORY": objects], inside: directory)
        }
    }
}
