// Learning a kernel build from whatever describes it: packages, unpacked packages, a build tree, the running machine,
// or a folder with a config. Every fact that two pieces state must be the same in both; a difference is a failure
// that names both, because an update made for a mixture of two builds fits neither.

public enum KernelImporter {
    /// Learns one kernel build from all paths together. `cache` is a folder for unpacked packages and images.
    ///
    /// Each path is a Debian package, a folder (unpacked package, build tree, config), a single file of them, or `/` for
    /// the running machine. Fails where a path gives nothing, where there is no config, and where pieces contradict.
    public static func load(paths: [String], cache: String) async throws -> ImportedKernel {
        try Files.createDirectory(cache)
        var pieces = KernelPieces()
        for path in paths { pieces.add(try await collect(path, cache: cache)) }
        return try await merge(pieces, cache: cache)
    }

    private static func collect(_ path: String, cache: String) async throws -> KernelPieces {
        let full = try Files.absolute(path)
        if full == "/" { return try KernelPieces(machine: "", name: .current()) }
        let pieces =
            if try KernelPackage.isPackage(full) {
                try KernelPieces(folder: await KernelPackage.unpack(full, cache: cache))
            } else if Files.isDirectory(full) {
                try KernelPieces(folder: full)
            } else {
                try KernelPieces(file: full)
            }
        guard !pieces.isEmpty else {
            throw Failure(
                "'\(path)' holds nothing that describes a kernel build",
                hints: [
                    "of Debian's packages, linux-image-RELEASE and linux-headers-RELEASE do, with the flavour in RELEASE",
                    "a build tree needs at least its .config",
                ])
        }
        return pieces
    }

    static func merge(_ pieces: KernelPieces, cache: String) async throws -> ImportedKernel {
        var merger = KernelMerger(pieces: pieces)
        for path in pieces.images {
            merger.images.append(try await openImage(path, cache: cache))
        }
        return try merger.merge()
    }

    private static func openImage(_ path: String, cache: String) async throws -> KernelMerger.Image {
        if try KernelImage.isELF(path) {
            return .init(content: try KernelImage(vmlinuxAt: path), path: path, bootPath: nil)
        }
        let kept = cache + "/vmlinux-" + (try KernelPackage.fileKey(path))
        if Files.isRegular(kept) {
            return .init(content: try KernelImage(vmlinuxAt: kept), path: kept, bootPath: path)
        }
        return .init(
            content: try await KernelImage.open(path, uncompressed: kept), path: kept, bootPath: path)
    }
}

/// Puts the pieces together.
struct KernelMerger {
    struct Image {
        var content: KernelImage
        /// Of the uncompressed image.
        var path: String
        var bootPath: String?
        /// The path that the user knows.
        var source: String { bootPath ?? path }
    }

    let pieces: KernelPieces
    var images: [Image] = []
    private var missing: [ImportedKernel.MissingPiece.Kind] = []
    private var ignored: [String] = []

    init(pieces: KernelPieces) { self.pieces = pieces }

    mutating func merge() throws -> ImportedKernel {
        let identityOfImages = try identityFacts()
        let config = try chooseConfig()
        let parsed = try ConfigFile(config.value, name: config.path)
        var identity = identityOfImages
        try check(parsed, at: config.path, release: identity.release)
        let fromConfig = parsed.arch.map { [Sourced(value: $0, path: config.path)] } ?? []
        identity.arch = try agree("architecture", imageFacts { $0.arch } + pieces.arches + fromConfig) ?? ""
        guard ["x86_64", "i686"].contains(identity.arch) else {
            throw Failure(
                "kernels for '\(identity.arch)' are not known",
                hint: "'\(config.path)' says neither X86_64 nor X86_32")
        }
        identity.compiler =
            try agree(
                "compiler",
                imageFacts { $0.banner?.compiler }
                    + (parsed.compiler.map { [Sourced(value: $0, path: config.path)] } ?? []))
            ?? ""
        identity.configDigest = sha256(config.value)
        if images.isEmpty { missing.append(.image) }
        let symbols = try complete(try chooseSymbols())
        let exports = try chooseExports(symbols)
        if pieces.modules.isEmpty && parsed["MODULES"] == "y" { missing.append(.modules) }
        return ImportedKernel(
            identity: identity, config: config.value, symbols: symbols, exports: exports,
            imagePath: images.first?.path,
            bootImagePath: images.first { $0.bootPath != nil }?.bootPath, modulesPath: pieces.modules.first,
            missing: missing.map { .of($0, release: identity.release) }, ignored: ignored)
    }

    private func imageFacts(_ fact: (KernelImage) -> String?) -> [Sourced<String>] {
        images.compactMap { image in
            fact(image.content).flatMap { $0.isEmpty ? nil : Sourced(value: $0, path: image.source) }
        }
    }

    /// Build-id, release and version: what images, names of files and the running kernel say.
    private func identityFacts() throws -> KernelIdentity {
        let buildID = try agree("build-id", imageFacts { $0.buildID } + pieces.buildIDs)
        let release = try agree("release", imageFacts { $0.banner?.release } + pieces.releases)
        let version = try agree("version", imageFacts { $0.banner?.version } + pieces.versions)
        return KernelIdentity(
            arch: "", buildID: buildID ?? "", release: release ?? "", version: version ?? "", compiler: "",
            configDigest: "")
    }

    /// The one value that all pieces state; nil where none does.
    private func agree(_ what: String, _ facts: [Sourced<String>]) throws -> String? {
        guard let first = facts.first else { return nil }
        if let other = facts.first(where: { $0.value != first.value }) {
            throw contradiction(what, "'\(first.value)'", first.path, "'\(other.value)'", other.path)
        }
        return first.value
    }

    private func contradiction(_ what: String, _ a: String, _ pathA: String, _ b: String, _ pathB: String)
        -> Failure
    {
        Failure(
            "the kernel's pieces are of different builds: \(what) \(a) in '\(pathA)', \(b) in '\(pathB)'",
            hint: "give only what belongs to one build")
    }

    private mutating func chooseConfig() throws -> Sourced<String> {
        var candidates = pieces.configs
        if candidates.isEmpty {
            for image in images {
                if let text = try image.content.embeddedConfig() {
                    candidates.append(Sourced(value: text, path: image.source))
                }
            }
        }
        // Of a vendor's two, that beside the image is as the kernel was built; that of its headers has options added.
        let installed = candidates.first { $0.path.lastPathComponent.hasPrefix("config") }
        guard let first = installed ?? candidates.first else {
            let release = pieces.releases.first?.value ?? "RELEASE"
            throw Failure(
                "no config of the kernel in what was given",
                hint:
                    "the packages linux-image-\(release) (or linux-base-\(release)) and linux-headers-\(release) hold it; "
                    + "or give a folder with .config"
            )
        }
        for other in candidates where other.value != first.value {
            let differences = ConfigFile.differences(
                from: try ConfigFile(first.value, name: first.path),
                to: try ConfigFile(other.value, name: other.path))
            if let difference = differences.first(where: { $0.cause != .harmless }) {
                throw contradiction(
                    "CONFIG_\(difference.option)", difference.before ?? "off", first.path,
                    difference.after ?? "off",
                    other.path)
            }
        }
        return first
    }

    /// A vendor's release need not be the source's version, but its first two numbers are.
    private func check(_ config: ConfigFile, at path: String, release: String) throws {
        guard let version = config.sourceVersion, !release.isEmpty else { return }
        func series(_ text: String) -> String {
            text.split { !($0.isNumber && $0.isASCII) }.prefix(2).joined(separator: ".")
        }
        guard series(version) != series(release) else { return }
        let source = images.first?.source ?? pieces.releases.first?.path ?? ""
        throw contradiction("version", "'\(version)'", path, "'\(release)'", source)
    }

    private mutating func chooseSymbols() throws -> KernelSymbols {
        var fromMap: Sourced<KernelSymbols>?
        for path in pieces.systemMaps {
            let text = try Files.read(path)
            if isSystemMapStub(text) {
                // Debian's image packages hold such a stub; it is worth a word only where nothing else has symbols.
                if pieces.images.isEmpty {
                    ignored.append("'\(path)' is not a System.map: it has no symbol '_text'")
                }
            } else if fromMap == nil {
                fromMap = Sourced(value: try KernelSymbols(text: text, name: path), path: path)
            }
        }
        guard let image = images.first else {
            if fromMap == nil { missing.append(.symbols) }
            return fromMap?.value ?? KernelSymbols([])
        }
        guard let fromMap else { return try image.content.symbols() }
        do {
            try compare(fromMap, with: try image.content.symbols(), of: image)
        } catch let failure as Failure where failure.hints == [KernelImage.hintForSystemMap] {
            // A kernel without tables that can be read: a System.map is the way out, and there is one.
            ignored.append("'\(fromMap.path)' was not compared with the image: \(failure.message)")
        }
        return fromMap.value
    }

    /// With what the image exports, where its own tables list functions only.
    private func complete(_ symbols: KernelSymbols) throws -> KernelSymbols {
        guard let image = images.first, symbols.unique("__start___ksymtab") == nil else { return symbols }
        let exported = try readExportedSymbols(
            memory: ImageMemory(image.content), sections: readImageSections(image.path)
        ).filter { image.content.contains($0.address) && symbols.named($0.name).isEmpty }
        return exported.isEmpty ? symbols : KernelSymbols(symbols.all + exported)
    }

    private func compare(_ map: Sourced<KernelSymbols>, with own: KernelSymbols, of image: Image) throws {
        for symbol in own.all.lazy.filter(\.isCode) {
            guard let expected = map.value.unique(symbol.name), own.unique(symbol.name) != nil else {
                continue
            }
            guard expected == symbol.address else {
                throw contradiction(
                    "address of '\(symbol.name)'", hex(symbol.address), image.source, hex(expected), map.path)
            }
        }
    }

    private mutating func chooseExports(_ symbols: KernelSymbols) throws -> [KernelExport] {
        var own: [KernelExport] = []
        if let image = images.first {
            let memory = ImageMemory(image.content)
            own =
                symbols.unique("__start___ksymtab") != nil
                ? try readExports(memory: memory, symbols: symbols)
                : try readExports(memory: memory, sections: readImageSections(image.path))
        }
        guard let path = pieces.moduleSymvers.first else {
            missing.append(own.isEmpty ? .exports : .moduleExports)
            return own
        }
        let listed = try [KernelExport](symvers: Files.read(path), name: path)
        let checksums = Dictionary(own.map { ($0.name, $0.crc) }, uniquingKeysWith: { first, _ in first })
        for export in listed where export.object == "vmlinux" {
            if let expected = checksums[export.name], expected != export.crc, let image = images.first {
                throw contradiction(
                    "checksum of '\(export.name)'", text(expected), image.source, text(export.crc), path)
            }
        }
        return listed
    }

    private func text(_ checksum: UInt32?) -> String { checksum.map { hex(UInt64($0)) } ?? "none" }
}
