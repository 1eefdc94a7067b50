// Where the members of a type are, by compiling one unit that knows it. Cheaper than to compile all units that do, where
// the question is only whether the members that there were are still where they were.

/// A type's layout, and how an object of it is aligned.
struct PlacedLayout {
    var layout: TypeLayout
    /// In bits.
    var alignment: Int64
    /// Where it is declared, as the compiler names the file.
    var file: String?
}

extension Compiler {
    /// The layouts of structs and unions, by their keys (`struct NAME`), as a unit of `source/` sees them now; those that
    /// it does not know are left out. `isOriginal` is as in `preprocess`.
    func layouts(
        of keys: [String], unit: TranslationUnit, isOriginal: Bool
    ) async throws -> [String: PlacedLayout] {
        let text = "\(workspace.work)/probe.\(isOriginal ? "pre" : "post").i"
        let object = text.dropLast(2) + ".o"
        try Files.createDirectory(workspace.work)
        try await preprocess(unit, to: text)
        let code = try Files.read(text)
        // What a unit does not know would not compile.
        let known = Set(keys.filter { code.contains(Array("\($0) {".utf8)) })
        if known.isEmpty { return [:] }
        // The compiler describes types that something has.
        let variables = keys.enumerated().filter { known.contains($1) }.map {
            "\nstruct __ksplice_probe_\($0) { char first; \($1) second; } __ksplice_variable_\($0);"
        }
        try Files.write(code + Array((variables.joined() + "\n").utf8), to: text)
        try await run(unit.command.compile(text, to: String(object)), path: unit.path)
        var layouts = TypeLayouts(try DebugInformation(ObjectFile(path: String(object)), path: unit.path))
        return keys.enumerated().reduce(into: [:]) { found, type in
            guard let layout = layouts.layout(type.element),
                let around = layouts.layout("struct __ksplice_probe_\(type.offset)"),
                let second = around.members.first(where: { $0.name == "second" })
            else { return }
            found[type.element] = PlacedLayout(
                layout: layout, alignment: second.position, file: layouts.place(type.element)?.file)
        }
    }
}
