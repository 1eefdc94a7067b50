// What a kernel exports to modules, from any of the three places that say it: the export tables in the memory of an
// image or of a running kernel, the same tables in a module file, and Module.symvers of the build.
//
// Format (include/linux/export.h, export-internal.h of Linux): `__ksymtab` and `__ksymtab_gpl` hold entries of three
// fields of four bytes, value, name and namespace, each an offset from its own place (both x86 since 4.19); `__kcrctab*`
// holds a checksum for each. From 7.1 on there is one table, and `__kflagstab` has a byte of flags for each.

/// The bit in `__kflagstab` that restricts a symbol to GPL modules.
private let flagGPL: UInt8 = 1

/// The longest name that is read, and the most that one table may hold; both far above what kernels have.
private let longestName = 1024
private let largestTable = 64 << 20

/// Reads the exports of the kernel image from memory. `symbols` must have the addresses of that memory.
///
/// Fails where the tables' bounds are not among the symbols (`CONFIG_KALLSYMS_ALL` is off), and where the tables are
/// not what they should be. A kernel without `CONFIG_MODVERSIONS` gives exports without checksums.
public func readExports(memory: any KernelMemory, symbols: KernelSymbols) throws -> [KernelExport] {
    guard symbols.unique("__start___ksymtab") != nil else {
        throw Failure(
            "cannot find the kernel's export tables: no symbol '__start___ksymtab'",
            hint: "give Module.symvers of the same build (the package linux-headers-RELEASE holds it)")
    }
    return try readExports(memory: memory) { name in
        guard let start = symbols.unique("__start___" + name) else { return nil }
        guard let stop = symbols.unique("__stop___" + name) else { return (start, nil) }
        return (start, stop)
    }
}

/// Reads the exports of an image whose symbols do not say where the tables are: its section headers do.
///
/// `sections` are those of `readImageSections`. An image without the sections gives no exports.
public func readExports(memory: any KernelMemory, sections: [String: Range<UInt64>]) throws -> [KernelExport]
{
    try readExports(memory: memory) { name in sections["__" + name].map { ($0.lowerBound, $0.upperBound) } }
}

/// What the export tables of an image say of its symbols: where everything is that it exports, and where the tables are, under
/// the names that the linker script gives their bounds. For kernels whose kallsyms lists functions only
/// (`CONFIG_KALLSYMS_ALL` is off).
///
/// `sections` are those of `readImageSections`. An image without the sections gives nothing.
public func readExportedSymbols(memory: any KernelMemory, sections: [String: Range<UInt64>]) throws
    -> [KernelSymbol]
{
    let kind = UInt8(ascii: "D")
    let bounds = ["ksymtab", "ksymtab_gpl", "kcrctab", "kcrctab_gpl", "kflagstab"].flatMap { name in
        guard let range = sections["__" + name] else { return [KernelSymbol]() }
        return [("__start___", range.lowerBound), ("__stop___", range.upperBound)].map {
            KernelSymbol(address: $0.1, kind: kind, name: $0.0 + name)
        }
    }
    return try ["", "_gpl"].reduce(bounds) { found, suffix in
        let table = try ExportTable(suffix: suffix, memory: memory) { name in
            sections["__" + name].map { ($0.lowerBound, $0.upperBound) }
        }
        return found
            + (try table?.values() ?? []).map {
                KernelSymbol(address: $0.address, kind: kind, name: $0.name)
            }
    }
}

extension [KernelExport] {
    /// The checksums by name of those that every module may use; 0 where there are none.
    var checksums: [String: UInt32] {
        Dictionary(filter(\.namespace.isEmpty).map { ($0.name, $0.crc ?? 0) }) { first, _ in first }
    }
}

/// Where a table begins and, where that is known, ends. Nil where the kernel has no such table.
private typealias TableBounds = (_ name: String) -> (start: UInt64, stop: UInt64?)?

private func readExports(memory: any KernelMemory, bounds: TableBounds) throws -> [KernelExport] {
    try ["", "_gpl"].flatMap { suffix in
        try ExportTable(suffix: suffix, memory: memory, bounds: bounds)?.read() ?? []
    }
}

private struct ExportTable {
    let memory: any KernelMemory
    let name: String
    let isGPL: Bool
    let start: UInt64
    let bytes: [UInt8]
    let checksums: [UInt8]?
    let flags: [UInt8]?

    /// Nil where the kernel has no such table.
    init?(suffix: String, memory: any KernelMemory, bounds: TableBounds) throws {
        func table(_ name: String) throws -> (UInt64, [UInt8])? {
            guard let (start, end) = bounds(name), let stop = end, stop >= start, stop - start <= largestTable
            else {
                return nil
            }
            return (start, try memory.read(at: start, count: Int(stop - start)))
        }
        name = "__ksymtab" + suffix
        guard let (start, bytes) = try table("ksymtab" + suffix) else { return nil }
        self.memory = memory
        isGPL = !suffix.isEmpty
        self.start = start
        self.bytes = bytes
        // Newer kernels do not mark where the table of checksums ends: a checksum has four bytes, an entry twelve.
        if let (crc, stop) = bounds("kcrctab" + suffix) {
            let size = stop.map { $0 >= crc ? Int(clamping: $0 - crc) : 0 } ?? bytes.count / 3
            checksums = size > 0 && size <= bytes.count ? try memory.read(at: crc, count: size) : nil
        } else {
            checksums = nil
        }
        flags = suffix.isEmpty ? try table("kflagstab")?.1 : nil
    }

    /// Each export with its address.
    func values() throws -> [(name: String, address: UInt64)] {
        let exports = try read()
        let entrySize = exports.isEmpty ? 0 : bytes.count / exports.count
        return exports.enumerated().compactMap { index, export in
            address(index * entrySize).map { (export.name, $0) }
        }
    }

    func read() throws -> [KernelExport] {
        let entrySize = exportEntrySize(table: bytes.count, checksums: checksums?.count ?? 0)
        guard let entrySize else {
            throw Failure(
                "malformed export table '\(name)': \(bytes.count) bytes are no whole number of entries")
        }
        let count = bytes.count / entrySize
        var names: [UInt64] = []
        var namespaces: [UInt64] = []
        for index in 0..<count {
            names.append(address(index * entrySize + 4) ?? 0)
            namespaces.append(entrySize >= 12 ? address(index * entrySize + 8) ?? 0 : 0)
        }
        let texts = try TextWindow(memory, names + namespaces.filter { $0 != 0 })
        return try (0..<count).map { index in
            guard let text = try texts.string(at: names[index]), !text.isEmpty else {
                throw Failure("malformed export table '\(name)': entry \(index) has no name")
            }
            let crc = checksums?.load(UInt32.self, at: index * 4)
            let space = namespaces[index] == 0 ? "" : try texts.string(at: namespaces[index]) ?? ""
            let restricted = flags.map { index < $0.count && $0[index] & flagGPL != 0 } ?? isGPL
            return KernelExport(
                name: text, crc: crc == 0 ? nil : crc, object: "vmlinux", isGPL: restricted, namespace: space)
        }
    }

    /// What a field refers to; nil for nothing. In a 32-bit kernel addresses wrap around at four gigabytes.
    private func address(_ offset: Int) -> UInt64? {
        guard let value = bytes.load(Int32.self, at: offset), value != 0 else { return nil }
        let mask = start > UInt64(UInt32.max) ? UInt64.max : UInt64(UInt32.max)
        return (start &+ UInt64(offset) &+ UInt64(bitPattern: Int64(value))) & mask
    }
}

/// The size of an entry, learned from the number of checksums where there are any. Nil where nothing fits.
private func exportEntrySize(table: Int, checksums: Int) -> Int? {
    if checksums >= 4, checksums % 4 == 0, table % (checksums / 4) == 0 {
        let size = table / (checksums / 4)
        if size == 8 || size == 12 { return size }
    }
    return table % 12 == 0 ? 12 : table % 8 == 0 ? 8 : nil
}

/// Strings that lie together in memory, read at once: a live kernel's memory is read through a system call.
private struct TextWindow {
    let memory: any KernelMemory
    let start: UInt64
    let bytes: [UInt8]

    init(_ memory: any KernelMemory, _ addresses: [UInt64]) throws {
        self.memory = memory
        guard let low = addresses.min(), let high = addresses.max(), high - low <= largestTable else {
            (start, bytes) = (0, [])
            return
        }
        start = low
        do {
            bytes = try memory.read(at: low, count: Int(high - low) + longestName)
        } catch {
            // The window reaches beyond what is mapped: each string is then read on its own.
            bytes = []
        }
    }

    func string(at address: UInt64) throws -> String? {
        if address >= start, address - start < UInt64(bytes.count),
            let text = bytes.string(at: Int(address - start))
        {
            return text
        }
        // Outside of the window, or at the end of what is mapped: one by one.
        var text: [UInt8] = []
        while text.count < longestName {
            let byte = try memory.read(at: address &+ UInt64(text.count), count: 1)[0]
            if byte == 0 { return String(decoding: text, as: UTF8.self) }
            text.append(byte)
        }
        return nil
    }
}

/// The exports of a module, from its file. `object` is the module's path without suffix, as Module.symvers has it.
///
/// A module that exports nothing gives none. Fails where a table's entry names nothing.
public func readExports(module: ObjectFile, object: String) throws -> [KernelExport] {
    try ["", "_gpl"].flatMap { suffix -> [KernelExport] in
        guard let index = module.section(named: "__ksymtab" + suffix) else { return [] }
        let table = module.sections[index]
        let checksums = module.section(named: "__kcrctab" + suffix).map { module.sections[$0] }
        let flags =
            suffix.isEmpty ? module.section(named: "__kflagstab").map { module.sections[$0].contents } : nil
        guard let entrySize = exportEntrySize(table: table.size, checksums: checksums?.size ?? 0) else {
            throw Failure(
                "malformed module '\(object)': bad size of '\(table.name)'", status: .verificationRefused)
        }
        return try (0..<table.size / entrySize).map { entry in
            guard let name = module.text(at: entry * entrySize + 4, of: table), !name.isEmpty else {
                throw Failure(
                    "malformed module '\(object)': entry \(entry) of '\(table.name)' has no name",
                    status: .verificationRefused)
            }
            let space = entrySize < 12 ? nil : module.text(at: entry * entrySize + 8, of: table)
            let crc = checksums.flatMap { module.checksum(at: entry * 4, of: $0) }
            let restricted = flags.map { entry < $0.count && $0[entry] & flagGPL != 0 } ?? !suffix.isEmpty
            return KernelExport(
                name: name, crc: crc == 0 ? nil : crc, object: object, isGPL: restricted,
                namespace: space ?? "")
        }
    }
}

extension ObjectFile {
    /// The string that the relocation of a field leads to; nil where there is no relocation or no string.
    fileprivate func text(at offset: Int, of section: Section) -> String? {
        guard let relocation = section.relocations(in: offset..<offset + 4).first,
            symbols.indices.contains(relocation.symbol)
        else { return nil }
        let symbol = symbols[relocation.symbol]
        guard symbol.isDefinedInSection, sections.indices.contains(symbol.section) else { return nil }
        let (place, overflow) = Int64(bitPattern: symbol.value).addingReportingOverflow(relocation.addend)
        guard !overflow, let place = Int(exactly: place) else { return nil }
        return sections[symbol.section].contents.string(at: place)
    }

    /// A checksum: plain, or before 6.0 the value of an absolute symbol.
    fileprivate func checksum(at offset: Int, of section: Section) -> UInt32? {
        if let relocation = section.relocations(in: offset..<offset + 4).first,
            symbols.indices.contains(relocation.symbol)
        {
            let symbol = symbols[relocation.symbol]
            return symbol.section == SectionIndex.absolute ? UInt32(truncatingIfNeeded: symbol.value) : nil
        }
        return section.contents.load(UInt32.self, at: offset)
    }
}
