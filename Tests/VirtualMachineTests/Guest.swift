// A boot of a test: which kernel, what it brings along, and what it runs.

import Testing

@testable import Core

struct Guest {
    /// In seconds: a boot takes a minute or two, and five times as long on a machine that has much else to do.
    static let patience = 600

    private var machine: VirtualMachine
    private let laboratory: Laboratory

    init(_ laboratory: Laboratory, newKernel: Bool = false) {
        self.laboratory = laboratory
        machine = VirtualMachine(bootImage: newKernel ? laboratory.newBootImage : laboratory.oldBootImage)
        machine.programs["bin/git-ksplice"] = laboratory.program
        machine.timeout = Self.patience
    }

    /// Another kernel than the laboratory's.
    init(_ laboratory: Laboratory, bootImage: String) {
        self.init(laboratory)
        machine.bootImage = bootImage
    }

    /// Prints what stands in ksplice.ko's folder for each update, or part of one.
    static let updates = "ls /sys/kernel/ksplice | grep -x '[0-9a-f]\\{64\\}'"

    mutating func add(_ programs: GuestProgram...) async throws {
        for program in programs { machine.files["bin/" + program.name] = try await program.executable() }
    }

    /// A program of this machine, with the libraries that it needs.
    mutating func add(program path: String, as place: String) { machine.programs[place] = path }

    /// Puts an update's archive at `/root/NAME.tar.gz`.
    mutating func add(_ update: TestUpdate, as name: String) { add(update.archive, as: name + ".tar.gz") }

    mutating func add(_ content: [UInt8], as name: String) { machine.files["root/" + name] = content }

    /// Loads a module of the older kernel by its path below `kernel/`.
    mutating func load(_ module: String) { machine.modules.append("\(laboratory.modules)/kernel/\(module)") }

    /// Loads modules with what they need, of the older kernel unless a folder is given. They need not load: some are for other
    /// processors.
    mutating func tryToLoad(_ modules: [String], from folder: String? = nil) throws {
        let folder = folder ?? laboratory.modules
        let builtIn = Set(
            try Files.readText(folder + "/modules.builtin").lines.map {
                String($0).lastPathComponent.replacing(".ko", with: "").replacing("-", with: "_")
            })
        let files = try ModuleDependencies(folder: folder).files(
            for: modules.filter { !builtIn.contains($0) }
        ).map(\.path)
        machine.modules += files
        machine.optionalModules.formUnion(files)
    }

    /// Attaches a disk and mounts its file system before the first step.
    mutating func mount(_ disk: String, at folder: String, modules: String? = nil) throws {
        machine.disk = disk
        try tryToLoad(["virtio_pci", "virtio_blk", "ext4"], from: modules)
        step("mount", "mkdir -p \(folder) && mount -t ext4 /dev/vda \(folder)")
    }

    /// Gives it a network in which this machine answers as 10.0.2.2, before the first step. `folder`: its kernel's modules, if it is
    /// not the laboratory's.
    mutating func connect(_ folder: String? = nil) throws {
        machine.hasNetwork = true
        try tryToLoad(["virtio_pci", "virtio_net"], from: folder)
        step("network", "ifconfig lo up && ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up")
    }

    /// The emulated machine: its processor as `-cpu` of QEMU takes it, how many, whether each has a socket of its own, what
    /// the kernel's command line adds, and how long it may run.
    mutating func configure(
        processor: String? = nil, processors: Int = 2, isOneASocket: Bool = false, commandLine: String,
        memoryMiB: Int = 1024,
        seconds: Int = patience
    ) {
        machine.timeout = seconds
        machine.processor = processor
        machine.processors = processors
        machine.isOneASocket = isOneASocket
        machine.commandLine = commandLine
        machine.memoryMiB = memoryMiB
    }

    mutating func step(_ name: String, _ command: String) { machine.steps.append(GuestStep(name, command)) }

    func run() async throws -> GuestReport { try await machine.run() }
}

extension GuestReport {
    /// What a step printed; an issue is recorded where it ended otherwise than expected.
    func output(_ step: String, status: Int = 0, sourceLocation: SourceLocation = #_sourceLocation) throws
        -> String
    {
        let result = try #require(self.result(step), "no step '\(step)'", sourceLocation: sourceLocation)
        #expect(result.status == status, "\(step): \(result.output)", sourceLocation: sourceLocation)
        return result.output
    }
}

extension CommandResult {
    /// All that it said.
    var said: String { text + errorText }
}

/// The exit statuses that scripts may rely on, as `git-ksplice(1)` has them.
enum Status {
    static let no: Int32 = 1
    static let notFound: Int32 = 2
    static let wrongKernel: Int32 = 3
    static let verificationRefused: Int32 = 4
    static let cannotBePatched: Int32 = 6
    static let busy: Int32 = 7
    static let noChange: Int32 = 8
    static let hookRefused: Int32 = 9
    static let fatal: Int32 = 128
}

/// A boot that several tests look at: it happens when the first asks, and never twice.
actor SharedBoot {
    private let boot: @Sendable (Laboratory) async throws -> GuestReport
    private var running: Task<GuestReport, any Error>?

    init(_ boot: @escaping @Sendable (Laboratory) async throws -> GuestReport) { self.boot = boot }

    func report() async throws -> GuestReport {
        if let running { return try await running.value }
        let task = Task { try await boot(Laboratory.shared()) }
        running = task
        return try await task.value
    }
}
