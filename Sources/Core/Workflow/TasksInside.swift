// Which tasks are inside of code that would be replaced, as far as `/proc` tells: it shows the stacks of tasks that sleep
// or have been preempted, not of those that run at that moment. Return addresses are given as names with offsets; what
// counts is whether they lie behind the redirect, as for ksplice.ko (kernel/stack.c).

/// A task inside of a function that would be replaced.
public struct TaskInside: Sendable, Equatable {
    public var pid: Int
    public var name: String
    /// The function of the update.
    public var function: String
    /// The innermost frame in it, as the kernel prints it.
    public var frame: String
    /// Whether the frame is certainly in the function: false where several functions have the name.
    public var isCertain: Bool
    /// About how many seconds it has not run; nil where the kernel does not tell.
    public var still: Double?

    public var description: String {
        "\(name)[\(pid)] in \(frame)\(isCertain ? "" : " (possibly)")\(TaskInTheWay.time(still: still))"
    }

    var json: JSON {
        .object([
            ("pid", .number(pid)), ("comm", .string(name)), ("function", .string(function)),
            ("frame", .string(frame)), ("certain", .bool(isCertain)),
            ("asleep_ms", still.map { .number(Int($0 * 1000)) } ?? .null),
        ])
    }
}

/// Code that would be replaced.
struct OldCode {
    /// The function of the update that it belongs to.
    var function: String
    /// What a return address must not point into.
    var range: Range<UInt64>
}

struct TaskCensus {
    let symbols: KernelSymbols
    let code: [OldCode]

    /// The tasks that are inside, in the order given.
    func inside(_ tasks: [HostTask]) -> [TaskInside] {
        // Thousands of tasks sleep in the same few places.
        var known: [String: Hit?] = [:]
        return tasks.compactMap { task in
            for frame in task.stack {
                let hit: Hit?
                if let earlier = known[frame] {
                    hit = earlier
                } else {
                    hit = self.hit(frame)
                    known[frame] = .some(hit)
                }
                guard let hit else { continue }
                return TaskInside(
                    pid: task.pid, name: task.name, function: hit.function, frame: frame,
                    isCertain: hit.isCertain)
            }
            return nil
        }
    }

    private struct Hit {
        var function: String
        var isCertain: Bool
    }

    /// `name+0x12/0x34 [module]`; several symbols may have the name, and some of them the size.
    private func hit(_ frame: String) -> Hit? {
        let words = frame.split(separator: " ")
        guard let place = words.first, let plus = place.lastIndex(of: "+") else { return nil }
        let numbers = place[place.index(after: plus)...].split(separator: "/")
            .map { UInt64($0.dropFirst(2), radix: 16) }
        guard numbers.count == 2, let offset = numbers[0], let size = numbers[1] else { return nil }
        let module = words.count > 1 ? String(words[1].dropFirst().dropLast()) : nil
        let named = symbols.named(String(place[..<plus]), in: module)
        let sized = named.filter { symbols.next(above: $0.address) == $0.address &+ size }
        let meant = sized.isEmpty ? named : sized
        let hits = meant.compactMap { symbol in
            code.first { $0.range.contains(symbol.address &+ offset) }
        }
        return hits.first.map { Hit(function: $0.function, isCertain: hits.count == meant.count) }
    }
}
