// A unit before and after a change, compiled from C as `create` compiles units.

@testable import Core

struct DiffFixture {
    var preObject: ObjectFile
    var postObject: ObjectFile
    var difference: UnitDifference

    static let tables = [
        ".altinstructions": 12, ".parainstructions": 16, "__jump_table": 16, ".smp_locks": 4,
        "__mcount_loc": 8,
        "__bug_table": 12, "__ex_table": 12,
    ]

    init(_ pre: String, _ post: String, flags: [String] = [], replacing: Set<String> = []) async throws {
        let folder = try Files.temporaryDirectory()
        defer { do { try Files.remove(folder) } catch {} }
        for (name, text) in [("pre", pre), ("post", post)] {
            try Files.write(text, to: "\(folder)/\(name).c")
            try await Command(
                [
                    "gcc", "-O2", "-g", "-fno-pic", "-mcmodel=kernel", "-mno-red-zone",
                    "-fno-asynchronous-unwind-tables",
                    "-fcf-protection=none", "-fno-stack-protector", "-ffunction-sections", "-fdata-sections",
                    "-fno-toplevel-reorder",
                ] + flags + ["-c", "-o", "\(folder)/\(name).o", "\(folder)/\(name).c"]
            ).check()
        }
        preObject = try ObjectFile(path: folder + "/pre.o")
        postObject = try ObjectFile(path: folder + "/post.o")
        difference = try UnitDifference.compare(
            path: "u.c", module: nil, prePath: folder + "/pre.o", postPath: folder + "/post.o",
            tables: Self.tables, replacing: replacing)
    }

    var changed: [String] { difference.functions.map(\.name).sorted() }
    var replaced: [String] { difference.functions.filter { $0.preSymbol != nil }.map(\.name).sorted() }
    var codes: [String] { difference.findings.filter { $0.severity == .error }.map(\.code).sorted() }

    func spans() throws -> (pre: ObjectSpans, post: ObjectSpans) {
        (
            try ObjectSpans(preObject.withoutDebugInformation(), path: "u.c", tables: Self.tables),
            try ObjectSpans(postObject.withoutDebugInformation(), path: "u.c", tables: Self.tables)
        )
    }
}
