import ArgumentParser
import Core

struct Test: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Try an update on its own kernel in a virtual machine.",
        usage: "git ksplice test [<options>] [<update>]")

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

    @Argument(help: "An update's id, a commit or ref that has one, or an archive; default: HEAD.")
    var update = "HEAD"

    func run() async throws {
        let found = try await UpdateSource.load(update)
        let registry = KernelRegistry(try await Repository())
        let kernel = try await registry.descriptor(try await chosenKernel(found.manifest.kernel, registry))
        var test = VirtualTest(kernel: kernel, program: try Locations.executable())
        test.command = run
        test.copies = copy
        test.memoryMiB = memory
        test.timeout = timeout
        if !quiet { Talk.line("booting \(kernel.identity.release) in a virtual machine ...") }
        try report(try await test.run(found), found)
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

    private func report(_ report: GuestReport, _ update: Update) throws {
        for result in report.results {
            let isRun = result.name != VirtualTest.Step.apply && result.name != VirtualTest.Step.undo
            if quiet && !isRun { continue }
            print("\(result.name) (exit status \(result.status)):")
            for line in result.output.lines { print("    " + line) }
        }
        if !quiet {
            print("kernel log:")
            for line in report.kernelLog.lines where line.contains("ksplice") { print("    " + line) }
        }
        for warning in report.warnings { Talk.warning("kernel log: " + warning) }
        let failed = [VirtualTest.Step.apply, VirtualTest.Step.undo].compactMap { report.result($0) }.first {
            $0.status != 0
        }
        if let failed { throw Failure("'\(failed.name)' failed in the virtual machine", status: .no) }
        guard report.warnings.isEmpty else { throw Failure("the kernel log has warnings", status: .no) }
        if !quiet { print("the update was applied and undone; the kernel log has no warning") }
    }
}
