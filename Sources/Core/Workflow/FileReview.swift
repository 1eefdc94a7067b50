// Files of a change that are not C: whether they mean anything to this kernel. What provably means nothing is not
// remarked: a Kconfig file that leaves this config's options as they are, an assembly file that is not built or from
// which the assembler makes the same, a deleted source that was not built.

struct FileReview {
    let repository: Repository
    let preTree: String
    let postTree: String
    let workspace: Workspace
    let compiler: Compiler
    let configuration: Workspace.Configuration

    /// - Parameter postFiles: the post content of all changed sources and headers.
    func findings(_ affected: AffectedFiles, postFiles: [String: [UInt8]?]) async throws -> [Finding] {
        try await kconfig(affected.kconfigs) + assembly(affected.assembly, postFiles)
            + deleted(affected.deleted) + generated(affected.headers + affected.inputs)
    }

    // MARK: - Generated files

    private func generated(_ paths: [String]) throws -> [Finding] {
        let options = try Files.readText(workspace.object + "/include/config/auto.conf").lines
        return try paths.compactMap { path in
            try GeneratedFiles.input(
                path, pre: repository.blob(path, tree: preTree), post: repository.blob(path, tree: postTree)
            ) { options.contains("\($0)=y") || options.contains("\($0)=m") }
        }
    }

    // MARK: - Kconfig

    /// kconfig itself says what the changed files make of this config: equal options mean equal code.
    private func kconfig(_ paths: [String]) async throws -> [Finding] {
        guard !paths.isEmpty else { return [] }
        var texts: [String: [UInt8]?] = [:]
        for path in paths { texts.updateValue(try repository.blob(path, tree: postTree), forKey: path) }
        let before = try await workspace.reconfigured(configuration)
        guard before.succeeded else {
            throw Failure("cannot configure the kernel\n" + before.errorText.trimmed)
        }
        let result = try await workspace.withFiles(texts) { try await workspace.reconfigured(configuration) }
        guard result.succeeded else {
            return [
                remark(
                    "kconfig", paths[0],
                    "the changed Kconfig files cannot be read: \(result.errorText.trimmed)")
            ]
        }
        let changes = ConfigFile.differences(
            from: try ConfigFile(before.text), to: try ConfigFile(result.text))
        let byFile = Dictionary(grouping: changes) { change in
            paths.first { path in Self.declares(change.option, texts[path] ?? nil) } ?? paths[0]
        }
        return byFile.keys.sorted().map { path in
            let options = byFile[path]!.map {
                "CONFIG_\($0.option): \($0.before ?? "off") -> \($0.after ?? "off")"
            }
            let shown = options.prefix(5).joined(separator: ", ")
            return remark(
                "kconfig", path,
                "'\(path)' changes options of this config: \(shown)\(options.count > 5 ? " and \(options.count - 5) more" : "")"
            )
        }
    }

    private static func declares(_ option: String, _ text: [UInt8]?) -> Bool {
        guard let text else { return false }
        return String(decoding: text, as: UTF8.self).lines.contains { line in
            let words = line.split(whereSeparator: \.isWhitespace)
            return words.count == 2 && (words[0] == "config" || words[0] == "menuconfig")
                && words[1] == option
        }
    }

    // MARK: - Assembly

    private func assembly(_ paths: [String], _ postFiles: [String: [UInt8]?]) async throws -> [Finding] {
        guard !paths.isEmpty else { return [] }
        var files = postFiles
        for path in paths {
            if let content = try repository.blob(path, tree: postTree) {
                files.updateValue(content, forKey: path)
            }
        }
        let places = try await compiler.places(of: paths).built
        // Most of what a header says is not for the assembler.
        let all = try await compiler.units(places)
        let before = try await compiler.preprocess(all, isOriginal: true)
        let after = try await workspace.withFiles(files) {
            try await compiler.preprocess(all, isOriginal: false)
        }
        let changed = zip(places, zip(before, after)).filter { $1.0.codeDigest != $1.1.codeDigest }.map(\.0)
        guard !changed.isEmpty else { return [] }
        let units = try await compiler.units(changed, complete: true)
        let pre = try await compiler.assemble(units, label: "pre")
        let post = try await workspace.withFiles(files) { try await compiler.assemble(units, label: "post") }
        return try units.indices.compactMap { index in
            let names = AssemblyComparison.differences(
                pre: try ObjectFile(path: pre[index]), post: try ObjectFile(path: post[index]))
            guard !names.isEmpty else { return nil }
            let list = names.prefix(5).map { "'\($0)'" }.joined(separator: ", ")
            var finding = remark(
                "assembly", units[index].path,
                "assembly code changes: \(list)\(names.count > 5 ? " and \(names.count - 5) more" : "")")
            finding.symbol = names[0]
            return finding
        }
    }

    // MARK: - Deleted files

    private func deleted(_ paths: [String]) async throws -> [Finding] {
        try await compiler.places(of: paths).built.map { path, _ in
            remark("file-deleted", path, "'\(path)' is deleted")
        }
    }

    private func remark(_ code: String, _ path: String, _ message: String) -> Finding {
        let advice = [
            "kconfig":
                "the config of a running kernel cannot change, and the update is compiled with it as it is; if the rest of the change is right without these options, use --force kconfig",
            "assembly":
                "only code that the compiler made can be compared and replaced; change the C callers, or leave the file out with --force assembly",
            "file-deleted": "code of the running kernel cannot go away",
        ]
        return Finding(code, .error, file: path, message, advice: advice[code]!)
    }
}
