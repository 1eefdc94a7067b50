// Which symbols are left to the kernel's module loader, and which modules an update needs for those of modules.

/// What the kernel exports, for the choice between the module loader and our own resolution.
struct ExportIndex: Sendable {
    private let image: Set<String>
    private let modules: [String: String]
    private let owners: [String: String]

    init(_ kernel: KernelDescriptor) {
        var image = Set<String>()
        var modules: [String: String] = [:]
        var owners: [String: String] = [:]
        for export in kernel.exports {
            owners[export.name] = export.object
            if export.object != "vmlinux" {
                modules[export.name] = export.object.lastPathComponent.replacing("-", with: "_")
            } else if export.namespace.isEmpty {
                image.insert(export.name)
            }
        }
        if kernel.exports.isEmpty {
            let prefix = "__ksymtab_"
            for symbol in kernel.symbols.all where symbol.name.hasPrefix(prefix) && symbol.module == nil {
                image.insert(String(symbol.name.dropFirst(prefix.count)))
                owners[String(symbol.name.dropFirst(prefix.count))] = "vmlinux"
            }
        }
        self.image = image
        self.modules = modules
        self.owners = owners
    }

    func isExported(_ name: String) -> Bool { image.contains(name) }
    func module(_ name: String) -> String? { modules[name] }
    /// What exports a name, as Module.symvers has it: `vmlinux` or a module's path; nil for nothing.
    func owner(_ name: String) -> String? { owners[name] }
}
