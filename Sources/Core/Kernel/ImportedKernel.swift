// The result of an import: one kernel build with everything that was learned, and what could not be learned.

/// A kernel build as its files describe it.
public struct ImportedKernel: Sendable {
    public var identity: KernelIdentity
    /// The text of its config file.
    public var config: String
    /// At link addresses; empty where `missing` says so.
    public var symbols: KernelSymbols
    /// Of the image and, where a Module.symvers was given, of its modules.
    public var exports: [KernelExport]
    /// The uncompressed image.
    public var imagePath: String?
    /// The bootable image.
    public var bootImagePath: String?
    /// The folder `lib/modules/RELEASE`.
    public var modulesPath: String?
    /// What was not found, in the order of its weight.
    public var missing: [MissingPiece]
    /// Files that were found and not used, each with the reason.
    public var ignored: [String]

    /// Something that would be good to know of the kernel and that none of the paths gave.
    public struct MissingPiece: Sendable, Equatable {
        public enum Kind: Sendable { case image, symbols, exports, moduleExports, modules }
        public var kind: Kind
        /// What is missing and what it is needed for, as a message's text.
        public var message: String
        /// Where to get it.
        public var hint: String
    }

    /// The kernel under the user's name for it.
    public func descriptor(name: String, sourceCommit: String) -> KernelDescriptor {
        KernelDescriptor(
            name: name, identity: identity, sourceCommit: sourceCommit, config: config, symbols: symbols,
            exports: exports, imagePath: imagePath, bootImagePath: bootImagePath, modulesPath: modulesPath)
    }
}

extension ImportedKernel.MissingPiece {
    static func of(_ kind: Kind, release: String) -> Self {
        let suffix = release.isEmpty ? "RELEASE" : release
        return switch kind {
        case .image:
            Self(
                kind: kind, message: "no kernel image: the kernel's build-id and release are not proven",
                hint: "the package linux-image-\(suffix) holds it")
        case .symbols:
            Self(
                kind: kind, message: "no symbols of the kernel image",
                hint: "the kernel image (package linux-image-\(suffix)) or a System.map of the build has them"
            )
        case .exports:
            Self(
                kind: kind, message: "no list of what the kernel exports to modules",
                hint: "the kernel image or Module.symvers (package linux-headers-\(suffix)) has it")
        case .moduleExports:
            Self(
                kind: kind, message: "no list of what the kernel's modules export",
                hint:
                    "Module.symvers (package linux-headers-\(suffix)) has it; else each module's own file is read"
            )
        case .modules:
            Self(
                kind: kind,
                message: "no modules: changes of modules cannot be matched without a running kernel",
                hint: "the package linux-image-\(suffix) holds them")
        }
    }
}
