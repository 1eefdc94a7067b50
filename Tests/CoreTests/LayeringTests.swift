// The rules of the source tree that a compiler does not check: who may use which library, who may print, how long a
// file may be. Documentation/CONTRIBUTING.md gives the reasons.

import Testing

@testable import Core

@Suite struct LayeringTests {
    /// Files of Core in which the pattern occurs outside of the allowed folders or files.
    private func offenders(_ pattern: Regex<Substring>, allowed: [String]) throws -> [String] {
        let sources = try SourceTree.files("Sources/Core", suffixes: [".swift"])
        #expect(sources.count > 50)
        var used = false
        let found = try sources.filter { path in
            guard try SourceTree.code(path).firstMatch(of: pattern) != nil else { return false }
            used = true
            return !allowed.contains { path.hasPrefix("Sources/Core/" + $0) }
        }
        // A pattern that occurs nowhere would prove nothing.
        #expect(used || allowed.isEmpty)
        return found
    }

    @Test func onlyThreeFilesUseLibgit2() throws {
        let allowed = ["Git/Store/LibraryStore.swift", "Git/Merge.swift", "Git/Differences.swift"]
        #expect(try offenders(/\bgit_[a-z0-9_]+\(/, allowed: allowed) == [])
    }

    @Test func onlyTheObjectModelUsesLibelf() throws {
        let allowed = ["Object/", "Machine/", "Kernel/ImageOpener.swift"]
        #expect(try offenders(/\b(?:elf|gelf|dwfl)_[a-z_]+\(/, allowed: allowed) == [])
    }

    @Test func onlyOneFileUsesLibdw() throws {
        #expect(
            try offenders(/\b(?:dwarf|Dwarf)_[A-Za-z_]+\(/, allowed: ["Object/DebugReader.swift"]) == [])
    }

    @Test func onlyMachineDisassembles() throws {
        #expect(try offenders(/\bks_disassemble\b/, allowed: ["Machine/"]) == [])
    }

    @Test func theLibraryNeverPrints() throws {
        #expect(
            try offenders(
                /\b(?:print|debugPrint|dump|puts|printf|fputs)\(|\bSTD(?:OUT|ERR)_FILENO\b/, allowed: [])
                == [])
    }

    @Test func nothingBelowKnowsGitOrHosts() throws {
        let below = ["Object", "Machine", "Diff", "Match"]
        for path in try SourceTree.files("Sources/Core", suffixes: [".swift"])
        where below.contains(where: { path.hasPrefix("Sources/Core/\($0)/") }) {
            let code = try SourceTree.code(path)
            let match = code.firstMatch(
                of: /\b(?:Repository|UpdateStore|KernelStore|LocalHost|Workspace|Command)\b[.(]/)
            #expect(match == nil, "\(path)")
        }
    }

    @Test func nobodyImportsFoundation() throws {
        for path in try SourceTree.files("Sources", suffixes: [".swift"])
            + SourceTree.files("Tests", suffixes: [".swift"])
        {
            let code = try SourceTree.code(path)
            #expect(code.firstMatch(of: /(?m)^\s*(?:\w+ )?import Foundation/) == nil, "\(path)")
        }
    }

    @Test func filesAreShort() throws {
        let swift =
            try SourceTree.files("Sources", suffixes: [".swift"])
            + SourceTree.files("Tests", suffixes: [".swift"])
        let c =
            try SourceTree.files("Sources", suffixes: [".c", ".h"])
            + SourceTree.files("kernel", suffixes: [".c", ".h"])
        #expect(!c.isEmpty)
        for (paths, limit) in [(swift, 500), (c, 800)] {
            for path in paths {
                let count = try SourceTree.text(path).lines.count
                #expect(count <= limit, "\(path) has \(count) lines")
            }
        }
    }

    @Test func everyFileSaysWhatItIs() throws {
        for path in try SourceTree.files("Sources/Core", suffixes: [".swift"]) {
            #expect(try SourceTree.text(path).hasPrefix("//"), "\(path) does not begin with a comment")
        }
        for path in try SourceTree.files("kernel", suffixes: [".c", ".h"]) {
            let text = try SourceTree.text(path)
            #expect(
                text.lines.first?.contains("SPDX-License-Identifier: GPL-2.0-or-later") == true, "\(path)")
        }
    }
}
