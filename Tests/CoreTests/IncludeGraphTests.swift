// Which sources reach a header: directly, through other headers, beside the including file or on a search path.

import Testing

@testable import Core

@Suite struct IncludeGraphTests {
    private static let lines = """
        fs/x/a.c:#include "x.h"
        fs/x/b.c:#include <linux/y.h>
        fs/x/c.c:#include "../x/x.h"
        fs/y/d.c:#include "x.h"
        fs/y/e.c:#  include "sub/z.h"
        fs/y/g.S:#include "sub/z.h"
        fs/y/h.lds.S:#include "sub/z.h"
        fs/x/x.h:#include <linux/w.h>
        include/linux/y.h:#include <linux/w.h>
        include/linux/w.h:#include <linux/y.h>
        net/f.c:#include <net/w.h>

        """

    private func users(_ headers: String..., existing: Set<String> = []) -> [String] {
        IncludeGraph(Array(Self.lines.utf8), architecture: "x86") { existing.contains($0) }.users(of: headers)
    }

    @Test func throughOtherHeadersAndCircles() {
        #expect(
            users("include/linux/w.h", existing: ["fs/x/x.h", "fs/y/x.h"]) == [
                "fs/x/a.c", "fs/x/b.c", "fs/x/c.c",
            ])
        #expect(users("include/linux/y.h", existing: ["fs/x/x.h", "fs/y/x.h"]).contains("fs/x/b.c"))
    }

    @Test func aFileBesideTheIncludingOneWins() {
        #expect(users("fs/x/x.h", existing: ["fs/x/x.h", "fs/y/x.h"]) == ["fs/x/a.c", "fs/x/c.c"])
        // Nothing stands beside fs/y/d.c: a search path may lead to any header of that name.
        #expect(users("fs/x/x.h", existing: ["fs/x/x.h"]) == ["fs/x/a.c", "fs/x/c.c", "fs/y/d.c"])
    }

    @Test func theWholePathCounts() {
        #expect(users("include/net/w.h") == ["net/f.c"])
        #expect(users("fs/y/sub/z.h") == ["fs/y/e.c", "fs/y/g.S"])
        #expect(users("fs/y/other/z.h") == [])
        #expect(users("include/linux/nobody.h") == [])
    }

    @Test func linesOfATree() async throws {
        let folder = try Files.temporaryDirectory()
        defer { do { try Files.remove(folder) } catch {} }
        for path in ["fs", "tools/lib"] { try Files.createDirectory("\(folder)/\(path)") }
        try Files.write("  #\tinclude <linux/a.h> /* why */\n// #include \"no.h\"\n", to: folder + "/fs/a.c")
        try Files.write("#include \"a.h\"\n", to: folder + "/tools/lib/b.c")
        let text = String(decoding: try await IncludeGraph.search(folder), as: UTF8.self)
        #expect(text == "fs/a.c:  #\tinclude <linux/a.h>\n")
    }

    @Test func pathsAreNormalised() {
        let graph = IncludeGraph(
            Array("fs/x/a.c:#include \"./x.h\"\nfs/x/b.c:#include \"./y/../x.h\"\n".utf8), architecture: "x86"
        ) { $0 == "fs/x/x.h" }
        #expect(graph.users(of: ["fs/x/x.h"]) == ["fs/x/a.c", "fs/x/b.c"])
    }

    @Test func wrappersOfTheGenericHeaders() {
        let lines = Array("lib/a.c:#include <asm/unaligned.h>\nlib/b.c:#include <asm/io.h>\n".utf8)
        let graph = IncludeGraph(lines, architecture: "x86") { $0 == "arch/x86/include/asm/io.h" }
        #expect(graph.users(of: ["include/asm-generic/unaligned.h"]) == ["lib/a.c"])
        // The architecture has its own, which includes the generic one by its whole path.
        #expect(graph.users(of: ["include/asm-generic/io.h"]) == [])
    }

    @Test func sourcesThatSourcesInclude() {
        let lines = Array(
            "fs/compat.c:#include \"elf.c\"\nfs/elf.c:#include <linux/elf.h>\nfs/z.c:#include \"elf.h\"\n"
                .utf8)
        let graph = IncludeGraph(lines, architecture: "x86") { _ in false }
        #expect(graph.users(of: ["fs/elf.c"]) == ["fs/compat.c"])
        #expect(graph.users(of: ["include/linux/elf.h"]).contains("fs/compat.c"))
        #expect(
            String(decoding: IncludeGraph.ofSources(lines), as: UTF8.self)
                == "fs/compat.c:#include \"elf.c\"\n")
    }
}
