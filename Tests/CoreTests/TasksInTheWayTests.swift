// Who is in the way of a change and since when, and what is done about it; the guest of GuestRefusalTests does it for real.

import Glibc
import Testing

@testable import Core

@Suite struct TasksInTheWayTests {
    private static let folder = "/sys/kernel/ksplice/id"

    /// A host on which a task sleeps in the way, and an idle task.
    private func host(_ answers: [Int32]) -> FakeHost {
        let host = FakeHost([
            Self.folder + "/cause": "busy\n", Self.folder + "/pause_ns": "1000\n",
            Self.folder + "/tries": "3\n", "/proc/7/sched": Self.schedule("1500.250000"),
            Self.folder + "/conflicts": "7 sleeper f reliable\n0 swapper/1 g possible\n",
            "/proc/thread-self/sched": Self.schedule("9750.250000"),
        ])
        host.answers = answers
        return host
    }

    private static func schedule(_ time: String) -> String {
        """
        sleeper (7, #threads: 1)
        -------------------------------------------------------------------
        se.exec_start                                :         \(time)
        se.vruntime                                  :            11.000000

        """
    }

    @Test func tasksAreRead() throws {
        var task = try #require(TaskInTheWay("7 sleeper f reliable"))
        #expect(task.description == "sleeper[7] in f")
        task.still = 0.9
        task.met = 2.5
        #expect(task.description == "sleeper[7] in f, met again and again for 2 s")
        task.still = 61.5
        #expect(task.description == "sleeper[7] in f, asleep for 61 s")
        #expect(
            task.json.text
                == #"{"pid":7,"comm":"sleeper","function":"f","certain":true,"met_ms":2500,"asleep_ms":61500}"#
        )
        let idle = try #require(TaskInTheWay("0 swapper/1 g possible"))
        #expect(idle.description == "swapper/1[0] in g (possibly)" && idle.json["asleep_ms"] == .null)
        #expect(TaskInTheWay("7 sleeper f") == nil && TaskInTheWay("x sleeper f reliable") == nil)
    }

    @Test("the time of encounters counts from the first of those in a row")
    func encounters() throws {
        let (a, b) = (
            try #require(TaskInTheWay("7 a f reliable")), try #require(TaskInTheWay("7 a g reliable"))
        )
        var encounters = Encounters()
        #expect(encounters.add([a], at: 1).map(\.met) == [0])
        #expect(encounters.add([a, b], at: 3).map(\.met) == [2, 0])
        #expect(encounters.add([b], at: 4).map(\.met) == [1])
        #expect(encounters.add([a, b], at: 6).map(\.met) == [0, 3])
    }

    @Test func stillnessIsTheDifferenceToWhatRuns() async throws {
        let host = host([])
        #expect(await host.stillness(of: 7) == 8.25)
        #expect(await host.stillness(of: 8) == nil)
        #expect(await host.stillness(of: 0) == nil)
        host.files["/proc/7/sched"] = "sleeper (7, #threads: 1)\n"
        #expect(await host.stillness(of: 7) == nil)
    }

    @Test func whoIsInTheWayIsTold() async throws {
        let step = Transition.Step(id: "id", whole: "id", isUndo: false)
        let failure = try await #require(throws: Failure.self) {
            try await Transition(host([EBUSY]), [step], Patience(timeout: 0)).make { _ in }
        }
        #expect(failure.status == .busy)
        #expect(
            failure.message.lines.dropFirst() == [
                "  sleeper[7] in f, asleep for 8 s", "  swapper/1[0] in g (possibly)",
            ])
        #expect(failure.hints.contains { $0.contains("--nudge") })
        #expect(failure.details?.array?.first?["asleep_ms"]?.number == 8250)
        let json = failure.json(update: "id")
        #expect(json["done"] == .bool(false) && json["status"]?.number == 7)
        #expect(json["details"]?.array?.count == 2)
    }

    @Test func progressIsToldOnce() async throws {
        let host = host([EBUSY, EBUSY])
        var waited = 0
        let step = Transition.Step(id: "id", whole: "id", isUndo: false)
        _ = try await Transition(host, [step], Patience(timeout: 600)).make { _ in
            waited += 1
            host.files[Self.folder + "/conflicts"] = "8 other f reliable\n"
        }
        #expect(waited == 1)
    }

    @Test("sleepers are held from the second try on, where that is asked for")
    func nudging() async throws {
        for nudges in [false, true] {
            let host = host([EBUSY, EBUSY])
            var waited: [String] = []
            func wait(_ text: String) {
                waited.append(text)
                // Another one takes its turn.
                host.files[Self.folder + "/conflicts"] = "8 other f reliable\n"
            }
            let step = Transition.Step(id: "id", whole: "id", isUndo: true)
            let (pause, tries) = try await Transition(
                host, [step], Patience(timeout: 600, nudges: nudges)
            ).make(progress: wait)
            #expect(pause == 1000 && tries == 3)
            #expect(host.held == (nudges ? [[], [7], [7, 8]] : [[], [], []]))
            #expect(waited == ["waiting for sleeper[7] in f, asleep for 8 s, swapper/1[0] in g (possibly)"])
        }
    }
}
