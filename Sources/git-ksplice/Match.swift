import ArgumentParser
import Core

struct Match: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Prove that compiled code is the code of a kernel.",
        usage: """
            git ksplice match [--kernel NAME] [--save FOLDER] <source file>...
            git ksplice match [--kernel NAME] [--module NAME] --object <file>...
            """,
        discussion: """
            Every function of each translation unit is compared, byte by byte, with the kernel that runs, or, with --kernel,
            with the image and the module files of a registered one.
            """)

    @Option(
        help: ArgumentHelp(
            "A registered kernel: its files instead of the kernel that runs.", valueName: "name"))
    var kernel: String?

    @Flag(help: "The arguments are object files, not source files of the kernel.")
    var object = false

    @Option(help: ArgumentHelp("The module that the objects belong to.", valueName: "name"))
    var module: String?

    @Option(help: ArgumentHelp("Keep what was compiled, for --object elsewhere.", valueName: "folder"))
    var save: String?

    @Flag(help: "Compile with the compiler that is here, whichever that is.")
    var allowOtherCompiler = false

    @Flag(name: .shortAndLong, help: "Print only what does not match.")
    var quiet = false

    @Flag(name: .shortAndLong, help: "Explain each function that does not match, not only the first ones.")
    var verbose = false

    @Flag(help: "Print the result as JSON.")
    var json = false

    @OptionGroup var machine: HostOptions

    @Argument(help: "Source files of the kernel, or with --object files.")
    var files: [String]

    /// How many functions of a unit are explained: what is wrong with one is mostly wrong with all.
    private static let shownInFull = 3

    func validate() throws {
        guard object || module == nil else { throw ValidationError("--module goes with --object") }
        guard !object || save == nil else { throw ValidationError("--save goes with source files") }
        guard kernel == nil || !machine.isElsewhere else {
            throw ValidationError(
                "--kernel and --host exclude each other: one means files, the other what runs")
        }
    }

    func run() async throws {
        let host = machine.target
        let matcher = ObjectMatcher(progress: Talk.progress(isQuiet: quiet || json))
        let units: [CompiledUnit]
        if object {
            let home: CompiledUnit.Module? = module.map { $0 == "vmlinux" ? .image : .named($0) }
            units = try files.map { try CompiledUnit(file: $0, module: home) }
        } else {
            units = try await compile(matcher, host)
        }
        let result: ObjectMatching
        if let kernel {
            let registry = KernelRegistry(try await Repository())
            result = try await matcher.match(
                units, filesOf: try await registry.descriptor(try await registry.summary(kernel)))
        } else {
            result = try await matcher.match(units, runningOn: host, known: await known(host))
        }
        if json { print(result.json.text) } else { report(result) }
        if !result.isComplete { throw ExitCode(ExitStatus.verificationRefused.rawValue) }
    }

    /// What a repository here knows of the kernel that runs; nil where there is none that does.
    private func known(_ host: any Host & Sendable) async -> KernelDescriptor? {
        do {
            let registry = KernelRegistry(try await Repository())
            let running = try await host.identity()
            guard
                let found = try await registry.all().first(where: { $0.identity.buildID == running.buildID })
            else { return nil }
            return try await registry.descriptor(found)
        } catch { return nil }
    }

    private func compile(_ matcher: ObjectMatcher, _ host: any Host & Sendable) async throws -> [CompiledUnit]
    {
        let repository = try await Repository()
        let registry = KernelRegistry(repository)
        let summary: KernelSummary
        if let kernel {
            summary = try await registry.summary(kernel)
        } else {
            let running = try await host.identity()
            guard
                let found = try await registry.all().first(where: { $0.identity.buildID == running.buildID })
            else {
                throw Failure(
                    "the running kernel (\(running.release)) is not registered here", status: .notFound,
                    hints: [
                        "git ksplice kernel add NAME --source COMMIT --from PACKAGE",
                        "with --kernel NAME, another one's files are compared",
                    ])
            }
            summary = found
        }
        let files = try self.files.map { try repository.treePath($0) }
        let units = try await matcher.compile(
            files, summary, repository, kernelSources: try Locations.kernelSources(),
            allowsOtherCompiler: allowOtherCompiler)
        let left = files.filter { file in !units.contains { $0.path == file } }
        for file in left { Talk.warning("the kernel's config does not build '\(file)'") }
        guard !units.isEmpty else {
            throw Failure("there is nothing to match", status: .noChange)
        }
        if let save {
            for unit in units { try unit.save(in: save) }
        }
        return units
    }

    private func report(_ result: ObjectMatching) {
        for unit in result.objects {
            let place = unit.module.map { " [\($0)]" } ?? ""
            if let reason = unit.skipped {
                print("\(unit.path)\(place): not compared: \(reason)")
                continue
            }
            if quiet, unit.failures.isEmpty { continue }
            print("\(unit.path)\(place): \(unit.functions) functions match, \(unit.bytes) bytes")
            for name in unit.traced where !quiet { print("  traced   \(name)") }
            for name in unit.probed where !quiet {
                print("  probed   \(name): what its kprobes cover was not compared")
            }
            for function in unit.absent where !quiet {
                print("  absent   \(function.name): \(function.reason)")
            }
            for (number, failure) in unit.failures.enumerated() {
                let lines = number < Self.shownInFull || verbose ? failure.lines : [failure.headline]
                print("  differs  " + lines.joined(separator: "\n"))
            }
        }
        let failures = result.objects.reduce(0) { $0 + $1.failures.count }
        let absent = result.objects.reduce(0) { $0 + $1.absent.count }
        let statistics = result.statistics
        print(
            "\(statistics.functions) functions match, \(failures) differ, \(absent) are not in this kernel; \(statistics.bytes) bytes in \(statistics.nanoseconds / 1_000_000) ms"
        )
    }
}
