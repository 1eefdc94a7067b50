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
        try await fetchMissing(below: tree)
        let git = try exporter(directory: directory, index: index)
        if try await !git(["read-tree", "--reset", "-u", tree]).run().succeeded {
            // An index that was cut short cannot be read: begin anew.
            try Files.remove(index)
            try await git(["read-tree", "--reset", "-u", tree]).check(
                "cannot write tree \(tree) to '\(directory)'")
        }
        try await git(["clean", "-ffdxq"]).check("cannot tidy '\(directory)'")
    }

    /// Gets what a partial clone lacks of a tree, all at once: the private git directory does not know from where, and git by itself would
    /// ask for each file alone.
    func fetchMissing(below tree: String) async throws {
        guard try isPartial, try hasObject(tree) else { return }
        let listed = try await git([
            "rev-list", "--objects", "--no-object-names", "--missing=print", tree, "--",
        ]).check("cannot find out what this partial clone lacks")
        let missing = listed.text.lines.filter { $0.hasPrefix("?") }.map { $0.dropFirst() }
        if missing.isEmpty { return }
        let names = try await git(["config", "--name-only", "--get-regexp", #"^remote\..*\.promisor$"#])
            .check("cannot find out where this partial clone is from")
        var said = ""
        for name in names.text.lines {
            let remote = String(name.dropFirst("remote.".count).dropLast(".promisor".count))
            // As git itself asks (promisor-remote.c).
            let fetched = try await git(
                [
                    "-c", "fetch.negotiationAlgorithm=noop", "fetch", "-q", remote, "--no-tags",
                    "--no-write-fetch-head", "--recurse-submodules=no", "--no-auto-maintenance",
                    "--filter=blob:none", "--stdin",
                ], input: Array((missing.joined(separator: "\n") + "\n").utf8)
            ).run()
            if fetched.succeeded { return }
            said = Self.words(of: fetched)
        }
        throw Failure(
            "cannot get \(missing.count) objects that this partial clone lacks: \(said)", status: .notFound,
            hint: "is the repository there from which it was cloned?")
    }

    /// Makes the private git directory and returns how to call git with it.
    private func exporter(directory: String, index: String) throws -> ([String]) -> Command {
        let own = index + ".git"
        for folder in ["refs", "objects", "info"] { try Files.createDirectory(own + "/" + folder) }
        try Files.write("* -text -eol -ident -filter -working-tree-encoding\n", to: own + "/info/attributes")
        let settings =
            "[core]\n\trepositoryFormatVersion = 1\n\tbare = false\n[extensions]\n\tobjectFormat = \(format.rawValue)\n"
        try Files.write(settings, to: own + "/config")
        let replaced = replacements.sorted { $0.key < $1.key }
            .map { "\($0.value) \(Self.replacementBase)\($0.key)\n" }
        try Files.write("# pack-refs with: sorted \n" + replaced.joined(), to: own + "/packed-refs")
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
