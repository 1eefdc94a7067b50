// What comes back after a reboot, and what does not, whenever the machine dies.

import Glibc
import Testing

@testable import Core

@Suite struct BootTests {
    private let one = BootFixture.update("one")
    private let two = BootFixture.update("two")

    @Test("updates come back in their order, at each boot of their kernel and of no other")
    func comesBack() async throws {
        let machine = try BootFixture()
        let elsewhere = BootFixture.update("elsewhere", buildID: "cd34")
        for update in [two, elsewhere, one] { #expect(try await machine.add(update)) }
        #expect(try await !machine.add(two))
        for _ in 0..<2 {
            machine.reboot()
            #expect(try await machine.boot().words == ["two applied", "one applied"])
            // The second stage of the same boot.
            #expect(try await machine.boot().words == ["two present", "one present"])
            #expect(machine.applied == [two.id, one.id])
            #expect(try await machine.confirm().sorted() == [one.id, two.id].sorted())
        }
        machine.reboot(buildID: "cd34")
        #expect(try await machine.boot().words == ["elsewhere applied"])
        machine.reboot(buildID: "ef56")
        let report = try await machine.boot()
        #expect(report.words == [] && report.isComplete && report.switchedOff == nil)
        #expect(try await machine.overview().map(\.isRunning) == [false, false])
    }

    @Test(
        "the machine dies while one is applied: that one is held, and what stands on it; the others are not")
    func diesWhileTrying() async throws {
        let machine = try BootFixture()
        let bad = BootFixture.update("bad")
        let onBad = BootFixture.update("on bad", on: [bad])
        for update in [one, bad, onBad, two] { try await machine.add(update) }
        machine.reboot()
        machine.effects[bad.id] = .kill
        await #expect(throws: Failure.self) { try await machine.boot() }
        #expect(machine.applied == [one.id])

        machine.reboot()
        let standings = try #require(try await machine.overview().first).standings
        #expect(standings.map(\.isHeld) == [false, true, true, false])
        let report = try await machine.boot()
        #expect(report.words == ["one applied", "bad held", "on bad held", "two applied"])
        #expect(!report.isComplete)
        _ = try await machine.confirm()
        // It stays held, however often the system comes up.
        machine.reboot()
        #expect(try await machine.boot().words == ["one applied", "bad held", "on bad held", "two applied"])
        _ = try await machine.confirm()

        machine.effects = [:]
        machine.reboot()
        try await machine.store.locked { try machine.store.removeMark(bad.id) }
        #expect(
            try await machine.boot().words == ["one applied", "bad applied", "on bad applied", "two applied"])
    }

    @Test("the machine dies later: everything that was applied then is held")
    func diesLater() async throws {
        let machine = try BootFixture()
        for update in [one, two] { try await machine.add(update) }
        machine.reboot()
        #expect(try await machine.boot().isComplete)
        machine.reboot()
        #expect(try await machine.boot().words == ["one held", "two held"])
        #expect(try await machine.confirm() == [])
        machine.reboot()
        #expect(try await machine.boot().words == ["one held", "two held"])
    }

    @Test("a boot that tries nothing is no evidence: what was tried before stays suspect")
    func switchedOffBetween() async throws {
        let machine = try BootFixture()
        try await machine.add(one)
        machine.reboot()
        _ = try await machine.boot()
        machine.reboot("quiet ksplice=off")
        let report = try await machine.boot()
        #expect(report.switchedOff == "the kernel parameter 'ksplice=off'" && report.words == [])
        #expect(machine.applied == [] && report.isComplete)
        #expect(try await machine.confirm() == [])
        machine.reboot(buildID: "cd34")
        _ = try await machine.boot()
        #expect(try await machine.confirm() == [])
        machine.reboot()
        #expect(try await machine.boot().words == ["one held"])
    }

    @Test("the program dies and the machine lives: the second stage of that boot does not try again")
    func programDies() async throws {
        let machine = try BootFixture()
        for update in [one, two] { try await machine.add(update) }
        machine.reboot()
        machine.effects[one.id] = .killProgram
        await #expect(throws: Failure.self) { try await machine.boot(isEarly: true) }
        machine.restartProgram()
        #expect(try await machine.boot().words == ["one held", "two applied"])
    }

    @Test("what is refused is said and tried again at the next boot; what stands on it is not tried")
    func refused() async throws {
        let machine = try BootFixture()
        let onOne = BootFixture.update("on one", on: [one])
        for update in [one, onOne, two] { try await machine.add(update) }
        machine.reboot()
        machine.effects[one.id] = .refuse
        #expect(try await machine.boot(isEarly: true).words == ["one refused", "on one held", "two applied"])
        // The early stage leaves it to the later one.
        #expect(try await machine.overview().first?.standings == [.ready, .ready, .unconfirmed])
        #expect(try await machine.boot().words == ["one refused", "on one held", "two present"])
        let why = "tasks are inside the functions"
        #expect(try await machine.overview().first?.standings == [.refused(why), .ready, .unconfirmed])
        _ = try await machine.confirm()
        machine.reboot()
        machine.effects = [:]
        #expect(try await machine.boot().words == ["one applied", "on one applied", "two applied"])
        _ = try await machine.confirm()
        #expect(try machine.store.marked() == [])
    }

    @Test("what is applied when the system is up is no risk to a boot, and not held for one")
    func afterConfirmation() async throws {
        let machine = try BootFixture()
        machine.reboot()
        // Nothing was ever kept when this boot is confirmed.
        #expect(try await machine.confirm() == [])
        try await machine.add(one)
        #expect(try await machine.boot().words == ["one applied"])
        #expect(try await machine.overview().first?.standings == [.ready])
        machine.reboot()
        #expect(try await machine.boot().words == ["one applied"])
        #expect(try await machine.confirm() == [one.id])
        try await machine.add(two)
        #expect(try await machine.boot().words == ["one present", "two applied"])
        #expect(try await machine.confirm() == [])
        // It counts for that boot only.
        machine.reboot()
        #expect(try await machine.boot().words == ["one applied", "two applied"])
        machine.reboot()
        #expect(try await machine.boot().words == ["one held", "two held"])
    }

    @Test("one that kills the machine is held also where the system was up")
    func killsAfterConfirmation() async throws {
        let machine = try BootFixture()
        for update in [one, two] { try await machine.add(update) }
        machine.reboot()
        _ = try await machine.confirm()
        machine.effects[two.id] = .kill
        await #expect(throws: Failure.self) { try await machine.boot() }
        machine.reboot()
        #expect(try await machine.boot().words == ["one applied", "two held"])
    }

    @Test("only what is held or refused can be released")
    func release() async throws {
        let machine = try BootFixture()
        for update in [one, two] { try await machine.add(update) }
        func status(_ id: String) async -> Core.ExitStatus? {
            let failure = await #expect(throws: Failure.self) { try await machine.release(id) }
            return failure?.status
        }
        #expect(await status(one.id) == .no)
        machine.reboot()
        machine.effects[two.id] = .refuse
        #expect(try await machine.boot().words == ["one applied", "two refused"])
        #expect(await status(one.id) == .busy)
        // All of them, or none.
        let failure = await #expect(throws: Failure.self) { try await machine.release(two.id, one.id) }
        #expect(failure?.status == .busy)
        let standings = try #require(try await machine.overview().first).standings
        #expect(standings == [.unconfirmed, .refused("tasks are inside the functions")])
        #expect(try await machine.release(two.id).map(\.id) == [two.id])
        #expect(try await machine.overview().first?.standings == [.unconfirmed, .ready])
    }

    @Test("the culprit is released before a boot has settled it: the others are still not to blame")
    func releaseCulprit() async throws {
        let machine = try BootFixture()
        for update in [one, two] { try await machine.add(update) }
        machine.reboot()
        machine.effects[two.id] = .kill
        await #expect(throws: Failure.self) { try await machine.boot() }
        machine.reboot("quiet ksplice=off")
        _ = try await machine.boot()
        try await machine.release(two.id)
        machine.effects = [:]
        machine.reboot()
        #expect(try await machine.boot().words == ["one applied", "two applied"])
    }

    @Test("where marks do not outlive a reboot nothing is tried")
    func forgetful() async throws {
        let machine = try BootFixture()
        try await machine.add(one)
        machine.reboot()
        machine.forgetful = "tmpfs"
        let failure = await #expect(throws: Failure.self) { try await machine.boot() }
        #expect(failure?.message.contains("is on tmpfs, which may forget at a reboot") == true)
        #expect(try machine.store.marked() == [] && machine.applied == [])
        machine.reboot(buildID: "cd34")
        #expect(try await machine.boot().words == [], "nothing is kept for this one")
    }

    @Test("file systems that forget are known", .enabled(if: Files.isDirectory("/dev/shm")))
    func fileSystems() {
        #expect(DurableFolder.forgetfulFileSystem("/dev/shm") == "tmpfs")
        #expect(DurableFolder.forgetfulFileSystem("/proc") == nil)
        #expect(DurableFolder.forgetfulFileSystem("/nowhere") == nil)
    }

    @Test("when the time is up no other is begun, and none is held for that")
    func deadline() async throws {
        let machine = try BootFixture()
        let onOne = BootFixture.update("on one", on: [one])
        for update in [one, onOne] { try await machine.add(update) }
        machine.reboot()
        let late = try await machine.boot(deadline: ContinuousClock.now)
        #expect(late.words == ["one refused", "on one held"])
        #expect(try machine.store.marked() == [] && machine.applied == [])
        let later = ContinuousClock.now.advanced(by: .seconds(600))
        #expect(try await machine.boot(deadline: later).words == ["one applied", "on one applied"])
    }

    @Test("the machine dies before an update's mark is written: it is not held")
    func diesPreparing() async throws {
        let machine = try BootFixture()
        for update in [one, two] { try await machine.add(update) }
        machine.reboot()
        machine.effects[two.id] = .killPreparing
        await #expect(throws: Failure.self) { try await machine.boot() }
        #expect(try machine.store.marked() == [one.id])
        machine.effects = [:]
        machine.reboot()
        #expect(try await machine.boot().words == ["one held", "two applied"])
    }

    @Test("without a mark on the disk nothing is tried")
    func unwritable() async throws {
        let machine = try BootFixture()
        try await machine.add(one)
        machine.reboot()
        machine.stepsToLive = 0
        let failure = await #expect(throws: Failure.self) { try await machine.boot() }
        #expect(failure?.message.hasPrefix("nothing is tried without a mark") == true)
        #expect(machine.applied == [])
    }

    @Test("whenever the machine dies in a boot, the next one holds what was being applied, or loses nothing")
    func diesAtEachStep() async throws {
        let bad = BootFixture.update("bad")
        for steps in 0..<100 {
            let machine = try BootFixture()
            for update in [one, bad, two] { try await machine.add(update) }
            machine.effects[bad.id] = .kill
            machine.reboot()
            await #expect(throws: Failure.self) { try await machine.boot() }
            // The boot that settles who is to blame dies, too.
            machine.reboot()
            machine.stepsToLive = steps
            let died = await (try? machine.boot()) == nil
            #expect(!machine.applied.contains(bad.id))
            let before = machine.applied
            machine.effects[bad.id] = nil
            machine.reboot()
            _ = try await machine.boot()
            #expect(!machine.applied.contains(bad.id), "\(steps) steps: it was tried once more")
            #expect(machine.applied.isEmpty == false || !before.isEmpty, "\(steps) steps: all are held")
            if !died { return }
        }
        Issue.record("it never ends")
    }

    @Test(
        "kernel parameters that switch it off",
        arguments: [
            ("quiet ksplice=off", true), ("ksplice=off ksplice=on", false), ("xksplice=off", false),
            ("ro single", true), ("systemd.unit=rescue.target", true), ("emergency", true), ("root=1", false),
            ("ksplice=offline", false), ("init=/bin/sh", true), ("init=/usr/lib/systemd/systemd", false),
            ("init=/sbin/init", false), ("irqpoll elfcorehdr=0x1000", true),
            ("ro recovery nomodeset", true), ("recovery=1", false), ("-s", true),
            ("systemd.volatile=overlay", true), ("systemd.volatile", true), ("systemd.volatile=no", false),
        ])
    func parameters(_ line: String, _ isOff: Bool) {
        #expect((BootRun.reasonToRefrain(parameters: line) != nil) == isOff)
    }
}
