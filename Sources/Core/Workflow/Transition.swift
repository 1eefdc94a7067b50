// Asking ksplice.ko to undo and apply loaded updates, all in one pause or none (kernel/README.md, `transition`), again and
// again while tasks are inside of the code.

import Glibc

struct Transition {
    /// An update that is to be undone or applied. Those that are undone come first, the newest before what it stands on.
    struct Step {
        var id: String
        var isUndo: Bool

        fileprivate var verb: String { isUndo ? "undo" : "apply" }
        fileprivate var line: String { (isUndo ? "-" : "+") + id + "\n" }
    }

    /// More lines do not fit into one write to a file in sysfs.
    static let most = 60
    private static let path = UpdateSysfs.root + "/transition"
    /// How often it is tried from outside while this process is in the way of itself.
    private static let mostOutside = 5

    private let host: any Host & Sendable
    private let steps: [Step]
    /// Seconds to go on trying.
    private let timeout: Double

    init(_ host: any Host & Sendable, _ steps: [Step], timeout: Double) {
        self.host = host
        self.steps = steps
        self.timeout = timeout
    }

    private func sysfs(_ step: Step) -> UpdateSysfs { UpdateSysfs(host: host, id: step.id) }

    /// Returns the pause in nanoseconds and the tries.
    func make(progress: (String) -> Void) async throws -> (pause: Int, tries: Int) {
        guard let last = steps.last else { return (0, 0) }
        guard steps.count <= Self.most else {
            throw Failure(
                "\(steps.count) updates are too many for one pause; at most \(Self.most) are possible")
        }
        var waited = 0.0
        var pause = 0.02
        var isOutside = false
        var attemptsOutside = 0
        while true {
            let code = try await isOutside ? attemptFromOutside() : attempt()
            if code == 0 {
                return (try await sysfs(last).number("pause_ns"), try await sysfs(last).number("tries"))
            }
            if code == EACCES || code == EPERM { throw Failure.onlyRoot }
            let (step, cause) = try await refusing(last)
            if cause == "busy", let function = try await sysfs(step).ownFunction() {
                // We are inside of it because we ask; ksplice.ko can do it while we are not.
                isOutside = true
                attemptsOutside += 1
                guard attemptsOutside <= Self.mostOutside else { throw onTheWay(step, function) }
                continue
            }
            // Without a cause, another program's request is on its way.
            let isWaiting = code == EBUSY && (cause == "busy" || cause == "none")
            guard isWaiting, waited < timeout else {
                throw try await sysfs(step).refusal(step.verb, cause, code)
            }
            if waited == 0, cause == "busy" {
                progress("waiting for \(try await sysfs(step).conflicts().joined(separator: ", "))")
            }
            try await Task.sleep(nanoseconds: UInt64(pause * 1e9))
            waited += pause
            pause = min(pause * 1.5, 1)
        }
    }

    private var request: String { steps.map(\.line).joined() }

    /// Returns the error number, or 0.
    private func attempt() async throws -> Int32 {
        // One by itself has its own file, which every version of ksplice.ko has.
        if steps.count == 1 {
            return try await host.store(
                steps[0].isUndo ? "0" : "1", into: "\(UpdateSysfs.root)/\(steps[0].id)/enabled")
        }
        return try await host.store(request, into: Self.path)
    }

    /// The same, while this process is not inside of the kernel.
    private func attemptFromOutside() async throws -> Int32 {
        let before = try await outcome()
        let code = try await host.store("later\n" + request, into: Self.path)
        // Another one is on its way.
        if code != 0 { return code }
        for _ in 0..<200 {
            try await Task.sleep(nanoseconds: 100_000_000)
            let now = try await outcome()
            if now.count == before.count { continue }
            if now.error != 0 { return now.error }
            if try await isDone() { return 0 }
            // That was another program's.
        }
        if try await isDone() { return 0 }
        throw Failure("ksplice.ko does not say what became of the change", status: .busy, hint: "dmesg")
    }

    private func isDone() async throws -> Bool {
        for step in steps where (try await sysfs(step).state() == "applied") == step.isUndo { return false }
        return true
    }

    /// How many changes from outside there were, and the error number of the last.
    private func outcome() async throws -> (count: Int, error: Int32) {
        let text = String(decoding: try await host.read(Self.path), as: UTF8.self).trimmed
        let fields = text.split(separator: " ")
        guard fields.count == 2, let count = Int(fields[0]), let error = Int32(fields[1]) else {
            throw Failure("'\(Self.path)' cannot be understood")
        }
        return (count, error)
    }

    /// The first step that ksplice.ko has refused, and the cause.
    private func refusing(_ last: Step) async throws -> (Step, String) {
        for step in steps {
            let cause = try await sysfs(step).text("cause")
            if cause != "none" { return (step, cause) }
        }
        return (last, "none")
    }

    private func onTheWay(_ step: Step, _ function: String) -> Failure {
        Failure(
            "cannot \(step.verb) \(step.id.prefix(12)): '\(function)' is on the way by which this program waits for the kernel",
            status: .cannotBePatched,
            hint: "the program is always inside of it then; change a function that it calls instead")
    }
}
