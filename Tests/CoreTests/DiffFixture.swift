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

    /// `headers` are files that both include, by name.
    init(
        _ pre: String, _ post: String, flags: [String] = [], replacing: Set<String> = [],
        headers: [String: (pre: String, post: String)] = [:], module: String? = nil
    ) async throws {
        let folder = try Files.temporaryDirectory()
        defer { do { try Files.remove(folder) } catch {} }
        var changed = headers
        changed["u.c"] = (pre, post)
        for name in ["pre", "post"] {
            try Files.createDirectory("\(folder)/\(name)")
            for (file, texts) in changed {
                try Files.write(name == "pre" ? texts.pre : texts.post, to: "\(folder)/\(name)/\(file)")
            }
            try await Command(
                [
                    "gcc", "-O2", "-g", "-fno-pic", "-mcmodel=kernel", "-mno-red-zone",
                    "-fno-asynchronous-unwind-tables",
                    "-fcf-protection=none", "-fno-stack-protector", "-ffunction-sections", "-fdata-sections",
                    "-fno-toplevel-reorder",
                ] + flags + ["-c", "-o", "\(folder)/\(name).o", "\(folder)/\(name)/u.c"]
            ).check()
        }
        preObject = try ObjectFile(path: folder + "/pre.o")
        postObject = try ObjectFile(path: folder + "/post.o")
        difference = try UnitDifference.compare(
            path: "u.c", module: module, prePath: folder + "/pre.o", postPath: folder + "/post.o",
            tables: Self.tables, replacing: replacing,
            source: SourceChange(changed.mapValues { Self.file($0.pre, $0.post) }))
    }

    /// All between the first and the last line that differ.
    private static func file(_ pre: String, _ post: String) -> SourceChange.File {
        let old = pre.split(separator: "\n", omittingEmptySubsequences: false)
        let new = post.split(separator: "\n", omittingEmptySubsequences: false)
        let head = zip(old, new).prefix { $0 == $1 }.count
        let tail = zip(old.dropFirst(head).reversed(), new.dropFirst(head).reversed()).prefix { $0 == $1 }
            .count
        let hunk = Hunk(
            preStart: head + 1, preCount: old.count - head - tail, postStart: head + 1,
            postCount: new.count - head - tail)
        return .init(hunks: pre == post ? [] : [hunk], pre: Array(pre.utf8), post: Array(post.utf8))
    }

    func record(_ function: String) -> ChangeRecord? {
        difference.records.first { $0.function == function }
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
