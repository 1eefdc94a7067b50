// What the compiler does with files that are not C, and the kernel's own configuration of changed Kconfig files.

extension Compiler {
    /// Assembles `.S` files as `source/` holds them now. `label` keeps pre and post apart. Returns the objects' paths
    /// in the order of the units.
    func assemble(_ units: [TranslationUnit], label: String) async throws -> [String] {
        try Files.createDirectory(workspace.work)
        return try await inParallel(Array(units.enumerated())) { position, unit in
            let object = "\(workspace.work)/\(position).\(label).S.o"
            try await run(
                unit.command.compiler + ["-c", "-o", object, "\(workspace.source)/\(unit.path)"],
                path: unit.path)
            return object
        }
    }
}

extension Workspace {
    /// What the Kconfig files of `source/`, as they are now, make of the kernel's config. The object tree's own config
    /// stays as it is. The output is the new config; a failure is kconfig's.
    func reconfigured(_ configuration: Configuration) async throws -> CommandResult {
        let folder = work + "/kconfig"
        try Files.createDirectory(folder)
        let path = folder + "/.config"
        try Files.write(Files.read(object + "/.config"), to: path)
        var result = try await make(["KCONFIG_CONFIG=" + path, "olddefconfig"], configuration).run()
        if result.succeeded { result.output = try Files.read(path) }
        return result
    }
}
