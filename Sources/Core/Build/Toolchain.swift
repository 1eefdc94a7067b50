// Finding the compiler that the kernel was built with. Another compiler makes other code, which run-pre matching
// then refuses on the administrator's machine; it is better to say so here.

/// The compiler of a kernel build.
public struct Toolchain: Sendable {
    /// The command, as make's `CC` takes it.
    public var compiler: String
    /// The first line of its `--version`.
    public var versionText: String

    /// Finds the compiler that `CONFIG_CC_VERSION_TEXT` names, and compares its version with it.
    ///
    /// The text is the first line of `--version`; its first word is the name the compiler was called by
    /// (`gcc-12 (Debian 12.2.0-14) 12.2.0`).
    /// - Parameter allowOther: whether another version is accepted.
    public static func find(_ wanted: String, allowOther: Bool) async throws -> Toolchain {
        guard let name = wanted.split(separator: " ").first.map({ String($0) }) else {
            throw Failure(
                "the kernel's config does not name its compiler (CONFIG_CC_VERSION_TEXT)",
                hint: "register the kernel with the config that it was built with")
        }
        var seen: [String] = []
        for candidate in candidates(for: name) {
            guard let result = try? await Command([candidate, "--version"]).run(), result.succeeded,
                let text = result.text.lines.first.map({ String($0) })
            else { continue }
            if sameVersion(text, wanted) { return Toolchain(compiler: candidate, versionText: text) }
            seen.append(text)
        }
        if allowOther, let text = seen.first, let candidate = candidates(for: name).first {
            return Toolchain(compiler: candidate, versionText: text)
        }
        let found = seen.isEmpty ? "no '\(name)' is installed" : "found: " + seen.joined(separator: "; ")
        throw Failure(
            "the kernel was built by another compiler\nkernel: \(wanted)\n\(found)",
            hints: [
                "on Debian: apt-get install \(name)",
                "use --allow-other-compiler to try the one that is here; run-pre matching remains the proof",
            ])
    }

    /// `gcc-12`, then the same without its number.
    private static func candidates(for name: String) -> [String] {
        guard let dash = name.lastIndex(of: "-"), name[name.index(after: dash)...].allSatisfy(\.isNumber)
        else {
            return [name]
        }
        return [name, String(name[..<dash])]
    }

    /// Equal but for the name that the compiler was called by.
    private static func sameVersion(_ a: String, _ b: String) -> Bool {
        a.split(separator: " ").dropFirst() == b.split(separator: " ").dropFirst()
    }
}
