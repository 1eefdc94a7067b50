// Trying an update on its own kernel: boot, run a command, apply, run it, undo, run it.

public struct VirtualTest: Sendable {
    let kernel: KernelDescriptor
    /// The `git-ksplice` binary that runs in the guest.
    let program: String
    /// Run before, after apply, and after undo.
    public var command: String?
    /// Files of this machine that the command needs; they stand in its folder.
    public var copies: [String] = []
    public var memoryMiB = 1024
    public var timeout = 300

    public init(kernel: KernelDescriptor, program: String) {
        self.kernel = kernel
        self.program = program
    }

    public enum Step {
        public static let before = "before"
        public static let apply = "apply"
        public static let after = "after"
        public static let undo = "undo"
        public static let again = "after undo"
    }

    public func run(_ update: Update) async throws -> GuestReport {
        var machine = try Self.machine(kernel: kernel, program: program, modules: update.manifest.modules)
        machine.files["root/update.tar.gz"] = try update.archive()
        for path in copies { machine.files["root/" + path.lastPathComponent] = try Files.read(path) }
        machine.memoryMiB = memoryMiB
        machine.timeout = timeout
        let run = command.map { [$0] } ?? []
        machine.steps =
            run.map { GuestStep(Step.before, $0) }
            + [GuestStep(Step.apply, "git-ksplice apply /root/update.tar.gz")]
            + run.map { GuestStep(Step.after, $0) }
            + [GuestStep(Step.undo, "git-ksplice undo \(update.id)")]
            + run.map { GuestStep(Step.again, $0) }
        return try await machine.run()
    }

    /// A machine with a registered kernel, the program, and modules with all that they need.
    public static func machine(kernel: KernelDescriptor, program: String, modules: [String]) throws
        -> VirtualMachine
    {
        guard let image = kernel.bootImagePath else {
            throw Failure(
                "the bootable image of kernel '\(kernel.name)' is not at hand", status: .notFound,
                hint:
                    "git ksplice kernel add \(kernel.name) --source \(kernel.sourceCommit.prefix(12)) --from linux-image-\(kernel.identity.release)_...deb"
            )
        }
        var machine = VirtualMachine(bootImage: image)
        machine.programs["bin/git-ksplice"] = program
        if !modules.isEmpty {
            guard let folder = kernel.modulesPath else {
                throw Failure("the modules of kernel '\(kernel.name)' are not at hand", status: .notFound)
            }
            machine.modules = try ModuleDependencies(folder: folder).files(for: modules)
        }
        return machine
    }
}

/// `modules.dep` of depmod(8): for each module file the files that must be loaded before it.
struct ModuleDependencies {
    private let folder: String
    private var needs: [String: [String]] = [:]
    private var paths: [String: String] = [:]

    init(folder: String) throws {
        self.folder = folder
        let file = folder + "/modules.dep"
        guard Files.exists(file) else {
            throw Failure("'\(folder)' has no modules.dep", hint: "depmod makes it (package kmod)")
        }
        for line in try Files.readText(file).lines {
            let parts = line.split(separator: ":", maxSplits: 1).map { String($0) }
            guard let path = parts.first else { continue }
            needs[path] = parts.count > 1 ? parts[1].split(separator: " ").map { String($0) } : []
            let name = path.lastPathComponent.split(separator: ".").first.map { String($0) } ?? path
            paths[name.replacing("-", with: "_")] = path
        }
    }

    /// Files to load, in order, without repetition.
    func files(for names: [String]) throws -> [String] {
        var order: [String] = []
        for name in names {
            guard let path = paths[name] else {
                throw Failure("the kernel has no module '\(name)' in '\(folder)'", status: .notFound)
            }
            // depmod lists the farthest need last.
            for file in (needs[path] ?? []).reversed() + [path] where !order.contains(file) {
                order.append(file)
            }
        }
        return order.map { $0.hasPrefix("/") ? $0 : folder + "/" + $0 }
    }
}
