import Testing

@testable import Core

@Suite struct BuildQueueTests {
    private static let (one, two) = (String(repeating: "1", count: 40), String(repeating: "2", count: 40))

    private func withQueue(_ body: (BuildQueue) throws -> Void) throws {
        let folder = try Files.temporaryDirectory("ksplice-test")
        defer { try? Files.remove(folder) }
        try body(BuildQueue(folder: folder + "/queue"))
    }

    private func record(_ commit: String, _ reason: String) -> BuildRecord {
        var record = BuildRecord(commit: commit, subject: "s \"q\"", kernel: nil, builder: "b", time: 5)
        (record.state, record.codes, record.reason) = (.refused, ["a", "b"], reason)
        (record.preTree, record.postTree, record.patchID) = ("p", "q", "r")
        return record
    }

    @Test func entriesAreWhatTheirNamesSay() throws {
        try withQueue { queue in
            #expect(!queue.exists)
            #expect(try queue.entries().isEmpty && queue.results().isEmpty && queue.building() == nil)
            try queue.add(Self.one)
            try queue.add("\(Self.one)..\(Self.two)")
            for name in ["ORIG_HEAD", "\(Self.one)..", Self.one + ".tmp", Self.one + "..x", "1111"] {
                try queue.add(name)
            }
            let entries = try queue.entries()
            #expect(Set(entries.map(\.name)) == [Self.one, "\(Self.one)..\(Self.two)"])
            #expect(entries.first { $0.start != nil }?.start == Self.one)
            #expect(entries.first { $0.start != nil }?.commit == Self.two)
            try queue.add(Self.one)
            #expect(try queue.entries().count == 2)
            for entry in try queue.entries() { try queue.remove(entry) }
            try queue.remove(entries[0])
            #expect(try queue.entries().isEmpty && queue.exists)
        }
    }

    @Test func theLastResultOfACommitIsKept() throws {
        try withQueue { queue in
            try queue.keep(record(Self.one, "first"))
            try queue.keep(record(Self.two, "other"))
            try queue.keep(record(Self.one, "second"))
            #expect(try queue.results() == [record(Self.two, "other"), record(Self.one, "second")])
            // Of another version, and half of one.
            let foreign = "{\"v\":2,\"commit\":\"x\",\"state\":\"refused\",\"time\":1}\n"
            let file = queue.folder.path + "/results"
            try Files.append(foreign + "{\"v\":1,\"commit\":\"" + Self.two, to: file)
            #expect(try queue.results().count == 2)
            try queue.keep(record(Self.two, "again"))
            #expect(try queue.results().map(\.reason) == ["second", "again"])
        }
    }

    @Test func oneHoldsTheLock() throws {
        try withQueue { queue in
            #expect(try !queue.isWorkedOn())
            let lock = try #require(try queue.lock())
            #expect(try queue.lock() == nil)
            #expect(try queue.isWorkedOn())
            try queue.begin(.init(commit: Self.one, kernel: "k \"1\"", tries: 2, since: 7))
            #expect(try queue.building()?.kernel == "k \"1\"")
            lock.release()
            // What a killed worker was at is no more being built.
            #expect(try queue.building() == nil && queue.lastBuilding()?.tries == 2)
            try #require(try queue.lock()).release()
            try queue.end()
            #expect(try queue.lastBuilding() == nil)
        }
    }
}
