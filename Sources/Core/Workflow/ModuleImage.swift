// A module file laid out as the loader would lay it out, so that code of modules can be proven before the module is
// anywhere in memory. The addresses are made up; the distances between sections are the only thing that matching
// could not learn from the real ones, and it does not use them. objtool has run on the file, the loader's rewriting
// (alternatives, paravirtual calls, return thunks) has not: it is like an image that has not booted.
//
// Symbols that the file leaves undefined get the kernel image's addresses, or those that modules laid out together
// export to each other. Those of other modules get a made-up address each, which proves only that all references to a
// name agree.

/// Modules and the kernel image as one memory.
final class ModuleImageMemory: KernelMemory {
    private let image: any KernelMemory
    private var areas: [(start: UInt64, bytes: [UInt8])] = []
    private let space: Range<UInt64>
    private var next: UInt64
    private var imports: [String: UInt64] = [:]
    private(set) var symbols: [KernelSymbol] = []
    private let kernel: KernelSymbols

    init(image: any KernelMemory, kernel: KernelSymbols, architecture: X86Architecture) {
        space = architecture.moduleSpace
        next = space.lowerBound
        self.image = image
        self.kernel = kernel
    }

    func read(at address: UInt64, count: Int) throws -> [UInt8] {
        guard address >= space.lowerBound else {
            return try image.read(at: address, count: count)
        }
        guard count >= 0, let area = areas.last(where: { $0.start <= address }),
            address - area.start <= UInt64(area.bytes.count),
            count <= area.bytes.count - Int(address - area.start)
        else { throw Failure("cannot read \(count) bytes at \(hex(address)): no module is there") }
        let start = Int(address - area.start)
        return Array(area.bytes[start..<start + count])
    }

    /// A module with the addresses of its sections.
    private struct Placed {
        var object: ObjectFile
        var module: String
        var starts: [UInt64]
    }

    /// Lays out modules, all before any is relocated: one may use what another exports. Fails on a malformed file and
    /// on relocations that are not understood.
    func add(_ modules: [(object: ObjectFile, module: String)]) throws {
        let placed = try modules.map { try place($0.object, $0.module) }
        for module in placed { try relocate(module) }
    }

    private func place(_ object: ObjectFile, _ module: String) throws -> Placed {
        try object.checkBounds()
        var starts = [UInt64](repeating: 0, count: object.sections.count)
        for (index, section) in object.sections.enumerated() where section.isAllocated && section.size > 0 {
            next = aligned(next, max(64, section.alignment))
            starts[index] = next
            next += UInt64(section.size)
        }
        guard next < space.upperBound else {
            throw Failure("the modules do not fit into module space")
        }
        let prefix = "__ksymtab_"
        let exported = Set(
            object.symbols.lazy.map(\.name).filter { $0.hasPrefix(prefix) }.map { $0.dropFirst(prefix.count) }
        )
        for symbol in object.symbols where symbol.isDefinedInSection && !symbol.isLocal {
            let address = starts[symbol.section] &+ symbol.value
            if exported.contains(symbol.name[...]) { imports[symbol.name] = address }
        }
        return Placed(object: object, module: module, starts: starts)
    }

    private func relocate(_ placed: Placed) throws {
        let (object, module, starts) = (placed.object, placed.module, placed.starts)
        var values = [UInt64](repeating: 0, count: object.symbols.count)
        for (index, symbol) in object.symbols.enumerated().dropFirst() {
            if symbol.isDefinedInSection {
                values[index] = starts[symbol.section] &+ symbol.value
                record(symbol, object.sections[symbol.section], values[index], module)
            } else if symbol.isUndefined {
                values[index] = try imported(symbol.name)
            } else {
                values[index] = symbol.value
            }
        }
        for (index, section) in object.sections.enumerated() where starts[index] != 0 {
            var bytes = section.hasContents ? section.contents : [UInt8](repeating: 0, count: section.size)
            for relocation in section.relocations where relocation.type != 0 {  // R_X86_64_NONE, R_386_NONE
                guard let kind = X86Relocation.of(relocation.type), values.indices.contains(relocation.symbol)
                else {
                    throw Failure(
                        "module '\(module)' has a relocation of type \(relocation.type), which is not understood"
                    )
                }
                try kind.apply(
                    to: &bytes, at: relocation.offset, symbol: values[relocation.symbol],
                    addend: relocation.addend,
                    place: starts[index] &+ UInt64(relocation.offset))
            }
            areas.append((starts[index], bytes))
        }
    }

    private func record(_ symbol: Symbol, _ section: Section, _ address: UInt64, _ module: String) {
        guard !symbol.isSectionSymbol, symbol.type != SymbolType.file, !symbol.name.isEmpty,
            section.isAllocated
        else { return }
        let letter = section.isExecutable ? "t" : !section.isWritable ? "r" : section.hasContents ? "d" : "b"
        let kind = letter.utf8.first! - (symbol.isLocal ? 0 : 0x20)
        symbols.append(KernelSymbol(address: address, kind: kind, name: symbol.name, module: module))
    }

    private func imported(_ name: String) throws -> UInt64 {
        // First what modules export: the image may hold a static symbol of the same name.
        if let known = imports[name] { return known }
        let known = kernel.named(name, in: nil)
        // A name of several is imported as the one that is visible: an upper-case letter.
        if let found = known.first(where: { $0.kind < 0x60 }) ?? known.first { return found.address }
        let address = space.upperBound - 0xf00_0000 + UInt64(imports.count) * 16
        guard address < space.upperBound else {
            throw Failure("too many symbols of other modules")
        }
        imports[name] = address
        return address
    }

    private func aligned(_ address: UInt64, _ alignment: UInt64) -> UInt64 {
        let rest = address % alignment
        return rest == 0 ? address : address + alignment - rest
    }
}

/// The module files of a kernel, by the names that `/proc/modules` has.
struct ModuleFiles {
    private var paths: [String: String] = [:]

    /// - Parameter folder: `lib/modules/RELEASE`; its `modules.order` lists the files, without compression's suffix.
    init(folder: String) throws {
        let list = folder + "/modules.order"
        guard Files.exists(list) else { return }
        for line in try Files.readText(list).lines.map({ String($0) }) where line.hasSuffix(".ko") {
            let name = line.lastPathComponent.dropLast(3).replacing("-", with: "_")
            paths[String(name)] = "\(folder)/\(line)"
        }
    }

    var names: Set<String> { Set(paths.keys) }

    /// The file of any module; nil where none is there.
    var first: String? {
        for module in paths.keys.sorted() { if let path = path(module) { return path } }
        return nil
    }

    func path(_ module: String) -> String? {
        guard let path = paths[module] else { return nil }
        return ["", ".xz", ".zst", ".gz"].map { path + $0 }.first { Files.exists($0) }
    }
}
