// A 32-bit kernel that runs in an emulated machine while tests work on it from outside: a shell of its busybox stands at a
// virtual serial port, which ends here in two named pipes.

import Testing

@testable import Core

/// The kernel for 32-bit x86, and the packages that it is made of.
enum ThirtyTwoBitKernel {
    static let registered = "test-i386"
    static let image = Material.value("KSPLICE_IMAGE_I386")
    static let headers = Material.value("KSPLICE_HEADERS_I386")
    /// The source that it was built from; the one that the fixes are taken from is `Material.oldSource`.
    static let source = Material.value("KSPLICE_SOURCE_I386")
    static let busybox = Material.value("KSPLICE_BUSYBOX_I386")
    static let isThere = ![image, headers, source, busybox].contains("")
    static let reason: Comment = "the archive has no kernel for i386 with its source, or no busybox"
}

/// A machine that runs it, from the first test that asks until the last one lets it go.
actor ThirtyTwoBitGuest {
    static let shared = ThirtyTwoBitGuest()
    private var running: Task<Machine, any Error>?

    struct Machine: Sendable {
        let laboratory: Laboratory
        let kernel: KernelDescriptor
        /// For `--host`.
        let command: String
        fileprivate let run: Task<GuestReport, any Error>
        fileprivate let folder: String
    }

    func machine() async throws -> Machine {
        let task = running ?? Task { try await Self.start() }
        running = task
        return try await task.value
    }

    /// Stops the machine and gives what it logged.
    func stop() async throws -> GuestReport {
        let machine = try await machine()
        // The port has no end that a shell could come to.
        let script = "touch /tmp/done; (sleep 1; kill -9 $$) > /dev/null 2>&1 &"
        _ = try machine.host.check(script, "stop the machine")
        let report = try await machine.run.value
        try Files.remove(machine.folder)
        return report
    }

    private static func start() async throws -> Machine {
        let laboratory = try await Laboratory.shared()
        let kernel = try await register(laboratory)
        guard let image = kernel.bootImagePath, let modules = kernel.modulesPath else {
            throw Failure("the image or the modules of the i386 kernel are not at hand")
        }
        let folder = try Files.temporaryDirectory()
        let unpacked = folder + "/busybox"
        try await Command(["dpkg-deb", "-x", ThirtyTwoBitKernel.busybox, unpacked]).check()
        let port = folder + "/port"
        try await Command(["mkfifo", port + ".in", port + ".out"]).check()
        var machine = VirtualMachine(bootImage: image)
        machine.busybox = unpacked + "/bin/busybox"
        machine.port = port
        machine.timeout = 1800
        machine.modules = try ModuleDependencies(folder: modules).files(
            for: ["virtio_pci", "virtio_console", "binfmt_misc"]
        ).map(\.path)
        for program in [GuestProgram.atMark, .sleeper] {
            machine.files["bin/" + program.name] = try await program.executable(
                // The 32-bit C library has no headers of its own for what they share.
                ["-m32", "-idirafter", "/usr/include/x86_64-linux-gnu"])
        }
        // A shell that is left finds nobody at its port until somebody comes again.
        machine.steps = [
            GuestStep(
                "shell",
                "until [ -e /tmp/done ]; do sh <>/dev/vport0p1 >&0 2>/dev/null; sleep 0.1; done")
        ]
        let machineAsItIs = machine
        return Machine(
            laboratory: laboratory, kernel: kernel,
            // One after the other: of two readers each would get a part.
            command: "exec 9> \(port).lock; flock 9; cat \(port).out 9>&- & reader=$!; cat > \(port).in; "
                + "kill $reader; wait $reader",
            run: Task { try await machineAsItIs.run() }, folder: folder)
    }

    private static func register(_ laboratory: Laboratory) async throws -> KernelDescriptor {
        let name = ThirtyTwoBitKernel.registered
        let index = laboratory.folder + "/index." + name
        let folder = ThirtyTwoBitKernel.source
        _ = try await Laboratory.git(
            ["--work-tree=" + folder, "-c", "core.compression=1", "add", "-A", "-f", folder], index: index)
        let tree = try await Laboratory.git(["write-tree"], index: index)
        let commit = try await Laboratory.git(["commit-tree", tree], input: "Linux for i386\n")
        _ = try await Laboratory.git(["update-ref", "refs/heads/ksplice-test/" + name, commit])
        let added = try await laboratory.run(
            "kernel", "add", name, "--source", commit, "--from", ThirtyTwoBitKernel.image, "--from",
            ThirtyTwoBitKernel.headers)
        guard added.status == 0 else { throw Failure("kernel add of '\(name)': \(added.said)") }
        let registry = KernelRegistry(try await Repository(directory: laboratory.repository))
        return try await registry.descriptor(try await registry.summary(name))
    }
}

extension ThirtyTwoBitGuest.Machine {
    /// Runs the program on the guest.
    func run(_ command: String, _ arguments: String...) async throws -> CommandResult {
        try await Command(
            [laboratory.program, command, "--host", self.command] + arguments,
            directory: laboratory.repository
        ).run()
    }

    /// Whoever uses it has the port alone, until it is let go.
    var host: RemoteHost { RemoteHost(command: command) }

    /// What a file of the guest holds.
    func text(_ path: String) async throws -> String {
        String(decoding: try await host.read(path), as: UTF8.self).trimmed
    }
}

extension GuestProgram {
    static let sleeper = GuestProgram(
        name: "sleeper",
        code: """
            #include <unistd.h>
            int main(void) { for (;;) pause(); }
            """)

    /// Asks a datagram socket whether the next byte is urgent, which only streams can tell.
    static let atMark = GuestProgram(
        name: "atmark",
        code: """
            #include <errno.h>
            #include <stdio.h>
            #include <sys/ioctl.h>
            #include <sys/socket.h>
            #include <asm-generic/sockios.h>
            int main(void) {
                int answer = 0, s = socket(AF_UNIX, SOCK_DGRAM, 0);
                printf("%s\\n", !ioctl(s, SIOCATMARK, &answer) ? "answered" : errno == EOPNOTSUPP ? "refused" : "broken");
                return 0;
            }
            """)
}

// MARK: - Fixes that the distribution made after it

extension KernelChange {
    /// A limit of seconds times a thousand million does not fit into 32 bits.
    static let cpuTimers: KernelChange = {
        var change = KernelChange(
            "posix-cpu-timers: limits above four seconds", fixed: "kernel/time/posix-cpu-timers.c")
        change.origin = Material.oldSource
        return change
    }()
    /// Visible.
    static let atMark = KernelChange(
        "af_unix: only streams have urgent data", "net/unix/af_unix.c",
        "\t\t\tint answ = 0;\n\n\t\t\tskb = skb_peek(",
        "\t\t\tint answ = 0;\n\n\t\t\tif (sk->sk_type != SOCK_STREAM)\n\t\t\t\treturn -EOPNOTSUPP;\n\n\t\t\tskb = skb_peek("
    )
    /// A commit of its own: other suites change the same.
    static let pauseOn32Bits: KernelChange = {
        var change = KernelChange.pause
        change.name = "signal: pause returns at once on 32 bits"
        return change
    }()
    /// In a module.
    static let binfmt = KernelChange(
        "binfmt_misc: flags do not delimit", "fs/binfmt_misc.c",
        "\t/* Pad the buffer with the delim to simplify parsing below. */\n",
        "\t/* A flag-char delimiter runs the flag scan off the buffer. */\n"
            + "\tif (del == 'P' || del == 'O' || del == 'C' || del == 'F')\n\t\tgoto einval;\n\n"
            + "\t/* Pad the buffer with the delim to simplify parsing below. */\n")
}
