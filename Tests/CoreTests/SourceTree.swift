// The project's own files, for tests that hold them against each other. Found beside this file, wherever the
// repository was cloned to.

@testable import Core

enum SourceTree {
    /// The repository's top folder.
    static let root: String = {
        let folder = #filePath.directoryPart
        return folder.directoryPart.directoryPart
    }()

    static func text(_ path: String) throws -> String { try Files.readText(root + "/" + path) }

    static func exists(_ path: String) -> Bool { Files.exists(root + "/" + path) }

    /// All files below a folder whose names end so, as paths relative to the top, sorted.
    static func files(_ folder: String, suffixes: [String]) throws -> [String] {
        var found: [String] = []
        for name in try Files.list(root + "/" + folder) {
            let path = folder + "/" + name
            if Files.isDirectory(root + "/" + path) {
                found += try files(path, suffixes: suffixes)
            } else if suffixes.contains(where: { name.hasSuffix($0) }) {
                found.append(path)
            }
        }
        return found.sorted()
    }

    /// Swift or C code without its comments. Enough for searching: a `//` inside a string ends the line too.
    static func code(_ path: String) throws -> String {
        try text(path).replacing(/\/\*(.|\n)*?\*\//, with: "").lines.map { line in
            line.range(of: "//").map { String(line[..<$0.lowerBound]) } ?? String(line)
        }.joined(separator: "\n")
    }
}

/// A command as its source declares it.
struct CommandSource {
    /// As it is typed: `create`, `kernel`.
    var name: String
    /// Long options without dashes; those of its own subcommands included.
    var options: Set<String>
    /// Letters of short options.
    var letters: Set<String>
    /// Names of its own subcommands.
    var subcommands: [String]

    /// The subcommands that `GitKsplice.swift` lists.
    static func all() throws -> [CommandSource] {
        let folder = "Sources/git-ksplice"
        var types: [String: (name: String, text: Substring)] = [:]
        var groups: [String: Substring] = [:]
        for path in try SourceTree.files(folder, suffixes: [".swift"]) {
            let text = try SourceTree.code(path)
            if let group = text.firstMatch(of: /struct (\w+): ParsableArguments/) {
                groups[String(group.1)] = text[group.range.lowerBound...]
            }
            let starts = text.matches(of: /struct (\w+): AsyncParsableCommand/)
            for (index, match) in starts.enumerated() {
                let end = index + 1 < starts.count ? starts[index + 1].range.lowerBound : text.endIndex
                let body = text[match.range.lowerBound..<end]
                let name = body.firstMatch(of: /commandName: "([\w-]+)"/)?.1
                types[String(match.1)] = (name.map { String($0) } ?? match.1.lowercased(), body)
            }
        }
        guard let top = types["GitKsplice"] else { return [] }
        return try subtypes(top.text).map { type in
            guard let found = types[type] else { throw Failure("no source of the command \(type)") }
            let inner = try subtypes(found.text).map { name in
                guard let type = types[name] else { throw Failure("no source of the command \(name)") }
                return type
            }
            let own = [found.text] + inner.map(\.text)
            let shared = own.flatMap { $0.matches(of: /@OptionGroup var \w+: (\w+)/).map { String($0.1) } }
            let texts = own + shared.compactMap { groups[$0] }
            return CommandSource(
                name: found.name, options: Set(texts.flatMap(options)), letters: Set(texts.flatMap(letters)),
                subcommands: inner.map(\.name))
        }
    }

    private static func subtypes(_ text: Substring) throws -> [String] {
        guard let list = text.firstMatch(of: /subcommands: \[([^\]]*)\]/)?.1 else { return [] }
        return list.matches(of: /(\w+)\.self/).map { String($0.1) }
    }

    /// `@Option(name: .customLong("from"), ...) var paths` is `--from`, `@Flag var maxUnits` is `--max-units`.
    private static func options(_ text: Substring) -> [String] {
        declarations(text).map { attributes, name in
            if let custom = attributes.firstMatch(of: /\.customLong\("([\w-]+)"/)?.1 { return String(custom) }
            return name.map { $0.isUppercase ? "-" + $0.lowercased() : String($0) }.joined()
        }
    }

    private static func letters(_ text: Substring) -> [String] {
        declarations(text).compactMap { attributes, name in
            attributes.contains(".shortAndLong") ? String(name.prefix(1)) : nil
        }
    }

    private static func declarations(_ text: Substring) -> [(attributes: Substring, name: Substring)] {
        text.matches(of: /@(?:Option|Flag)\b((?:.|\n)*?)\bvar (\w+)/).map { ($0.1, $0.2) }
    }
}
