// Trying updates on their own kernel. One: boot, run a command, apply, run it, undo, run it. Several: each that was not made
// on another is applied and undone alone first, then all are applied together, in the order given, and undone in the reverse order.

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

        /// Whether a step runs the user's command.
        public static func isCommand(_ name: String) -> Bool { [before, after, again].contains(name) }
    }

    public func run(_ updates: [Update]) async throws -> GuestReport {
        var modules: [String] = []
        for module in updates.flatMap(\.manifest.modules) where !modules.contains(module) {
            modules.append(module)
        }
        var machine = try Self.machine(kernel: kernel, program: program, modules: modules)
        for update in updates { machine.files["root/\(Self.file(update))"] = try update.archive() }
        for path in copies { machine.files["root/" + path.lastPathComponent] = try Files.read(path) }
        machine.memoryMiB = memoryMiB
        machine.timeout = timeout
        let run = command.map { [$0] } ?? []
        machine.steps =
            run.map { GuestStep(Step.before, $0) }
            + (updates.count > 1
                ? updates.filter(\.manifest.depends.isEmpty).flatMap(Self.alone) : [])
            + updates.map {
                Self.apply($0, updates.count > 1 ? "\(Step.apply) \($0.id.prefix(12))" : Step.apply)
            }
            + run.map { GuestStep(Step.after, $0) }
            + [GuestStep(Step.undo, "git-ksplice undo " + (updates.count > 1 ? "--all" : updates[0].id))]
            + run.map { GuestStep(Step.again, $0) }
        return try await machine.run()
    }

    private static func file(_ update: Update) -> String { "\(update.id.prefix(12)).tar.gz" }

    private static func apply(_ update: Update, _ name: String) -> GuestStep {
        GuestStep(name, "git-ksplice apply /root/\(file(update))")
    }

    /// Applies and undoes one of several.
    private static func alone(_ update: Update) -> [GuestStep] {
        let name = update.id.prefix(12)
        return [
            apply(update, "\(Step.apply) \(name) alone"),
            GuestStep("\(Step.undo) \(name) alone", "git-ksplice undo \(update.id)"),
        ]
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
            let found = try ModuleDependencies(folder: folder).files(for: modules)
            machine.modules = found.map(\.path)
            machine.optionalModules = Set(found.filter(\.isWish).map(\.path))
        }
        return machine
    }
}

/// What depmod(8) found out of a folder of modules: `modules.dep` has for each file those that must be loaded before
/// it, `modules.softdep` modules that one asks for by name at run time (libcrc32c asks for a `crc32c`), and
/// `modules.alias` the modules that answer to such a name.
struct ModuleDependencies {
    private let folder: String
    private var needs: [String: [String]] = [:]
    private var paths: [String: String] = [:]
    private var wishes: [String: [String]] = [:]
    private var aliases: [String: [String]] = [:]

    init(folder: String) throws {
        self.folder = folder
        try readWishes()
        let file = folder + "/modules.dep"
        guard Files.exists(file) else {
            throw Failure("'\(folder)' has no modules.dep", hint: "depmod makes it (package kmod)")
        }
        for line in try Files.readText(file).lines {
            let parts = line.split(separator: ":", maxSplits: 1).map { String($0) }
            guard let path = parts.first else { continue }
            needs[path] = parts.count > 1 ? parts[1].split(separator: " ").map { String($0) } : []
            paths[Self.name(of: path)] = path
        }
    }

    /// Lines `softdep NAME pre: A B post: C` and `alias NAME MODULE`.
    private mutating func readWishes() throws {
        for (file, keyword) in [("modules.softdep", "softdep"), ("modules.alias", "alias")]
        where Files.exists("\(folder)/\(file)") {
            for line in try Files.readText("\(folder)/\(file)").lines where line.hasPrefix(keyword + " ") {
                let words = line.split(separator: " ").dropFirst().map { String($0) }
                guard words.count >= 2 else { continue }
                if keyword == "alias" {
                    aliases[words[0], default: []].append(words[1])
                } else {
                    let wanted = words.dropFirst().drop { $0 != "pre:" }.dropFirst().prefix {
                        !$0.hasSuffix(":")
                    }
                    wishes[words[0].replacing("-", with: "_"), default: []] += wanted
                }
            }
        }
    }

    /// Files to load, in order, without repetition. A wish may fail: some answers are for other processors.
    func files(for names: [String]) throws -> [(path: String, isWish: Bool)] {
        var order: [(path: String, isWish: Bool)] = []
        for name in names {
            guard let path = paths[name] else {
                throw Failure("the kernel has no module '\(name)' in '\(folder)'", status: .notFound)
            }
            add(path, isWish: false, to: &order)
        }
        return order.map { ($0.path.hasPrefix("/") ? $0.path : folder + "/" + $0.path, $0.isWish) }
    }

    private func add(_ path: String, isWish: Bool, to order: inout [(path: String, isWish: Bool)]) {
        // depmod lists the farthest need last.
        for file in (needs[path] ?? []).reversed() + [path] {
            if let known = order.firstIndex(where: { $0.path == file }) {
                order[known].isWish = order[known].isWish && isWish
                continue
            }
            for wish in wishes[Self.name(of: file)] ?? [] {
                if let answer = provider(of: wish), answer != path,
                    !order.contains(where: { $0.path == answer })
                {
                    add(answer, isWish: true, to: &order)
                }
            }
            order.append((file, isWish))
        }
    }

    /// The module that a name stands for. Of several, the one that needs no special processor.
    private func provider(of name: String) -> String? {
        if let path = paths[name.replacing("-", with: "_")] { return path }
        let modules = aliases[name] ?? []
        let choice = modules.first { $0.hasSuffix("generic") } ?? modules.first
        return choice.flatMap { paths[$0.replacing("-", with: "_")] }
    }

    private static func name(of file: String) -> String {
        let name = file.lastPathComponent.split(separator: ".").first.map { String($0) } ?? file
        return name.replacing("-", with: "_")
    }
}
