import ArgumentParser
import Core
import Glibc

struct Apply: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Change the running kernel.",
        usage: "git ksplice apply [<options>] (<update> | <commit> | <ref> | <file>)")

    @OptionGroup var change: ChangeOptions
    @OptionGroup var late: LateOptions
    @OptionGroup var machine: HostOptions

    @Flag(help: "Apply it at each boot of this kernel, too.")
    var boot = false

    @Flag(help: "Print the result as JSON.")
    var json = false

    @Argument(help: "An update's id, a commit or ref that has one for this kernel, or an archive.")
    var update: String

    func validate() throws { try machine.refuse(boot: boot) }

    func run() async throws {
        let host = machine.target
        let found = try await UpdateSource.load(update, kernel: await UpdateSource.runningKernel(host))
        var applier = Applier(host: host, progress: Talk.progress(isQuiet: change.quiet || json))
        applier.patience = change.patience
        applier.late = try machine.late
        applier.latePolicy = late.policy
        if getenv("GIT_KSPLICE_TEST_IGNORE_IDENTITY") != nil {
            Talk.warning("the kernel's identity is not compared; run-pre matching decides")
            applier.checksIdentity = false
        }
        let report = try await Talk.result(of: found.id, isJSON: json) { try await applier.apply(found) }
        if !change.quiet && !json {
            for (what, names) in [("function", report.functions), ("constant", report.constants)]
            where !names.isEmpty {
                print("\(names.count) \(what)(s) replaced: \(names.joined(separator: ", "))")
            }
            if report.hooks > 0 { print("\(report.hooks) hook(s)") }
            Talk.waiting(report)
            if report.tries > 0 {
                print("the machine stood still for \(report.pause) ns; \(report.tries) attempt(s)")
            }
        }
        if boot { try await BootCommand.keep(found, isJSON: json) }
        print(json ? report.json.text : "Done!")
    }
}
