import ArgumentParser
import Core

struct Test: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Try updates on their own kernel in a virtual machine.",
        usage: "git ksplice test [<options>] [<update>...]")

    @Option(
        help: ArgumentHelp("A shell command to run before, after apply, and after undo.", valueName: "cmd"))
    var run: String?

    @Option(
        help: ArgumentHelp(
            "A file that the command needs; it is put into the folder where it runs.", valueName: "file"))
    var copy: [String] = []

    @Option(
        help: ArgumentHelp(
            "The registered kernel to boot; default: the one that the update is for.", valueName: "name"))
    var kernel: String?

    @Option(help: ArgumentHelp("Memory of the virtual machine.", valueName: "MiB"))
    var memory = 1024

    @Option(help: ArgumentHelp("For the whole run.", valueName: "seconds"))
    var timeout = 300

    @Flag(name: .shortAndLong, help: "Print the command's results only.")
    var quiet = false

    @Argument(
        help: "Updates' ids, commits or refs that have one, or archives, for one kernel; default: HEAD.")
    var updates: [String] = ["HEAD"]

    func run() async throws {
        var found: [Update] = []
        for name in updates {
            let update = try await UpdateSource.load(name)
            guard found.allSatisfy({ $0.manifest.kernel == update.manifest.kernel }) else {
                throw Failure("the updates are not all for one kernel: '\(name)' is for another")
            }
            guard !found.contains(where: { $0.id == update.id }) else {
                throw Failure("update \(update.id.prefix(12)) is named twice")
            }
            try await addGround(of: update, to: &found)
            found.append(update)
        }
        let registry = KernelRegistry(try await Repository())
        let kernel = try await registry.descriptor(try await chosenKernel(found[0].manifest.kernel, registry))
        var test = VirtualTest(kernel: kernel, program: try Locations.executable())
        test.command = run
        test.copies = copy
        test.memoryMiB = memory
        test.timeout = timeout
        if !quiet { Talk.line("booting \(kernel.identity.release) in a virtual machine ...") }
        try report(try await test.run(found), count: found.count)
    }

    /// What an update was made on is applied before it.
    private func addGround(of update: Update, to found: inout [Update]) async throws {
        for id in update.manifest.depends where !found.contains(where: { $0.id == id }) {
            do { found.append(try await UpdateSource.load(id)) } catch let failure as Failure {
                throw Failure(
                    "update \(update.id.prefix(12)) was made on update \(id.prefix(12)): \(failure.message)",
                    status: failure.status, hint: "name that one before it")
            }
        }
    }

    private func chosenKernel(_ wanted: KernelIdentity, _ registry: KernelRegistry) async throws
        -> KernelSummary
    {
        if let kernel { return try await registry.summary(kernel) }
        guard let summary = try await registry.all().first(where: { $0.identity.refName == wanted.refName })
        else {
            throw Failure(
                "the update's kernel (\(wanted.release)) is not registered here", status: .notFound,
                hint: "git ksplice kernel add NAME --source COMMIT --from PACKAGE")
        }
        return summary
    }

    private func report(_ report: GuestReport, count: Int) throws {
        for result in report.results where !quiet || VirtualTest.Step.isCommand(result.name) {
            print("\(result.name) (exit status \(result.status)):")
            for line in result.output.lines { print("    " + line) }
        }
        if !quiet {
            print("kernel log:")
            for line in report.kernelLog.lines where line.contains("ksplice") { print("    " + line) }
        }
        for warning in report.bootWarnings { Talk.line("note: kernel log before the first step: " + warning) }
        for warning in report.warnings { Talk.warning("kernel log: " + warning) }
        let failed = report.results.filter { !VirtualTest.Step.isCommand($0.name) && $0.status != 0 }
        if let first = failed.first {
            let more = failed.count > 1 ? " (and \(failed.count - 1) more)" : ""
            throw Failure("'\(first.name)' failed in the virtual machine\(more)", status: .no)
        }
        guard report.warnings.isEmpty else { throw Failure("the kernel log has warnings", status: .no) }
        if !quiet {
            let subject = count == 1 ? "the update was" : "\(count) updates were"
            print("\(subject) applied and undone; the kernel log has no warning")
        }
    }
}
