// Which translation units a change can affect, and which of its files cannot be hot-patched at all.

/// The files of a change, sorted by what can be done about them.
struct AffectedFiles {
    /// Sources to compile before and after.
    var sources: [String] = []
    /// Headers: every source that includes one, directly or not, may change.
    var headers: [String] = []
    var findings: [Finding] = []

    /// Folders whose files are not part of a kernel.
    private static let outside = [
        "Documentation/", "samples/", "tools/", "LICENSES/", "debian/", ".github/", "rust/.gitignore",
    ]

    /// - Parameter architecture: the folder under `arch/` of the kernel.
    init(_ changed: [ChangedFile], architecture: String) {
        for file in changed { add(file, architecture) }
    }

    private mutating func add(_ file: ChangedFile, _ architecture: String) {
        let path = file.path
        let name = path.lastPathComponent
        if Self.outside.contains(where: { path.hasPrefix($0) }) { return }
        if path.hasPrefix("arch/") && !path.hasPrefix("arch/\(architecture)/") && name != "Kconfig" { return }
        if ["MAINTAINERS", "CREDITS", "COPYING", "README", ".gitignore", ".mailmap", ".clang-format"]
            .contains(name)
            || name.hasSuffix(".rst") || name.hasSuffix(".txt") || name.hasSuffix(".md")
        {
            return
        }
        if let reason = Self.bootPart(path, architecture) {
            refuse(
                "boot-code", path, "'\(path)' is part of \(reason)",
                "it is not kernel code that a redirect can reach")
        } else if name.hasPrefix("Kconfig") {
            refuse(
                "kconfig", path, "the change touches '\(path)'",
                "a running kernel's config cannot change; if the change does not matter to this config, use --force kconfig"
            )
        } else if name == "Makefile" || name == "Kbuild" || name.hasPrefix("Makefile.")
            || path.hasPrefix("scripts/")
        {
            refuse(
                "makefile", path, "the change touches '\(path)'",
                "what is built and how cannot change in a running kernel; if it does not matter to this config, use --force makefile"
            )
        } else if name.hasSuffix(".c") {
            if file.status == .deleted {
                refuse(
                    "file-deleted", path, "'\(path)' is deleted", "code of the running kernel cannot go away")
            } else {
                sources.append(path)
            }
        } else if name.hasSuffix(".h") {
            headers.append(path)
        } else if name.hasSuffix(".S") {
            refuse(
                "assembly", path, "the change touches the assembly file '\(path)'",
                "only code that the compiler made can be compared and replaced")
        } else {
            refuse(
                "unknown-file", path, "git-ksplice does not know what '\(path)' does to the kernel",
                "if it does not matter to the running kernel, use --force unknown-file")
        }
    }

    private mutating func refuse(_ code: String, _ path: String, _ message: String, _ advice: String) {
        findings.append(Finding(code, .error, file: path, message, advice: advice))
    }

    private static func bootPart(_ path: String, _ architecture: String) -> String? {
        let parts: [(String, String)] = [
            ("arch/\(architecture)/boot/", "the boot code"),
            ("arch/\(architecture)/realmode/", "the real-mode code"),
            ("arch/\(architecture)/entry/vdso/", "the vdso, which processes have mapped"),
            ("arch/\(architecture)/purgatory/", "the code that runs between two kernels"),
            ("lib/vdso/", "the vdso, which processes have mapped"), ("usr/", "the initial file system"),
        ]
        if path.hasSuffix(".lds.S") || path.hasSuffix(".lds.h") { return "the linker script" }
        return parts.first { path.hasPrefix($0.0) }?.1
    }

    /// Sources that reach one of the headers, by following the `#include` lines of the tree. An include is taken for one
    /// of a wanted header where its path leads there from the including file's folder, or where nothing stands at that
    /// place and the header's path ends with it, as search paths find it. The result may hold too many sources, never
    /// too few (but for computed includes).
    static func users(of headers: [String], in source: String) async throws -> [String] {
        var wanted = Set(headers)
        var seen: Set<String> = []
        var users: Set<String> = []
        while !wanted.isEmpty {
            seen.formUnion(wanted)
            var found: Set<String> = []
            for (file, included) in try await includes(of: Set(wanted.map(\.lastPathComponent)), in: source)
            where wanted.contains(where: { leads(included, from: file, to: $0, in: source) }) {
                found.insert(file)
            }
            users.formUnion(found.filter { $0.hasSuffix(".c") })
            wanted = found.filter { $0.hasSuffix(".h") }.subtracting(seen)
        }
        return users.sorted()
    }

    /// All `#include` lines that name one of some files, as pairs of the including file and the path that it names.
    private static func includes(of names: Set<String>, in source: String) async throws -> [(String, String)]
    {
        let choices = names.sorted().map { $0.replacing(".", with: "\\.").replacing("+", with: "\\+") }
        let pattern =
            "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"]([^>\"]*/)?(\(choices.joined(separator: "|")))[>\"]"
        let result = try await Command(
            ["grep", "-roE", "--include=*.c", "--include=*.h", pattern, "."], directory: source
        ).run()
        guard result.status <= 1 else {
            throw Failure("cannot search '\(source)': \(result.errorText.trimmed)")
        }
        return result.text.lines.compactMap { line in
            guard let colon = line.firstIndex(of: ":"),
                let open = line.firstIndex(where: { $0 == "<" || $0 == "\"" })
            else { return nil }
            return (String(line[..<colon].dropFirst(2)), String(line[line.index(after: open)...].dropLast()))
        }
    }

    private static func leads(_ included: String, from file: String, to header: String, in source: String)
        -> Bool
    {
        var parts = file.split(separator: "/").dropLast()
        for part in included.split(separator: "/") {
            if part == ".." { parts = parts.dropLast() } else if part != "." { parts.append(part) }
        }
        let beside = parts.joined(separator: "/")
        if beside == header { return true }
        guard header.hasSuffix("/" + included) || included.contains("..") else { return false }
        return !Files.exists("\(source)/\(beside)")
    }
}
