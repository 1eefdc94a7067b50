// What must not match: code that differs in one byte, anywhere, and the code of another version.

import Testing

@testable import Core

extension VirtualMachineTests {
    @Suite struct Rejection {
        /// Their functions are damaged, byte after byte: two of the image, one of a module.
        static let units = ["ipc/msg.c", "kernel/groups.c", "kernel/cred.c", "fs/fuse/dev.c"]

        @Test("a function with one flipped bit is refused, whichever byte it is in", arguments: units)
        func flippedBits(path: String) async throws {
            let laboratory = try await Laboratory.shared()
            let objects = try await PreObjects.shared(laboratory)
            let kernel = try await laboratory.descriptor()
            let name = String(path.dropLast(2)) + ".o"
            let content = try #require(objects.files.first { $0.path == name }).content
            let object = try ObjectFile(content, name: path)
            let module = path.hasPrefix("fs/fuse/") ? "fuse" : nil
            let offline = try #require(
                try await OfflineKernel(kernel, modules: Set([module].compactMap { $0 })))
            let damage = try Damage(
                MatchUnit(path: path, module: module, object: object), offline.memory, offline.symbols,
                isImage: true)
            #expect(damage.functions.count >= 10)
            let (flips, unnoticed) = try damage.everywhere()
            #expect(flips > 1000)
            #expect(unnoticed == [], "\(unnoticed.count) of \(flips)")
        }

        @Test(
            "the next version's code is refused, function by function, where it differs",
            .enabled(if: Material.isPinned, "the archive no longer has these two kernels"))
        func nextVersion() async throws {
            let laboratory = try await Laboratory.shared()
            let kernel = try await laboratory.descriptor()
            let (units, tables) = try await Self.compiled(CorpusSample.files, laboratory, kernel)
            #expect(units.count == CorpusSample.files.count)
            let offline = try #require(
                try await OfflineKernel(kernel, modules: Set(units.compactMap(\.unit.module))))
            var changed = 0
            var same = 0
            for (unit, pre, post) in units {
                let object = try ObjectFile(path: post).withoutDebugInformation()
                let difference = try UnitDifference.compare(
                    path: unit.path, module: unit.module, prePath: pre, postPath: post, tables: tables)
                let names = Set(difference.functions.filter { $0.partOf == nil }.map(\.name))
                var matcher = try Matcher(
                    units: [.init(path: unit.path, module: unit.module, object: object)], tables: tables,
                    memory: offline.memory, symbols: offline.symbols, isImage: true)
                let result = matcher.match()
                let matched = Set(result.functions[0].map(\.name))
                #expect(matched.isDisjoint(with: names), "\(unit.path): \(matched.intersection(names))")
                for failure in result.failures { Self.checkExplanation(failure) }
                changed += names.count
                same += matched.count
            }
            #expect(changed > 40 && same > 500, "\(changed), \(same)")
        }

        /// What is said of a function of another version against an image that never ran.
        private static func checkExplanation(_ failure: MatchFailure) {
            let lines = failure.lines
            func issue(_ text: String) -> Comment {
                "\(failure.path): \(text)\n\(lines.joined(separator: "\n"))"
            }
            let rows = lines.filter { $0.contains(" | ") || $0.hasSuffix(" |") || $0.hasPrefix("    > ") }
            #expect(rows.count { $0.hasPrefix("    > ") } == 1, issue("no first difference"))
            #expect(rows.allSatisfy { $0.count <= 80 }, issue("wide"))
            #expect(!failure.preText.isEmpty && !failure.runText.isEmpty, issue("a side is missing"))
            #expect(failure.hints.last?.hasPrefix("git ksplice explain ") == true, issue("no hint"))
            // The compiler is the kernel's, the source is not, and nobody writes into a file.
            #expect(failure.reasons.contains { $0.code == .otherSource }, issue("not the source"))
            #expect(
                !failure.reasons.contains { [.otherCompiler, .modifiedCode].contains($0.code) },
                issue("another reason"))
            if failure.matched * 2 >= failure.compared && failure.cause == .differentCode {
                #expect(failure.reasons.map(\.isLikely) == [true], issue("nothing is likely"))
            }
            #expect(failure.matched == 0 || !failure.neighbours.isEmpty, issue("no neighbour"))
        }

        /// Sources of the older and of the newer version, compiled for the older kernel.
        private static func compiled(
            _ files: [String], _ laboratory: Laboratory, _ kernel: KernelDescriptor
        ) async throws -> (
            units: [(unit: TranslationUnit, pre: String, post: String)], tables: [String: Int]
        ) {
            let repository = try await Repository(directory: laboratory.repository)
            let workspace = Workspace(root: laboratory.workspace)
            let sources = #filePath.directoryPart + "/../../kernel"
            // With markers for lines: a warning further down has the line that it had.
            var changes: [String: SourceChange.File] = [:]
            for file in files {
                let texts = (
                    try Files.read("\(Material.oldSource)/\(file)"),
                    try Files.read("\(Material.newSource)/\(file)")
                )
                changes[file] = .init(
                    hunks: try repository.hunks(pre: texts.0, post: texts.1), pre: texts.0, post: texts.1)
            }
            let newer = SourceChange(changes).markedFiles
            let silent: @Sendable (String) -> Void = { _ in }
            return try await workspace.whenReady(
                for: kernel, tree: try repository.tree(of: kernel.sourceCommit), of: repository,
                allowsOtherCompiler: false, progress: silent
            ) { configuration in
                let compiler = Compiler(
                    workspace: workspace, configuration: configuration,
                    headers: sources)
                let units = try await compiler.units(try await compiler.places(of: files).built)
                let pre = try await compiler.preprocess(units, isOriginal: true)
                let post = try await workspace.withFiles(newer) {
                    try await compiler.preprocess(units, isOriginal: false)
                }
                let objects = (try await compiler.compile(pre), try await compiler.compile(post))
                let parts = try await ModuleBuilder(workspace: workspace, kernelSources: sources)
                    .parts(objtool: units[0].command.objtool, progress: silent)
                return (units.indices.map { (units[$0], objects.0[$0], objects.1[$0]) }, parts.tables)
            }
        }
    }
}
