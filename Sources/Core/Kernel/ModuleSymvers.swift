// Module.symvers, the list of all exports of a build (scripts/mod/modpost.c of Linux): five columns separated by
// tabs: checksum, name, object, kind of export, namespace. Kernels before 5.4 have no namespace; 5.4 had it third.

extension [KernelExport] {
    /// Reads a Module.symvers. `name` appears in failures.
    public init(symvers text: [UInt8], name: String) throws {
        var exports: [KernelExport] = []
        for (number, line) in text.split(separator: UInt8(ascii: "\n")).enumerated() {
            let fields = line.split(separator: UInt8(ascii: "\t"), omittingEmptySubsequences: false)
                .map { String(decoding: $0, as: UTF8.self) }
            guard fields.count >= 4, fields[0].hasPrefix("0x"),
                let crc = UInt32(fields[0].dropFirst(2), radix: 16),
                !fields[1].isEmpty, !fields[2].isEmpty, fields[3].hasPrefix("EXPORT_")
            else {
                throw Failure(
                    "malformed Module.symvers '\(name)', line \(number + 1)", status: .verificationRefused)
            }
            exports.append(
                KernelExport(
                    name: fields[1], crc: crc == 0 ? nil : crc, object: fields[2],
                    isGPL: fields[3].hasSuffix("_GPL"),
                    namespace: fields.count > 4 ? fields[4] : ""))
        }
        self = exports
    }

    /// The same form; a checksum that is not recorded is 0, as modpost writes it.
    public var symvers: [UInt8] {
        var out: [UInt8] = []
        for export in self {
            let digits = String(export.crc ?? 0, radix: 16)
            out +=
                "0x\(String(repeating: "0", count: 8 - digits.count))\(digits)\t\(export.name)\t\(export.object)\t"
                .utf8
            out += "EXPORT_SYMBOL\(export.isGPL ? "_GPL" : "")\t\(export.namespace)\n".utf8
        }
        return out
    }
}
