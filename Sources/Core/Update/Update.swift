// An update as a value: the manifest and the files that it lists. It is the same whether it stands in a git tree,
// in an archive or in memory.

public struct Update: Sendable {
    public let manifest: Manifest
    /// The text that the identity is computed from.
    public let manifestText: String
    /// Content by path; exactly the paths that the manifest lists.
    public let files: [String: [UInt8]]

    /// The SHA-256 of the manifest.
    public var id: String { sha256(manifestText) }

    /// For a part: the identity of the update that it is a part of.
    var whole: String?
    /// The identities of all parts by what they change: a module, or `vmlinux`.
    var siblings: [String: String] = [:]
    /// The identity by which people know it.
    var wholeID: String { whole ?? id }

    /// The paths of the parts.
    public enum Path {
        public static let manifest = "manifest"
        public static let patch = "patch"
        /// The update module: complete but for the symbols that are resolved when it is applied.
        public static let module = "update.ko"
        /// The update module of a further part.
        public static func module(of home: String) -> String { "update.\(home).ko" }
        /// The kernel module of the project, built for this kernel.
        public static let kernelModule = "ksplice.ko"
        /// The findings as JSON lines.
        public static let findings = "findings"
        /// Why each function is in the update, as JSON lines (`ChangeRecord`).
        public static let changes = "changes"
        /// Symbols of the image that the kernel does not list, at their link addresses (`HiddenSymbols`); only where there are any.
        public static let symbols = "symbols"
        /// The folder of the pre objects.
        public static let pre = "pre"
    }

    /// Makes an update from its parts: lists the files in the manifest.
    public init(manifest: Manifest, files: [String: [UInt8]]) {
        var manifest = manifest
        manifest.files = files.sorted { $0.key < $1.key }.map {
            .init(path: $0.key, size: $0.value.count, digest: sha256($0.value))
        }
        self.manifest = manifest
        self.manifestText = manifest.text
        self.files = files
    }

    /// Reads an update back, and fails where any file is missing, altered or not listed.
    public init(manifestText: String, files: [String: [UInt8]]) throws {
        let manifest = try Manifest(parsing: manifestText)
        guard manifest.text == manifestText else {
            throw Failure("the manifest is not in canonical form", status: .verificationRefused)
        }
        for file in manifest.files {
            guard let content = files[file.path] else {
                throw Failure("the update lacks its file '\(file.path)'", status: .verificationRefused)
            }
            guard content.count == file.size, sha256(content) == file.digest else {
                throw Failure("the update's file '\(file.path)' was altered", status: .verificationRefused)
            }
        }
        let listed = Set(manifest.files.map(\.path))
        if let extra = files.keys.sorted().first(where: { !listed.contains($0) }) {
            throw Failure(
                "the update holds a file that its manifest does not list: '\(extra)'",
                status: .verificationRefused)
        }
        self.manifest = manifest
        self.manifestText = manifestText
        self.files = files
    }

    /// The content of a part.
    public func file(_ path: String) throws -> [UInt8] {
        guard let content = files[path] else {
            throw Failure("the update has no part '\(path)'", status: .verificationRefused)
        }
        return content
    }
}
