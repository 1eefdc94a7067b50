// A virtual machine that boots a kernel's own image, runs a list of shell commands and reports what each printed. It
// has a small initial file system and mostly no disk, and never survives its run.
//
// The guest talks over two serial lines: the first carries the kernel log, the second the commands' output between
// marks. QEMU emulates (TCG): that boots a stock kernel in seconds everywhere, also where KVM is missing or broken.

/// A command in the guest.
public struct GuestStep: Sendable {
    public var name: String
    /// For `sh -c`.
    public var command: String

    public init(_ name: String, _ command: String) {
        self.name = name
        self.command = command
    }
}

public struct GuestResult: Sendable, Equatable {
    public var name: String
    /// The exit status.
    public var status: Int
    /// Standard output and standard error.
    public var output: String
}

/// What a whole run gave.
public struct GuestReport: Sendable {
    /// In the order of the steps; steps that were not reached are missing.
    public var results: [GuestResult]
    public var kernelLog: String

    public func result(_ name: String) -> GuestResult? { results.first { $0.name == name } }

    /// Written to the kernel log before the first step.
    static let readyMark = "virtual machine: ready"

    /// Lines of the kernel log that say that something is wrong, from the first step on.
    public var warnings: [String] { Self.warnings(kernelLog[ready...]) }

    /// The same of the time before: of the kernel itself and of modules that were loaded.
    public var bootWarnings: [String] { Self.warnings(kernelLog[..<ready]) }

    private var ready: String.Index {
        kernelLog.range(of: Self.readyMark)?.lowerBound ?? kernelLog.startIndex
    }

    private static func warnings(_ log: Substring) -> [String] {
        let words = [
            "WARNING:", "BUG:", "Oops", "general protection", "Call Trace:", "Kernel panic", "unchecked MSR",
            "INFO: task",
        ]
        return String(log).lines.map { String($0) }.filter { (line: String) -> Bool in
            words.contains { line.contains($0) } && !line.contains("reboot: Restarting")
        }
    }
}

public struct VirtualMachine: Sendable {
    /// The bootable image.
    public var bootImage: String
    /// Files in the guest by path (without a slash at the start).
    public var files: [String: [UInt8]] = [:]
    /// Programs of this machine, each copied with the libraries that it needs; by path in the guest.
    public var programs: [String: String] = [:]
    /// Module files to load before the steps, in order.
    public var modules: [String] = []
    /// Those of `modules` that need not load: for another processor, perhaps.
    public var optionalModules: Set<String> = []
    public var steps: [GuestStep] = []
    public var memoryMiB = 1024
    public var processors = 2
    /// Whether each processor has a socket of its own, as a kernel without ACPI needs it: the BIOS's table of processors
    /// has one for each socket.
    public var isOneASocket = false
    /// The processor that is emulated, with its features, as `qemu-system-x86_64 -cpu` takes it; nil for QEMU's own choice.
    public var processor: String?
    /// A file with the content of a disk (`/dev/vda`), which outlives the run; nil for none.
    public var disk: String?
    /// A static busybox for the guest; nil for this machine's own.
    public var busybox: String?
    /// Whether it has a network card, behind which this machine's own services (at 127.0.0.1) answer as 10.0.2.2, and nobody
    /// else. The guest's own address is to be 10.0.2.15.
    public var hasNetwork = false
    /// The beginning of the names of two pipes, `.in` and `.out`, that lead to the guest's `/dev/vport0p1`; nil for none.
    public var port: String?
    /// Added to the kernel's command line.
    public var commandLine = ""
    /// In seconds, for the whole run.
    public var timeout = 300

    public init(bootImage: String) { self.bootImage = bootImage }

    private static let emulator = "qemu-system-x86_64"

    /// Boots, runs the steps, and ends.
    public func run() async throws -> GuestReport {
        let folder = try Files.temporaryDirectory()
        defer { try? Files.remove(folder) }
        try Files.write(try await initramfs(), to: folder + "/initramfs")
        let (log, output) = (folder + "/log", folder + "/output")
        let result = try await Command(
            [
                "timeout", "-k", "5", "\(timeout)", Self.emulator, "-accel", "tcg,thread=multi", "-smp",
                isOneASocket ? "\(processors),sockets=\(processors)" : "\(processors)", "-m",
                "\(memoryMiB)", "-display", "none", "-monitor", "none", "-no-reboot", "-nic",
                hasNetwork ? "user,model=virtio-net-pci,ipv6=off" : "none",
                "-kernel",
                bootImage,
                "-initrd", folder + "/initramfs", "-append",
                // Where the emulator waits for a processor while the kernel counts ticks of the timer, the kernel takes the
                // timer for broken and panics: it is not to check it (arch/x86/kernel/apic/io_apic.c, timer_irq_works).
                "console=ttyS0 panic=-1 quiet loglevel=7 no_timer_check random.trust_cpu=on \(commandLine)",
                "-serial",
                "file:" + log,
                "-serial", "file:" + output,
            ] + (processor.map { ["-cpu", $0] } ?? [])
                + (disk.map { ["-drive", "file=\($0),format=raw,if=virtio"] } ?? [])
                + (port.map {
                    [
                        "-chardev", "pipe,id=port,path=\($0)", "-device", "virtio-serial", "-device",
                        "virtserialport,chardev=port",
                    ]
                } ?? [])
        ).run()
        guard Files.exists(output) else {
            throw Failure(
                "cannot start a virtual machine: \(result.errorText.trimmed)",
                hint: "on Debian: apt-get install qemu-system-x86")
        }
        let report = GuestReport(
            results: Self.parse(try Self.readLines(output)), kernelLog: try Self.readLines(log))
        if let line = try Self.readLines(output).lines.first(where: { $0.hasPrefix(Self.mark + " unloaded ") }
        ) {
            let name = line.dropFirst(Self.mark.count + " unloaded ".count)
            throw Failure(
                "the virtual machine cannot load the module '\(name)'\n"
                    + report.kernelLog.lines.suffix(3).joined(separator: "\n"))
        }
        guard report.results.count == steps.count else {
            let tail = report.kernelLog.lines.suffix(15).joined(separator: "\n")
            let reached = report.results.last.map { "after '\($0.name)'" } ?? "before its first command"
            throw Failure(
                "the virtual machine \(result.status == 124 ? "did not finish within \(timeout) s" : "ended") \(reached)\n\(tail)"
            )
        }
        return report
    }

    // MARK: - The guest's files

    private func initramfs() async throws -> [UInt8] {
        var archive = Initramfs()
        for folder in ["bin", "dev", "proc", "sys", "tmp", "root", "etc", "var/lib"] {
            archive.addFolder(folder)
        }
        var copied: Set<String> = []
        var all = programs
        all["bin/busybox"] = try busybox ?? Self.busybox()
        for (path, source) in all.sorted(by: { $0.key < $1.key }) {
            archive.add(try await Self.stripped(source), at: path)
            for library in try await Self.libraries(source) where copied.insert(library).inserted {
                archive.add(try await Self.stripped(library), at: String(library.dropFirst()))
            }
        }
        for (position, module) in modules.enumerated() {
            archive.add(try Files.read(module), at: "modules/\(position).ko", mode: 0o644)
        }
        for (path, content) in files.sorted(by: { $0.key < $1.key }) { archive.add(content, at: path) }
        archive.add(Array(script.utf8), at: "init")
        return archive.finished()
    }

    private static func busybox() throws -> String {
        for path in ["/bin/busybox", "/usr/bin/busybox"] where Files.exists(path) { return path }
        throw Failure("busybox is not installed", hint: "on Debian: apt-get install busybox-static")
    }

    /// A program without its debug information, which would fill the guest's memory.
    private static func stripped(_ path: String) async throws -> [UInt8] {
        let bytes = try Files.read(path)
        guard bytes.count > 4 << 20 else { return bytes }
        let folder = try Files.temporaryDirectory()
        defer { try? Files.remove(folder) }
        let result = try await Command(["strip", "-o", folder + "/stripped", path]).run()
        return result.succeeded ? try Files.read(folder + "/stripped") : bytes
    }

    /// Paths of the shared libraries of a program, its interpreter included, as ldd(1) finds them.
    private static func libraries(_ program: String) async throws -> [String] {
        let result = try await Command(["ldd", program]).run()
        guard result.succeeded else { return [] }  // static
        return try result.text.lines.compactMap { line in
            let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
            if line.range(of: "not found") != nil {
                throw Failure("'\(program)' needs a library that is not here: \(String(line).trimmed)")
            }
            if let arrow = words.firstIndex(of: "=>"), arrow + 1 < words.count {
                return String(words[arrow + 1])
            }
            return words.first.flatMap { $0.hasPrefix("/") ? String($0) : nil }
        }
    }

    /// A serial line ends each line with carriage return and line feed.
    private static func readLines(_ path: String) throws -> String {
        String(decoding: try Files.read(path).filter { $0 != UInt8(ascii: "\r") }, as: UTF8.self)
    }

    private static let mark = "@ksplice@"

    private var script: String {
        var text = """
            #!/bin/busybox sh
            /bin/busybox --install -s /bin
            # The output goes to a terminal at which nobody sits.
            export PATH=/bin:/sbin:/usr/bin HOME=/root TERM=dumb GIT_PAGER=cat
            mount -t proc proc /proc
            mount -t sysfs sysfs /sys
            mount -t devtmpfs devtmpfs /dev
            mount -t tmpfs tmpfs /tmp
            mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
            stty -F /dev/ttyS1 raw -echo
            exec >/dev/ttyS1 2>&1 </dev/null
            ip link set lo up
            cd /root

            """
        for (position, module) in modules.enumerated() {
            let otherwise =
                optionalModules.contains(module)
                ? "true" : "echo '\(Self.mark) unloaded '\(quoted(module.lastPathComponent))"
            text += "insmod /modules/\(position).ko || \(otherwise)\n"
        }
        text += "echo '\(GuestReport.readyMark)' >/dev/kmsg\n"
        for (position, step) in steps.enumerated() {
            text += "echo; echo '\(Self.mark) begin \(position) '\(quoted(step.name))\n"
            text += "( \(step.command)\n)\nstatus=$?\necho; echo \"\(Self.mark) end \(position) $status\"\n"
        }
        return text + "sync\nreboot -f\n"
    }

    private func quoted(_ text: String) -> String { "'" + text.replacing("'", with: "'\\''") + "'" }

    private static func parse(_ text: String) -> [GuestResult] {
        var results: [GuestResult] = []
        var current: (name: String, lines: [String])?
        for line in text.lines {
            guard line.hasPrefix(mark) else {
                current?.lines.append(String(line))
                continue
            }
            let fields = line.split(separator: " ", maxSplits: 3).map { String($0) }
            if fields.count >= 3, fields[1] == "begin" {
                current = (fields.count > 3 ? fields[3] : "", [])
            } else if fields.count >= 4, fields[1] == "end", let open = current {
                // The mark is preceded by an empty line of its own.
                let lines = open.lines.last == "" ? Array(open.lines.dropLast()) : open.lines
                results.append(
                    GuestResult(
                        name: open.name, status: Int(fields[3]) ?? -1, output: lines.joined(separator: "\n")))
                current = nil
            }
        }
        return results
    }
}
