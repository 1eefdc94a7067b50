// How long the phases of a longer piece of work took, for benchmarks: wall-clock time, added up by name.

import Synchronization

/// A clock that several tasks may use.
public final class PhaseClock: Sendable {
    private let state: Mutex<[(name: String, time: Duration)]> = Mutex([])
    private let begin = ContinuousClock.now

    public init() {}

    /// Runs a piece of work as part of a phase.
    public func measure<Result>(_ phase: String, _ body: () async throws -> Result) async rethrows -> Result {
        let start = ContinuousClock.now
        defer { add(phase, ContinuousClock.now - start) }
        return try await body()
    }

    private func add(_ phase: String, _ time: Duration) {
        state.withLock { phases in
            if let index = phases.firstIndex(where: { $0.name == phase }) {
                phases[index].time += time
            } else {
                phases.append((phase, time))
            }
        }
    }

    /// Milliseconds by phase, in the order in which the phases first ended, and `total` since the clock was made.
    public var milliseconds: [(name: String, value: Int)] {
        let phases = state.withLock { $0 } + [("total", ContinuousClock.now - begin)]
        return phases.map { ($0.name, Int($0.time / .milliseconds(1))) }
    }
}
