// Sources of a change, or reached by it, that kbuild's lists of objects do not have. Most are of drivers that the config
// leaves out, and mean nothing. But some are code that runs elsewhere (the vdso, the boot code), and some are what other
// sources and headers of the kernel are generated from.

struct UnlistedReview {
    let repository: Repository
    let preTree: String
    let postTree: String
    let workspace: Workspace
    let compiler: Compiler
    /// The folder under `arch/`.
    let architecture: String

    /// - Parameter built: the sources that the config builds; `notBuilt`: the others; `changed`: all files of the change.
    func findings(
        _ affected: AffectedFiles, built: [String], notBuilt: [String], changed: [ChangedFile],
        postFiles: [String: [UInt8]?]
    ) async throws -> [Finding] {
        let paths = Set(changed.map(\.path))
        let assembly = try await compiler.places(of: affected.assembly)
        return Self.boot(
            affected, built: Set(built + assembly.built.map(\.path)),
            notBuilt: notBuilt + assembly.notBuilt, changed: paths, architecture)
            + (try programs(notBuilt.filter(paths.contains)))
            + (try await tables(notBuilt, postFiles))
    }

    // MARK: - Code that runs elsewhere

    static func boot(
        _ affected: AffectedFiles, built: Set<String>, notBuilt: [String], changed: Set<String>,
        _ architecture: String
    ) -> [Finding] {
        let own = notBuilt.filter(changed.contains).compactMap { path in
            AffectedFiles.bootPart(path, architecture).map { AffectedFiles.boot(path, $0) }
        }
        let others = Set(notBuilt)
        // A header that the kernel's own code includes, too, is judged by that code.
        return own
            + affected.headers.compactMap { header in
                let users = affected.reached[header] ?? []
                guard !users.contains(where: built.contains),
                    let reason = users.lazy.filter(others.contains).compactMap({
                        AffectedFiles.bootPart($0, architecture)
                    }).first
                else { return nil }
                return AffectedFiles.boot(header, reason)
            }
    }

    // MARK: - What is generated

    private func programs(_ sources: [String]) throws -> [Finding] {
        try sources.compactMap { path in
            for name in ["Makefile", "Kbuild"] {
                guard let text = try repository.blob("\(path.directoryPart)/\(name)", tree: preTree),
                    GeneratedFiles.isProgram(path, makefile: String(decoding: text, as: UTF8.self))
                else { continue }
                return GeneratedFiles.finding(
                    path,
                    "'\(path)' is a program that makes a part of the kernel while it is built, and it changes"
                )
            }
            return nil
        }
    }

    /// Compiles the sources whose assembly becomes a header, before and after the change.
    private func tables(_ sources: [String], _ postFiles: [String: [UInt8]?]) async throws -> [Finding] {
        let tables = try sources.filter { path in
            // User mode Linux has some of its own, and no folder that kbuild enters for this architecture.
            guard !path.hasPrefix("arch/\(architecture)/um/"),
                let text = try repository.blob(path, tree: preTree)
            else { return false }
            return GeneratedFiles.isTable(String(decoding: text, as: UTF8.self))
        }
        guard !tables.isEmpty else { return [] }
        let units = try await compiler.units(tables.map { ($0, nil) })
        let before = try await compiler.preprocess(units, isOriginal: true)
        let after = try await workspace.withFiles(postFiles) {
            try await compiler.preprocess(units, isOriginal: false)
        }
        let different = zip(before, after).filter { $0.codeDigest != $1.codeDigest }
        let objects = try await compiler.compile(different.flatMap { [$0, $1] })
        return try different.indices.compactMap { index in
            let path = different[index].0.unit.path
            let (pre, post) = try (
                GeneratedFiles.values(of: ObjectFile(path: objects[2 * index])),
                GeneratedFiles.values(of: ObjectFile(path: objects[2 * index + 1]))
            )
            let names = Set(pre.keys).union(post.keys).filter { pre[$0] != post[$0] }.sorted()
            guard !names.isEmpty else { return nil }
            let shown = names.prefix(4).map { "\($0) (\(pre[$0] ?? "none") -> \(post[$0] ?? "none"))" }
            return GeneratedFiles.finding(
                path,
                "'\(GeneratedFiles.header(of: path))' is generated from '\(path)', and what it says changes: \(shown.joined(separator: ", "))\(names.count > 4 ? " and \(names.count - 4) more" : "")"
            )
        }
    }
}
