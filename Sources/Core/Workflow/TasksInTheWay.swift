// Who is in the way of a change, as ksplice.ko says after a refused attempt, and since when. The kernel keeps no time of
// entry, so two other times stand for it: for how long the task has not run at all, which is the least for which it can
// have been where it is; and for how long attempt after attempt has met it, between which it may have left and come back.

/// A task that ksplice.ko has met.
public struct TaskInTheWay: Sendable, Equatable {
    /// 0 for idle tasks.
    public var pid: Int
    public var name: String
    /// The function; at undo, the update's module.
    public var function: String
    /// False where it may be a dead word on the stack.
    public var isCertain: Bool
    /// Seconds from the first of the attempts in a row that have met it to the last.
    public var met = 0.0
    /// About how many seconds it has not run; nil where the kernel does not tell.
    public var still: Double?

    /// From a line of the file `conflicts`; nil where it is none.
    init?(_ line: Substring) {
        let fields = line.split(separator: " ").map { String($0) }
        guard fields.count >= 4, let pid = Int(fields[0]) else { return nil }
        self.pid = pid
        name = fields[1]
        function = fields[2]
        isCertain = fields[3] != "possible"
    }

    public var description: String {
        "\(name)[\(pid)] in \(function)\(isCertain ? "" : " (possibly)")\(Self.time(still: still, met: met))"
    }

    /// Below a second nothing is said: everybody is somewhere for so long.
    static func time(still: Double?, met: Double = 0) -> String {
        if let still, still >= 1 { return ", asleep for \(Int(still)) s" }
        return met >= 1 ? ", met again and again for \(Int(met)) s" : ""
    }

    public var json: JSON {
        .object([
            ("pid", .number(pid)), ("comm", .string(name)), ("function", .string(function)),
            ("certain", .bool(isCertain)), ("met_ms", .number(Int(met * 1000))),
            ("asleep_ms", still.map { .number(Int($0 * 1000)) } ?? .null),
        ])
    }
}

/// What attempts in a row have met.
struct Encounters {
    private struct Key: Hashable {
        var pid: Int
        var function: String
    }

    private var first: [Key: Double] = [:]

    /// Adds an attempt at a time in seconds. Returns its tasks with the time since they were first met; who was not met this
    /// time is forgotten.
    mutating func add(_ tasks: [TaskInTheWay], at time: Double) -> [TaskInTheWay] {
        var next: [Key: Double] = [:]
        defer { first = next }
        return tasks.map { task in
            let key = Key(pid: task.pid, function: task.function)
            let begin = first[key] ?? time
            next[key] = begin
            var task = task
            task.met = time - begin
            return task
        }
    }
}

extension Host {
    /// About how many seconds a task has not run, by the scheduler's clock: the difference to this thread, which runs. Nil for
    /// idle tasks, for those that are gone, and where the kernel does not show it (CONFIG_SCHED_DEBUG).
    func stillness(of pid: Int) async -> Double? {
        guard pid > 0 else { return nil }
        do {
            let its = HostText.lastRun(String(decoding: try await read("/proc/\(pid)/sched"), as: UTF8.self))
            let own = HostText.lastRun(
                String(decoding: try await read("/proc/thread-self/sched"), as: UTF8.self))
            guard let its, let own else { return nil }
            return max(0, own - its)
        } catch { return nil }
    }
}

extension HostText {
    /// When a task last ran, in seconds of the scheduler's clock, from `/proc/PID/sched`: `se.exec_start : 1234.567890`
    /// counts milliseconds (kernel/sched/debug.c, proc_sched_show_task).
    static func lastRun(_ text: String) -> Double? {
        for line in text.lines where line.hasPrefix("se.exec_start ") {
            return line.split(separator: ":").last.flatMap { Double(String($0).trimmed) }.map { $0 / 1000 }
        }
        return nil
    }
}
