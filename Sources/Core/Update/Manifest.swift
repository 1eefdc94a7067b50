// The manifest: the text that says what an update is. Its SHA-256 is the update's identity, so its rendering is
// canonical: fixed order, one record a line, fields separated by one blank, blanks and control characters inside
// a field percent-encoded, an empty field written as `-`. It holds no date, no host name and no path of a machine.

/// What an update is for, what it holds, and what applying it needs.
public struct Manifest: Sendable, Equatable {
    public static let formatVersion = 3

    /// What made the update: the program's version and a digest of the sources of ksplice.ko. Another one may make
    /// another update of the same change.
    public var builder: String
    public var kernel: KernelIdentity
    /// The commit that the kernel was built from.
    public var sourceCommit: String
    /// Object ids of the source trees before and after the change.
    public var preTree: String
    public var postTree: String
    /// The commits that the update was made from, oldest first; empty for one made from a patch file.
    public var commits: [String]
    /// Identities of updates that must be applied before, in this order: the change was made to their source.
    public var depends: [String] = []
    /// One line for people.
    public var description: String
    /// Whether the update must stay loaded after undo, because addresses of its own code or data may be kept.
    public var isResident: Bool
    /// Codes of findings that its author let through.
    public var forced: [String]
    /// Entry sizes of the table sections, in bytes, learned from the kernel's own headers. Key: section name.
    public var tables: [String: Int]
    public var units: [Unit]
    public var replacements: [Replacement]
    /// Position in this array is the number in the update module's symbol name `ksplice.N`.
    public var references: [Reference]
    /// Constants whose content is replaced where they stand, in the order of the module's table.
    public var constants: [Constant]
    /// Code that runs when the update is applied or undone, in the order of the module's table.
    public var hooks: [Hook]
    /// Ids of shadow variables that the update uses.
    public var shadows: [Shadow]
    /// What the update exports to modules that are loaded while it is applied, in the order of the units.
    public var exports: [Export]
    /// Modules (by name) that must stay loaded while the update is applied.
    public var modules: [String]
    /// What is loaded by itself, one for the kernel image and one for each module that the update changes; empty where that is
    /// but one. Each has the units that follow those of the one before it.
    public var parts: [Part] = []
    /// Everything else in the update, sorted by path.
    public var files: [File]

    /// A translation unit that takes part in run-pre matching.
    public struct Unit: Sendable, Equatable {
        /// The source file's path in the kernel's tree.
        public var path: String
        /// The module's name as `/proc/modules` has it; nil for the kernel image.
        public var module: String?
        /// The path of the stored pre object inside the update.
        public var object: String

        public init(path: String, module: String?, object: String) {
            self.path = path
            self.module = module
            self.object = object
        }
    }

    /// A function that new code replaces, or another part of one (`.cold`), which gets no redirect.
    public struct Replacement: Sendable, Equatable {
        /// Index into `units`.
        public var unit: Int
        public var symbol: String
        /// Index into the symbols of the unit's stored pre object.
        public var preSymbol: Int
        /// In bytes, of the pre code.
        public var size: Int
        /// For another part of a function: the index in `replacements` of the function itself.
        public var partOf: Int?

        public init(unit: Int, symbol: String, preSymbol: Int, size: Int, partOf: Int? = nil) {
            self.unit = unit
            self.symbol = symbol
            self.preSymbol = preSymbol
            self.size = size
            self.partOf = partOf
        }
    }

    /// A symbol that exists in the kernel and is resolved when the update is applied.
    public struct Reference: Sendable, Equatable {
        public var name: String
        /// Index into `units` of the unit whose code refers to it: its module is looked at first.
        public var unit: Int
        /// Index into the symbols of that unit's pre object, where the pre code knows it; matching gives its address.
        public var preSymbol: Int?
        /// For a symbol that another part of the update brings: what that part changes, a module or `vmlinux`.
        public var bringer: String?

        public init(name: String, unit: Int, preSymbol: Int?, bringer: String? = nil) {
            self.name = name
            self.unit = unit
            self.preSymbol = preSymbol
            self.bringer = bringer
        }
    }

    public struct Constant: Sendable, Equatable {
        /// Index into `units`.
        public var unit: Int
        public var symbol: String
        /// Index into the symbols of the unit's stored pre object.
        public var preSymbol: Int
        /// In bytes.
        public var size: Int

        public init(unit: Int, symbol: String, preSymbol: Int, size: Int) {
            self.unit = unit
            self.symbol = symbol
            self.preSymbol = preSymbol
            self.size = size
        }
    }

    public struct Hook: Sendable, Equatable {
        /// Index into `units`.
        public var unit: Int
        public var kind: HookKind
        /// The function's name.
        public var symbol: String

        public init(unit: Int, kind: HookKind, symbol: String) {
            self.unit = unit
            self.kind = kind
            self.symbol = symbol
        }
    }

    public struct Shadow: Sendable, Equatable {
        /// Index into `units`.
        public var unit: Int
        public var id: UInt64

        public init(unit: Int, id: UInt64) {
            self.unit = unit
            self.id = id
        }
    }

    public struct Export: Sendable, Equatable {
        /// Index into `units`.
        public var unit: Int
        public var symbol: String
        /// Whether only modules with a licence that the GPL allows may use it.
        public var isGPL: Bool
        /// Empty for none.
        public var namespace: String
        /// As `Module.symvers` has it; nil for a kernel without checksums.
        public var checksum: UInt32?

        public init(unit: Int, symbol: String, isGPL: Bool, namespace: String, checksum: UInt32?) {
            self.unit = unit
            self.symbol = symbol
            self.isGPL = isGPL
            self.namespace = namespace
            self.checksum = checksum
        }
    }

    /// An update module of its own for the units of the kernel image or of one module, so that a module that is loaded later
    /// gets its part then.
    public struct Part: Sendable, Equatable {
        /// The path of its update module inside the update.
        public var file: String
        /// How many units it has.
        public var units: Int
        /// As for the update.
        public var isResident: Bool
        /// Modules (by name) that must stay loaded while this part is applied.
        public var modules: [String]

        public init(file: String, units: Int, isResident: Bool, modules: [String]) {
            self.file = file
            self.units = units
            self.isResident = isResident
            self.modules = modules
        }
    }

    public struct File: Sendable, Equatable {
        public var path: String
        public var size: Int
        /// SHA-256, lower-case hexadecimal.
        public var digest: String

        public init(path: String, size: Int, digest: String) {
            self.path = path
            self.size = size
            self.digest = digest
        }
    }

    public init(kernel: KernelIdentity, sourceCommit: String, preTree: String, postTree: String) {
        builder = ""
        self.kernel = kernel
        self.sourceCommit = sourceCommit
        self.preTree = preTree
        self.postTree = postTree
        commits = []
        description = ""
        isResident = false
        forced = []
        tables = [:]
        units = []
        replacements = []
        references = []
        constants = []
        hooks = []
        shadows = []
        exports = []
        modules = []
        files = []
    }
}

extension Manifest {
    /// The canonical text.
    public var text: String {
        var out = ""
        func line(_ fields: String...) {
            out += fields[0] + fields.dropFirst().map { " " + encodeField($0) }.joined() + "\n"
        }
        line("ksplice-update", "\(Self.formatVersion)")
        line("builder", builder)
        line("arch", kernel.arch)
        line("build-id", kernel.buildID)
        line("release", kernel.release)
        line("version", kernel.version)
        line("compiler", kernel.compiler)
        line("config", kernel.configDigest)
        line("source", sourceCommit)
        line("trees", preTree, postTree)
        for commit in commits { line("commit", commit) }
        for id in depends { line("depends", id) }
        line("description", description)
        line("resident", isResident ? "yes" : "no")
        for code in forced { line("forced", code) }
        for (name, size) in tables.sorted(by: { $0.key < $1.key }) { line("table", name, "\(size)") }
        for unit in units { line("unit", unit.path, unit.module ?? "", unit.object) }
        for r in replacements {
            line(
                "replace", "\(r.unit)", r.symbol, "\(r.preSymbol)", "\(r.size)",
                r.partOf.map { "\($0)" } ?? "")
        }
        for r in references {
            line(
                "reference", r.name, "\(r.unit)", r.preSymbol.map { "\($0)" } ?? "", r.bringer ?? "")
        }
        for c in constants { line("constant", "\(c.unit)", c.symbol, "\(c.preSymbol)", "\(c.size)") }
        for hook in hooks { line("hook", "\(hook.unit)", hook.kind.rawValue, hook.symbol) }
        for shadow in shadows { line("shadow", "\(shadow.unit)", hex(shadow.id)) }
        for e in exports {
            line(
                "export", "\(e.unit)", e.symbol, e.isGPL ? "gpl" : "any", e.namespace,
                e.checksum.map { hex(UInt64($0)) } ?? "")
        }
        for module in modules { line("module", module) }
        for part in parts {
            line(
                "part", part.file, "\(part.units)", part.isResident ? "yes" : "no",
                part.modules.joined(separator: ","))
        }
        for file in files { line("file", file.digest, "\(file.size)", file.path) }
        return out
    }

    /// The identity of the update that this manifest describes.
    public var id: String { sha256(text) }

    /// Reads the canonical text. Fails on an unknown record, a newer format, and an index that leads nowhere.
    public init(parsing text: String) throws {
        var parser = ManifestParser()
        for (number, line) in text.lines.enumerated() {
            do {
                try parser.read(
                    line.split(separator: " ", omittingEmptySubsequences: false).map { String($0) })
            } catch let failure as Failure {
                throw Failure(
                    "malformed manifest, line \(number + 1): \(failure.message)",
                    status: .verificationRefused,
                    hints: failure.hints)
            }
        }
        self = try parser.finish()
    }
}

private struct ManifestParser {
    private var manifest = Manifest(
        kernel: KernelIdentity(
            arch: "", buildID: "", release: "", version: "", compiler: "", configDigest: ""),
        sourceCommit: "", preTree: "", postTree: "")
    private var sawVersion = false

    mutating func read(_ raw: [String]) throws {
        let fields =
            try [raw[0]]
            + raw.dropFirst().map { field in
                guard let text = decodeField(field) else { throw Failure("bad encoding in '\(field)'") }
                return text
            }
        func need(_ count: Int) throws {
            guard fields.count == count + 1 else { throw Failure("'\(fields[0])' wants \(count) fields") }
        }
        func number(_ index: Int) throws -> Int {
            guard let value = Int(fields[index]), value >= 0 else {
                throw Failure("'\(fields[index])' is not a number")
            }
            return value
        }
        if !sawVersion {
            guard fields.count == 2, fields[0] == "ksplice-update" else { throw Failure("not a manifest") }
            guard fields[1] == "\(Manifest.formatVersion)" else {
                throw unknownFormat(fields[1])
            }
            sawVersion = true
            return
        }
        if try readCustom(fields, need, number) { return }
        switch fields[0] {
        case "builder":
            try need(1)
            manifest.builder = fields[1]
        case "arch":
            try need(1)
            manifest.kernel.arch = fields[1]
        case "build-id":
            try need(1)
            manifest.kernel.buildID = fields[1]
        case "release":
            try need(1)
            manifest.kernel.release = fields[1]
        case "version":
            try need(1)
            manifest.kernel.version = fields[1]
        case "compiler":
            try need(1)
            manifest.kernel.compiler = fields[1]
        case "config":
            try need(1)
            manifest.kernel.configDigest = fields[1]
        case "source":
            try need(1)
            manifest.sourceCommit = fields[1]
        case "trees":
            try need(2)
            (manifest.preTree, manifest.postTree) = (fields[1], fields[2])
        case "commit":
            try need(1)
            manifest.commits.append(fields[1])
        case "depends":
            try need(1)
            guard fields[1].count == 64, fields[1].allSatisfy(\.isHexDigit) else {
                throw Failure("'\(fields[1])' is no identity of an update")
            }
            manifest.depends.append(fields[1])
        case "description":
            try need(1)
            manifest.description = fields[1]
        case "resident":
            try need(1)
            manifest.isResident = fields[1] == "yes"
        case "forced":
            try need(1)
            manifest.forced.append(fields[1])
        case "table":
            try need(2)
            manifest.tables[fields[1]] = try number(2)
        case "unit":
            try need(3)
            manifest.units.append(
                .init(path: fields[1], module: fields[2].isEmpty ? nil : fields[2], object: fields[3]))
        case "replace":
            try need(5)
            manifest.replacements.append(
                try .init(
                    unit: number(1), symbol: fields[2], preSymbol: number(3), size: number(4),
                    partOf: fields[5].isEmpty ? nil : number(5)))
        case "reference":
            try need(4)
            manifest.references.append(
                try .init(
                    name: fields[1], unit: number(2), preSymbol: fields[3].isEmpty ? nil : number(3),
                    bringer: fields[4].isEmpty ? nil : fields[4]))
        case "module":
            try need(1)
            manifest.modules.append(fields[1])
        case "part":
            try need(4)
            manifest.parts.append(
                try .init(
                    file: fields[1], units: number(2), isResident: fields[3] == "yes",
                    modules: fields[4].split(separator: ",").map { String($0) }))
        case "file":
            try need(3)
            manifest.files.append(try .init(path: fields[3], size: number(2), digest: fields[1]))
        default: throw Failure("unknown record '\(fields[0])'")
        }
    }

    private func unknownFormat(_ version: String) -> Failure {
        if let number = Int(version), number < Manifest.formatVersion {
            return Failure(
                "format \(version) is that of an older git-ksplice",
                hint: "make the update again from its commit: git ksplice create")
        }
        return Failure("format \(version) is not known", hint: "a newer git-ksplice may read it")
    }

    /// The records of what authors add to a change. Returns whether it was one.
    private mutating func readCustom(
        _ fields: [String], _ need: (Int) throws -> Void, _ number: (Int) throws -> Int
    ) throws -> Bool {
        switch fields[0] {
        case "constant":
            try need(4)
            manifest.constants.append(
                try .init(unit: number(1), symbol: fields[2], preSymbol: number(3), size: number(4)))
        case "hook":
            try need(3)
            guard let kind = HookKind(rawValue: fields[2]) else {
                throw Failure("'\(fields[2])' is no kind of hook")
            }
            manifest.hooks.append(try .init(unit: number(1), kind: kind, symbol: fields[3]))
        case "shadow":
            try need(2)
            guard fields[2].hasPrefix("0x"), let id = UInt64(fields[2].dropFirst(2), radix: 16) else {
                throw Failure("'\(fields[2])' is no hexadecimal number")
            }
            manifest.shadows.append(try .init(unit: number(1), id: id))
        case "export":
            try need(5)
            guard ["gpl", "any"].contains(fields[3]) else { throw Failure("'\(fields[3])' is no licence") }
            let checksum = fields[5].hasPrefix("0x") ? UInt32(fields[5].dropFirst(2), radix: 16) : nil
            guard checksum != nil || fields[5].isEmpty else {
                throw Failure("'\(fields[5])' is no checksum")
            }
            manifest.exports.append(
                try .init(
                    unit: number(1), symbol: fields[2], isGPL: fields[3] == "gpl", namespace: fields[4],
                    checksum: checksum))
        default: return false
        }
        return true
    }

    func finish() throws -> Manifest {
        let units = manifest.units.indices
        let custom =
            manifest.constants.map(\.unit) + manifest.hooks.map(\.unit) + manifest.shadows.map(\.unit)
            + manifest.exports.map(\.unit)
        guard sawVersion,
            manifest.replacements.allSatisfy({ r in
                units.contains(r.unit) && r.partOf.map { manifest.replacements.indices.contains($0) } ?? true
            }), manifest.references.allSatisfy({ units.contains($0.unit) }),
            custom.allSatisfy({ units.contains($0) }), manifest.hasSoundParts
        else {
            throw Failure(
                "malformed manifest: a record refers to one that does not exist", status: .verificationRefused
            )
        }
        return manifest
    }
}
