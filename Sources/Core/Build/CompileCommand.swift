// One translation unit's compile command, as kbuild recorded it in `.NAME.o.cmd`. Taking the recorded command
// instead of asking make each time costs nothing but the compiler itself, and it is exactly what the kernel's own
// build runs for this unit with this config.

/// The parts of a recorded command that the build needs.
public struct CompileCommand: Sendable, Equatable {
    /// The compiler and its options, without input, output and dependency options.
    public var compiler: [String]
    /// objtool and its options, without the object's name; empty where the kernel runs none on the unit.
    public var objtool: [String]

    /// Options that each pre and post compilation gets beside the kernel's own: one section for each function and
    /// each object, so that they can be compared and shipped one by one.
    static let sectionOptions = ["-ffunction-sections", "-fdata-sections"]

    public init(compiler: [String], objtool: [String]) {
        self.compiler = compiler
        self.objtool = objtool
    }

    /// Reads the content of a `.cmd` file: its first line is `cmd_PATH := COMMAND` (`savedcmd_PATH` since Linux 6.3).
    public init(parsing text: String, source: String) throws {
        guard let line = text.lines.first, let separator = line.range(of: " := ") else {
            throw Failure("cannot read the compile command of '\(source)': unknown form of the .cmd file")
        }
        let words = shellWords(line[separator.upperBound...])
        let parts = words.split(separator: ";").map(Array.init)
        // Assembly (`.NAME.s.cmd`) is what kbuild makes of sources from which it generates headers.
        guard let compile = parts.first(where: { $0.contains("-c") || $0.contains("-S") }) else {
            throw Failure("cannot read the compile command of '\(source)': no compiler in the .cmd file")
        }
        compiler = Self.optionsOnly(compile)
        objtool = parts.first { $0.first?.lastPathComponent == "objtool" }.map { Array($0.dropLast()) } ?? []
    }

    /// The `.cmd` files that kbuild would write for what `make -n` says it would compile: each by its object's path, with
    /// its first line. That line is what it hands to its program fixdep.
    static func records(ofDryRun output: String) -> [(target: String, text: String)] {
        output.lines.filter { $0.contains("fixdep ") }.compactMap { line in
            let parts = shellWords(line).split(separator: ";").map(Array.init)
            guard let words = parts.first(where: { $0.first?.lastPathComponent == "fixdep" }),
                words.count >= 4
            else { return nil }
            return (words[2], "cmd_\(words[2]) := \(words[3])\n")
        }
    }

    private static func optionsOnly(_ words: [String]) -> [String] {
        var kept: [String] = []
        var index = 0
        while index < words.count {
            let word = words[index]
            if word == "-o" {
                index += 2
                continue
            }
            let isInput = index == words.count - 1
            if !(isInput || word == "-c" || word == "-S" || word.hasPrefix("-Wp,-MMD")
                || word.hasPrefix("-Wp,-MD"))
            {
                kept.append(word)
            }
            index += 1
        }
        return kept
    }

    /// Whether kbuild compiles the unit as part of a module.
    public var isModule: Bool { compiler.contains("-DMODULE") }

    /// Line markers stay: debug information and warnings name the original files. `headers` is a folder that is
    /// looked at last, so that nothing in it can stand in for a header of the kernel.
    func preprocess(_ source: String, to output: String, headers: String) -> [String] {
        compiler + ["-idirafter", headers, "-E", "-o", output, source]
    }

    /// Compiles what `preprocess` left. Options of the preprocessor are dropped: their work is done.
    func compile(_ preprocessed: String, to output: String) -> [String] {
        var kept: [String] = []
        var skip = false
        for word in compiler {
            if skip {
                skip = false
                continue
            }
            if ["-I", "-include", "-D", "-U", "-isystem", "-iquote", "-imacros"].contains(word) {
                skip = true
                continue
            }
            if word.hasPrefix("-I") || word.hasPrefix("-D") || word.hasPrefix("-U") { continue }
            kept.append(word)
        }
        return kept + Self.sectionOptions + [
            "-fno-diagnostics-show-caret", "-fpreprocessed", "-c", "-o", output, preprocessed,
        ]
    }
}

extension StringProtocol {
    /// The first place of a text in this one.
    func range(of text: String) -> Range<Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(text) { return start..<index(start, offsetBy: text.count) }
            start = index(after: start)
        }
        return nil
    }
}
