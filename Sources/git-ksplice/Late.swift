import ArgumentParser
import Core
import Glibc

struct Late: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Give a module that is being loaded its parts of applied updates; ksplice.ko calls it.",
        usage: "git ksplice late <module>")

    @Argument(help: "The module's name, as /proc/modules has it.")
    var module: String

    /// In seconds. Whoever loads the module waits meanwhile.
    private static let patience = 10.0

    /// In seconds: no loader waits for ever.
    private static let limit: UInt32 = 180

    func run() async throws {
        // The kernel starts programs without open files.
        while case let file = open("/dev/null", O_RDWR), file >= 0 {
            if file > STDERR_FILENO {
                close(file)
                break
            }
        }
        alarm(Self.limit)
        var applier = Applier(host: Locations.host, progress: Talk.progress(isQuiet: false))
        applier.patience = Patience(timeout: Self.patience)
        applier.late = try Locations.late
        do {
            let (given, missing) = try await applier.serve(module: module)
            for id in given { Self.log("module \(module) has its part of update \(id.prefix(12))") }
            for text in missing { Self.log("module \(module) goes without \(text.lines[0])") }
        } catch {
            // Nobody reads what a program prints that the kernel has started.
            let failure = Failure(error)
            Self.log("module \(module) is refused: \(failure.message.lines[0])")
            for hint in failure.hints { Self.log("hint: \(hint)") }
            throw failure
        }
    }

    /// Into the kernel's log, where the one who misses the module looks; and for whoever calls this by hand.
    private static func log(_ text: String) {
        Talk.line(text)
        // A kernel that takes no lines has taken the module's refusal all the same.
        try? Files.append("git-ksplice: \(text)\n", to: "/dev/kmsg")
    }
}
