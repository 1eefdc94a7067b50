// The export tables of an update module: what EXPORT_SYMBOL and modpost would have made for the exports that a change
// adds. A module that is loaded later links to them as to any other module's, holds the update's module while it does,
// and is checked against the checksums (include/linux/export.h, export-internal.h, scripts/module.lds.S of Linux 6.1).
// What exists already is exported where it stands, so that its redirect leads callers to the newest code.

struct ExportTables {
    private(set) var object: ObjectFile
    private var strings: [UInt8] = []

    private static let stringsSection = 1

    /// Fails where the kernel's modules do not have their exports in this form: entries of three fields of four bytes,
    /// which the linker script puts together by the names of their sections, sorted and by licence. With
    /// `CONFIG_HAVE_ARCH_PREL32_RELOCATIONS` the fields are offsets and not addresses; namespaces, the third field, are
    /// older than the script (Linux 5.10). From 7.1 on there is one table for both licences.
    /// - Parameter script: `scripts/module.lds`; nil where the tree has none.
    static func checkForm(script: String?, options: [String: String]) throws {
        let isKnown = ["", "_gpl"].allSatisfy { licence in
            script?.contains("*(SORT(___ksymtab\(licence)+*))") == true
        }
        guard isKnown, options["HAVE_ARCH_PREL32_RELOCATIONS"] == "y" else {
            throw Failure(
                "the change adds exports, and this kernel has its export tables in another form",
                status: .cannotBePatched,
                hint: "only the form of Linux 5.10 to 7.0 on x86-64 is known; leave EXPORT_SYMBOL out")
        }
    }

    /// Nil where no unit adds an export. Records them, and what their entries refer to, in `assembly`.
    /// - Parameters:
    ///   - exports: those of each of the assembly's units.
    ///   - checksums: by symbol; nil where the kernel has none.
    ///   - newGlobals: names that any of the units brings.
    init?(
        _ exports: [[NewExport]], _ checksums: [String: UInt32]?, _ newGlobals: Set<String>,
        _ assembly: inout Assembly, architecture: X86Architecture
    ) throws {
        object = architecture.emptyObject()
        guard exports.contains(where: { !$0.isEmpty }) else { return nil }
        object.sections.append(Section(name: "__ksymtab_strings", type: 1, flags: SectionFlags.alloc))
        object.symbols.append(
            Symbol(name: "__ksymtab_strings", type: SymbolType.section, section: Self.stringsSection))
        for (unit, exports) in exports.enumerated() {
            for export in exports {
                add(export, Self.symbol(export, unit, newGlobals, &assembly))
                assembly.exports.append(
                    .init(
                        unit: unit, symbol: export.name, isGPL: export.isGPL, namespace: export.namespace,
                        checksum: checksums?[export.name]))
                guard let checksums else { continue }
                guard let checksum = checksums[export.name] else {
                    throw Failure(
                        "the checksum of the new export '\(export.name)' cannot be computed",
                        status: .cannotBePatched,
                        hint: "is it declared in '\(assembly.units[unit].path)' in front of EXPORT_SYMBOL?")
                }
                add(export, checksum: checksum)
            }
        }
        object.sections[Self.stringsSection].contents = strings
        object.sections[Self.stringsSection].size = strings.count
    }

    /// The symbol of the update module that stands for what is exported.
    private static func symbol(
        _ export: NewExport, _ unit: Int, _ newGlobals: Set<String>, _ assembly: inout Assembly
    ) -> String {
        switch export.subject {
        case .new(let name): return name
        case .elsewhere where newGlobals.contains(export.name): return export.name
        case .existing(let name, let symbol):
            assembly.references.append(.init(name: name, unit: unit, preSymbol: symbol))
        case .elsewhere(let symbol):
            assembly.references.append(.init(name: export.name, unit: unit, preSymbol: symbol))
        }
        return "ksplice.\(assembly.references.count - 1)"
    }

    private mutating func add(_ export: NewExport, _ symbol: String) {
        let architecture = object.architecture
        object.symbols.append(Symbol(name: symbol, binding: SymbolBinding.global))
        let value = object.symbols.count - 1
        let name = strings.count
        strings += Array(export.name.utf8) + [0]
        let namespace = strings.count
        strings += Array(export.namespace.utf8) + [0]
        var entry = Section(
            name: "___ksymtab\(export.isGPL ? "_gpl" : "")+\(export.name)", type: 1,
            flags: SectionFlags.alloc, alignment: 4, contents: [UInt8](repeating: 0, count: 12))
        // Each field is an offset from its own place.
        let type = architecture.pc32.type
        entry.relocations = [
            .init(offset: 0, type: type, symbol: value, addend: 0),
            .init(offset: 4, type: type, symbol: 1, addend: Int64(name)),
            .init(offset: 8, type: type, symbol: 1, addend: Int64(namespace)),
        ]
        object.sections.append(entry)
        // By this name kallsyms tells who exports what.
        object.symbols.append(
            Symbol(name: "__ksymtab_" + export.name, section: object.sections.count - 1))
    }

    private mutating func add(_ export: NewExport, checksum: UInt32) {
        var section = Section(
            name: "___kcrctab\(export.isGPL ? "_gpl" : "")+\(export.name)", type: 1,
            flags: SectionFlags.alloc, alignment: 4)
        section.contents.append(littleEndian: checksum)
        section.size = section.contents.count
        object.sections.append(section)
    }
}
