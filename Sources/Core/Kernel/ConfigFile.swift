// A kernel's config file: its options as text, what it says of its build, and how two of them differ.

/// The options of a kernel config.
public struct ConfigFile: Sendable, Equatable {
    /// By name without `CONFIG_`: `y`, `m`, a number, or a string without its quotes. An option that is off is absent.
    public let options: [String: String]
    /// `X.Y.Z` from the file's heading, `Linux/x86 6.1.187 Kernel Configuration`; nil without heading.
    public let sourceVersion: String?

    /// Reads the text of a `.config`. Fails on a line that is neither option nor comment.
    public init(_ text: String, name: String = ".config") throws {
        var options: [String: String] = [:]
        var version: String?
        for (number, line) in text.lines.enumerated() {
            if line.hasPrefix("#") {
                if version == nil, line.hasSuffix(" Kernel Configuration") {
                    version = Self.version(ofHeading: line)
                }
                continue
            }
            let part = line.hasSuffix("\r") ? line.dropLast() : line
            if part.isEmpty { continue }
            guard part.hasPrefix("CONFIG_"), let sign = part.firstIndex(of: "=") else {
                throw Failure("malformed kernel config '\(name)', line \(number + 1): '\(part)'")
            }
            let value = part[part.index(after: sign)...]
            options[String(part[..<sign].dropFirst(7))] = Self.unquoted(value)
        }
        self.options = options
        sourceVersion = version
    }

    public subscript(option: String) -> String? { options[option] }

    /// As `uname -m` says it; nil where it is for no machine that is known here.
    public var arch: String? {
        options["X86_64"] == "y" ? "x86_64" : options["X86_32"] == "y" ? "i686" : nil
    }

    /// The version line of the compiler (`CC_VERSION_TEXT`).
    public var compiler: String? { options["CC_VERSION_TEXT"] }

    private static func version(ofHeading line: Substring) -> String? {
        line.split(separator: " ").first { $0.first?.isNumber == true && $0.contains(".") }.map { String($0) }
    }

    /// A string value without its quotes, `\"` and `\\` undone.
    private static func unquoted(_ value: Substring) -> String {
        guard value.count >= 2, value.first == "\"", value.last == "\"" else { return String(value) }
        var out = ""
        var escaped = false
        for character in value.dropFirst().dropLast() {
            if character == "\\" && !escaped {
                escaped = true
            } else {
                out.append(character)
                escaped = false
            }
        }
        return out
    }
}

/// An option that two configs do not share.
public struct ConfigDifference: Sendable, Equatable {
    /// Without `CONFIG_`.
    public var option: String
    /// nil: off.
    public var before: String?
    public var after: String?
    /// What most likely made the difference, and with it the way out.
    public var cause: Cause

    /// Likely causes.
    public enum Cause: Sendable, Equatable {
        /// The option does not change code and `olddefconfig` adds it to a vendor's config.
        case harmless
        /// The program pahole (package dwarves) is missing or has another version.
        case pahole
        case compiler
        case binutils
        /// The config is for another version of the source.
        case source
    }

    /// `CONFIG_X: "y" -> off (cause)`
    public var description: String {
        "CONFIG_\(option): \(before ?? "off") -> \(after ?? "off") (\(cause.description))"
    }
}

extension ConfigDifference.Cause {
    /// For people.
    public var description: String {
        switch self {
        case .harmless: "harmless"
        case .pahole: "pahole, of the package dwarves, is missing or has another version"
        case .compiler: "another compiler than the kernel's"
        case .binutils: "other binutils than the kernel's"
        case .source: "another version of the source than the kernel's"
        }
    }
}

extension ConfigFile {
    /// Options that `olddefconfig` sets anew on a vendor's config and that change no code.
    public static let harmlessOptions: Set<String> = [
        "BUILD_SALT", "MODULE_SIG_ALL", "MODULE_SIG_KEY", "SYSTEM_TRUSTED_KEYS",
    ]

    /// All options that differ, by name, harmless ones too. From a kernel's own config to that of a build folder.
    public static func differences(from before: ConfigFile, to after: ConfigFile) -> [ConfigDifference] {
        let usesRust = [before, after].contains { $0.options["RUST"] == "y" }
        return Set(before.options.keys).union(after.options.keys).sorted().compactMap { option in
            guard before.options[option] != after.options[option] else { return nil }
            return ConfigDifference(
                option: option, before: before.options[option], after: after.options[option],
                // What is known of a Rust compiler says nothing about a kernel without Rust.
                cause: !usesRust && isAboutRust(option) ? .harmless : cause(of: option))
        }
    }

    private static func isAboutRust(_ option: String) -> Bool {
        ["RUSTC_", "BINDGEN_", "RUST_IS_AVAILABLE", "HAVE_RUST"].contains { option.hasPrefix($0) }
    }

    private static func cause(of option: String) -> ConfigDifference.Cause {
        if harmlessOptions.contains(option) { return .harmless }
        if option.hasPrefix("PAHOLE_") || option.hasPrefix("DEBUG_INFO_BTF") { return .pahole }
        let binutils = ["AS_", "LD_", "LLD_", "BINUTILS_", "TOOLS_SUPPORT_RELR"]
        if binutils.contains(where: { option.hasPrefix($0) }) { return .binutils }
        let compiler = [
            "CC_", "GCC_", "GCC1", "CLANG_", "HAVE_KASAN", "HAVE_KCSAN_COMPILER", "RUSTC_", "BINDGEN_",
        ]
        if compiler.contains(where: { option.hasPrefix($0) }) { return .compiler }
        return .source
    }
}
