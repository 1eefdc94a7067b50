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
            let damage = try Damage(MatchUnit(path: path, module: module, object: object), offline)
            #expect(damage.functions.count >= 10)
            var flips = 0
            var unnoticed: [String] = []
            for function in damage.functions {
                for offset in 0..<function.runSize {
                    flips += 1
                    if try damage.goesUnnoticed(function, offset) {
                        unnoticed.append("\(function.name)+\(offset)")
                    }
                }
            }
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
                let matched = Set(matcher.match().functions[0].map(\.name))
                #expect(matched.isDisjoint(with: names), "\(unit.path): \(matched.intersection(names))")
                changed += names.count
                same += matched.count
            }
            #expect(changed > 40 && same > 500, "\(changed), \(same)")
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

/// A unit's match with a memory in which one bit is wrong.
private final class Damage {
    private final class Memory: KernelMemory {
        let base: any KernelMemory
        var place: UInt64?
        var bit: UInt8 = 0

        init(_ base: any KernelMemory) { self.base = base }

        func read(at address: UInt64, count: Int) throws -> [UInt8] {
            var bytes = try base.read(at: address, count: count)
            if let place, place >= address, place - address < UInt64(count) {
                bytes[Int(place - address)] ^= 1 << bit
            }
            return bytes
        }
    }

    private let unit: MatchUnit
    private let kernel: OfflineKernel
    private let memory: Memory
    private let clean: Matcher
    private let tables: [String: Int]
    let functions: [MatchedFunction]

    init(_ unit: MatchUnit, _ kernel: OfflineKernel) throws {
        self.unit = unit
        self.kernel = kernel
        memory = Memory(kernel.memory)
        tables = try unit.object.entrySizes()
        var matcher = try Matcher(
            units: [unit], tables: tables, memory: memory, symbols: kernel.symbols, isImage: true)
        let result = matcher.match()
        #expect(result.failures.isEmpty)
        clean = matcher
        functions = result.functions[0]
    }

    /// Whether the function still matches with one bit of a byte flipped.
    func goesUnnoticed(_ function: MatchedFunction, _ offset: Int) throws -> Bool {
        memory.place = function.address + UInt64(offset)
        memory.bit = UInt8((offset * 5 + 3) % 8)
        defer { memory.place = nil }
        let symbol = unit.object.symbols[function.symbolIndex]
        if symbol.size == UInt64(function.runSize), !isWritten(symbol, offset) {
            // Nothing that is known of other functions plays a part here.
            let span = Span(
                code: clean.codes[0], symbolIndex: function.symbolIndex, section: symbol.section,
                start: Int(symbol.value), size: function.runSize)
            let outcome = MatchAttempt(state: clean.state, span: span, entry: function.entry).run()
            if case .missed = outcome { return false }
        }
        // From the start, as if nothing were known.
        var matcher = try Matcher(
            units: [unit], tables: tables, memory: memory, symbols: kernel.symbols, isImage: true)
        return matcher.match().function(unit: 0, symbolIndex: function.symbolIndex) != nil
    }

    /// Whether linker or kernel write the byte: a relocated field, or a patch site.
    private func isWritten(_ symbol: Symbol, _ offset: Int) -> Bool {
        let place = Int(symbol.value) + offset
        let section = unit.object.sections[symbol.section]
        return section.relocations.contains { ($0.offset..<$0.offset + 8).contains(place) }
            || (clean.codes[0].sites.sites[symbol.section] ?? []).contains { $0.range.contains(place) }
    }
}
