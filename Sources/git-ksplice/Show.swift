import ArgumentParser
import Core

struct Show: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Show what an update is and what it holds.")

    @Flag(help: "Print the change of the source.")
    var patch = false

    @Flag(help: "Print the new code.")
    var disassemble = false

    @Flag(help: "Print why each function changed.")
    var why = false

    @Flag(help: "Print the result as JSON.")
    var json = false

    @OptionGroup var input: InputOptions
    @OptionGroup var colors: ColorOptions

    @Argument(help: "An update's id, a commit or ref that has one, or an archive.")
    var update: String?

    @Argument(help: "With --why: only these functions.")
    var functions: [String] = []

    func validate() throws {
        guard functions.isEmpty || why else { throw ValidationError("functions are named with --why") }
        try input.check(update.map { [$0] } ?? [], "an update")
    }

    func run() async throws {
        let names = try await input.updates(update.map { [$0] } ?? [])
        let paint = await colors.paint()
        if !json { await Pager.start() }
        var isFirst = true
        try await InputOptions.each(names) { name in
            let found = try await UpdateSource.load(name)
            if !isFirst, !json, !patch { print("") }
            isFirst = false
            try await show(found, paint)
        }
    }

    private func show(_ found: Update, _ paint: Paint) async throws {
        if patch {
            Talk.write(try found.file(Update.Path.patch))
        } else if disassemble {
            for line in try found.disassembly() { print(line) }
        } else if why {
            try await explain(found)
        } else if json {
            print(found.json.text)
        } else {
            describe(found, paint)
        }
    }

    private func explain(_ update: Update) async throws {
        let records = try update.reasons(functions)
        if json {
            print(
                JSON.object([
                    ("v", .number(1)), ("update", .string(update.id)),
                    ("changes", .array(records.map(\.json))),
                ]).text)
            return
        }
        let (pre, post) = try await UpdateSource.texts(of: update)
        for (position, record) in records.enumerated() {
            if position > 0 { print("") }
            for line in try record.description(pre: pre, post: post) { print(line) }
        }
    }

    private func describe(_ update: Update, _ paint: Paint) {
        let manifest = update.manifest
        let kernel = manifest.kernel
        print(paint("update \(update.id)", .yellow))
        var rows = [
            ["change", manifest.description],
            ["kernel", "\(kernel.arch) \(kernel.release) \(kernel.version)"],
            ["build-id", kernel.buildID], ["compiler", kernel.compiler],
        ]
        rows += manifest.commits.map { ["commit", $0] }
        rows += manifest.depends.map { ["depends on", $0] }
        for unit in manifest.units.indices {
            let names = manifest.replacements.filter { $0.unit == unit && $0.partOf == nil }.map(\.symbol)
            if names.isEmpty { continue }
            rows.append([
                "replaces",
                "\(manifest.units[unit].path) (\(manifest.units[unit].module ?? "vmlinux")): \(names.joined(separator: ", "))",
            ])
        }
        if !manifest.constants.isEmpty {
            rows.append(["constants", manifest.constants.map(\.symbol).joined(separator: ", ")])
        }
        rows += manifest.hooks.map { ["hook", "\($0.kind.rawValue) \($0.symbol)"] }
        rows += manifest.exports.map { export in
            let space = export.namespace.isEmpty ? "" : " in namespace \(export.namespace)"
            return ["exports", "\(export.symbol)\(export.isGPL ? " (GPL only)" : "")\(space)"]
        }
        rows += manifest.shadows.map { ["shadow id", hex($0.id)] }
        if !manifest.modules.isEmpty { rows.append(["modules", manifest.modules.joined(separator: ", ")]) }
        if !manifest.forced.isEmpty { rows.append(["forced", manifest.forced.joined(separator: ", ")]) }
        rows += [
            ["after undo", manifest.isResident ? "the module stays loaded, inert" : "the module is removed"],
            ["size", "\(manifest.files.map(\.size).reduce(0, +)) bytes in \(manifest.files.count) files"],
        ]
        for line in rows.map({ [$0[0], $0[1].isEmpty ? "-" : $0[1]] }).columns { print("  " + line) }
    }
}
