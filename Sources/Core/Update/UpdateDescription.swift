// An update for machines and for curious people.

extension Update {
    /// Everything that the manifest says, as one object.
    public var json: JSON {
        let kernel = manifest.kernel
        return .object([
            ("v", .number(1)), ("update", .string(id)), ("description", .string(manifest.description)),
            ("arch", .string(kernel.arch)), ("build_id", .string(kernel.buildID)),
            ("release", .string(kernel.release)),
            ("compiler", .string(kernel.compiler)), ("commits", .strings(manifest.commits)),
            ("depends", .strings(manifest.depends)),
            ("pre_tree", .string(manifest.preTree)), ("post_tree", .string(manifest.postTree)),
            ("builder", .string(manifest.builder)), ("version", .string(kernel.version)),
            ("config", .string("sha256:" + kernel.configDigest)), ("source", .string(manifest.sourceCommit)),
            ("modules", .strings(manifest.modules)),
            (
                "parts",
                .array(
                    manifest.parts.map {
                        .object([
                            ("file", .string($0.file)), ("units", .number($0.units)),
                            ("resident", .bool($0.isResident)), ("modules", .strings($0.modules)),
                        ])
                    })
            ),
            (
                "tables",
                .object(manifest.tables.sorted { $0.key < $1.key }.map { ($0.key, .number($0.value)) })
            ),
            (
                "references",
                .array(
                    manifest.references.map {
                        .object([("name", .string($0.name)), ("unit", .number($0.unit))])
                    })
            ),
            ("resident", .bool(manifest.isResident)), ("forced", .strings(manifest.forced)),
            (
                "units",
                .array(
                    manifest.units.map {
                        .object([
                            ("path", .string($0.path)), ("module", $0.module.map { .string($0) } ?? .null),
                        ])
                    })
            ),
            (
                "functions",
                .array(
                    manifest.replacements.filter { $0.partOf == nil }.map {
                        .object([
                            ("name", .string($0.symbol)), ("unit", .number($0.unit)),
                            ("size", .number($0.size)),
                        ])
                    })
            ),
            (
                "constants",
                .array(
                    manifest.constants.map {
                        .object([
                            ("name", .string($0.symbol)), ("unit", .number($0.unit)),
                            ("size", .number($0.size)),
                        ])
                    })
            ),
            (
                "hooks",
                .array(
                    manifest.hooks.map {
                        .object([
                            ("kind", .string($0.kind.rawValue)), ("name", .string($0.symbol)),
                            ("unit", .number($0.unit)),
                        ])
                    })
            ),
            (
                "exports",
                .array(
                    manifest.exports.map {
                        .object([
                            ("name", .string($0.symbol)), ("unit", .number($0.unit)),
                            ("gpl", .bool($0.isGPL)), ("namespace", .string($0.namespace)),
                            ("checksum", $0.checksum.map { .string(hex(UInt64($0))) } ?? .null),
                        ])
                    })
            ),
            ("shadow_ids", .strings(manifest.shadows.map { hex($0.id) })),
            (
                "files",
                .array(
                    manifest.files.map {
                        .object([
                            ("path", .string($0.path)), ("size", .number($0.size)),
                            ("sha256", .string($0.digest)),
                        ])
                    })
            ),
        ])
    }

    /// The new code as assembly text with the names of what it refers to.
    public func disassembly() throws -> [String] { try parts().flatMap { try $0.ownDisassembly() } }

    private func ownDisassembly() throws -> [String] {
        let object = try ObjectFile(file(Path.module), name: Path.module)
        var lines: [String] = []
        for (index, section) in object.sections.enumerated()
        where section.isExecutable && section.name.hasPrefix(".text") {
            let functions = object.symbols.filter { $0.isFunction && $0.section == index }.sorted {
                $0.value < $1.value
            }
            for function in functions {
                lines.append("\(function.name):")
                var offset = Int(function.value)
                let end = min(offset + Int(function.size), section.contents.count)
                while offset < end {
                    let found = disassemble(
                        section.contents, at: offset, address: UInt64(offset), is64Bit: object.is64Bit)
                    let length = found?.length ?? 1
                    let targets = section.relocations(in: offset..<offset + length).map { relocation in
                        "  # " + referenceName(object.symbols[relocation.symbol].name)
                            + (relocation.addend == -4 || relocation.addend == 0
                                ? "" : "\(relocation.addend < 0 ? "" : "+")\(relocation.addend)")
                    }
                    lines.append(
                        "    +\(hex(UInt64(offset) - function.value))\t\(found?.text ?? "(bad)")\(targets.joined())"
                    )
                    offset += length
                }
                lines.append("")
            }
        }
        return lines
    }

    /// The kernel's name for a symbol that is resolved when the update is applied.
    private func referenceName(_ name: String) -> String {
        guard name.hasPrefix("ksplice."), let number = Int(name.dropFirst(8)),
            manifest.references.indices.contains(number)
        else { return name }
        return manifest.references[number].name
    }
}
