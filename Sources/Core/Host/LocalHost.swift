// This machine.

import CShims
import Glibc

/// The machine that this program runs on.
public final class LocalHost: Host, Sendable {
    /// Where applied and undone updates are written down.
    public static let journalPath = "/var/lib/git-ksplice/journal"

    private let journal: String

    public init(journal: String = LocalHost.journalPath) { self.journal = journal }

    public var title: String { "this machine" }

    public func identity() async throws -> KernelIdentity {
        var names = utsname()
        guard uname(&names) == 0 else {
            throw Failure("cannot ask for the kernel's name: \(describe(errno: errno))")
        }
        let notes = try Files.read("/sys/kernel/notes")
        return KernelIdentity(
            arch: Self.text(of: &names.machine), buildID: HostText.buildID(notes: notes) ?? "",
            release: Self.text(of: &names.release), version: Self.text(of: &names.version), compiler: "",
            configDigest: "")
    }

    private static func text<T>(of field: inout T) -> String {
        withUnsafeBytes(of: &field) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }

    public func symbols() async throws -> KernelSymbols {
        guard geteuid() == 0 else {
            throw Failure.onlyRoot
        }
        if let refusal = try await ModulePolicy(of: self).symbolsRefusal { throw refusal }
        return try ProcKallsyms.read()
    }

    public func memory(covering ranges: [Range<UInt64>]) async throws -> (any KernelMemory)? {
        try KcoreMemory.open()
    }

    /// A write to this file gives the writer a descriptor (kernel/window.c).
    static let windowPath = "/sys/kernel/ksplice/window"

    public func window() async throws -> any OpenMemory {
        let before = try Self.windows()
        let code = Files.store("1", into: Self.windowPath)
        switch code {
        case 0: break
        case ENOENT:
            throw Failure(
                "the loaded ksplice.ko is an older one, which does not show the kernel's memory",
                status: .busy, hint: "undo all updates, then rmmod ksplice")
        case EPERM:
            throw Failure(
                "ksplice.ko may not show the kernel's memory: \(describe(errno: code))",
                hint:
                    "this needs root with CAP_SYS_RAWIO, and a kernel that is not locked down for confidentiality"
            )
        default: throw Failure.system("open a window with", Self.windowPath, errno: code)
        }
        guard let descriptor = try Self.windows().subtracting(before).first else {
            throw Failure("ksplice.ko has opened a window that is not in '/proc/self/fd'")
        }
        return KcoreMemory.window(descriptor)
    }

    /// The descriptors of this process's open windows.
    private static func windows() throws -> Set<Int32> {
        Set(
            try Files.list("/proc/self/fd").compactMap { name in
                Files.linkTarget("/proc/self/fd/\(name)") == "anon_inode:[ksplice-window]" ? Int32(name) : nil
            })
    }

    public func read(_ path: String) async throws -> [UInt8] { try Files.read(path) }

    public func exists(_ path: String) async throws -> Bool { Files.exists(path) }

    public func list(_ path: String) async throws -> [String] { try Files.list(path) }

    public func store(_ text: String, into path: String) async throws -> Int32 {
        Files.store(text, into: path)
    }

    public func store(_ text: String, into path: String, holding tasks: [Int]) async throws -> Int32 {
        let tasks = tasks.filter { $0 > 1 && !Self.isFiltered($0) }
        guard !tasks.isEmpty else { return Files.store(text, into: path) }
        let holder = ks_hold(tasks.map { pid_t($0) }, tasks.count, 200)
        defer { if let holder { ks_let_go(holder) } }
        return Files.store(text, into: path)
    }

    /// Whether a task's system calls are filtered: how one begins again may be what its filter kills it for.
    private static func isFiltered(_ task: Int) -> Bool {
        guard let status = try? Files.readText("/proc/\(task)/status") else { return true }
        return status.lines.contains { $0.hasPrefix("Seccomp:") && $0.hasSuffix("2") }
    }

    public func load(module bytes: [UInt8], name: String, parameters: String) async throws {
        if let refusal = try await ModulePolicy(of: self).loadingRefusal {
            throw Failure(
                "cannot load module '\(name)': \(refusal.message)", status: refusal.status,
                hints: refusal.hints)
        }
        if ks_init_module(bytes, bytes.count, parameters) != 0 {
            throw ModuleLoading.refusal(name, errno: errno)
        }
    }

    public func unload(module name: String) async throws {
        guard ks_delete_module(name, UInt32(O_NONBLOCK)) == 0 else {
            let code = errno
            throw Failure(
                "cannot unload module '\(name)': \(describe(errno: code))",
                status: code == EBUSY || code == EAGAIN ? .busy : .fatal,
                hints: code == EPERM ? ["run this as root"] : [])
        }
    }

    public func modules() async throws -> [LoadedModule] {
        // A kernel that cannot load modules has no such file.
        guard Files.exists("/proc/modules") else { return [] }
        return try HostText.modules(Files.readText("/proc/modules"))
    }

    public func appendToJournal(_ line: String) async throws {
        try Files.createDirectory(journal.directoryPart)
        try Files.append(line.hasSuffix("\n") ? line : line + "\n", to: journal)
    }

    public func tasks() async throws -> [HostTask] {
        var found: [HostTask] = []
        for process in try Files.list("/proc") where Int(process) != nil {
            found += Self.threads("/proc/\(process)/task")
        }
        guard !found.isEmpty else {
            throw Failure("cannot read the stacks of tasks in '/proc'", hint: "run this as root")
        }
        return found.sorted { $0.pid < $1.pid }
    }

    /// The threads of a process. It may end at any point: what is gone is left out.
    private static func threads(_ folder: String) -> [HostTask] {
        var found: [HostTask] = []
        do {
            for thread in try Files.list(folder) {
                guard let pid = Int(thread) else { continue }
                let name = try Files.readText("\(folder)/\(thread)/comm").trimmed
                let stack = HostText.stack(try Files.readText("\(folder)/\(thread)/stack"))
                found.append(HostTask(pid: pid, name: name, stack: stack))
            }
        } catch { return found }
        return found
    }
}

/// Why the kernel refuses modules.
public enum ModuleLoading {
    /// The failure for an error number of init_module(2).
    public static func refusal(_ name: String, errno code: Int32) -> Failure {
        let text = "cannot load module '\(name)'"
        let log = "the kernel log has the details (dmesg)"
        switch code {
        case EKEYREJECTED, ENOKEY:
            return Failure(
                "\(text): the kernel demands modules that are signed by a key it trusts",
                status: .verificationRefused,
                hints: ["sign it with a key that the kernel trusts, as DKMS does (machine owner key)", log])
        case EPERM:
            return Failure(
                "\(text): \(describe(errno: code))",
                hints: [
                    "this needs root with CAP_SYS_MODULE, outside of containers",
                    "a locked down kernel refuses unsigned modules (/sys/kernel/security/lockdown)",
                ])
        case ENOEXEC:
            return Failure(
                "\(text): the kernel does not accept its format", status: .wrongKernel,
                hints: ["it was built for another kernel, compiler or config", log])
        case ENOENT:
            return Failure(
                "\(text): the kernel lacks a symbol that it needs", status: .wrongKernel, hint: log)
        case ENODEV:
            return Failure(
                "\(text): a module that it changes or uses is gone, or on its way in or out", status: .busy,
                hint: log)
        case EEXIST: return Failure("\(text): it is loaded already", status: .busy)
        case EBUSY:
            return Failure(
                "\(text): it is being loaded or unloaded, or the kernel refuses it now", status: .busy,
                hint: log)
        default: return Failure("\(text): \(describe(errno: code))", hint: log)
        }
    }
}
