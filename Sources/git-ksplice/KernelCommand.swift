import ArgumentParser
import Core

struct KernelCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kernel", abstract: "Register the kernel builds that updates are made for.",
        subcommands: [KernelAdd.self, KernelList.self, KernelShow.self, KernelRemove.self])
}

struct KernelAdd: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Register one exact kernel build.",
        discussion: """
            PATH is any of: a kernel image .deb, a headers .deb, an unpacked package, a kernel build tree, / (the running
            machine), or a folder with .config and, optionally, System.map.
            """)

    @Argument(help: "A short name of your choice.")
    var name: String

    @Option(help: ArgumentHelp("The commit that the kernel was built from.", valueName: "commit"))
    var source: String

    @Option(
        name: .customLong("from"),
        help: ArgumentHelp("What describes the build; give it once for each piece.", valueName: "path"))
    var paths: [String]

    @Option(help: ArgumentHelp("What uname -r says of it, where no piece holds that.", valueName: "release"))
    var release: String?

    func run() async throws {
        let added = try await KernelRegistry(try await Repository())
            .add(name: name, source: source, paths: paths, release: release)
        for text in added.ignored { Talk.line("note: " + text) }
        for piece in added.missing {
            Talk.warning(piece.message)
            Talk.line("hint: " + piece.hint)
        }
        if let former = added.former, former.name != name || former.sourceCommit != added.kernel.sourceCommit
        {
            Talk.warning(
                "this build was registered as '\(former.name)' with source \(former.sourceCommit.prefix(12)); "
                    + "this replaces that")
        }
        print("registered kernel '\(name)'")
        KernelShow.describe(added.kernel)
    }
}

struct KernelList: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "List the registered kernels.")

    @Flag(help: "Print JSON, one object a line.")
    var json = false

    func run() async throws {
        let kernels = try await KernelRegistry(try await Repository()).all()
        if json {
            for kernel in kernels { print(kernel.json.text) }
            return
        }
        let rows = kernels.map { kernel in
            let identity = kernel.identity
            return [
                kernel.name, identity.arch, identity.release.isEmpty ? "-" : identity.release,
                String(identity.refName.prefix(12)), identity.version,
            ]
        }
        for line in rows.columns { print(line) }
    }
}

struct KernelShow: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "Show what is known of a kernel.")

    @Flag(help: "Print the result as JSON.")
    var json = false

    @Argument var name: String

    func run() async throws {
        let registry = KernelRegistry(try await Repository())
        let kernel = try await registry.descriptor(try await registry.summary(name))
        if json { print(kernel.json.text) } else { Self.describe(kernel) }
    }

    static func describe(_ kernel: KernelDescriptor) {
        let identity = kernel.identity
        let rows = [
            ["name", kernel.name], ["arch", identity.arch], ["build-id", identity.buildID],
            ["release", identity.release],
            ["version", identity.version], ["compiler", identity.compiler],
            ["config", "sha256:" + identity.configDigest],
            ["source", kernel.sourceCommit], ["symbols", "\(kernel.symbols.all.count)"],
            ["exports", "\(kernel.exports.count)"], ["image", kernel.imagePath ?? ""],
            ["boot image", kernel.bootImagePath ?? ""], ["modules", kernel.modulesPath ?? ""],
        ]
        for line in rows.map({ [$0[0], $0[1].isEmpty ? "-" : $0[1]] }).columns { print("  " + line) }
    }
}

struct KernelRemove: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove", abstract: "Forget a kernel and its workspace; its updates stay.")

    @Argument var name: String

    func run() async throws {
        let removed = try await KernelRegistry(try await Repository()).remove(name)
        print("removed kernel '\(removed.name)' (\(removed.identity.refName.prefix(12)))")
    }
}
