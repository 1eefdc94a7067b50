// The banner that every Linux image holds, `Linux version RELEASE (BUILDER) (COMPILER, LINKER) VERSION`
// (init/version-timestamp.c of Linux; init/version.c before 6.1). It is the only place where an image says its release.

/// What the banner of an image says.
public struct KernelBanner: Sendable, Equatable {
    /// As `uname -r` says it.
    public var release: String
    /// The compiler's version line: the same text as `CONFIG_CC_VERSION_TEXT`.
    public var compiler: String
    /// The linker's version line; empty where the banner has none.
    public var linker: String
    /// As `uname -v` says it: `#1 SMP ...`.
    public var version: String

    /// Parses one banner, without a line end. Nil where it is none.
    public init?(_ text: String) {
        let prefix = "Linux version "
        guard text.hasPrefix(prefix) else { return nil }
        var rest = text.dropFirst(prefix.count)
        guard let blank = rest.firstIndex(of: " ") else { return nil }
        release = String(rest[..<blank])
        rest = rest[blank...].drop { $0 == " " }
        guard !release.isEmpty, Self.takeGroup(&rest) != nil else { return nil }
        rest = rest.drop { $0 == " " }
        guard let tools = Self.takeGroup(&rest) else { return nil }
        (compiler, linker) = Self.splitTools(tools)
        version = String(rest).trimmed
        // An image also holds an unfinished banner, without build number: `# SMP ...`.
        guard version.hasPrefix("#"), version.dropFirst().first?.isNumber == true else { return nil }
    }

    /// The first complete banner in the bytes of an image.
    static func find(in bytes: [UInt8]) -> KernelBanner? {
        let pattern = Array("Linux version ".utf8)
        var start = 0
        while let hit = bytes.firstOffset(of: pattern, from: start) {
            start = hit + pattern.count
            let limit = Swift.min(bytes.count, hit + 1024)
            guard let end = bytes[hit..<limit].firstIndex(where: { $0 == 0 || $0 == UInt8(ascii: "\n") })
            else { continue }
            if let banner = KernelBanner(String(decoding: bytes[hit..<end], as: UTF8.self)) { return banner }
        }
        return nil
    }

    /// The text in the parentheses that `text` begins with, which may hold others.
    private static func takeGroup(_ text: inout Substring) -> Substring? {
        guard text.first == "(" else { return nil }
        var depth = 0
        for index in text.indices {
            if text[index] == "(" { depth += 1 }
            if text[index] == ")" { depth -= 1 }
            if depth == 0 {
                let group = text[text.index(after: text.startIndex)..<index]
                text = text[text.index(after: index)...]
                return group
            }
        }
        return nil
    }

    /// Splits at the last comma that stands outside of parentheses.
    private static func splitTools(_ text: Substring) -> (String, String) {
        var depth = 0
        var comma: Substring.Index?
        for index in text.indices {
            switch text[index] {
            case "(": depth += 1
            case ")": depth -= 1
            case "," where depth == 0: comma = index
            default: break
            }
        }
        guard let comma else { return (String(text).trimmed, "") }
        return (String(text[..<comma]).trimmed, String(text[text.index(after: comma)...]).trimmed)
    }
}
