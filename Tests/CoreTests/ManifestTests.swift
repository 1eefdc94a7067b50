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
        let read = try Manifest(parsing: manifest.text)
        #expect(read == manifest)
        #expect(throws: Failure.self) {
            try Manifest(parsing: manifest.text.replacing("replace 0", with: "replace 7"))
        }
        #expect(throws: Failure.self) { try Manifest(parsing: "x\n" + manifest.text) }
    }
}
