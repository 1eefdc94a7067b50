// What is kept for the next boot is whole at every moment, and what is damaged is refused by itself.

import Glibc
import Testing

@testable import Core

@Suite struct BootStoreTests {
    private let one = BootFixture.update("one")
    private let two = BootFixture.update("two")

    @Test("records survive a round trip, and nothing else is read")
    func records() throws {
        var list = BootList(kernel: one.manifest.kernel)
        list.entries = [
            .init(id: one.id, description: "a b%\n", depends: []),
            .init(id: two.id, description: "", depends: [one.id]),
        ]
        #expect(try BootList(parsing: list.text) == list)
        let damaged = [
            "", "ksplice-boot 2\nkernel a b c\n", "ksplice-boot 1\n", String(list.text.dropLast(5)),
            list.text + "update x y\n", list.text + "other\n", list.text.replacing("kernel", with: "colonel"),
        ]
        for text in damaged { #expect(throws: Failure.self) { try BootList(parsing: text) } }

        let marks: [BootMark] = [
            .trying(boot: "b"), .applied(boot: "b"), .refused(boot: "b", why: "x y"), .held(why: "because"),
        ]
        for mark in marks { #expect(BootMark(parsing: mark.text) == mark) }
        for text in ["", "\n", "ksplice-mark 1\n", "ksplice-mark 1\ntrying b", "ksplice-mark 2\nheld x\n"] {
            guard case .held = BootMark(parsing: text) else {
                Issue.record("'\(text)' does not hold")
                continue
            }
        }
    }

    @Test("an update needs the ones below it, and they need to stay")
    func order() async throws {
        let machine = try BootFixture()
        let top = BootFixture.update("top", on: [one])
        let early = await #expect(throws: Failure.self) { try await machine.add(top) }
        #expect(early?.hints == ["git ksplice boot add \(one.id.prefix(12))"])
        for update in [one, top, two] { try await machine.add(update) }
        let refusal = await #expect(throws: Failure.self) {
            try await machine.store.locked { try machine.store.remove([one.id]) }
        }
        #expect(refusal?.status == .busy)
        #expect(try machine.store.find(String(top.id.prefix(6))).id == top.id)
        #expect(try machine.store.find("ksplice-" + top.id.prefix(8)).depends == [one.id])
        #expect { try machine.store.find("0123") } throws: { ($0 as? Failure)?.status == .notFound }
        try await machine.store.locked { try machine.store.remove([one.id, top.id]) }
        #expect(try machine.store.lists().flatMap(\.entries).map(\.description) == ["two"])
        try await machine.store.locked { try machine.store.remove([two.id]) }
        #expect(try machine.files() == [])
    }

    @Test("what a channel has withdrawn is held, and so is what stands on it, until somebody releases it")
    func withdrawn() async throws {
        let machine = try BootFixture()
        let top = BootFixture.update("top", on: [one])
        for update in [one, top, two] { try await machine.add(update) }
        func entry(_ update: Update, _ why: String?) -> ChannelEntry {
            var entry = ChannelEntry(id: update.id, commit: "c", size: 1)
            entry.withdrawn = why
            return entry
        }
        let entries = [entry(one, "it oopses"), entry(two, nil), entry(BootFixture.update("else"), "old")]
        let held = try await machine.store.locked { try machine.store.hold(withdrawn: entries) }
        #expect(held.map(\.entry.id) == [one.id] && held.map(\.why) == ["withdrawn: it oopses"])
        #expect(try machine.store.hold(withdrawn: entries).isEmpty)
        let list = try #require(try machine.store.list(for: one.manifest.kernel))
        let standings = BootStanding.all(
            of: list, marks: try machine.store.marks(of: list), boot: "now", applied: [])
        #expect(standings[0] == .held("withdrawn: it oopses"))
        #expect(standings[1].isHeld && standings[2] == .ready)
        try machine.store.removeMark(one.id)
        #expect(try machine.store.marks(of: list).isEmpty)
    }

    @Test("an update without the kernel's build-id is not kept")
    func noBuildID() async throws {
        let machine = try BootFixture()
        let failure = await #expect(throws: Failure.self) {
            try await machine.add(BootFixture.update("x", buildID: ""))
        }
        #expect(failure?.status == .wrongKernel)
    }

    /// What a change leaves when the machine dies at each of its steps.
    private func dying(
        _ change: (BootFixture) async throws -> Void, _ look: (BootFixture, Int) async throws -> Void
    ) async throws {
        for steps in 0..<100 {
            let machine = try BootFixture()
            try await machine.add(one)
            try await machine.add(BootFixture.update("on one", on: [one]))
            machine.stepsToLive = steps
            var died = false
            do { try await change(machine) } catch { died = true }
            machine.reboot()
            // Everything that a list names is there and whole.
            for entry in try machine.store.lists().flatMap(\.entries) {
                #expect(try machine.store.update(entry.id).id == entry.id)
            }
            try await look(machine, steps)
            if !died {
                #expect(steps > 4, "it was not stopped anywhere")
                return
            }
        }
        Issue.record("it never ends")
    }

    @Test("the machine dies at any step of adding: it was added, or it was not")
    func addingDies() async throws {
        try await dying {
            try await $0.add(two)
        } _: { machine, _ in
            let words = try await machine.boot().words
            let before = ["one applied", "on one applied"]
            #expect(words == before || words == before + ["two applied"])
            // The next change takes what is left over with it.
            try await machine.add(two)
            #expect(try machine.files().filter { $0.hasPrefix("updates/") }.count == 3)
        }
    }

    @Test("the machine dies at any step of removing: it was removed, or it was not")
    func removingDies() async throws {
        func remove(_ machine: BootFixture) async throws {
            let ids = try machine.store.lists().flatMap(\.entries).filter { $0.description == "on one" }
            try await machine.store.locked { try machine.store.remove(Set(ids.map(\.id))) }
        }
        try await dying(remove) { machine, _ in
            let words = try await machine.boot().words
            #expect(words == ["one applied"] || words == ["one applied", "on one applied"])
            try await remove(machine)
            #expect(try machine.files().filter { $0.hasPrefix("updates/") }.count == 1)
        }
    }

    @Test("a damaged archive is refused, and the others come back")
    func damagedArchive() async throws {
        let machine = try BootFixture()
        for update in [one, BootFixture.update("on one", on: [one]), two] { try await machine.add(update) }
        let file = machine.folder + "/boot/updates/\(one.id).tar.gz"
        let archive = try Files.read(file)
        for damaged in [Array(archive.dropLast(9)), [], try two.archive()] {
            try Files.write(damaged, to: file)
            machine.reboot()
            #expect(try await machine.boot().words == ["one refused", "on one held", "two applied"])
            _ = try await machine.confirm()
        }
        try Files.remove(file)
        machine.reboot()
        #expect(try await machine.boot().words == ["one refused", "on one held", "two applied"])
    }

    @Test("a damaged mark holds its update")
    func damagedMark() async throws {
        let machine = try BootFixture()
        for update in [one, two] { try await machine.add(update) }
        try Files.createDirectory(machine.folder + "/boot/marks")
        try Files.write("", to: machine.folder + "/boot/marks/\(one.id)")
        machine.reboot()
        #expect(try await machine.boot().words == ["one held", "two applied"])
    }

    @Test("a damaged list is that kernel's trouble alone")
    func damagedList() async throws {
        let machine = try BootFixture()
        try await machine.add(one)
        try await machine.add(BootFixture.update("elsewhere", buildID: "cd34"))
        try Files.write("ksplice-boot 1\nkernel", to: machine.folder + "/boot/kernels/x86_64-cd34")
        machine.reboot()
        #expect(try await machine.boot().words == ["one applied"])
        machine.reboot(buildID: "cd34")
        let failure = await #expect(throws: Failure.self) { try await machine.boot() }
        #expect(failure?.status == .verificationRefused)
        // Nothing is cleaned up that the damaged list may name.
        machine.reboot()
        try await machine.add(two)
        #expect(try machine.files().filter { $0.hasPrefix("updates/") }.count == 3)
    }

    @Test("nobody else may have put something there")
    func foreign() async throws {
        let machine = try BootFixture()
        try await machine.add(one)
        for folder in ["/boot", "/boot/kernels", "/boot/updates"] {
            machine.reboot()
            #expect(chmod(machine.folder + folder, 0o777) == 0)
            let failure = await #expect(throws: Failure.self) { try await machine.boot() }
            #expect(failure?.status == .verificationRefused && machine.applied == [])
            #expect(chmod(machine.folder + folder, 0o755) == 0)
        }
        #expect(try await machine.boot().words == ["one applied"])
    }

    @Test("one at a time")
    func locked() async throws {
        let machine = try BootFixture()
        try await machine.add(one)
        try await machine.store.locked {
            let failure = await #expect(throws: Failure.self) { try await machine.boot() }
            #expect(failure?.status == .busy)
        }
        #expect(try await machine.boot().words == ["one applied"])
    }
}
