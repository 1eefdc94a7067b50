// Nothing that a user can meet is without documentation: each command has a manual page with all of its options, an
// entry in the completions and a line in the README, each exit status and each finding an explanation.

import Testing

@testable import Core

@Suite struct DocumentationTests {
    static let completions = [
        "completions/git-ksplice.bash", "completions/_git-ksplice", "completions/git-ksplice.fish",
    ]

    @Test func everyCommandIsFound() throws {
        let commands = try CommandSource.all()
        #expect(commands.count >= 11)
        let kernel = try #require(commands.first { $0.name == "kernel" })
        #expect(kernel.subcommands == ["add", "list", "show", "remove"])
        #expect(kernel.options.isSuperset(of: ["source", "from"]))
        let create = try #require(commands.first { $0.name == "create" })
        #expect(create.options.isSuperset(of: ["kernel", "max-units", "allow-other-compiler", "quiet"]))
        #expect(create.letters == ["q", "v"])
    }

    @Test func everyCommandHasAManualPage() throws {
        let overview = try SourceTree.text("Documentation/man/git-ksplice.1")
        for command in try CommandSource.all() {
            let path = "Documentation/man/git-ksplice-\(command.name).1"
            guard SourceTree.exists(path) else {
                Issue.record("'\(command.name)' has no manual page")
                continue
            }
            let page = try SourceTree.text(path)
            #expect(page.contains(".Nm git-ksplice-\(command.name)\n"), "\(path)")
            #expect(
                overview.contains(".It Xr git-ksplice-\(command.name) 1\n"),
                "git-ksplice.1 does not list '\(command.name)'")
            for name in command.subcommands {
                #expect(page.contains(".Nm git ksplice \(command.name) \(name)\n"), "\(path) lacks '\(name)'")
            }
        }
    }

    @Test func everyOptionIsInItsManualPage() throws {
        for command in try CommandSource.all() {
            let page = try SourceTree.text("Documentation/man/git-ksplice-\(command.name).1")
            let documented = Set(page.matches(of: /Fl -([a-z][a-z-]*)/).map { String($0.1) })
            #expect(
                command.options.subtracting(documented).isEmpty, "git-ksplice-\(command.name).1 lacks options"
            )
            for letter in command.letters {
                #expect(page.contains(".It Fl \(letter) "), "git-ksplice-\(command.name).1 lacks -\(letter)")
            }
        }
    }

    @Test func noManualPageInventsAnOption() throws {
        for command in try CommandSource.all() where !command.options.isEmpty {
            let page = try SourceTree.text("Documentation/man/git-ksplice-\(command.name).1")
            let documented = Set(
                page.matches(of: /\.It (?:Fl \w (?:Ar \w+ )?, )?Fl -([a-z][a-z-]*)/).map { String($0.1) })
            let invented = documented.subtracting(command.options)
            #expect(invented.isEmpty, "git-ksplice-\(command.name).1 has options that the command lacks")
        }
    }

    @Test(arguments: completions) func everyCommandIsCompleted(_ path: String) throws {
        let text = try SourceTree.text(path)
        for command in try CommandSource.all() {
            for name in [command.name] + command.subcommands {
                #expect(text.firstMatch(of: try Regex("(^|[^\\w-])\(name)([^\\w-]|$)")) != nil, "'\(name)'")
            }
            for option in command.options {
                // fish names options as `-l quiet`, the others as `--quiet`.
                let pattern = try Regex("(--|-l )\(option)([^\\w-]|$)")
                #expect(text.firstMatch(of: pattern) != nil, "--\(option) of '\(command.name)'")
            }
        }
    }

    @Test func everyCommandIsInTheReadme() throws {
        let readme = try SourceTree.text("README.md")
        for command in try CommandSource.all() {
            #expect(readme.contains("| `\(command.name)` |"), "README.md has no line for '\(command.name)'")
        }
    }

    /// The codes that the sources give to findings.
    private func findingCodes() throws -> Set<String> {
        var codes: Set<String> = []
        for path in try SourceTree.files("Sources/Core", suffixes: [".swift"]) {
            let text = try SourceTree.code(path)
            for match in text.matches(
                of: /\b(?:Finding\(|add\(|refuse\(|remark\(|finding:)\s*"([a-z]+(?:-[a-z]+)*)"[,)]/)
            {
                codes.insert(String(match.1))
            }
        }
        return codes
    }

    @Test func everyFindingIsExplained() throws {
        let codes = try findingCodes()
        #expect(
            codes.isSuperset(of: ["type-layout", "data-changed", "kconfig", "too-many-units", "ambiguous"]))
        #expect(codes == Finding.codes, "FindingCodes.swift lists other codes than the sources give")
        let pages = try FindingPages(folders: [SourceTree.root + "/Documentation/findings"]).summaries()
        let explained = Set(pages.map(\.code))
        #expect(codes.subtracting(explained).isEmpty, "codes without a page in Documentation/findings")
        #expect(explained.subtracting(codes).isEmpty, "pages of codes that nothing gives")
    }

    @Test func everyFindingIsTested() throws {
        // These have codes as examples of codes.
        let others = [
            "DocumentationTests", "FindingPagesTests", "InstallationTests", "CommitReportTests",
            "QueueFixture", "QueueWorkerTests",
        ]
        let texts = try SourceTree.files("Tests", suffixes: [".swift"]).filter { path in
            !others.contains { path.hasSuffix("/\($0).swift") }
        }.map { try SourceTree.code($0) }
        #expect(texts.count > 50)
        for code in Finding.codes {
            // As a value, as create prints it, or behind its severity.
            let pattern = try Regex("\"\(code)\"|\\[\(code)\\]|\"(error|warning|note) \(code) ")
            #expect(texts.contains { $0.contains(pattern) }, "no test has a finding '\(code)'")
        }
    }

    @Test func everyMismatchIsExplained() throws {
        let folder = "Documentation/mismatches"
        let pages = try FindingPages(folders: [SourceTree.root + "/" + folder]).summaries()
        let codes = Set(MismatchCode.allCases.map(\.rawValue))
        #expect(Set(pages.map(\.code)) == codes)
        #expect(codes.isDisjoint(with: Finding.codes), "explain could not tell them apart")
        let index = try SourceTree.text("Documentation/mismatches.md")
        for (code, summary) in pages {
            let text = try SourceTree.text("\(folder)/\(code).md")
            #expect(text.contains("*What it means.* ") && text.contains("*What to do.* "), "\(code)")
            #expect(index.contains("| [\(code)](mismatches/\(code).md) | \(summary) |\n"), "\(code)")
        }
        #expect(index.matches(of: /\n\| \[[a-z-]+\]\(mismatches/).count == codes.count)
    }

    @Test func everyPageOfAFindingHasItsPartsAndItsLine() throws {
        let index = try SourceTree.text("Documentation/findings.md")
        #expect(index.contains("## Not findings"))
        let folder = "Documentation/findings"
        for (code, summary) in try FindingPages(folders: [SourceTree.root + "/" + folder]).summaries() {
            let text = try SourceTree.text("\(folder)/\(code).md")
            #expect(text.contains("*Why it matters.* ") && text.contains("*What to do.* "), "\(code)")
            let severity = try #require(
                text.firstMatch(of: /\n\*Severity\.\* (error|warning|note)\n/), "\(code) has no severity")
            let line = "| [\(code)](findings/\(code).md) | \(severity.1) | \(summary) |\n"
            #expect(index.contains(line), "findings.md lacks: \(line)")
            // An example shows the code in brackets, as create prints it.
            if text.contains("```") { #expect(text.contains("[\(code)]\n"), "\(code): other example") }
        }
        #expect(index.matches(of: /\n\| \[[a-z-]+\]\(findings/).count == Finding.codes.count)
    }

    @Test(arguments: completions) func everyFindingIsCompleted(_ path: String) throws {
        let text = try SourceTree.text(path)
        // What --force is not for: warnings and notes, and what wants something else.
        let others = try findingCodes().filter { code in
            let page = try SourceTree.text("Documentation/findings/\(code).md")
            return !page.contains("*Severity.* error\n") || Finding.unforceable.contains(code)
        }
        #expect(others.isSuperset(of: ["too-many-units", "data-removed"]))
        for code in try findingCodes().subtracting(others) { #expect(text.contains(code), "\(code)") }
    }

    @Test func everyExitStatusIsInTheManualPage() throws {
        let source = try SourceTree.code("Sources/Core/System/Failure.swift")
        let values = source.matches(of: /case \w+ = (\d+)/).map { String($0.1) }
        #expect(values.count >= 11)
        let page = try SourceTree.text("Documentation/man/git-ksplice.1")
        let table = try #require(page.range(of: ".Sh EXIT STATUS"))
        for value in values {
            #expect(page[table.upperBound...].contains(".It \(value)\n"), "exit status \(value)")
        }
    }

    @Test func everyCauseOfTheKernelModuleIsExplained() throws {
        let source = try SourceTree.code("kernel/core.c")
        let causes = source.matches(of: /\[KSPLICE_[A-Z_]+\] = "([a-z-]+)"/).map { String($0.1) }
        #expect(causes.count >= 10)
        let page = try SourceTree.text("Documentation/man/git-ksplice-apply.1")
        for cause in causes where cause != "none" {
            #expect(page.contains(".It \(cause)\n"), "cause '\(cause)'")
        }
    }
}
