// Symbols of the kernel image that the running kernel does not list. Without `CONFIG_KALLSYMS_ALL` it lists functions only,
// and ksplice.ko needs some of its variables: mutexes, and where read-only data begins and ends. The kernel's own code
// refers to them, so they are learned as every other symbol is: source files whose code does are compiled and matched, here
// against the image.
//
// The update carries their link addresses. An image of one build-id is laid out in one way, wherever it is loaded, and no
// update is applied to a kernel of another build-id; the distance is that of `_stext`, which every kernel lists.

/// What create finds out for ksplice.ko and for matching where the kernel does not list its variables.
struct HiddenSymbols {
    let kernel: KernelDescriptor
    /// Entry sizes of table sections in bytes.
    let tables: [String: Int]

    /// What every kernel lists.
    static let anchor = "_stext"

    /// Source files whose code refers to what is wanted. Of one that was renamed, both names.
    private static let witnesses: [(sources: [String], symbols: Set<String>)] = [
        (["kernel/kprobes.c"], ["kprobe_mutex", "text_mutex"]),
        (["kernel/module/main.c", "kernel/module.c"], ["module_mutex"]),
        (["arch/x86/mm/pat/set_memory.c"], ["__start_rodata", "__end_rodata"]),
    ]

    /// Wanted besides what ksplice.ko refers to: what matching and loading ask for.
    private static let wanted: Set<String> = ["__start_rodata", "__end_rodata"]
    /// The same, of what the image exports.
    private static let exported = [
        "pv_ops", "__start___ksymtab", "__stop___ksymtab", "__start___ksymtab_gpl", "__stop___ksymtab_gpl",
        "__start___kcrctab", "__stop___kcrctab", "__start___kcrctab_gpl", "__stop___kcrctab_gpl",
    ]

    /// The file for an update; nil where the kernel lists its variables. Fails where something that ksplice.ko needs is not
    /// found.
    /// - Parameters:
    ///   - module: ksplice.ko.
    ///   - constants: names of those of the image that are to be replaced in place.
    func file(
        for module: [UInt8], constants: [String], _ compiler: Compiler, progress: (String) -> Void
    ) async throws -> [UInt8]? {
        guard try ConfigFile(kernel.config, name: "config")["KALLSYMS_ALL"] != "y",
            let image = kernel.imagePath
        else { return nil }
        guard constants.isEmpty else {
            throw Failure(
                "constants of the kernel image cannot be replaced in place here: \(constants.joined(separator: ", "))",
                status: .cannotBePatched,
                hint:
                    "the kernel does not tell which of them it writes while it boots: its config has no CONFIG_KALLSYMS_ALL"
            )
        }
        let exports = Set(kernel.exports.map(\.name))
        let needed = try ModuleResolver(module, name: Update.Path.kernelModule).undefinedNames()
        let wanted = Self.wanted.union(needed.filter { !exports.contains($0) })
        // A System.map has variables that the running kernel does not list.
        var found: [String: UInt64] = [:]
        var open: Set<String> = []
        for name in wanted {
            let known = kernel.symbols.named(name, in: nil)
            if known.isEmpty { open.insert(name) }
            if let address = kernel.symbols.unique(name), !known[0].isCode { found[name] = address }
        }
        progress("looking for variables that the kernel does not list")
        found.merge(try await learn(open, compiler, image)) { known, _ in known }
        let missing = open.subtracting(found.keys).sorted()
        guard missing.isEmpty else {
            throw Failure(
                "this kernel does not list its variables, and no code tells where these are: \(missing.joined(separator: ", "))",
                status: .cannotBePatched, hint: "the kernel's config has no CONFIG_KALLSYMS_ALL")
        }
        var symbols = found.map { KernelSymbol(address: $1, kind: UInt8(ascii: "d"), name: $0) }
        symbols += Self.exported(of: kernel.symbols).all
        return KernelSymbols(symbols.sorted { ($0.address, $0.name) < ($1.address, $1.name) }).text()
    }

    /// Of an image's symbols those that matching and loading ask for and that a kernel may not list.
    static func exported(of symbols: KernelSymbols) -> KernelSymbols {
        KernelSymbols(
            ([anchor] + exported).compactMap { name in
                symbols.unique(name).map {
                    KernelSymbol(address: $0, kind: UInt8(ascii: "D"), name: name)
                }
            })
    }

    /// Where the image has symbols that the code of the witnesses refers to.
    private func learn(_ wanted: Set<String>, _ compiler: Compiler, _ image: String) async throws -> [String:
        UInt64]
    {
        if wanted.isEmpty { return [:] }
        let sources = Self.witnesses.filter { !$0.symbols.isDisjoint(with: wanted) }.flatMap(\.sources)
        let places = try await compiler.places(
            of: sources.filter { Files.exists("\(compiler.workspace.source)/\($0)") }
        ).built.filter { $0.module == nil }
        let units = try await compiler.units(places)
        let objects = try await compiler.compile(try await compiler.preprocess(units, isOriginal: true))
        var matcher = try Matcher(
            units: try zip(units, objects).map { unit, object in
                MatchUnit(
                    path: unit.path, module: nil,
                    object: try ObjectFile(path: object).withoutDebugInformation(), required: [])
            }, tables: tables, memory: ImageMemory(try KernelImage(vmlinuxAt: image)),
            symbols: kernel.symbols, isImage: true)
        let result = matcher.match()
        var found: [String: UInt64] = [:]
        for (unit, values) in result.values.enumerated() {
            for (symbol, address) in values {
                let name = result.units[unit].object.symbols[symbol].name
                guard wanted.contains(name) else { continue }
                guard found.updateValue(address, forKey: name) ?? address == address else {
                    throw Failure("'\(name)' is ambiguous in this kernel", status: .cannotBePatched)
                }
            }
        }
        return found
    }
}

extension Update {
    /// The running kernel's symbols with those that it does not list and the update knows.
    func completed(_ symbols: KernelSymbols) throws -> KernelSymbols {
        guard let text = files[Path.symbols] else { return symbols }
        return try symbols.completed(by: try KernelSymbols(text: text, name: Path.symbols))
    }
}

extension KernelSymbols {
    /// Adds symbols of the image, given at their link addresses, that these do not list. Fails where one that both have is
    /// elsewhere: then they are of different kernels.
    func completed(by linked: KernelSymbols) throws -> KernelSymbols {
        guard let here = unique(HiddenSymbols.anchor), let there = linked.unique(HiddenSymbols.anchor) else {
            throw Failure(
                "the kernel does not list '\(HiddenSymbols.anchor)'", status: .verificationRefused)
        }
        var added: [KernelSymbol] = []
        for var symbol in linked.all where symbol.module == nil {
            symbol.address = symbol.address &+ here &- there
            let known = named(symbol.name, in: nil)
            if known.isEmpty {
                added.append(symbol)
            } else if !known.contains(where: { $0.address == symbol.address }) {
                throw Failure(
                    "'\(symbol.name)' is at \(hex(known[0].address)) and not at \(hex(symbol.address)), where the image has it",
                    status: .wrongKernel, hint: "the symbols are of another kernel than the one that runs")
            }
        }
        return KernelSymbols(all + added)
    }
}
