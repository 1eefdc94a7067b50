// Which sources of a tree reach a header, by the `#include` lines of the tree. Work from text, because the compiler's own
// dependency files exist only for units that were built here, and most never are.
//
// The lines of a whole kernel are half a million, found once for a workspace and kept beside it as text, one a line:
// `FILE:#include <PATH>` as grep prints it. The text is indexed by the last part of PATH; nothing else is parsed until
// it is asked for.
//
// An include is taken for one of a header where its path leads there from the including file's folder, or where nothing
// stands at that place and the header's path ends with it, as search paths find it. `<asm/x.h>` may also be a wrapper of
// `asm-generic/x.h` that kbuild makes where the architecture has none. Sources that other sources include are followed,
// too. So the result may hold too many sources, never too few, but for includes that a macro names.

struct IncludeGraph {
    private let text: [UInt8]
    /// Where the lines start that include a file of a name.
    private var linesOfName: [String: [Int]] = [:]
    /// The folder under `arch/`.
    private let architecture: String
    /// Whether a path of the tree exists.
    private let exists: (String) -> Bool

    init(_ text: [UInt8], architecture: String, exists: @escaping (String) -> Bool) {
        self.text = text
        self.architecture = architecture
        self.exists = exists
        var start = 0
        while start < text.count {
            let end = text[start...].firstIndex(of: UInt8(ascii: "\n")) ?? text.count
            // The line ends with the closing quote or bracket.
            let path = text[start..<max(start, end - 1)]
            let name = path.lastIndex {
                $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "<") || $0 == UInt8(ascii: "\"")
            }
            if let name {
                linesOfName[String(decoding: path[(name + 1)...], as: UTF8.self), default: []].append(start)
            }
            start = end + 1
        }
    }

    /// The `.c` and `.S` files that include one of some files, directly or not, sorted. Linker scripts are none.
    func users(of headers: [String]) -> [String] {
        var wanted = headers
        var seen = Set(headers)
        var users: Set<String> = []
        while let header = wanted.popLast() {
            for start in linesOfName[header.lastPathComponent] ?? [] {
                guard let (file, included) = include(at: start), !seen.contains(file),
                    leads(included, from: file, to: header)
                else { continue }
                seen.insert(file)
                if file.hasSuffix(".c") || file.hasSuffix(".S") && !file.hasSuffix(".lds.S") {
                    users.insert(file)
                }
                wanted.append(file)
            }
        }
        return users.sorted()
    }

    /// The files that some files include, directly or not; not only headers.
    /// - Parameter all: those of the tree that can be included.
    func included(by files: [String], among all: [String]) -> Set<String> {
        var byName: [String: [String]] = [:]
        for file in all { byName[file.lastPathComponent, default: []].append(file) }
        var included: [String: [String]] = [:]
        for start in linesOfName.values.joined() {
            guard let (file, named) = include(at: start) else { continue }
            included[file, default: []].append(named)
        }
        var queue = files
        var seen: Set<String> = []
        while let file = queue.popLast() {
            for named in included[file] ?? [] {
                for other in byName[named.lastPathComponent] ?? []
                where !seen.contains(other) && leads(named, from: file, to: other) {
                    seen.insert(other)
                    queue.append(other)
                }
            }
        }
        return seen
    }

    /// The including file and the path that it names.
    private func include(at start: Int) -> (String, String)? {
        let end = text[start...].firstIndex(of: UInt8(ascii: "\n")) ?? text.count
        let line = text[start..<end]
        guard let colon = line.firstIndex(of: UInt8(ascii: ":")),
            let open = line[colon...].firstIndex(where: {
                $0 == UInt8(ascii: "<") || $0 == UInt8(ascii: "\"")
            })
        else { return nil }
        return (
            String(decoding: line[..<colon], as: UTF8.self),
            String(decoding: line[(open + 1)..<(end - 1)], as: UTF8.self)
        )
    }

    private func leads(_ included: String, from file: String, to header: String) -> Bool {
        let named = included.split(separator: "/").filter { $0 != "." }.joined(separator: "/")
        if isWrapper(named, of: header) { return true }
        // Most includes are written from a search path's start.
        if !named.contains("..") && !header.hasSuffix(named) { return false }
        var parts = file.split(separator: "/").dropLast()
        for part in named.split(separator: "/") {
            if part == ".." { parts = parts.dropLast() } else { parts.append(part) }
        }
        let beside = parts.joined(separator: "/")
        if beside == header { return true }
        guard header.hasSuffix("/" + named) || named.contains("..") else { return false }
        return !exists(beside)
    }

    /// Whether kbuild makes a header that does nothing but include another one.
    private func isWrapper(_ named: String, of header: String) -> Bool {
        guard named.hasPrefix("asm/") else { return false }
        let rest = named.dropFirst("asm/".count)
        return header.hasSuffix("/asm-generic/" + rest)
            && !exists("arch/\(architecture)/include/asm/\(rest)")
    }

    /// Of include lines, those that name a `.c` file.
    static func ofSources(_ text: [UInt8]) -> [UInt8] {
        var kept: [UInt8] = []
        for line in text.split(separator: UInt8(ascii: "\n"))
        where line.dropLast().suffix(2).elementsEqual(".c".utf8) {
            kept += line + [UInt8(ascii: "\n")]
        }
        return kept
    }

    /// The include lines of a source folder.
    static func search(_ source: String) async throws -> [UInt8] {
        let pattern = "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"][^>\"]+[>\"]"
        let folders = try Files.list(source).filter {
            Files.isDirectory("\(source)/\($0)") && !Workspace.isOutside($0 + "/")
        }
        let result = try await Command(
            ["grep", "-roE", "--include=*.c", "--include=*.h", "--include=*.S", pattern] + folders,
            directory: source
        ).run()
        guard result.status <= 1 else {
            throw Failure("cannot search '\(source)': \(result.errorText.trimmed)")
        }
        return result.output
    }
}
