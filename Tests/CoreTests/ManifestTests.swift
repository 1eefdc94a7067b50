import Testing

@testable import Core

@Suite struct ManifestTests {
    @Test func textSurvivesARoundTrip() throws {
        let kernel = KernelIdentity(
            arch: "x86_64", buildID: "ab12", release: "6.1.0", version: "#1 SMP 100%", compiler: "",
            configDigest: "c")
        var manifest = Manifest(kernel: kernel, sourceCommit: "s", preTree: "p", postTree: "q")
        manifest.description = "-"
        manifest.units = [.init(path: "kernel/sys.c", module: nil, object: "pre/0.o")]
        manifest.replacements = [.init(unit: 0, symbol: "f", preSymbol: 3, size: 9)]
        manifest.references = [.init(name: "g", unit: 0, preSymbol: nil)]
        manifest.constants = [.init(unit: 0, symbol: "names", preSymbol: 4, size: 32)]
        manifest.hooks = [.init(unit: 0, kind: .checkApply, symbol: "may_apply")]
        manifest.shadows = [.init(unit: 0, id: 0xfedc_ba98_7654_3210)]
        manifest.exports = [
            .init(unit: 0, symbol: "e", isGPL: true, namespace: "", checksum: 0xab),
            .init(unit: 0, symbol: "f", isGPL: false, namespace: "SPACE", checksum: nil),
        ]
        let read = try Manifest(parsing: manifest.text)
        #expect(read == manifest)
        #expect(throws: Failure.self) {
            try Manifest(parsing: manifest.text.replacing("replace 0", with: "replace 7"))
        }
        #expect(throws: Failure.self) { try Manifest(parsing: "x\n" + manifest.text) }
        for (good, bad) in [
            ("constant 0", "constant 7"), ("hook 0", "hook 7"), ("shadow 0", "shadow 7"),
            ("check_apply", "no_such_kind"), ("0xfedc", "fedc"), ("export 0 e", "export 7 e"),
            (" gpl ", " gps "), ("0xab", "ab"),
        ] {
            #expect(throws: Failure.self, "\(bad)") {
                try Manifest(parsing: manifest.text.replacing(good, with: bad))
            }
        }
    }

    @Test func anOlderFormatSaysWhatToDo() throws {
        let failure = try #require(throws: Failure.self) { try Manifest(parsing: "ksplice-update 1\n") }
        #expect(failure.message.contains("older git-ksplice"))
        #expect(failure.hints == ["make the update again from its commit: git ksplice create"])
        let newer = try #require(throws: Failure.self) { try Manifest(parsing: "ksplice-update 99\n") }
        #expect(newer.hints == ["a newer git-ksplice may read it"])
    }
}
