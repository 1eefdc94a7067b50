// Building kernel modules from objects, without kbuild's own machinery: each C file is compiled with the command that
// kbuild recorded for an empty module source of the prepared tree, then linked with `ld -r` and the kernel's module
// linker script. modpost is not run: it would refuse the unresolved symbols that the loader resolves later.
//
// ksplice.ko, the glue of update modules and the sizes of table entries depend on the kernel alone; they are built once
// and kept in the workspace.

public struct ModuleBuilder: Sendable {
    let workspace: Workspace
    /// The folder `kernel/` of the project: the sources of ksplice.ko.
    let kernelSources: String

    public init(workspace: Workspace, kernelSources: String) {
        self.workspace = workspace
        self.kernelSources = kernelSources
    }

    /// What is built once for a kernel.
    public struct Parts: Sendable {
        /// ksplice.ko, with the symbols that the kernel does not export undefined.
        public var kernelModule: [UInt8]
        /// The objects that every update module contains.
        public var glue: [String]
        /// Entry sizes in bytes by section name, from the kernel's own headers.
        public var tables: [String: Int]
    }

    /// Sources of ksplice.ko: every `.c` of `kernel/` but the glue.
    private static let glueSource = "update.c"

    /// Builds what is missing or out of date.
    /// - Parameter objtool: a unit's objtool command; the empty source whose compile command is used runs none.
    public func parts(objtool: [String], progress: (String) -> Void) async throws -> Parts {
        let folder = workspace.moduleFolder
        let names = try Files.list(kernelSources).filter { $0.hasSuffix(".c") || $0.hasSuffix(".h") }
        let objtool = Self.forModules(objtool)
        guard names.contains(Self.glueSource) else {
            throw Failure(
                "cannot find the sources of ksplice.ko in '\(kernelSources)'",
                hint: "set GIT_KSPLICE_KERNEL_DIR to the folder that holds them")
        }
        var stamp = Self.moduleSource + Self.sizesSource + objtool.joined(separator: " ")
        for name in names { stamp += name + sha256(try Files.read("\(kernelSources)/\(name)")) }
        let key = sha256(stamp)
        let glue = ["glue.o", "module.o"].map { "\(folder)/\($0)" }
        if (try? Files.readText(folder + "/built").trimmed) != key {
            progress("building ksplice.ko for this kernel (once)")
            try Files.remove(folder)
            try Files.createDirectory(folder)
            try await build(names, into: folder, objtool: objtool)
            try Files.write(key + "\n", to: folder + "/built")
        }
        return Parts(
            kernelModule: try Files.read(folder + "/ksplice.ko"), glue: glue,
            tables: try Self.readSizes(ObjectFile(path: folder + "/sizes.o")))
    }

    private func build(_ names: [String], into folder: String, objtool: [String]) async throws {
        try Files.write(Self.moduleSource, to: folder + "/module.c")
        try Files.write(Self.sizesSource, to: folder + "/sizes.c")
        var jobs = names.filter { $0.hasSuffix(".c") && $0 != Self.glueSource }.map {
            (source: "\(kernelSources)/\($0)", object: "\(folder)/k-\($0.dropLast(2)).o", module: "ksplice")
        }
        let parts = jobs.map(\.object)
        jobs.append(
            ("\(kernelSources)/\(Self.glueSource)", "\(folder)/glue.o", ModuleResolver.placeholderName))
        jobs.append((folder + "/module.c", folder + "/module.o", ModuleResolver.placeholderName))
        jobs.append((folder + "/module.c", folder + "/k-module.o", "ksplice"))
        jobs.append((folder + "/sizes.c", folder + "/sizes.o", "ksplice"))
        _ = try await inParallel(jobs) { job in
            try await compile(job.source, to: job.object, moduleName: job.module)
            if job.object != folder + "/sizes.o" { try await runObjtool(job.object, like: objtool) }
        }
        let module = try await link(parts + [folder + "/k-module.o"], to: folder + "/ksplice.linked.ko")
        try Files.write(withoutDebugInformation(module), to: folder + "/ksplice.ko")
    }

    /// Compiles one of the project's own C files as part of a module.
    private func compile(_ source: String, to object: String, moduleName: String) async throws {
        let record = workspace.object + "/scripts/mod/.empty.o.cmd"
        let command = try CompileCommand(parsing: Files.readText(record), source: "scripts/mod/empty.c")
        var arguments: [String] = []
        for word in command.compiler where word != "-g" && !word.hasPrefix("-gdwarf") {
            let replaced = [
                "-DKBUILD_MODFILE", "-DKBUILD_BASENAME", "-DKBUILD_MODNAME", "-D__KBUILD_MODNAME", "-DMODULE",
            ]
            if !replaced.contains(where: { word == $0 || word.hasPrefix($0 + "=") }) {
                arguments.append(word)
            }
        }
        arguments += [
            "-DMODULE", "-DKBUILD_MODFILE=\"\(moduleName)\"", "-DKBUILD_BASENAME=\"\(moduleName)\"",
            "-DKBUILD_MODNAME=\"\(moduleName)\"", "-D__KBUILD_MODNAME=kmod_\(moduleName)",
            "-ffile-prefix-map=\(kernelSources)/=", "-I" + kernelSources, "-c", "-o", object, source,
        ]
        try await Command(arguments, directory: workspace.object, environment: makeEnvironment)
            .check("cannot compile '\(source.lastPathComponent)' for this kernel")
    }

    /// What kbuild's own definitions say of objtool where it does not run on single units but on what is linked of them (with
    /// IBT or LTO: scripts/Makefile.lib, `delay-objtool`).
    private static let objtoolMakefile = """
        include include/config/auto.conf
        include $(srctree)/scripts/Kbuild.include
        obj := .
        src := .
        include $(srctree)/scripts/Makefile.lib
        ksplice-objtool:
        \t$(info $(if $(delay-objtool),$(objtool) $(objtool-args-y) --link))
        \t@:

        """

    /// The objtool command for a unit whose own compile command has none, without the object's name; empty where the kernel
    /// runs objtool on single units, and so runs none on this one.
    public func delayedObjtool() async throws -> [String] {
        let result = try await Command(
            [
                "make", "-s", "-rR", "-f", "-", "srctree=\(workspace.source)", "objtree=.", "ksplice-objtool",
            ], directory: workspace.object, environment: makeEnvironment,
            input: Array(Self.objtoolMakefile.utf8)
        ).run()
        guard result.succeeded else {
            throw Failure("cannot learn how the kernel runs objtool\n\(result.errorText.trimmed)")
        }
        return result.text.split(whereSeparator: \.isWhitespace).map { String($0) }
    }

    /// Runs objtool with a unit's own options, as for a module. A warning is an error: it means that the code was
    /// not understood, and what it then leaves out (ORC data, call sites) would be missed at run time.
    public func runObjtool(_ object: String, like options: [String]) async throws {
        guard !options.isEmpty else { return }
        let result = try await Command(
            Self.forModules(options) + [object], directory: workspace.object, environment: makeEnvironment
        ).run()
        let words = result.errorText.trimmed
        guard result.succeeded, words.isEmpty else {
            throw Failure(
                "objtool does not accept the new code\n\(words)", status: .cannotBePatched,
                hint:
                    "the kernel's own tool does not understand what would be loaded; please report it with the change",
                finding: "objtool")
        }
    }

    /// Units of the image and of modules differ in this option alone; update modules are modules.
    private static func forModules(_ objtool: [String]) -> [String] {
        objtool.isEmpty ? [] : objtool.filter { $0 != "--module" } + ["--module"]
    }

    /// The kernel's own linker script for modules. Before Linux 5.10 there is none under this name; a module without
    /// exports does not need it.
    var linkerScript: String { workspace.object + "/scripts/module.lds" }

    /// Links objects into a relocatable module. Returns its bytes.
    public func link(_ objects: [String], to path: String) async throws -> [UInt8] {
        guard let first = objects.first else { preconditionFailure("nothing to link") }
        let emulation = try ObjectFile(path: first).architecture.linkerEmulation
        var command = ["ld", "-r", "-m", emulation, "-z", "noexecstack", "--build-id=none"]
        if Files.exists(linkerScript) { command += ["-T", linkerScript] }
        try await Command(command + ["-o", path] + objects, directory: workspace.object).check(
            "cannot link the module")
        return try Files.read(path)
    }

    private func withoutDebugInformation(_ bytes: [UInt8]) throws -> [UInt8] {
        try ELFWriter.write(ObjectFile(bytes, name: "ksplice.ko").withoutDebugInformation())
    }

    /// What modpost would write: the module's own structure and what the loader checks.
    private static let moduleSource = """
        #include <linux/module.h>
        #define INCLUDE_VERMAGIC
        #include <linux/vermagic.h>

        MODULE_INFO(vermagic, VERMAGIC_STRING);
        MODULE_INFO(name, KBUILD_MODNAME);
        #ifdef CONFIG_RETPOLINE
        MODULE_INFO(retpoline, "Y");
        #endif
        #ifdef CONFIG_MITIGATION_RETPOLINE
        MODULE_INFO(retpoline, "Y");
        #endif

        __visible struct module __this_module __section(".gnu.linkonce.this_module") = {
        \t.name = KBUILD_MODNAME,
        \t.init = init_module,
        #ifdef CONFIG_MODULE_UNLOAD
        \t.exit = cleanup_module,
        #endif
        \t.arch = MODULE_ARCH_INIT,
        };

        #ifdef CONFIG_MODVERSIONS
        /* Room that the loader replaces; the section must exist. */
        static const struct modversion_info versions[1] __used __section("__versions");
        #endif

        """

    /// The table sections whose entries have a size that depends on the kernel, with the type of an entry.
    private static let sizedTables: [(section: String, condition: String, type: String)] = [
        (".altinstructions", "1", "struct alt_instr"),
        ("__bug_table", "defined(CONFIG_GENERIC_BUG)", "struct bug_entry"),
        ("__ex_table", "1", "struct exception_table_entry"),
        ("__jump_table", "defined(CONFIG_JUMP_LABEL)", "struct jump_entry"),
        (
            ".parainstructions", "defined(CONFIG_PARAVIRT) && defined(_paravirt_alt)",
            "struct paravirt_patch_site"
        ),
        (".static_call_sites", "defined(CONFIG_HAVE_STATIC_CALL)", "struct static_call_site"),
        ("__dyndbg", "defined(CONFIG_DYNAMIC_DEBUG_CORE) || defined(CONFIG_DYNAMIC_DEBUG)", "struct _ddebug"),
        ("__tracepoints", "defined(CONFIG_TRACEPOINTS)", "struct tracepoint"),
    ]

    private static var sizesSource: String {
        var text = """
            #include <linux/module.h>
            #include <linux/bug.h>
            #include <linux/jump_label.h>
            #include <linux/static_call.h>
            #include <linux/dynamic_debug.h>
            #include <linux/tracepoint-defs.h>
            #include <asm/alternative.h>
            #include <asm/extable.h>
            #ifdef CONFIG_PARAVIRT
            #include <asm/paravirt.h>
            #endif
            const unsigned long ksplice_sizes[] = {

            """
        for table in sizedTables {
            text += "#if \(table.condition)\nsizeof(\(table.type)),\n#else\n0,\n#endif\n"
        }
        return text + "};\n"
    }

    private static func readSizes(_ object: ObjectFile) throws -> [String: Int] {
        guard let symbol = object.symbols.first(where: { $0.name == "ksplice_sizes" }),
            symbol.isDefinedInSection
        else { throw Failure("cannot learn the sizes of the kernel's table entries") }
        let contents = object.sections[symbol.section].contents
        // `__mcount_loc` holds addresses, `.smp_locks` 32-bit offsets, on every kernel.
        var sizes = ["__mcount_loc": object.is64Bit ? 8 : 4, ".smp_locks": 4]
        for (position, table) in sizedTables.enumerated() {
            let offset = Int(symbol.value) + position * (object.is64Bit ? 8 : 4)
            guard let size = contents.load(UInt32.self, at: offset) else {
                throw Failure("cannot learn the sizes of the kernel's table entries")
            }
            if size != 0 { sizes[table.section] = Int(size) }
        }
        return sizes
    }
}

extension ObjectFile {
    /// The same object without sections that only debuggers read, and without their symbols.
    public func withoutDebugInformation() -> ObjectFile {
        var result = self
        var dropped = Set<Int>()
        for index in result.sections.indices where index > 0 {
            let name = result.sections[index].name
            if name.hasPrefix(".debug") || name == ".note.GNU-stack" {
                result.sections[index] = Section(name: "", type: SectionType.null)
                dropped.insert(index)
            }
        }
        return result.withoutSymbols { dropped.contains($0.section) || $0.type == SymbolType.file }
    }

    /// The same object without some symbols. None of them may be referred to by a relocation that is left.
    public func withoutSymbols(where isDropped: (Symbol) -> Bool) -> ObjectFile {
        var result = self
        var map = [Int](repeating: 0, count: symbols.count)
        result.symbols = [symbols[0]]
        for index in symbols.indices.dropFirst() where !isDropped(symbols[index]) {
            map[index] = result.symbols.count
            result.symbols.append(symbols[index])
        }
        for section in result.sections.indices {
            for relocation in result.sections[section].relocations.indices {
                let old = result.sections[section].relocations[relocation].symbol
                precondition(old == 0 || map[old] != 0, "a symbol in use is dropped: \(symbols[old].name)")
                result.sections[section].relocations[relocation].symbol = map[old]
            }
        }
        return result
    }
}
