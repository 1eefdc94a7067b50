// Module files as distributions install them: plain or compressed, in folders that follow those of the source tree.

public enum ModuleFile {
    /// The programs that undo each compression, by the end of the file's name.
    private static let programs = [".ko.xz": "xz", ".ko.zst": "zstd", ".ko.gz": "gzip"]

    /// The content of a module file, decompressed where its name says so.
    public static func read(_ path: String) async throws -> [UInt8] {
        let bytes = try Files.read(path)
        guard let program = programs.first(where: { path.hasSuffix($0.key) })?.value else { return bytes }
        var command = Command([program, "-dc"], input: bytes)
        command.outputLimit = 1 << 28
        return try await command.check("cannot decompress '\(path)'").output
    }

    /// The path of a module file below `lib/modules/RELEASE/kernel`, without suffix: how Module.symvers names modules.
    public static func object(of path: String, below modules: String) -> String {
        var name = Substring(path)
        if name.hasPrefix(modules + "/") { name = name.dropFirst(modules.count + 1) }
        if name.hasPrefix("kernel/") { name = name.dropFirst("kernel/".count) }
        for suffix in programs.keys.sorted() + [".ko"] where name.hasSuffix(suffix) {
            name = name.dropLast(suffix.count)
        }
        return String(name)
    }

    /// What one module of a kernel exports. Read when asked for: a distribution's kernel has thousands of modules.
    public static func exports(_ path: String, below modules: String) async throws -> [KernelExport] {
        try readExports(
            module: ObjectFile(await read(path), name: path), object: object(of: path, below: modules))
    }
}
