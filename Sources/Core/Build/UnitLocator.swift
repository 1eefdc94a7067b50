// Where a source file belongs: to the kernel image, to a module, or to nothing that this config builds. make builds
// a single target even where the config does not include it, so this cannot be learned by building; it is read
// from the kernel's own Makefiles, evaluated by make with kbuild's own definitions.

/// What the config makes of a source file.
public enum UnitPlace: Sendable, Equatable {
    /// Linked into the kernel image.
    case image
    /// Part of a module; its name as `/proc/modules` has it (`-` becomes `_`).
    case module(String)
    /// Not built.
    case nothing
}

struct UnitLocator {
    /// The source folder and the object folder of a prepared workspace.
    let source: String
    let object: String
    /// The folder of the architecture under `arch/`.
    let architecture: String
    /// Where what make said of each folder is kept: it is the same as long as source and config are.
    let listings: String

    /// What one folder's Makefile says.
    private struct Folder {
        var builtin: Set<String> = []
        var modules: [(name: String, parts: Set<String>)] = []
        var folders: Set<String> = []
    }

    /// kbuild has no target that prints this, so a small makefile includes what `scripts/Makefile.build` includes. BITS
    /// comes from the architecture's Makefile and is part of names there (`process_$(BITS).o`).
    private static let makefile = """
        src := $(obj)
        PHONY := ksplice-objects
        ksplice-objects:
        include include/config/auto.conf
        BITS := $(if $(CONFIG_64BIT),64,32)
        include $(srctree)/scripts/Kbuild.include
        kbuild-folder := $(srctree)/$(src)
        include $(or $(wildcard $(kbuild-folder)/Kbuild),$(kbuild-folder)/Makefile)
        ksplice-modules := $(filter %.o,$(obj-m))
        ksplice-parts = $(filter %.o,$($(1:.o=-objs)) $($(1:.o=-y)) $($(1:.o=-m)))
        ksplice-folders := $(filter %/,$(obj-y) $(obj-m) $(subdir-y) $(subdir-m) $(lib-y))
        include $(srctree)/scripts/Makefile.lib
        ksplice-objects:
        \t$(info builtin $(real-obj-y) $(lib-y))
        \t$(foreach m,$(ksplice-modules),$(info module $(m) $(or $(call ksplice-parts,$(m)),$(m))))
        \t$(info folders $(ksplice-folders) $(subdir-ym))
        \t@:
        .PHONY: $(PHONY)

        """

    /// Finds the place of a `.c` or `.S` file, given by its path in the tree.
    func place(of path: String) async throws -> UnitPlace {
        let target = String(path[..<path.lastIndex(of: ".")!]) + ".o"
        // An object may be listed by a folder above its own (`foo-y += sub/bar.o`).
        var folder = target.directoryPart
        while folder != "." {
            guard let listing = try await reachable(folder) else {
                folder = folder.directoryPart
                continue
            }
            if listing.builtin.contains(target) {
                return try await isReached(folder) ? .image : .nothing
            }
            if let module = listing.modules.first(where: { $0.parts.contains(target) }) {
                return try await isReached(folder) ? .module(module.name) : .nothing
            }
            folder = folder.directoryPart
        }
        return try await placeElsewhere(target)
    }

    /// The place of an object whose own folder has no Makefile: another folder's reaches over to it (virt/kvm/kvm_main.c
    /// belongs to arch/x86/kvm's module). That folder is remembered, for kbuild builds the object only by way of it.
    private func placeElsewhere(_ target: String) async throws -> UnitPlace {
        let folder = target.directoryPart
        guard folder != ".",
            !["Makefile", "Kbuild"].contains(where: { Files.exists("\(source)/\(folder)/\($0)") })
        else { return .nothing }
        let search = try await Command(
            [
                "grep", "-rlsF", "--include=Makefile", "--include=Kbuild", "-e", folder, "-e",
                "../\(folder.lastPathComponent)/",
            ] + ["arch/" + architecture, "drivers", "fs", "kernel", "lib", "net", "sound", "crypto", "virt"],
            directory: source
        ).run()
        for file in search.text.lines.sorted() {
            let folder = String(file).directoryPart
            guard let listing = try await reachable(folder) else { continue }
            let place: UnitPlace
            if listing.builtin.contains(target) {
                place = .image
            } else if let module = listing.modules.first(
                where: { $0.parts.contains(target) })
            {
                place = .module(module.name)
            } else {
                continue
            }
            guard try await isReached(folder) else { continue }
            try Files.createDirectory(listings)
            try Files.write(folder + "\n", to: Self.wayRecord(listings, target))
            return place
        }
        return .nothing
    }

    private static func wayRecord(_ listings: String, _ target: String) -> String {
        "\(listings)/way%\(target.replacing("/", with: "%"))"
    }

    /// The target by which kbuild builds an object: its path, or the way to it from the folder whose Makefile lists it.
    static func target(_ object: String, listings: String) throws -> String {
        let record = wayRecord(listings, object)
        guard Files.exists(record) else { return object }
        let folder = try Files.readText(record).trimmed
        return folder + "/" + String(repeating: "../", count: folder.split(separator: "/").count) + object
    }

    /// What a folder's Makefile says; nil for one that cannot be read by itself, because kbuild does not enter the folder:
    /// another Makefile includes it.
    private func reachable(_ folder: String) async throws -> Folder? {
        do {
            return try await evaluate(folder)
        } catch let failure as Failure {
            if try await isReached(folder) { throw failure }
            return nil
        }
    }

    /// Whether each folder above lists the next one. The top level's list is spread over Kbuild, Makefile and the
    /// architecture's; a folder directly below it counts as reached.
    private func isReached(_ folder: String) async throws -> Bool {
        var child = folder
        while child.directoryPart != "." {
            let parent = child.directoryPart
            if parent.directoryPart == "." && parent == "arch" { return true }
            if parent.directoryPart == "arch" { return try await isListedByArchitecture(child) }
            if try await reachable(parent)?.folders.contains(child) != true {
                // Skipping a level is allowed: obj-y += lib/zstd/ in the folder above.
                var above = parent.directoryPart
                var found = false
                while above != "." && !found {
                    found = try await reachable(above)?.folders.contains(child) == true
                    above = above.directoryPart
                }
                if !found { return false }
            }
            child = parent
        }
        return true
    }

    /// Whether a folder directly below the architecture's is entered: its Kbuild lists it, or its Makefile adds it to the
    /// kernel's own lists (`drivers-$(CONFIG_PCI) += arch/x86/pci/`). User mode Linux is an architecture of its own;
    /// nobody lists its part that depends on the processor.
    private func isListedByArchitecture(_ folder: String) async throws -> Bool {
        let parent = folder.directoryPart
        if try await reachable(parent)?.folders.contains(folder) == true { return true }
        let makefile = "\(source)/\(parent)/Makefile"
        guard Files.exists(makefile) else { return false }
        let options = try Files.readText(object + "/include/config/auto.conf").lines
        return try Files.readText(makefile).lines.contains { line in
            let words = line.split { $0 == " " || $0 == "\t" }
            guard words.contains(where: { $0 == folder + "/" }), let list = words.first,
                let dash = list.firstIndex(of: "-")
            else { return false }
            let condition = list[list.index(after: dash)...]
            if condition == "y" { return true }
            guard condition.hasPrefix("$("), condition.hasSuffix(")") else { return false }
            let option = condition.dropFirst(2).dropLast()
            return options.contains("\(option)=y") || options.contains("\(option)=m")
        }
    }

    private func evaluate(_ folder: String) async throws -> Folder {
        guard Files.exists("\(source)/\(folder)/Makefile") || Files.exists("\(source)/\(folder)/Kbuild")
        else {
            return Folder()
        }
        let record = "\(listings)/\(folder.replacing("/", with: "%"))"
        if Files.exists(record) { return read(try Files.readText(record), of: folder) }
        let text = try await ask(folder)
        try Files.createDirectory(listings)
        try Files.write(text, to: record)
        return read(text, of: folder)
    }

    private func ask(_ folder: String) async throws -> String {
        let result = try await Command(
            [
                "make", "-s", "-rR", "-I", source, "-f", "-", "obj=\(folder)", "srctree=\(source)",
                "objtree=.",
                "VPATH=\(source)",
                "SRCARCH=\(architecture)",
            ], directory: object, environment: makeEnvironment, input: Array(Self.makefile.utf8)
        ).run()
        guard result.succeeded else {
            throw Failure("cannot evaluate '\(folder)/Makefile'\n\(result.errorText.trimmed)")
        }
        return result.text
    }

    private func read(_ text: String, of folder: String) -> Folder {
        var listing = Folder()
        for line in text.lines {
            let words = line.split(separator: " ").map { String($0) }
            switch words.first {
            case "builtin": listing.builtin = Set(words.dropFirst().map { normalised($0, in: folder) })
            case "module":
                let name = words[1].lastPathComponent.dropLast(2).replacing("-", with: "_")
                listing.modules.append(
                    (String(name), Set(words.dropFirst(2).map { normalised($0, in: folder) })))
            case "folders":
                listing.folders = Set(words.dropFirst().map { normalised($0, in: folder) })
            default: continue
            }
        }
        return listing
    }

    /// Paths from the top of the tree, without `..` and without a slash at the end. Makefile.lib has put the folder
    /// before some lists already.
    private func normalised(_ path: String, in folder: String) -> String {
        (path.hasPrefix(folder + "/") ? path : folder + "/" + path).pathWithoutDots
    }
}
