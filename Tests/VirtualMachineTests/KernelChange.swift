// The changes that the tests make updates from: files taken from the newer kernel's source, or edits of the older one.

import Core

struct KernelChange: Sendable {
    struct Edit: Sendable {
        var path: String
        /// Text that stands once in the file, as earlier edits left it.
        var old: String
        var new: String
    }

    /// The commit's subject.
    var name: String
    /// Files to take as they are in a newer kernel's source.
    var fixed: [String] = []
    /// The source that they are taken from.
    var origin = Material.newSource
    /// One a file.
    var edits: [Edit] = []
    /// Files that it deletes.
    var removed: [String] = []
    /// Changes whose updates are applied before, in their order; this one is made to what they leave.
    var ground: [KernelChange] = []
    /// Options of create.
    var options: [String] = []

    init(_ name: String, fixed: String...) {
        self.name = name
        self.fixed = fixed
    }

    init(_ name: String, _ path: String, _ old: String, _ new: String) {
        self.name = name
        edits = [Edit(path: path, old: old, new: new)]
    }

    init(_ name: String, options: [String] = [], _ edits: Edit...) {
        self.name = name
        self.options = options
        self.edits = edits
    }

    init(_ name: String, edits: [Edit]) {
        self.name = name
        self.edits = edits
    }

    /// The name as a part of a ref or a file name.
    var branch: String { String(name.map { $0.isLetter || $0.isNumber ? $0 : "-" }) }

    func files(_ laboratory: Laboratory, _ parent: String) async throws -> [(path: String, content: String)] {
        var files = try fixed.map { ($0, try Files.readText("\(origin)/\($0)")) }
        for edit in edits {
            let known = files.firstIndex { $0.0 == edit.path }
            let text =
                if let known { files[known].1 } else { try await laboratory.source(edit.path, at: parent) }
            guard text.ranges(of: edit.old).count == 1 else {
                throw Failure("'\(edit.old)' does not stand exactly once in '\(edit.path)'")
            }
            let edited = (edit.path, text.replacing(edit.old, with: edit.new))
            if let known { files[known] = edited } else { files.append(edited) }
        }
        return files
    }
}

// MARK: - Fixes between the two kernels

extension KernelChange {
    /// PR_SET_MM_AUXV leaves the end of the old vector in place. Visible.
    static let auxv = KernelChange("sys: copy the whole auxiliary vector", fixed: "kernel/sys.c")
    /// FIONREAD of a group with file identifiers counts too few bytes. Visible; two functions.
    static let fanotify = KernelChange(
        "fanotify: true length of events", fixed: "fs/notify/fanotify/fanotify_user.c")
    /// Three functions; on 64-bit machines nothing is seen of it.
    static let bloom = KernelChange("bpf: bits of large bloom filters", fixed: "kernel/bpf/bloom_filter.c")
    /// In a module: a quantum that is too large is refused. Visible; adds static data.
    static let sfq = KernelChange("sch_sfq: limit the quantum", fixed: "net/sched/sch_sfq.c")
    /// Adds two static functions, one of which is stored in buffers.
    static let unix = KernelChange(
        "af_unix: release references of buffers that are handed on", fixed: "net/unix/af_unix.c")
    static let audit = KernelChange("audit: release the tree of a rule", fixed: "kernel/auditfilter.c")
    /// Only white space changes.
    static let blankLines = KernelChange("cpuset: blank lines", fixed: "kernel/cgroup/cpuset.c")
    /// CONFIG_KCSAN is off.
    static let notBuilt = KernelChange("kcsan: a file that is not built", fixed: "kernel/kcsan/core.c")
    /// A table of sysctls gets another pointer.
    static let table = KernelChange("tcp: least receive buffer", fixed: "net/ipv4/sysctl_net_ipv4.c")
}

// MARK: - Edits

extension KernelChange {
    /// The example of the original's page.
    static let dumpable = KernelChange(
        "prctl: another range of PR_SET_DUMPABLE", "kernel/sys.c",
        "if (arg2 != SUID_DUMP_DISABLE && arg2 != SUID_DUMP_USER) {", "if (arg2 > 2) {")
    /// The other promise of that page.
    static let printk = KernelChange(
        "printk: change what is logged", "kernel/printk/printk.c",
        "\ttrace_console_rcuidle(text, text_len);\n\n\treturn text_len;",
        "\tif (text_len && text[0] == '@')\n\t\ttext[0] = '#';\n\n\ttrace_console_rcuidle(text, text_len);\n\n\treturn text_len;"
    )
    /// A function that tasks sleep in.
    static let pause = KernelChange(
        "signal: pause returns at once", "kernel/signal.c",
        "SYSCALL_DEFINE0(pause)\n{\n",
        "SYSCALL_DEFINE0(pause)\n{\n\tif (current->pid > 1)\n\t\treturn -EDOM;\n")
    static let comment = KernelChange(
        "sys: a comment", "kernel/sys.c",
        "\n * architectures that now have 32-bit UID/GID but didn't in the past\n",
        "\n * architectures that\n *\n * now have 32-bit UID/GID but didn't in the past\n")
    static let doesNotCompile = KernelChange(
        "sys: a mistake", "kernel/sys.c", "\t\tset_dumpable(me->mm, arg2);",
        "\t\tset_dumpable(me->mm, no_such_variable);")
    /// Its callers would be another commit's.
    static let uncalled = KernelChange(
        "sys: a function for later", "kernel/sys.c", "int overflowuid = DEFAULT_OVERFLOWUID;",
        "int probe_for_later(int x);\nint probe_for_later(int x)\n{\n\treturn x * 7;\n}\n"
            + "int overflowuid = DEFAULT_OVERFLOWUID;")
    static let initialValue = KernelChange(
        "sys: another initial value", "kernel/sys.c", "int overflowuid = DEFAULT_OVERFLOWUID;",
        "int overflowuid = 4711;")
    static let initialValueTakenBack = KernelChange(
        "sys: the initial value again", "kernel/sys.c", "int overflowuid = 4711;",
        "int overflowuid = DEFAULT_OVERFLOWUID;")
    static let layout = KernelChange(
        "taskstats: another structure", "kernel/taskstats.c", "\tpid_t pid;\n\tchar valid;\n};",
        "\tpid_t pid;\n\tlong added;\n\tchar valid;\n};")
    /// Two files, each with something that a running kernel cannot get.
    static let several = KernelChange(
        "taskstats, sys: a structure and an initial value", edits: layout.edits + initialValue.edits)
    /// An inline function of a header that more than 500 sources may include, and one file that calls it.
    static let wideHeader = KernelChange(
        "ip_tunnels: headroom", fixed: "include/net/ip_tunnels.h", "net/ipv6/ip6_gre.c")
    /// What a conflicting commit stands on.
    static let rewritten = KernelChange(
        "sys: lines that the kernel does not have", "kernel/sys.c",
        "if (arg2 != SUID_DUMP_DISABLE && arg2 != SUID_DUMP_USER) {", "if (!valid_dumpable(arg2)) {")
    static let conflict = KernelChange(
        "sys: a change of lines that the kernel does not have", "kernel/sys.c",
        "if (!valid_dumpable(arg2)) {",
        "if (!valid_dumpable(arg2) && arg2 != 7) {")
}
