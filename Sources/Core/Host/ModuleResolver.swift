// Prepares an update module for one running kernel: what the module loader cannot resolve becomes an absolute symbol,
// and everything that the loader does not check itself is checked here. The loader takes absolute symbols as they
// are, applies PC32 and PLT32 without looking for overflow, refuses fields that are not zero, and wants a checksum in
// `__versions` for each symbol that is left to it (kernel/module/{main,version}.c and arch/x86/kernel/module.c of 6.1).

/// Edits a relocatable module for loading.
public struct ModuleResolver {
    var editor: ELFEditor

    /// The module as edited so far.
    public var bytes: [UInt8] { editor.bytes }

    /// What ksplice.ko offers to update modules: resolved by the loader, without being exported.
    static let coreFunctions: Set<String> = [
        "ksplice_register", "ksplice_unregister", "ksplice_shadow_get", "ksplice_shadow_attach",
        "ksplice_shadow_get_or_attach", "ksplice_shadow_detach", "ksplice_shadow_detach_all",
    ]

    /// The name that `create` gives to every update module; as long as the name that replaces it.
    public static let placeholderName = "ksplice_000000000000"

    /// The machine that the module is for.
    public var architecture: X86Architecture { editor.architecture }

    /// `name` appears in failures. Fails on what is no relocatable module for x86.
    public init(_ bytes: [UInt8], name: String) throws {
        editor = try ELFEditor(bytes, name: name)
    }

    /// The names of the symbols that the module does not define.
    public func undefinedNames() throws -> [String] {
        try editor.symbols().filter { $0.section == SectionIndex.undefined && !$0.name.isEmpty }.map(\.name)
    }

    /// Gives undefined symbols their values. `value` returns nil for what is left to the module loader. Fails where
    /// a relocation could not reach its symbol from module space, is not understood, or its field is not zero, and where
    /// the kernel would write to `readOnly`: it chains the jump labels and static calls of modules to their keys, and a
    /// key that is write-protected after boot makes it fault while it holds its locks.
    public mutating func resolve(readOnly: Range<UInt64> = 0..<0, _ value: (String) throws -> UInt64?) throws
    {
        let symbols = try editor.symbols()
        var values: [Int: UInt64] = [:]
        for (index, symbol) in symbols.enumerated()
        where symbol.section == SectionIndex.undefined && !symbol.name.isEmpty {
            if let address = try value(symbol.name) { values[index] = address }
        }
        try check(symbols, values, readOnly)
        for (index, value) in values { editor.makeAbsolute(symbols[index], value: value) }
    }

    private func check(
        _ symbols: [ELFEditor.RawSymbol], _ values: [Int: UInt64], _ readOnly: Range<UInt64>
    ) throws {
        for (section, relocation) in try editor.relocations() {
            let header = editor.headers[section]
            guard let kind = X86Relocation.of(relocation.type), symbols.indices.contains(relocation.symbol)
            else {
                throw editor.malformed(
                    "relocation type \(X86Relocation.number(relocation.type)) in \(header.name) is not understood"
                )
            }
            guard relocation.offset <= header.size - kind.width else {
                throw editor.malformed("a relocation of \(header.name) lies outside")
            }
            // Where addends stand in the fields, the kernel's loader adds to them.
            if header.type != SectionType.noBits, !kind.isInPlace {
                let start = header.offset + relocation.offset
                guard editor.bytes[start..<start + kind.width].allSatisfy({ $0 == 0 }) else {
                    throw editor.malformed(
                        "a relocated field of \(header.name) is not zero, the kernel refuses that")
                }
            }
            guard let value = values[relocation.symbol] else { continue }
            if header.name == "__jump_table" || header.name == ".static_call_sites", readOnly.contains(value)
            {
                throw Failure(
                    "new code has a switch (\(header.name)) whose key '\(symbols[relocation.symbol].name)' at \(hex(value)) "
                        + "is write-protected", status: .cannotBePatched,
                    hint:
                        "the kernel cannot load such code as a module; a caller of the function may be changed instead"
                )
            }
            let space = architecture.moduleSpace
            let places = [space.lowerBound, space.upperBound - 1]
            for place in places
            where kind.fieldValue(symbol: value, addend: relocation.addend, place: place) == nil {
                throw Failure(
                    "\(kind.name) in \(header.name) of '\(editor.name)' cannot reach "
                        + "'\(symbols[relocation.symbol].name)' at \(hex(value))",
                    status: .verificationRefused)
            }
        }
    }

    /// Writes `__versions` for the symbols that are still undefined and for `module_layout`. `checksums` gives those
    /// of the kernel's exports; a symbol without one is a failure unless it is weak.
    public mutating func setVersions(_ checksums: [String: UInt32]) throws {
        let open = try editor.symbols().filter { $0.section == SectionIndex.undefined && !$0.name.isEmpty }
        var versions: [(String, UInt32)] = []
        var done: Set<String> = []
        for name in ["module_layout"] + open.map(\.name) where done.insert(name).inserted {
            guard let checksum = checksums[name] else {
                if open.contains(where: { $0.name == name && $0.binding == SymbolBinding.weak }) { continue }
                throw Failure(
                    "'\(editor.name)' needs the symbol '\(name)', whose checksum is not known",
                    status: .verificationRefused,
                    hint: "the kernel does not export it, or its Module.symvers is missing")
            }
            versions.append((name, checksum))
        }
        try writeVersions(versions)
    }

    /// Writes `__versions` for the symbols that exports among these give a checksum, as far as it is known now.
    public mutating func setKnownVersions(_ exports: [KernelExport]) throws {
        // A kernel without CONFIG_MODVERSIONS has none.
        guard editor.headers.contains(where: { $0.name == "__versions" }) else { return }
        let wanted = Set(try undefinedNames() + ["module_layout"])
        var known: [String: UInt32] = [:]
        for export in exports where export.object == "vmlinux" && export.namespace.isEmpty {
            if let checksum = export.crc, wanted.contains(export.name) { known[export.name] = checksum }
        }
        try writeVersions(known.sorted { $0.key < $1.key }.map { ($0.key, $0.value) })
    }

    /// What `__versions` holds.
    func versions() throws -> [String: UInt32] {
        guard editor.headers.contains(where: { $0.name == "__versions" }) else { return [:] }
        let content = editor.contents(try editor.section("__versions"))
        var found: [String: UInt32] = [:]
        for entry in stride(from: 0, through: content.count - Self.versionSize, by: Self.versionSize) {
            guard let name = content.string(at: entry + architecture.wordSize),
                let checksum = content.load(UInt32.self, at: entry)
            else { throw editor.malformed("an entry of __versions has no name") }
            if !name.isEmpty { found[name] = checksum }
        }
        return found
    }

    /// struct modversion_info: unsigned long crc; char name[64 - sizeof(unsigned long)].
    private static let versionSize = 64

    private mutating func writeVersions(_ versions: [(name: String, checksum: UInt32)]) throws {
        var content: [UInt8] = []
        let word = architecture.wordSize
        for (name, checksum) in versions {
            let text = Array(name.utf8)
            guard text.count < Self.versionSize - word else {
                throw Failure("the symbol name '\(name)' is too long for __versions")
            }
            content.append(littleEndian: checksum)
            content += [UInt8](repeating: 0, count: word - 4)
            content += text + [UInt8](repeating: 0, count: Self.versionSize - word - text.count)
        }
        editor.replaceContents(try editor.section("__versions"), with: content)
    }

    /// Writes the release into the `vermagic=` of `.modinfo`; the rest of the string stays.
    public mutating func setRelease(_ release: String) throws {
        try editInfo("vermagic") { old in
            let rest = old.firstIndex(of: " ").map { old[$0...] } ?? ""
            return release + rest
        }
    }

    /// Replaces the placeholder name in `struct module` and in `.modinfo`.
    public mutating func rename(to name: String) throws {
        let old = Array(Self.placeholderName.utf8)
        let new = Array(name.utf8)
        guard new.count <= old.count, !new.isEmpty, !new.contains(0) else {
            throw Failure("'\(name)' is no name for an update module")
        }
        let section = try editor.section(".gnu.linkonce.this_module")
        var content = editor.contents(section)
        let starts = content.indices.dropLast(old.count - 1).filter {
            content[$0..<$0 + old.count].elementsEqual(old)
        }
        guard starts.count == 1 else { throw editor.malformed("its name is not '\(Self.placeholderName)'") }
        content.replaceSubrange(
            starts[0]..<starts[0] + old.count, with: new + [UInt8](repeating: 0, count: old.count - new.count)
        )
        editor.replaceContents(section, with: content)
        try editInfo("name") { _ in name }
    }

    private mutating func editInfo(_ key: String, _ change: (Substring) -> String) throws {
        let section = try editor.section(".modinfo")
        var found = false
        var content: [UInt8] = []
        for item in editor.contents(section).split(separator: 0) {
            let text = String(decoding: item, as: UTF8.self)
            if text.hasPrefix(key + "=") {
                found = true
                content += Array((key + "=" + change(text.dropFirst(key.count + 1))).utf8) + [0]
            } else {
                content += Array(item) + [0]
            }
        }
        guard found else { throw editor.malformed("its .modinfo has no '\(key)'") }
        editor.replaceContents(section, with: content)
    }

    /// Fails where the module's `struct module` has not the size that the kernel's own modules have: old kernels do
    /// not check it.
    public func checkModuleSize(_ size: Int) throws {
        let mine = editor.headers[try editor.section(".gnu.linkonce.this_module")].size
        guard mine == size else {
            throw Failure(
                "'\(editor.name)' was built for another kernel: its struct module has \(mine) bytes, "
                    + "the kernel's has \(size)", status: .wrongKernel)
        }
    }

    /// The size of `struct module` of a module file, in bytes.
    public static func moduleSize(of bytes: [UInt8], name: String) throws -> Int {
        let editor = try ELFEditor(bytes, name: name)
        return editor.headers[try editor.section(".gnu.linkonce.this_module")].size
    }
}

/// Code that an update replaces, as it stands in memory.
public struct ExpectedCode: Sendable {
    public var address: UInt64
    public var bytes: [UInt8]
    public var mask: [UInt8]
    /// Where the redirect goes, from `address`; without meaning for other parts of functions.
    public var site: Int
    /// Whether an fentry site stands directly before the redirect.
    public var isTraceable: Bool

    public init(address: UInt64, bytes: [UInt8], mask: [UInt8], site: Int, isTraceable: Bool) {
        self.address = address
        self.bytes = bytes
        self.mask = mask
        self.site = site
        self.isTraceable = isTraceable
    }

    public init(_ function: MatchedFunction) {
        self.init(
            address: function.address, bytes: function.bytes, mask: function.mask, site: function.entrySite,
            isTraceable: function.hasFentry)
    }
}

extension ModuleResolver {
    /// KSPLICE_ABI of kernel/update.h.
    public static var tableVersion: UInt32 { Layout.abi }

    /// Writes the names of the modules that must stay while the update is loaded (kernel/update.h).
    public mutating func setModules(_ names: [String]) throws {
        let section = try editor.section(".ksplice.modules")
        editor.replaceContents(section, with: names.flatMap { Array($0.utf8) + [0] } + [0])
    }

    /// Sizes and offsets of kernel/update.h.
    private enum Layout {
        static let functionSize = 56
        static let functionExpected = 40
        static let functionSite = 48
        static let functionFlags = 52
        static let flagTraced: UInt32 = 1
        static let partSize = 32
        static let partExpected = 16
        static let dataSize = 40
        static let dataExpected = 24
        static let abi: UInt32 = 4
        static let tableID = 32
        static let tableDataCount = 24
        static let tableUpdate = 104
        static let tableSize = 176
    }

    /// Fills the update's tables (kernel/update.h): addresses, redirect sites, expected bytes and masks, the identities
    /// of what the module holds and of the whole update.
    /// The order is that of the tables. Fails where counts or sizes do not agree with what the module holds.
    public mutating func fillTables(
        functions: [ExpectedCode], parts: [ExpectedCode], data: [MatchedConstant] = [], id: String,
        update: String
    ) throws {
        let table = try editor.section(".ksplice.table")
        var head = editor.contents(table)
        guard head.count == Layout.tableSize, head.load(UInt32.self, at: 0) == Layout.abi,
            head.load(UInt32.self, at: 4).map({ Int($0) }) == functions.count,
            head.load(UInt32.self, at: 8).map({ Int($0) }) == parts.count,
            head.load(UInt32.self, at: Layout.tableDataCount).map({ Int($0) }) == data.count,
            id.utf8.count == 64, update.utf8.count == 64
        else { throw editor.malformed("its tables are not those that were expected") }
        for (place, text) in [(Layout.tableID, id), (Layout.tableUpdate, update)] {
            head.replaceSubrange(place..<place + 64, with: Array(text.utf8))
        }
        editor.replaceContents(table, with: head)
        let expected = try editor.section(".ksplice.expected")
        var code = editor.contents(expected)
        if !functions.isEmpty {
            try fill(
                ".ksplice.functions", functions, entry: Layout.functionSize, field: Layout.functionExpected,
                &code, expected)
        }
        if !parts.isEmpty {
            try fill(
                ".ksplice.parts", parts, entry: Layout.partSize, field: Layout.partExpected, &code, expected)
        }
        if !data.isEmpty { try fill(data, &code, expected) }
        editor.replaceContents(expected, with: code)
    }

    private mutating func fill(
        _ name: String, _ list: [ExpectedCode], entry: Int, field: Int, _ code: inout [UInt8], _ expected: Int
    ) throws {
        let section = try editor.section(name)
        var content = editor.contents(section)
        guard content.count == list.count * entry else {
            throw editor.malformed("\(name) does not hold \(list.count) entries")
        }
        let room = try room(section, expected)
        for (index, item) in list.enumerated() {
            let start = index * entry
            guard let size = content.load(UInt64.self, at: start + 8), item.bytes.count <= size,
                item.mask.count == item.bytes.count
            else {
                throw editor.malformed("\(name) entry \(index): the code in memory is larger than expected")
            }
            try write(item.bytes + item.mask, to: room[start + field], name, &code)
            content.store(item.address, at: start)
            // The code in memory may be shorter than that of the pre object (short jumps).
            content.store(UInt64(item.bytes.count), at: start + 8)
            if entry == Layout.functionSize {
                content.store(UInt32(truncatingIfNeeded: item.site), at: start + Layout.functionSite)
                let old = content.load(UInt32.self, at: start + Layout.functionFlags) ?? 0
                let flags = item.isTraceable ? old | Layout.flagTraced : old & ~Layout.flagTraced
                content.store(flags, at: start + Layout.functionFlags)
            }
        }
        editor.replaceContents(section, with: content)
    }

    private mutating func fill(_ list: [MatchedConstant], _ code: inout [UInt8], _ expected: Int) throws {
        let section = try editor.section(".ksplice.data")
        var content = editor.contents(section)
        guard content.count == list.count * Layout.dataSize else {
            throw editor.malformed(".ksplice.data does not hold \(list.count) entries")
        }
        let room = try room(section, expected)
        for (index, item) in list.enumerated() {
            let start = index * Layout.dataSize
            guard content.load(UInt64.self, at: start + 8) == UInt64(item.bytes.count) else {
                throw editor.malformed(".ksplice.data entry \(index) is of another size than '\(item.name)'")
            }
            try write(item.bytes, to: room[start + Layout.dataExpected], item.name, &code)
            content.store(item.address, at: start)
        }
        editor.replaceContents(section, with: content)
    }

    /// Where the fields of a table point in `.ksplice.expected`, by their offsets.
    private func room(_ section: Int, _ expected: Int) throws -> [Int: Int] {
        let symbols = try editor.symbols()
        var places: [Int: Int] = [:]
        for (owner, pointer) in try editor.relocations()
        where owner == section && symbols.indices.contains(pointer.symbol)
            && symbols[pointer.symbol].section == expected
        {
            places[pointer.offset] = Int(
                truncatingIfNeeded: Int64(bitPattern: symbols[pointer.symbol].value) &+ pointer.addend)
        }
        return places
    }

    private func write(_ bytes: [UInt8], to place: Int?, _ name: String, _ code: inout [UInt8]) throws {
        guard let place, place >= 0, place <= code.count - bytes.count else {
            throw editor.malformed("'\(name)' has no room in .ksplice.expected")
        }
        code.replaceSubrange(place..<place + bytes.count, with: bytes)
    }
}
