// What lies in the folder of state, and what a host remembers. The folder may be deleted at any time, so nothing in it is
// damage but records that cannot be read: they would be passed over without a word.

import Glibc

extension StorageCheck {
    private static let prune = "git ksplice prune --force removes it"

    mutating func checkState() async throws {
        let state = repository.stateDirectory
        guard Files.isDirectory(state) else { return }
        let registered = Set(
            refs.keys.filter { $0.hasPrefix(KernelStore.prefix) }.map {
                $0.dropFirst(KernelStore.prefix.count).split(separator: "/").joined(separator: "-")
            })
        let folder = StateFolder(state)
        for workspace in try folder.names("workspaces") where !StateFolder.isTemporary(workspace) {
            checkWorkspace("\(state)/workspaces/\(workspace)", isRegistered: registered.contains(workspace))
        }
        for name in try folder.names("kernels") where !StateFolder.isTemporary(name) {
            try checkPaths("\(state)/kernels/\(name)", isRegistered: registered.contains(name))
        }
        for path in try folder.leftovers() {
            add(.leftover, path, "a process that was killed has left it", hint: Self.prune)
        }
        try checkQueue(state + "/queue")
    }

    private mutating func checkWorkspace(_ root: String, isRegistered: Bool) {
        if !isRegistered {
            add(.workspaceUnregistered, root, "it belongs to no registered kernel", hint: Self.prune)
        }
        if StateFolder.isLocked(root + "/lock") { return }
        for (folder, record) in [("source", "tree"), ("object", "prepared")]
        where Files.exists("\(root)/\(folder)") && !Files.exists("\(root)/\(record)") {
            add(
                .workspaceUnfinished, root, "'\(folder)' was not finished",
                hint: "nothing need be done: the next git ksplice create finishes it")
        }
    }

    private mutating func checkPaths(_ file: String, isRegistered: Bool) throws {
        let hint = "git ksplice kernel add NAME --source COMMIT --from PACKAGE"
        if !isRegistered {
            return add(.kernelPaths, file, "it belongs to no registered kernel", hint: Self.prune)
        }
        for line in try Files.readText(file).lines {
            let parts = line.split(separator: " ", maxSplits: 1).map { String($0) }
            if parts.count != 2 || !["image", "boot-image", "modules"].contains(parts[0]) {
                add(.kernelPaths, file, "a line cannot be understood: '\(line.prefix(60))'", hint: hint)
            } else if !Files.exists(parts[1]) {
                add(.kernelPaths, file, "there is no '\(parts[1])' any more", hint: hint)
            }
        }
    }

    private mutating func checkQueue(_ folder: String) throws {
        let queue = BuildQueue(folder: folder)
        guard queue.exists else { return }
        for name in try queue.folder.names(in: "waiting") where BuildQueue.Entry(name: name, time: 0) == nil {
            add(
                .queueEntry, "\(folder)/waiting/\(name)", "it is not named after a commit, and never built",
                hint: "rm '\(folder)/waiting/\(name)'")
        }
        if let bytes = try queue.folder.read("results") {
            for (number, line) in String(decoding: bytes, as: UTF8.self).lines.enumerated()
            where BuildRecord(line: line) == nil {
                add(
                    .queueRecord, folder + "/results", "line \(number + 1) cannot be read",
                    hint: "the next build leaves it out; git ksplice hook run")
            }
        }
        guard try queue.folder.read("building") != nil, try !queue.isWorkedOn() else { return }
        if try queue.lastBuilding() == nil {
            add(.queueRecord, folder + "/building", "it cannot be read", hint: "rm '\(folder)/building'")
        } else {
            add(
                .queueInterrupted, folder + "/building", "the worker was killed while it built",
                hint: "the next commit takes it up again; so does git ksplice hook run")
        }
    }

    /// Seconds since a file was changed; 0 where it is gone.
    func age(_ path: String) -> Int64 {
        StateFolder.time(path).map { now - $0 } ?? 0
    }

    /// All files below a folder, sorted; none where there is no such folder.
    func files(below folder: String) throws -> [String] {
        guard Files.isDirectory(folder) else { return [] }
        return try Files.list(folder).flatMap { name -> [String] in
            let path = folder + "/" + name
            return Files.isDirectory(path) ? try files(below: path) : [path]
        }
    }
}

extension Subscription {
    /// Everything that is wrong with what this host has fetched and remembers; nil where nothing was ever fetched.
    ///
    /// - Parameter specs: refs or updates; all where empty.
    public func problems(_ specs: [String] = []) async throws -> [StorageProblem]? {
        guard let repository = try await repository() else { return nil }
        var check = StorageCheck(repository)
        check.isHost = true
        let only = specs.isEmpty ? nil : try await check.refs(specs)
        var found: [StorageProblem] = []
        func add(_ code: StorageProblem.Code, _ subject: String, _ failure: Failure, _ hint: String) {
            let line = failure.message.lines.first.map { String($0) } ?? ""
            found.append(
                StorageProblem(code: code, subject: subject, message: line, hint: failure.hints.first ?? hint)
            )
        }
        let again = "git ksplice fetch"
        do { check.policy = try policy() } catch {
            add(.hostMemory, folder + "/trust", Failure(error), again)
        }
        found += try await check.run(only: only)
        if only != nil { return found }
        for (file, name) in try memory.channels() {
            let path = "\(memory.folder.path)/\(file)"
            do {
                guard let name else { throw Failure("it is not named after a channel", hint: "rm '\(path)'") }
                _ = try memory.accepted(name)
            } catch {
                add(.hostMemory, path, Failure(error), again)
                continue
            }
            guard let name else { continue }
            do {
                guard let state = try await ChannelStore(repository).state(name) else {
                    throw Failure("channel '\(name.name)' was accepted here, and is gone")
                }
                try memory.checkProgress(state, in: repository)
            } catch { add(.hostRollback, name.ref, Failure(error), again) }
        }
        return found
    }
}
