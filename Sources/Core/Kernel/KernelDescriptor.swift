// What the project knows of one exact kernel build.

/// The identity of a kernel build: what an update is bound to.
public struct KernelIdentity: Sendable, Equatable {
    /// As `uname -m` says it: `x86_64`, `i686`.
    public var arch: String
    /// The GNU build-id, lower-case hexadecimal; empty where the kernel was described without an image.
    public var buildID: String
    /// As `uname -r` says it; empty where unknown.
    public var release: String
    /// As `uname -v` says it; empty where unknown.
    public var version: String
    /// The compiler's version line as the kernel's config records it (`CONFIG_CC_VERSION_TEXT`).
    public var compiler: String
    /// SHA-256 of the config file.
    public var configDigest: String

    public init(
        arch: String, buildID: String, release: String, version: String, compiler: String,
        configDigest: String
    ) {
        self.arch = arch
        self.buildID = buildID
        self.release = release
        self.version = version
        self.compiler = compiler
        self.configDigest = configDigest
    }

    /// The last part of the kernel's ref: the build-id, or a digest of the config where there is none.
    public var refName: String {
        buildID.isEmpty ? "config-" + configDigest.prefix(40) : buildID
    }
}

/// A registered kernel.
public struct KernelDescriptor: Sendable {
    /// The user's word for it.
    public var name: String
    public var identity: KernelIdentity
    /// The commit that the kernel was built from (its full name).
    public var sourceCommit: String
    /// The text of the config file.
    public var config: String
    /// The image's symbols at their link addresses.
    public var symbols: KernelSymbols
    /// What the image and its modules export. Empty where no source of them was given.
    public var exports: [KernelExport]
    /// The uncompressed image (`vmlinux`, with or without symbol table) on this machine, where one is known.
    public var imagePath: String?
    /// The bootable image (`vmlinuz`) on this machine, where one is known.
    public var bootImagePath: String?
    /// The folder `lib/modules/RELEASE` on this machine, where one is known.
    public var modulesPath: String?

    public init(
        name: String, identity: KernelIdentity, sourceCommit: String, config: String, symbols: KernelSymbols,
        exports: [KernelExport], imagePath: String? = nil, bootImagePath: String? = nil,
        modulesPath: String? = nil
    ) {
        self.name = name
        self.identity = identity
        self.sourceCommit = sourceCommit
        self.config = config
        self.symbols = symbols
        self.exports = exports
        self.imagePath = imagePath
        self.bootImagePath = bootImagePath
        self.modulesPath = modulesPath
    }
}

/// One exported symbol, as a line of `Module.symvers` has it.
public struct KernelExport: Sendable, Equatable {
    public var name: String
    /// The checksum of its type (`CONFIG_MODVERSIONS`); nil where not recorded.
    public var crc: UInt32?
    /// `vmlinux`, or the module's path without suffix (`drivers/net/dummy`).
    public var object: String
    public var isGPL: Bool
    public var namespace: String

    public init(name: String, crc: UInt32?, object: String, isGPL: Bool, namespace: String = "") {
        self.name = name
        self.crc = crc
        self.object = object
        self.isGPL = isGPL
        self.namespace = namespace
    }
}
