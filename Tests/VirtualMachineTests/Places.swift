// How many suites run at once. A suite mostly waits for one machine, or for one compiler, and uses one processor; so two run
// side by side, each one test after the other, and what ends early makes room for the next: no list says which suite runs
// beside which. They share a repository, in which each commit, update and file has a name of its own, and one workspace,
// which serves one create at a time.

import Testing

extension Tag {
    /// A suite that takes minutes. It begins before those that do not: last, it would run alone.
    @Tag static var long: Self
}

extension Trait where Self == Places {
    /// The suites of this suite run side by side, so many at once, each in itself one test after the other.
    static func places(_ count: Int) -> Self { Self(queue: Places.Queue(count)) }
}

struct Places: SuiteTrait, TestTrait, TestScoping {
    fileprivate let queue: Queue

    /// Every suite in it shall ask for a place. The tests in them inherit it, too, and therefore it is a `TestTrait`.
    var isRecursive: Bool { true }

    /// A suite has a place as a whole, and not the suite of all suites.
    func scopeProvider(for test: Test, testCase: Test.Case?) -> Self? {
        test.isSuite && test.name != "\(VirtualMachineTests.self)" ? self : nil
    }

    @concurrent
    func provideScope(
        for test: Test, testCase: Test.Case?,
        performing function: @concurrent @Sendable () async throws -> Void
    ) async throws {
        await queue.enter(isLong: test.tags.contains(.long))
        let clock = ContinuousClock()
        let start = clock.now
        // What the suite's own end prints includes the time in which it waited.
        defer { print("\(test.name): \((clock.now - start).components.seconds) s in its place") }
        do {
            try await ParallelizationTrait.serialized.provideScope(
                for: test, testCase: testCase, performing: function)
        } catch {
            await queue.leave()
            throw error
        }
        await queue.leave()
    }

    fileprivate actor Queue {
        private var free: Int
        private var waiting: [(isLong: Bool, turn: CheckedContinuation<Void, Never>)] = []

        init(_ count: Int) { free = count }

        func enter(isLong: Bool) async {
            if free > 0 {
                free -= 1
                return
            }
            await withCheckedContinuation { waiting.append((isLong, $0)) }
        }

        func leave() {
            guard let next = waiting.firstIndex(where: \.isLong) ?? waiting.indices.first else {
                free += 1
                return
            }
            waiting.remove(at: next).turn.resume()
        }
    }
}
