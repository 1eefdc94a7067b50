// A registered kernel from its files alone: the image as it would be loaded, and modules laid out beside it. What is proven
// here was never run, so no patch site has been rewritten yet.

struct OfflineKernel {
    let memory: any KernelMemory
    let symbols: KernelSymbols
    /// The modules whose files were found, by the names of `/proc/modules`.
    let modules: Set<String>
    let sealed: SealedEntries

    /// Nil where no image is at hand. Modules without a file are left out.
    init?(_ kernel: KernelDescriptor, modules wanted: Set<String>) async throws {
        guard let path = kernel.imagePath else { return nil }
        let image = ImageMemory(try KernelImage(vmlinuxAt: path))
        var sealed = try SealedEntries(imagePath: path, memory: image)
        let laidOut = ModuleImageMemory(
            image: image, kernel: kernel.symbols, architecture: try kernel.identity.architecture())
        var names: Set<String> = []
        if let folder = kernel.modulesPath, !wanted.isEmpty {
            let files = try ModuleFiles(folder: folder)
            var objects: [(ObjectFile, String)] = []
            for module in wanted.sorted() {
                guard let path = files.path(module) else { continue }
                objects.append(
                    (try ObjectFile(await ModuleFile.read(path), name: path.lastPathComponent), module))
                names.insert(module)
            }
            try laidOut.add(objects)
            for (object, module) in objects { sealed.add(object, named: module) }
        }
        self.sealed = sealed
        memory = laidOut
        modules = names
        symbols = names.isEmpty ? kernel.symbols : KernelSymbols(kernel.symbols.all + laidOut.symbols)
    }
}
