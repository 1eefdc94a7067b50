// Exports: what a unit's export entries say, which of them are shipped and how, and when a checksum's change is a remark.

import Testing

@testable import Core

@Suite struct ExportTests {
    /// EXPORT_SYMBOL as include/linux/export.h of Linux 6.1 expands it.
    private static let macro = """
        #define EXPORT(sym, sec, ns) asm( \\
            ".section \\"__ksymtab_strings\\",\\"aMS\\",%progbits,1\\n__kstrtab_" #sym ": .asciz \\"" #sym "\\"\\n" \\
            "__kstrtabns_" #sym ": .asciz \\"" ns "\\"\\n.previous\\n" \\
            ".section \\"___ksymtab" sec "+" #sym "\\", \\"a\\"\\n.balign 4\\n__ksymtab_" #sym ":\\n" \\
            ".long " #sym "- .\\n.long __kstrtab_" #sym "- .\\n.long __kstrtabns_" #sym "- .\\n.previous\\n");
        int old(int x) { return x + 1; }
        int kept(int x) { return x + 2; }
        EXPORT(old, "", "")

        """

    private func fixture(_ pre: String, _ post: String) async throws -> DiffFixture {
        try await DiffFixture(Self.macro + pre, Self.macro + post)
    }

    private let additions = """
        int added(int x) { return x * 3; }
        int data = 5;
        EXPORT(added, "_gpl", "SPACE")
        EXPORT(data, "", "")
        EXPORT(kept, "_gpl", "")
        EXPORT(far, "", "")
        """

    @Test("a new export is remarked and shipped, with what is new of what it names")
    func newExports() async throws {
        let fixture = try await fixture("", additions)
        #expect(fixture.codes == [])
        let notes = fixture.difference.findings.filter { $0.code == "export-added" && $0.severity == .note }
        #expect(notes.map(\.symbol) == ["added", "data", "far", "kept"])
        let exports = fixture.difference.newExports
        #expect(exports.map(\.name) == ["added", "data", "far", "kept"])
        #expect(exports.map(\.isGPL) == [true, false, false, true])
        #expect(exports.map(\.namespace) == ["SPACE", "", "", ""])
        guard case .existing("kept", let symbol) = exports.last?.subject else {
            Issue.record("\(exports)")
            return
        }
        #expect(exports.prefix(3).map(\.subject) == [.new("added"), .new("data"), .elsewhere(nil)])
        #expect(fixture.difference.preObject.symbols[symbol].name == "kept")
        let shipped = try #require(fixture.difference.shipment).object.symbols.filter { !$0.isLocal }.map(
            \.name)
        #expect(shipped.contains("added") && shipped.contains("data") && !shipped.contains("kept"))
    }

    /// EXPORT_SYMBOL as include/linux/export.h of Linux 6.12 expands it.
    private func record(_ name: String, _ licence: String, _ space: String) -> String {
        "asm(\".section .export_symbol,\\\"a\\\"\\n__export_symbol_\(name):\\n.asciz \\\"\(licence)\\\"\\n"
            + ".ascii \\\"\(space)\\\" \\\"\\\\0\\\"\\n.balign 8\\n.quad \(name)\\n.previous\");\n"
    }

    @Test("records for modpost are exports, too")
    func records() async throws {
        let old = record("old", "", "")
        let added =
            "int added(int x) { return x * 3; }\n" + record("added", "GPL", "SPACE")
            + record("kept", "", "module:a,b")
        let fixture = try await fixture(old, old + added)
        #expect(fixture.codes == [])
        let exports = fixture.difference.newExports
        #expect(exports.map(\.name) == ["added", "kept"])
        #expect(exports.map(\.isGPL) == [true, false])
        #expect(exports.map(\.namespace) == ["SPACE", "module:a,b"])
        #expect(exports.first?.subject == .new("added"))
        let gone = try await self.fixture(record("kept", "", ""), "")
        #expect(gone.codes == ["export-removed"], "\(gone.difference.findings)")
        #expect(
            try await self.fixture(record("kept", "", ""), record("kept", "GPL", "")).codes == [
                "export-removed"
            ])
    }

    @Test("a function that was only inlined before is new")
    func inlined() async throws {
        let text =
            "static inline int small(int x) { return x * 7; }\nint user(int x) { return small(x) + 1; }\n"
        let fixture = try await fixture(
            text, text.replacing("static inline ", with: "") + "EXPORT(small, \"\", \"\")\n")
        #expect(!fixture.preObject.symbols.contains { $0.name == "small" })
        #expect(fixture.difference.newExports.map(\.subject) == [.new("small")])
    }

    @Test("an export alone is a change")
    func exportAlone() async throws {
        let fixture = try await fixture("", "EXPORT(kept, \"\", \"\")")
        #expect(!fixture.difference.isEmpty && fixture.difference.functions.isEmpty)
        let same = try await self.fixture("EXPORT(kept, \"\", \"\")", "EXPORT(kept, \"\", \"\")")
        #expect(same.difference.isEmpty && same.difference.exports == ["kept", "old"])
    }

    @Test("an export that goes, or that gets another licence or namespace, is an error")
    func removedExports() async throws {
        let all = ["EXPORT(kept, \"_gpl\", \"\")", "EXPORT(kept, \"\", \"SPACE\")", ""]
        for other in all {
            let fixture = try await fixture("EXPORT(kept, \"\", \"\")", other)
            #expect(fixture.codes == ["export-removed"], "\(other)")
        }
    }

    // MARK: - Tables

    private func assembly() -> Assembly {
        Assembly(
            module: [], units: [.init(path: "u.c", module: nil, object: "pre/0.o")], replacements: [],
            references: [], modules: [], isResident: false, imported: [])
    }

    private func entry(_ name: String, in object: ObjectFile) throws -> Section {
        object.sections[try #require(object.section(named: name), "\(name)")]
    }

    @Test("the tables name the new symbol, and refer to the old one where it stands")
    func tables() async throws {
        let exports = try await fixture("", additions).difference.newExports
        var assembly = assembly()
        let checksums: [String: UInt32] = ["added": 0x1234_5678, "data": 7, "far": 9, "kept": 8]
        let object = try #require(
            try ExportTables(
                [exports], checksums, [], &assembly, architecture: .amd64)
        ).object
        #expect(assembly.references.map(\.name) == ["far", "kept"])
        let entries = ["___ksymtab_gpl+added", "___ksymtab+data", "___ksymtab+far", "___ksymtab_gpl+kept"]
        let names = try entries.map {
            object.symbols[try entry($0, in: object).relocations[0].symbol].name
        }
        #expect(names == ["added", "data", "ksplice.0", "ksplice.1"])
        #expect(try entry("___kcrctab_gpl+added", in: object).contents == [0x78, 0x56, 0x34, 0x12])
        #expect(assembly.exports.map(\.symbol) == ["added", "data", "far", "kept"])
        #expect(
            assembly.exports[0]
                == .init(unit: 0, symbol: "added", isGPL: true, namespace: "SPACE", checksum: 0x1234_5678))
        let strings = try entry("__ksymtab_strings", in: object).contents
        let fields = try entry("___ksymtab_gpl+added", in: object).relocations
        #expect(fields.map(\.offset) == [0, 4, 8])
        #expect(fields.dropFirst().map { strings.string(at: Int($0.addend)) } == ["added", "SPACE"])
    }

    @Test("an export of what another unit of the update brings is bound inside")
    func newElsewhere() async throws {
        let exports = try await fixture("", additions).difference.newExports.filter { $0.name == "far" }
        var assembly = assembly()
        let object = try #require(try ExportTables([exports], nil, ["far"], &assembly, architecture: .amd64))
            .object
        #expect(assembly.references.isEmpty)
        #expect(object.symbols[try entry("___ksymtab+far", in: object).relocations[0].symbol].name == "far")
        #expect(!object.sections.contains { $0.name.hasPrefix("___kcrctab") })
    }

    /// The kernel would refuse every module that uses it.
    @Test func anExportWithoutChecksumIsRefused() async throws {
        let exports = try await fixture("", additions).difference.newExports
        var assembly = assembly()
        let failure = #expect(throws: Failure.self) {
            try ExportTables([exports], ["data": 7], [], &assembly, architecture: .amd64)
        }
        #expect(failure?.message.contains("'added'") == true)
    }

    // MARK: - Checksums

    @Test func checksumsAreRead() {
        let read = ExportChecksums(
            parsing: "#SYMVER one 0x0000000a\n__crc_two = 0xffffffff;\nsomething else 0x1\n#SYMVER bad 10\n",
            warnings:
                "a.c:7: warning: one: modversion changed because of changes in struct a, enum b (became defined)\n"
        )
        #expect(read.values == ["one": 10, "two": 0xffff_ffff])
        #expect(read.causes == ["one": ["enum b (became defined)", "struct a"]])
    }

    private func review(options: String = "CONFIG_MODVERSIONS=y\n", crc: UInt32 = 1) throws -> ExportReview {
        let identity = KernelIdentity(
            arch: "x86_64", buildID: "", release: "", version: "", compiler: "", configDigest: "")
        return try ExportReview(
            KernelDescriptor(
                name: "k", identity: identity, sourceCommit: "", config: options,
                symbols: KernelSymbols([]),
                exports: [KernelExport(name: "f", crc: crc, object: "vmlinux", isGPL: false)]))
    }

    private func findings(_ after: ExportChecksums, crc: UInt32 = 1) throws -> [Finding] {
        var review = try review(crc: crc)
        let unit = ExportReview.Unit(path: "u.c", before: ExportChecksums(values: ["f": 1]), after: after)
        review.add(unit) { $0 == "f" ? 12 : nil }
        return review.findings
    }

    @Test("a checksum that changes is an error that names the type, unless the type only became known")
    func checksumsAreCompared() throws {
        #expect(try findings(ExportChecksums(values: ["f": 1, "g": 2])).isEmpty)
        let changed = try findings(ExportChecksums(values: ["f": 2], causes: ["f": ["struct a"]]))
        let finding = try #require(changed.first)
        #expect(finding.code == "export-crc-changed" && finding.severity == .error)
        #expect(
            finding.message.contains("'f' changes from 0x00000001 to 0x00000002 because of struct a"))
        #expect(finding.line == 12)
        #expect(try findings(ExportChecksums(values: ["f": 2])).map(\.severity) == [.error])
        let known = ExportChecksums(values: ["f": 2], causes: ["f": ["struct a (became defined)"]])
        #expect(try findings(known).map(\.severity) == [.note])
    }

    @Test("an export that comes from another file is compared with the kernel's own")
    func movedExportsAreCompared() async throws {
        var review = try review(crc: 5)
        let after = ExportChecksums(values: ["f": 6, "g": 7])
        review.add(.init(path: "u.c", before: ExportChecksums(), after: after)) { _ in nil }
        #expect(review.findings.map(\.code) == ["export-crc-changed"])
        let message = try #require(review.findings.first).message
        #expect(message.contains("'f' changes from 0x00000005 to 0x00000006"))
        let text = "int f(void) { return 1; }\nint g(void) { return 2; }\n"
        for (licence, space, codes) in [
            ("", "", []), ("_gpl", "", ["export-removed"]), ("", "SPACE", ["export-removed"]),
        ] {
            let exports = "EXPORT(f, \"\(licence)\", \"\(space)\")\nEXPORT(g, \"_gpl\", \"\")\n"
            let moved = review.moved([try await fixture(text, text + exports).difference])
            #expect(moved.map(\.code) == codes && moved.allSatisfy { $0.symbol == "f" })
        }
        var same = try self.review(crc: 6)
        same.add(.init(path: "u.c", before: ExportChecksums(), after: after)) { _ in nil }
        #expect(same.findings.isEmpty)
    }

    @Test("what changes for one reason is told once")
    func checksumsAreGrouped() throws {
        let names = "abcdefgh".map { String($0) }
        func checksums(_ value: UInt32) -> [String: UInt32] {
            Dictionary(uniqueKeysWithValues: names.map { ($0, value) })
        }
        let causes =
            [["struct s"], ["struct s"], ["struct t"], [], []] + [[String]](repeating: ["enum e"], count: 3)
        let after = ExportChecksums(
            values: checksums(2), causes: Dictionary(uniqueKeysWithValues: zip(names, causes)))
        var review = try review()
        review.add(.init(path: "u.c", before: ExportChecksums(values: checksums(1)), after: after)) { _ in nil
        }
        let told = review.findings.map(\.message).map { $0.split(separator: "'", maxSplits: 1).last ?? "" }
        let change = "changes from 0x00000001 to 0x00000002"
        #expect(
            told == [
                "a' \(change) because of struct s, and so do b", "c' \(change) because of struct t",
                "d' \(change)",
                "e' \(change)", "f' \(change) because of enum e, and so do g, h",
            ])
    }

    @Test("a checksum that is not the kernel's is an error that says both")
    func checksumsAreTheKernels() throws {
        let found = try findings(ExportChecksums(values: ["f": 1]), crc: 3)
        #expect(found.map(\.code) == ["export-crc-mismatch"] && found.first?.severity == .error)
        let finding = try #require(found.first)
        #expect(finding.message.contains("is 0x00000001, but the kernel's is 0x00000003"))
    }

    @Test("a kernel without checksums gets none")
    func noChecksums() throws {
        #expect(try review(options: "").checksums == nil)
        #expect(try review().checksums == [:])
    }

    @Test("what the kernel exports already is not exported once more, and the note says so")
    func takenNames() async throws {
        let review = try review()
        let text = "int f(void) { return 1; }\nint g(void) { return 2; }\n"
        let exports = "EXPORT(f, \"\", \"\")\nEXPORT(g, \"\", \"\")\n"
        let difference = try await fixture(text, text + exports).difference
        #expect(difference.newExports.map(\.name) == ["f", "g"])
        #expect(review.settled([difference]).flatMap(\.newExports).map(\.name) == ["g"])
        let notes = review.settled(difference.findings).filter { $0.code == "export-added" }.map(\.message)
        #expect(notes.first == "'f' is exported by vmlinux already")
        #expect(notes.last?.hasPrefix("'g' is newly exported") == true)
    }

    @Test("new exports are refused where the kernel has them in another form")
    func unknownForm() throws {
        let script =
            " __ksymtab 0 : { *(SORT(___ksymtab+*)) }\n __ksymtab_gpl 0 : { *(SORT(___ksymtab_gpl+*)) }\n"
        let options = ["HAVE_ARCH_PREL32_RELOCATIONS": "y"]
        try ExportTables.checkForm(script: script, options: options)
        let one = String(script.prefix { $0 != "\n" })
        for (script, options) in [(nil, options), (one, options), (script, [:])]
            as [(String?, [String: String])]
        {
            #expect {
                try ExportTables.checkForm(script: script, options: options)
            } throws: { ($0 as? Failure)?.status == .cannotBePatched }
        }
    }

    @Test func linesOfExports() {
        let lines = ["int f(void);", "EXPORT_SYMBOL(f2);", "EXPORT_SYMBOL_NS_GPL(f, SPACE);"]
        #expect(ExportReview.line(ofExport: "f", in: lines) == 3)
        #expect(ExportReview.line(ofExport: "f2", in: lines) == 2)
        #expect(ExportReview.line(ofExport: "g", in: lines) == nil)
    }
}
