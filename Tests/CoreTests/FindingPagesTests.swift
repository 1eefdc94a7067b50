// Pages of findings, and what a mistyped code is taken for.

import Testing

@testable import Core

@Suite struct FindingPagesTests {
    private let pages = FindingPages(
        folders: ["findings", "mismatches"].map { SourceTree.root + "/Documentation/" + $0 })

    @Test func aPageBeginsWithItsCode() throws {
        #expect(try pages.page("data-changed").hasPrefix("# data-changed: a variable changes"))
        let line = try #require(try pages.summaries().first { $0.code == "data-changed" })
        #expect(line.summary == "a variable changes its size or its initial value")
    }

    @Test func mismatchesAreExplainedToo() throws {
        #expect(try pages.page("other-compiler").hasPrefix("# other-compiler: the kernel was built by"))
        #expect(try pages.summaries().contains { $0.code == "kprobe" })
    }

    @Test func anUnknownCodeNamesTheNearest() throws {
        let failure = try #require(throws: Failure.self) { try pages.page("data-change") }
        #expect(failure.status == .notFound)
        #expect(failure.hints.first == "git ksplice explain data-changed")
        let none = try #require(throws: Failure.self) { try pages.page("xyzzy") }
        #expect(none.hints == ["git ksplice explain lists all"])
    }

    @Test func aCodeIsNoPath() throws {
        #expect(throws: Failure.self) { try pages.page("../findings") }
    }

    @Test func distances() {
        #expect(editDistance(Array("kconfig".utf8), Array("kconfig".utf8)) == 0)
        #expect(editDistance(Array("kconfg".utf8), Array("kconfig".utf8)) == 1)
        #expect(editDistance([], Array("abc".utf8)) == 3)
        #expect(editDistance(Array("abc".utf8), Array("cab".utf8)) == 2)
    }

    @Test func nearestWords() {
        let codes = ["data-changed", "data-removed", "type-layout", "kconfig"]
        #expect(nearest(to: "layout", in: codes) == ["type-layout"])
        #expect(nearest(to: "kconfg", in: codes) == ["kconfig"])
        #expect(nearest(to: "something", in: codes).isEmpty)
    }
}
