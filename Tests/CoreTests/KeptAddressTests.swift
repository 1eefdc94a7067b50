// Which addresses of new code and data an update hands on, found in compiled units.

import Testing

@testable import Core

@Suite struct KeptAddressTests {
    private func findings(_ pre: String, _ post: String) async throws -> [Finding] {
        let fixture = try await DiffFixture(pre, post)
        let shipped = try #require(fixture.difference.shipment).object
        let names = ChangeReview.newNames([fixture.difference])
        return KeptAddresses(shipped, new: names).findings(
            SourceFile(path: "u.c", text: Array(post.utf8)))
    }

    private let head =
        "struct t { void (*f)(void); }; extern void arm(struct t *, void (*)(void)); extern void g(int);\n"

    @Test func anAddressOfANewFunction() async throws {
        let found = try await findings(
            head + "void f(struct t *t) { g(1); g(2); g(3); }",
            head
                + "static void late(void) { g(9); g(8); }\nvoid f(struct t *t) { g(1); g(2);\n arm(t, late); }"
        )
        #expect(found.map(\.code) == ["address-outlives-undo"])
        #expect(found.first?.symbol == "late" && found.first?.line == 4 && found.first?.severity == .warning)
        #expect(found.first?.message.contains("handed on by 'f'") == true, "\(found)")
    }

    @Test func anAddressInNewData() async throws {
        let found = try await findings(
            head + "extern void use(const struct t *); void f(struct t *t) { g(1); g(2); g(3); }",
            head
                + "extern void use(struct t *); static void late(void) { g(9); g(8); } static struct t o = { late };\nvoid f(struct t *t) { g(1); g(2); use(&o); }"
        )
        #expect(found.map(\.severity) == [.warning, .note])
        #expect(found.first?.message.contains("'late' is handed on by 'o'") == true, "\(found)")
        #expect(found.last?.symbol == "o")
    }

    @Test func callsAndAccessesAndOldFunctionsAreNot() async throws {
        let found = try await findings(
            head + "void old(void) { g(7); } void f(struct t *t) { g(1); g(2); g(3); }",
            head
                + "void old(void) { g(7); } static int count; static __attribute__((noinline)) void now(void) { g(9); g(8); }\nvoid f(struct t *t) { g(1); now(); now(); g(++count); g(\"x\"[count & 1]); arm(t, old); }"
        )
        #expect(found.isEmpty, "\(found)")
    }
}
