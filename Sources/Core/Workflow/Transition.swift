// Asking ksplice.ko to undo and apply loaded updates, all in one pause or none (kernel/README.md, `transition`), again and
// again while tasks are inside of the code.

import Glibc

struct Transition {
    /// An update that is to be undone or applied. Those that are undone come first, the newest before what it stands on.
    struct Step {
        /// Of an update, or of a part of one.
        var id: String
        /// Of the whole update.
        var whole: String
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
    private let patience: Patience

    init(_ host: any Host & Sendable, _ steps: [Step], _ patience: Patience) {
        self.host = host
        self.steps = steps
        self.patience = patience
    }

    private func sysfs(_ step: Step) -> UpdateSysfs {
        UpdateSysfs(host: host, id: step.id, whole: step.whole)
    }

    /// What is known of an attempt's failure.
    private struct Refused {
        var step: Step
        var cause: String
    }

    /// Returns the pause in nanoseconds and the tries.
    func make(progress: (String) -> Void) async throws -> (pause: Int, tries: Int) {
        guard let last = steps.last else { return (0, 0) }
        guard steps.count <= Self.most else {
            throw Failure(
                "\(steps.count) updates are too many for one pause; at most \(Self.most) are possible")
        }
        let begin = ContinuousClock.now
        var pause = 0.02
        var encounters = Encounters()
        // All that were met so far: two that take turns would never be out at once.
        var held: [Int] = []
        var hasWaited = false
        var attemptsOutside = 0
        while true {
            let code = try await attemptsOutside > 0 ? attemptFromOutside() : attempt(holding: held)
            if code == 0 {
                return (try await sysfs(last).number("pause_ns"), try await sysfs(last).number("tries"))
            }
            let refusal = try await refusal(last, code)
            let time = (ContinuousClock.now - begin) / .seconds(1)
            // Without a cause, another program's request is on its way.
            if refusal.cause == "busy" {
                let tasks = encounters.add(try await sysfs(refusal.step).conflicts(), at: time)
                if let function = try await ownFunction(tasks) {
                    // We are inside of it because we ask; ksplice.ko can do it while we are not.
                    attemptsOutside += 1
                    guard attemptsOutside <= Self.mostOutside else { throw onTheWay(refusal.step, function) }
                    continue
                }
                guard time < patience.timeout else {
                    throw UpdateSysfs.busy(
                        refusal.step.verb, refusal.step.whole, tasks.map { ($0.description, $0.json) },
                        mayNudge: !patience.nudges)
                }
                if !hasWaited {
                    progress("waiting for \(tasks.map(\.description).joined(separator: ", "))")
                }
                hasWaited = true
                if patience.nudges {
                    held += tasks.map(\.pid).filter { $0 > 0 && !held.contains($0) }
                }
            } else if refusal.cause != "none" || code != EBUSY || time >= patience.timeout {
                throw try await sysfs(refusal.step).refusal(refusal.step.verb, refusal.cause, code)
            }
            try await Task.sleep(nanoseconds: UInt64(pause * 1e9))
            pause = min(pause * 1.5, 1)
        }
    }

    private func refusal(_ last: Step, _ code: Int32) async throws -> Refused {
        if code == EACCES || code == EPERM { throw Failure.onlyRoot }
        for step in steps {
            let cause = try await sysfs(step).text("cause")
            if cause != "none" { return Refused(step: step, cause: cause) }
        }
        return Refused(step: last, cause: "none")
    }

    /// The function that this program itself is in, while it asks for the change.
    private func ownFunction(_ tasks: [TaskInTheWay]) async throws -> String? {
        for task in tasks where try await host.exists("/proc/self/task/\(task.pid)") { return task.function }
        return nil
    }

    private var request: String { steps.map(\.line).joined() }

    /// Returns the error number, or 0.
    private func attempt(holding tasks: [Int]) async throws -> Int32 {
        // One by itself has its own file, which every version of ksplice.ko has.
        if steps.count == 1 {
            let file = "\(UpdateSysfs.root)/\(steps[0].id)/enabled"
            return try await host.store(steps[0].isUndo ? "0" : "1", into: file, holding: tasks)
        }
        return try await host.store(request, into: Self.path, holding: tasks)
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

    private func onTheWay(_ step: Step, _ function: String) -> Failure {
        Failure(
            "cannot \(step.verb) \(step.whole.prefix(12)): '\(function)' is on the way by which this program waits for the kernel",
            status: .cannotBePatched,
            hint: "the program is always inside of it then; change a function that it calls instead")
    }
}
