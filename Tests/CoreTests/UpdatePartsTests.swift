// Updates of several parts, and what waits for modules.

import Glibc
import Testing

@testable import Core

@Suite struct UpdatePartsTests {
    private static func manifest() -> Manifest {
        var manifest = GitFixture.update().manifest
        manifest.files = []
        manifest.units = [
            .init(path: "kernel/sys.c", module: nil, object: "pre/0.o"),
            .init(path: "net/a.c", module: "a", object: "pre/1.o"),
            .init(path: "net/b.c", module: "a", object: "pre/2.o"),
        ]
        manifest.replacements = [
            .init(unit: 0, symbol: "f", preSymbol: 1, size: 10),
            .init(unit: 1, symbol: "g", preSymbol: 2, size: 20),
            .init(unit: 1, symbol: "g.cold", preSymbol: 3, size: 5, partOf: 1),
            .init(unit: 2, symbol: "h", preSymbol: 4, size: 30),
        ]
        manifest.references = [
            .init(name: "x", unit: 0, preSymbol: 7),
            .init(name: "y", unit: 1, preSymbol: nil, bringer: "vmlinux"),
            .init(name: "z", unit: 2, preSymbol: 8),
        ]
        manifest.hooks = [.init(unit: 2, kind: .apply, symbol: "act")]
        manifest.modules = ["a", "other"]
        manifest.isResident = true
        manifest.parts = [
            .init(file: "update.ko", units: 1, isResident: false, modules: []),
            .init(file: "update.a.ko", units: 2, isResident: true, modules: ["a", "other"]),
        ]
        return manifest
    }

    private static func update() -> Update {
        Update(
            manifest: manifest(),
            files: [
                "update.ko": [1], "update.a.ko": [2], "ksplice.ko": [3], "pre/0.o": [4], "pre/1.o": [5],
                "pre/2.o": [6], "patch": [],
            ])
    }

    @Test func aPartIsAnUpdateOfItsOwn() throws {
        let update = Self.update()
        #expect(try Manifest(parsing: update.manifestText) == update.manifest)
        let parts = try update.parts()
        #expect(parts.map(\.home) == [nil, "a"] && parts.allSatisfy { $0.wholeID == update.id })
        #expect(Set(parts.map(\.id) + [update.id]).count == 3)
        #expect(parts[1].siblings == ["vmlinux": parts[0].id, "a": parts[1].id])
        let a = parts[1].manifest
        #expect(try parts[1].file("update.ko") == [2] && parts[0].file("update.ko") == [1])
        #expect(
            a.units.map(\.path) == ["net/a.c", "net/b.c"] && a.modules == ["a", "other"] && a.isResident)
        #expect(a.replacements.map(\.unit) == [0, 0, 1] && a.replacements.map(\.partOf) == [nil, 0, nil])
        #expect(a.references.map(\.name) == ["y", "z"] && a.references[0].bringer == "vmlinux")
        #expect(a.hooks.map(\.unit) == [1] && a.parts.isEmpty)
        #expect(parts[0].manifest.references.map(\.preSymbol) == [7] && !parts[0].manifest.isResident)
        // What is not divided is its own only part.
        let whole = GitFixture.update()
        #expect(try whole.parts().map(\.id) == [whole.id] && whole.wholeID == whole.id)
    }

    @Test(
        "parts that do not fit the units are refused",
        arguments: [
            ("part update.a.ko 2 ", "part update.a.ko 1 "), ("part update.ko 1 ", "part update.ko 0 "),
            ("unit net/b.c a ", "unit net/b.c b "), ("replace 1 g.cold 3 5 1", "replace 1 g.cold 3 5 0"),
            ("part update.ko 1 no -\n", ""),
        ])
    func badParts(good: String, bad: String) {
        let text = Self.manifest().text
        #expect(text.contains(good))
        #expect(throws: Failure.self) { try Manifest(parsing: text.replacing(good, with: bad)) }
    }

    // MARK: - What waits

    private static let root = "/sys/kernel/ksplice"

    private static func records(_ state: String = "applied") async throws -> (HostRecords, Update) {
        let update = Self.update()
        let parts = try update.parts()
        let host = FakeHost([
            "\(root)/\(parts[0].id)/update": update.id + "\n", "\(root)/\(parts[0].id)/state": state + "\n",
            "\(root)/late/\(update.id):a/policy": "refuse\n", "\(root)/late/\(update.id):a/number": "4\n",
            "\(root)/late/\(update.id):a/state": "coming\n",
            "\(root)/\(String(repeating: "7", count: 64))/state": "undone\n",
        ])
        return (try await HostRecords(host), update)
    }

    @Test func theBooksTellOfWholeUpdates() async throws {
        let (records, update) = try await Self.records()
        #expect(records.isApplied(update.id) && records.state(of: update.id) == "applied")
        #expect(records.modules(awaitedBy: update.id) == ["a"] && records.awaited[0].policy == .refuse)
        // One of an older ksplice.ko is one module.
        #expect(records.state(of: String(repeating: "7", count: 64)) == "undone")
        #expect(records.updates.count == 2)
        // What only waits is applied, too.
        #expect(try await Self.records("loaded").0.isApplied(update.id))
        let empty = try await HostRecords(FakeHost())
        #expect(empty.updates.isEmpty && empty.state(of: update.id) == nil)
    }

    @Test func presenceTellsWhatCanBeApplied() async throws {
        let (records, update) = try await Self.records("loaded")
        let parts = try update.parts()
        func presence(_ state: String?) -> Presence {
            let module = state.map {
                LoadedModule(name: "a", size: 1, references: 0, users: [], state: $0, address: 1)
            }
            return Presence(parts, records, module.map { [$0] } ?? [])
        }
        #expect(presence(nil).absent == ["a"] && presence(nil).ready.map(\.home) == [nil])
        #expect(presence("Live").ready.map(\.home) == [nil, "a"] && presence("Live").absent.isEmpty)
        // It stands at the gate, and another process serves it.
        #expect(presence("Loading").absent == ["a"] && !presence("Loading").isChanging)
        #expect(
            Presence(
                parts, try await HostRecords(FakeHost()),
                [
                    LoadedModule(name: "a", size: 1, references: 0, users: [], state: "Loading", address: 1)
                ]
            ).isChanging)
        let applied = try await Self.records().0
        #expect(Presence(parts, applied, []).ready.isEmpty)
    }

    @Test("if the kernel refuses to wait for one module, it waits for none of them")
    func waitingIsAllOrNothing() async throws {
        let folder = try Files.temporaryDirectory("ksplice-test")
        defer { try? Files.remove(folder) }
        let host = FakeHost()
        let late = LateUpdates(host: host, folder: folder + "/late", program: "/usr/bin/env")
        let update = Self.update()
        host.answers = [0, 0, ENOSPC]
        let failure = await #expect(throws: Failure.self) {
            try await late.wait(for: ["a", "b"], update, .allow)
        }
        #expect(failure?.message.contains("wait for the module 'b'") == true)
        #expect(try Files.list(folder + "/late").filter { $0.hasSuffix(".gz") }.isEmpty)
        #expect(try await late.wait(for: ["a"], update, .allow) == ["a"])
        #expect(host.files[Self.root + "/await"] == "+\(update.id) a allow")
        #expect(host.files[Self.root + "/helper"] == "/usr/bin/env")
        #expect(try late.update(update.id).id == update.id)
        // An archive of another update under its name is none.
        try Files.write(
            try GitFixture.update().archive(), to: "\(folder)/late/\(update.id).tar.gz")
        #expect(throws: Failure.self) { try late.update(update.id) }
        try await late.forget(update.id)
        #expect(throws: Failure.self) { try late.update(update.id) }
    }
}
