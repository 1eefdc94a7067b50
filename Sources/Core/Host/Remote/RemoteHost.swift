// Another machine, through any command that gives a shell there (`ssh root@box`). It needs no program of ours and none that a
// small system lacks: sh, cat, dd, base64, insmod, rmmod. So also a 32-bit kernel is served, on which this program does not
// run: all decisions are made here, and the host is only read, given modules, and told when.

import Glibc

/// The machine at the far end of a command that gives a shell of root.
public final class RemoteHost: Host, Sendable {
    private let shell: RemoteShell
    private let journal: String

    /// - Parameters:
    ///   - command: for `sh -c` here: `ssh root@box`.
    ///   - journal: on the host, where updates are written down.
    ///   - patience: seconds without a byte after which the shell is taken for dead.
    public init(command: String, journal: String = LocalHost.journalPath, patience: Double = 120) {
        shell = RemoteShell(command: command, patience: patience)
        self.journal = journal
    }

    public var title: String { "the host of '\(shell.command)'" }

    public var isFarAway: Bool { true }

    private func quoted(_ text: String) -> String { RemoteShell.quoted(text) }

    /// What a script prints. Fails with what it says where it fails.
    func check(_ script: String, _ purpose: String) throws -> [UInt8] {
        let (status, output) = try shell.run(script)
        guard status == 0 else {
            let said = String(decoding: output.suffix(400), as: UTF8.self).trimmed
            throw Failure("cannot \(purpose) on \(title): \(said.isEmpty ? "exit status \(status)" : said)")
        }
        return output
    }

    // MARK: - Reading

    public func identity() async throws -> KernelIdentity {
        let notes = try check("cat /sys/kernel/notes", "read '/sys/kernel/notes'")
        let names = try String(
            decoding: check("uname -m; uname -r; uname -v", "ask for the kernel's name"), as: UTF8.self
        ).lines.map { String($0) }
        guard names.count >= 3 else { throw Failure("\(title) does not tell its kernel's name") }
        // The kernel tells the processor's own name (i586 and so on); there is one architecture.
        let isOld = names[0].hasPrefix("i") && names[0].hasSuffix("86")
        return KernelIdentity(
            arch: isOld ? X86Architecture.i686.name : names[0], buildID: HostText.buildID(notes: notes) ?? "",
            release: names[1], version: names[2], compiler: "", configDigest: "")
    }

    public func symbols() async throws -> KernelSymbols {
        if let refusal = try await ModulePolicy(of: self).symbolsRefusal { throw refusal }
        let text = try check("cat /proc/kallsyms", "read '/proc/kallsyms'")
        return try ProcKallsyms.parse(text, name: "/proc/kallsyms of \(title)")
    }

    public func memory(covering ranges: [Range<UInt64>]) async throws -> (any KernelMemory)? {
        guard try await exists(RemoteMemory.usualPath), let memory = try RemoteMemory(shell) else {
            return nil
        }
        try memory.fetch(covering: ranges)
        return memory
    }

    public func window() async throws -> any OpenMemory {
        throw Failure(
            "\(title) does not show its kernel's memory in '\(RemoteMemory.usualPath)'",
            hint: "through a shell there is no other way; run git ksplice on the host itself")
    }

    public func read(_ path: String) async throws -> [UInt8] {
        try check("cat < \(quoted(path))", "read '\(path)'")
    }

    public func exists(_ path: String) async throws -> Bool {
        try shell.run("[ -e \(quoted(path)) ]").status == 0
    }

    public func list(_ path: String) async throws -> [String] {
        // One a line: what the kernel names has no line ends.
        let text = try check("ls -1A \(quoted(path))", "list '\(path)'")
        return String(decoding: text, as: UTF8.self).lines.map { String($0) }.sorted()
    }

    public func modules() async throws -> [LoadedModule] {
        guard try await exists("/proc/modules") else { return [] }
        return try HostText.modules(String(decoding: try await read("/proc/modules"), as: UTF8.self))
    }

    public func tasks() async throws -> [HostTask] {
        // What has ended meanwhile says nothing.
        let text = try check(
            "for t in /proc/[0-9]*/task/[0-9]*; do echo \"@ ${t##*/}\"; cat $t/comm $t/stack 2>/dev/null; done; true",
            "read the stacks of tasks")
        let tasks = Self.tasks(String(decoding: text, as: UTF8.self))
        guard !tasks.isEmpty else {
            throw Failure("cannot read the stacks of tasks on \(title)", hint: "the shell must be root's")
        }
        return tasks
    }

    /// A line `@ PID`, the name, and the stack, for each task.
    static func tasks(_ text: String) -> [HostTask] {
        var found: [HostTask] = []
        var lines: [Substring] = []
        var pid: Int?
        func end() {
            if let pid, let name = lines.first {
                let stack = HostText.stack(lines.dropFirst().joined(separator: "\n"))
                found.append(HostTask(pid: pid, name: String(name), stack: stack))
            }
        }
        for line in text.lines {
            if line.hasPrefix("@ "), let number = Int(line.dropFirst(2)) {
                end()
                (pid, lines) = (number, [])
            } else {
                lines.append(line)
            }
        }
        end()
        return found.sorted { $0.pid < $1.pid }
    }

    // MARK: - Changing

    public func store(_ text: String, into path: String) async throws -> Int32 {
        // dd writes once what it reads once, and says why it cannot.
        let (status, output) = try shell.run(
            "printf %s \(quoted(text)) | dd of=\(quoted(path)) bs=4096 conv=notrunc 2>&1")
        if status == 0 { return 0 }
        let said = String(decoding: output, as: UTF8.self)
        let codes = said.lines.lazy.compactMap { SpokenErrors.number(in: String($0)) }
        guard let code = codes.first else {
            throw Failure("cannot write to '\(path)' on \(title): \(said.trimmed)")
        }
        return code
    }

    public func load(module bytes: [UInt8], name: String, parameters: String) async throws {
        if let refusal = try await ModulePolicy(of: self).loadingRefusal {
            throw Failure(
                "cannot load module '\(name)': \(refusal.message)", status: refusal.status,
                hints: refusal.hints)
        }
        // A folder that nobody else can write to, and that is gone afterwards whatever happens.
        let (status, output) = try shell.run(
            """
            d=$(mktemp -d) || exit 99
            trap 'rm -rf "$d"' EXIT
            base64 -d > "$d/module.ko" <<'@end@' || exit 99
            \(Base64.encode(bytes))
            @end@
            insmod "$d/module.ko" \(parameters) 2>&1
            """)
        if status == 0 { return }
        let said = String(decoding: output, as: UTF8.self).trimmed
        guard status != 99, let code = SpokenErrors.number(in: said) else {
            throw Failure("cannot load module '\(name)' on \(title): \(said)")
        }
        throw ModuleLoading.refusal(name, errno: code)
    }

    public func unload(module name: String) async throws {
        let (status, output) = try shell.run("rmmod \(quoted(name)) 2>&1")
        if status == 0 { return }
        let said = String(decoding: output, as: UTF8.self).trimmed
        let code = SpokenErrors.number(in: said)
        let isBusy = said.contains("in use") || code == EBUSY || code == EAGAIN
        throw Failure("cannot unload module '\(name)' on \(title): \(said)", status: isBusy ? .busy : .fatal)
    }

    public func appendToJournal(_ line: String) async throws {
        let text = line.hasSuffix("\n") ? line : line + "\n"
        _ = try check(
            "mkdir -p \(quoted(journal.directoryPart)) && printf %s \(quoted(text)) >> \(quoted(journal))",
            "write the journal '\(journal)'")
    }
}
