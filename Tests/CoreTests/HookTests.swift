// Hooks and ids of shadow variables, from the header that authors include to the tables of the update module.

import Testing

@testable import Core

@Suite struct HookTests {
    /// Compiles post with the real `ksplice.h`; the kernel's headers that it wants are stood in for.
    private func fixture(_ post: String, pre: String = "int f(void) { return 1; }") async throws
        -> DiffFixture
    {
        let folder = try Files.temporaryDirectory()
        defer { do { try Files.remove(folder) } catch {} }
        try Files.createDirectory(folder + "/linux")
        try Files.write(
            "#define __used __attribute__((used))\n#define __section(s) __attribute__((section(s)))\n",
            to: folder + "/linux/compiler.h")
        try Files.write(
            "typedef unsigned gfp_t; typedef unsigned long size_t;\n#define NULL ((void *)0)\n",
            to: folder + "/linux/types.h")
        return try await DiffFixture(
            pre, pre + "\n#include \"ksplice.h\"\n" + post,
            flags: ["-Werror", "-I", folder, "-idirafter", SourceTree.root + "/kernel"])
    }

    private func custom(_ fixture: DiffFixture) throws -> CustomCode {
        var object = try #require(fixture.difference.shipment).object
        var code = CustomCode()
        var names: [String: String] = [:]
        try code.take(&object, fixture.difference, unit: 0, &names)
        // The entries are not shipped, and each function keeps its place under a name of its own.
        #expect(!object.sections.contains { $0.name.hasPrefix(".ksplice.") })
        for hook in code.hooks {
            #expect(names[hook.unique] == hook.name)
            #expect(
                object.symbols.contains { $0.name == hook.unique && $0.isFunction && $0.isDefinedInSection })
        }
        return code
    }

    @Test func everyKindIsFoundInTheOrderOfTheSource() async throws {
        let kinds = HookKind.allCases
        let source = kinds.reversed().map { kind in
            let type = kind.rawValue.hasPrefix("pre") || kind.rawValue.hasPrefix("check") ? "int" : "void"
            let body = type == "int" ? "return 0;" : ""
            return
                "static \(type) do_\(kind.rawValue)(void) { \(body) }\nksplice_\(kind.rawValue)(do_\(kind.rawValue));"
        }.joined(separator: "\n")
        let fixture = try await fixture(source)
        #expect(fixture.difference.hooks == Set(kinds))
        #expect(!fixture.difference.isEmpty)
        #expect(fixture.replaced == [])
        let code = try custom(fixture)
        #expect(code.hooks.map(\.kind) == kinds.reversed())
        #expect(code.hooks.map(\.name) == kinds.reversed().map { "do_" + $0.rawValue })
        #expect(HookReview.findings([fixture.difference]) == [])
        // Hooks are called by ksplice.ko alone: nothing keeps their addresses.
        #expect(fixture.difference.shipment?.keepsAddresses == false)
    }

    @Test func hooksShipWhatTheyReach() async throws {
        let fixture = try await fixture(
            """
            int state;
            __attribute__((noinline)) static void helper(void) { state++; }
            static void act(void) { helper(); }
            ksplice_apply(act);
            """)
        let symbols = try #require(fixture.difference.shipment).object.symbols.filter(\.isDefinedInSection)
        #expect(Set(symbols.map(\.name)).isSuperset(of: ["act", "helper", "state"]))
    }

    @Test func aFunctionThatExistsIsNoHook() async throws {
        let fixture = try await fixture("extern void g(void);\nksplice_apply(g);")
        #expect(throws: Failure.self) { try custom(fixture) }
    }

    @Test func aWrongTypeDoesNotCompile() async throws {
        await #expect(throws: Failure.self) {
            try await fixture("static void check(void) {}\nksplice_check_apply(check);")
        }
    }

    @Test func idsOfShadowVariables() async throws {
        let fixture = try await fixture(
            """
            static void give_up(const void *object, void *variable) { (void)object; (void)variable; }
            ksplice_shadow_id(0x1234567890, give_up);
            ksplice_shadow_id(7, NULL);
            static void act(void) {}
            ksplice_apply(act);
            """)
        let shadows = try custom(fixture).shadows.sorted { $0.id < $1.id }
        #expect(shadows.map(\.id) == [7, 0x12_3456_7890])
        #expect(shadows[0].release == nil && shadows[1].release != nil)
        #expect(fixture.difference.hooks == [.apply])
    }

    @Test func idsCountInAFileOfTheirOwn() async throws {
        let ids = try await fixture("ksplice_shadow_id(7, NULL);").difference
        #expect(!ids.isEmpty && !ids.changesKernel)
        let user = try await fixture(
            "void *f(void) { return ksplice_shadow_get_or_attach(\"o\", 7, 4, NULL, 0); }",
            pre: "void *g(void) { return 0; }"
        ).difference
        #expect(HookReview.findings([user]).map(\.code) == ["shadow-undeclared"])
        #expect(HookReview.findings([user, ids]) == [])
        // Reading needs no declaration.
        let reader = try await fixture("void *h(void) { return ksplice_shadow_get(\"o\", 7); }").difference
        #expect(HookReview.findings([reader]) == [])
    }

    @Test(
        "hooks that leave something behind",
        arguments: [
            (["pre_apply"], ["ksplice_pre_apply"]), (["pre_apply", "fail_apply"], []),
            (["apply"], ["ksplice_apply"]), (["apply", "post_reverse"], []),
            (["post_apply", "fail_apply"], ["ksplice_post_apply", "ksplice_fail_apply"]),
            (["pre_reverse"], ["ksplice_pre_reverse"]), (["fail_reverse"], ["ksplice_fail_reverse"]),
            (["check_apply", "check_reverse", "reverse"], []),
        ])
    func unpaired(_ kinds: [String], _ expected: [String]) async throws {
        let source = kinds.map { kind in
            kind.hasPrefix("pre") || kind.hasPrefix("check")
                ? "static int do_\(kind)(void) { return 0; }\nksplice_\(kind)(do_\(kind));"
                : "static void do_\(kind)(void) {}\nksplice_\(kind)(do_\(kind));"
        }.joined(separator: "\n")
        let findings = HookReview.findings([try await fixture(source).difference])
        #expect(findings.map(\.symbol) == expected)
        #expect(
            findings.allSatisfy { $0.code == "hook-unpaired" && $0.severity == .warning && $0.file == "u.c" })
    }

    /// The numbers and sizes of `kernel/update.h`, as a compiler sees them.
    @Test func tablesAreThoseOfTheHeader() async throws {
        let kinds = HookKind.allCases.map { kind in
            let parts = kind.rawValue.split(separator: "_").map { String($0) }
            let step = ["pre", "check", "post", "fail"].first { $0 == parts[0] } ?? "act"
            return "KSPLICE_HOOK_\(step.uppercased())"
                + (parts.last == "reverse" ? " + KSPLICE_HOOK_REVERSE" : "")
        }
        let object = try await MatchFixture.compile(
            """
            #include <stddef.h>
            typedef unsigned long long __u64; typedef unsigned __u32;
            #include "update.h"
            unsigned kinds[] = { \(kinds.joined(separator: ", ")), KSPLICE_HOOK_KINDS };
            unsigned sizes[] = { KSPLICE_ABI, sizeof(struct ksplice_hook), sizeof(struct ksplice_shadow),
                sizeof(struct ksplice_data), sizeof(struct ksplice_table), offsetof(struct ksplice_table, id),
                offsetof(struct ksplice_table, data_count), offsetof(struct ksplice_data, expected) };
            """, flags: ["-I", SourceTree.root + "/kernel"])
        func words(_ name: String) throws -> [UInt32] {
            let symbol = try #require(object.symbols.first { $0.name == name })
            let bytes = object.sections[symbol.section].contents
            return try stride(from: 0, to: Int(symbol.size), by: 4).map {
                try #require(bytes.load(UInt32.self, at: $0))
            }
        }
        #expect(try words("kinds") == HookKind.allCases.map(\.number) + [UInt32(HookKind.allCases.count)])
        #expect(try words("sizes") == [ModuleResolver.tableVersion, 24, 16, 40, 176, 32, 24, 24])
    }
}
