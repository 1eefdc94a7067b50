// The config that a kernel with CONFIG_IKCONFIG carries in its image: gzip data between the marks `IKCFG_ST` and
// `IKCFG_ED` (kernel/configs.c of Linux).

extension KernelImage {
    /// The text of the config inside the image; nil where it has none.
    func embeddedConfig() throws -> String? {
        var start = 0
        while let mark = bytes.firstOffset(of: Array("IKCFG_ST".utf8), from: start) {
            start = mark + 8
            // The marks also stand, as plain strings, in programs that search for them.
            guard start + 2 < bytes.count, bytes[start] == 0x1f, bytes[start + 1] == 0x8b,
                let end = bytes.firstOffset(of: Array("IKCFG_ED".utf8), from: start)
            else { continue }
            return String(decoding: try gunzip(Array(bytes[start..<end]), limit: 16 << 20), as: UTF8.self)
        }
        return nil
    }
}
