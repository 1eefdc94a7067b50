// A kernel descriptor as files, the form in which git keeps it: canonical texts, so that the same kernel always
// gives the same tree. Paths of this machine are no part of it.

extension KernelDescriptor {
    public static let formatVersion = 1

    /// Where the kernel's files are on this machine; nil for what is not known.
    public struct LocalPaths: Sendable, Equatable {
        public var image: String?
        public var bootImage: String?
        public var modules: String?

        public init(image: String? = nil, bootImage: String? = nil, modules: String? = nil) {
            self.image = image
            self.bootImage = bootImage
            self.modules = modules
        }
    }

    /// The names of the files.
    public enum FileName {
        public static let descriptor = "descriptor"
        public static let config = "config"
        public static let symbols = "symbols"
        public static let exports = "exports"
    }

    /// The content by file name.
    public func files() -> [String: [UInt8]] {
        [
            FileName.descriptor: Array(descriptorText.utf8),
            FileName.config: Array(config.utf8),
            FileName.symbols: symbols.text(),
            FileName.exports: exports.symvers,
        ]
    }

    /// Reads what `files()` gave. Fails on a file that is missing or malformed, on a newer format, and where the config is
    /// not the one that the descriptor names.
    public init(files: [String: [UInt8]], localPaths: LocalPaths) throws {
        func file(_ name: String) throws -> [UInt8] {
            guard let content = files[name] else { throw malformed("it lacks its file '\(name)'") }
            return content
        }
        let summary = try KernelSummary(descriptor: file(FileName.descriptor))
        let identity = summary.identity
        let config = try file(FileName.config)
        guard sha256(config) == identity.configDigest else { throw malformed("its config was altered") }
        self.init(
            name: summary.name, identity: identity, sourceCommit: summary.sourceCommit,
            config: String(decoding: config, as: UTF8.self),
            symbols: try KernelSymbols(text: file(FileName.symbols), name: FileName.symbols),
            exports: try [KernelExport](symvers: file(FileName.exports), name: FileName.exports),
            imagePath: localPaths.image, bootImagePath: localPaths.bootImage, modulesPath: localPaths.modules)
    }

    private var descriptorText: String {
        let fields = [
            ("ksplice-kernel", "\(Self.formatVersion)"), ("name", name), ("arch", identity.arch),
            ("build-id", identity.buildID), ("release", identity.release), ("version", identity.version),
            ("compiler", identity.compiler), ("config", identity.configDigest), ("source", sourceCommit),
        ]
        return fields.map { "\($0) \(encodeField($1))\n" }.joined()
    }

    fileprivate static func parse(_ text: String) throws -> [String: String] {
        var fields: [String: String] = [:]
        for line in text.lines {
            let parts = line.split(separator: " ", omittingEmptySubsequences: false)
            guard parts.count == 2, let value = decodeField(String(parts[1])), fields[String(parts[0])] == nil
            else {
                throw malformed("bad line '\(line)'")
            }
            fields[String(parts[0])] = value
        }
        guard let format = fields["ksplice-kernel"] else { throw malformed("it names no format") }
        guard format == "\(formatVersion)" else {
            throw Failure(
                "kernel descriptor has format \(format), which is not known",
                hint: "a newer git-ksplice may read it")
        }
        return fields
    }
}

/// The part of a descriptor that is read quickly: without config, symbols and exports.
public struct KernelSummary: Sendable, Equatable {
    public var name: String
    public var identity: KernelIdentity
    /// The commit that the kernel was built from.
    public var sourceCommit: String

    /// Reads the file `KernelDescriptor.FileName.descriptor`.
    public init(descriptor: [UInt8]) throws {
        let fields = try KernelDescriptor.parse(String(decoding: descriptor, as: UTF8.self))
        func field(_ key: String) throws -> String {
            guard let value = fields[key] else { throw malformed("it lacks '\(key)'") }
            return value
        }
        name = try field("name")
        sourceCommit = try field("source")
        identity = KernelIdentity(
            arch: try field("arch"), buildID: try field("build-id"), release: try field("release"),
            version: try field("version"), compiler: try field("compiler"), configDigest: try field("config"))
    }
}

private func malformed(_ what: String) -> Failure {
    Failure("malformed kernel descriptor: \(what)", status: .verificationRefused)
}
