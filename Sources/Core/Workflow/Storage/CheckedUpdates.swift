// What updates and kernels must be: every file as the manifest says, the manifest as the ref says, the commit as both say.

extension StorageCheck {
    /// An update that cannot be mended is made or fetched again.
    private func remake(_ ref: String) -> String {
        "fetch it again from who has it, or: git update-ref -d \(ref); git ksplice create COMMIT"
    }

    mutating func checkUpdate(_ ref: String) async throws {
        guard let id = refs[ref], let commit = commit(id, of: ref) else { return }
        let parts = ref.dropFirst(UpdateStore.prefix.count).split(separator: "/").map { String($0) }
        guard parts.count == 3, ChannelIndex.isDigest(parts[2]) else {
            return add(
                .refName, ref, "an update's ref ends with architecture, build-id and 64 digits",
                hint: "git update-ref -d \(ref)")
        }
        if let format = commit.trailers.first(where: { $0.key == "Format" })?.value,
            format != "\(UpdateStore.formatVersion)"
        {
            return add(
                .formatUnknown, ref, "its commit has the format \(format), which is not known",
                hint: "install a newer git ksplice")
        }
        if !commit.parents.isEmpty {
            add(.updateParents, ref, "it has parents, whose history is fetched with it", hint: remake(ref))
        }
        guard let files = files(commit.tree, of: ref, keeping: { $0 == Update.Path.manifest }) else { return }
        if lost.isEmpty, files.values.allSatisfy({ $0.digest != nil }) {
            sizes[ref] = files.values.reduce(0) { $0 + $1.size }
        }
        guard let manifest = manifest(in: files, commit, at: ref, id: parts[2]) else { return }
        manifests[ref] = manifest
        checkFiles(files, manifest, of: ref)
        checkTrailers(commit, manifest, of: ref, id: parts[2])
    }

    /// The manifest, where it is the one that the ref's name speaks of, and of this format.
    private mutating func manifest(
        in files: [String: FoundFile], _ commit: SignedCommit, at ref: String, id: String
    ) -> Manifest? {
        guard let file = files[Update.Path.manifest] else {
            add(.updateManifest, ref, "it has no manifest", hint: remake(ref))
            return nil
        }
        guard let bytes = file.bytes, let digest = file.digest else { return nil }
        if digest != id {
            let isOther = commit.trailers.contains { $0.key == "Update" && $0.value == digest }
            add(
                isOther ? .refName : .updateManifest, ref,
                isOther ? "it holds update \(digest.prefix(12))" : "its manifest was altered",
                hint: remake(ref))
            return nil
        }
        let text = String(decoding: bytes, as: UTF8.self)
        let head = text.lines.first.map { $0.split(separator: " ") } ?? []
        if head.count == 2, head[0] == "ksplice-update", let version = Int(head[1]),
            version != Manifest.formatVersion
        {
            let isOld = version < Manifest.formatVersion
            add(
                isOld ? .formatOld : .formatUnknown, ref,
                "its manifest has the format \(version)" + (isOld ? ", which is not applied any more" : ""),
                hint: isOld ? "git ksplice create COMMIT makes it anew" : "install a newer git ksplice")
            return nil
        }
        do {
            let manifest = try Manifest(parsing: text)
            if manifest.text == text { return manifest }
            add(.updateManifest, ref, "its manifest is not in canonical form", hint: remake(ref))
        } catch { add(.updateManifest, ref, Failure(error).message, hint: remake(ref)) }
        return nil
    }

    private mutating func checkFiles(_ files: [String: FoundFile], _ manifest: Manifest, of ref: String) {
        var rest = files
        rest.removeValue(forKey: Update.Path.manifest)
        for listed in manifest.files {
            // What is in a folder that cannot be read was told with it.
            if lost.contains(where: { listed.path.hasPrefix($0) }) { continue }
            guard let file = rest.removeValue(forKey: listed.path) else {
                add(.updateFile, ref, "its file '\(listed.path)' is missing", hint: remake(ref))
                continue
            }
            guard let digest = file.digest else { continue }
            if file.size != listed.size {
                add(
                    .updateFile, ref,
                    "its file '\(listed.path)' has \(file.size) bytes, not \(listed.size)", hint: remake(ref))
            } else if digest != listed.digest {
                add(.updateFile, ref, "its file '\(listed.path)' was altered", hint: remake(ref))
            }
        }
        for path in rest.keys.sorted() {
            add(.updateFile, ref, "its manifest does not list the file '\(path)'", hint: remake(ref))
        }
    }

    private mutating func checkTrailers(
        _ commit: SignedCommit, _ manifest: Manifest, of ref: String, id: String
    ) {
        let kernel = manifest.kernel
        let own = "\(UpdateStore.prefix)\(kernel.arch)/\(kernel.refName)/\(id)"
        if own != ref { add(.refName, ref, "what it holds belongs to '\(own)'", hint: remake(ref)) }
        let wanted = SignedCommit.trailers(of: UpdateStore.message(manifest, id: id, ref: own))
        let required = ["Format", "Update", "Ref", "Arch", "Trees", "Manifest"]
        for key in Set(wanted.map(\.key)).union(commit.trailers.map(\.key)).sorted() {
            let (right, found) = (
                wanted.filter { $0.key == key }.map(\.value),
                commit.trailers.filter { $0.key == key }.map(\.value)
            )
            // What other versions of the program leave out or say besides does no harm.
            if right == found || right.isEmpty || found.isEmpty && !required.contains(key) { continue }
            add(
                .updateTrailer, ref,
                found.isEmpty
                    ? "its commit has no trailer 'Ksplice-\(key)'"
                    : "its commit says otherwise than its manifest: 'Ksplice-\(key): \(found.joined(separator: ", "))'",
                hint: remake(ref))
        }
    }

    /// What an update needs besides itself.
    mutating func checkGrounds(of ref: String) {
        guard let manifest = manifests[ref] else { return }
        for ground in manifest.depends where refs[ref.directoryPart + "/" + ground] == nil {
            add(
                .dependsMissing, ref, "it stands on update \(ground.prefix(12)), which is not here",
                hint: "git fetch REMOTE '\(ref.directoryPart)/\(ground):\(ref.directoryPart)/\(ground)'")
        }
    }
}

// MARK: - Kernels

extension StorageCheck {
    mutating func checkKernel(_ ref: String) {
        let remedy = "git ksplice kernel add NAME --source COMMIT --from PACKAGE describes it anew"
        guard let id = refs[ref], let commit = commit(id, of: ref) else { return }
        guard let found = files(commit.tree, of: ref, keeping: { _ in true }) else { return }
        let contents = found.compactMapValues(\.bytes)
        guard contents.count == found.count else { return }
        if let head = contents[KernelDescriptor.FileName.descriptor].flatMap({
            String(decoding: $0, as: UTF8.self).lines.first.map { String($0) }
        }), head.hasPrefix("ksplice-kernel "), head != "ksplice-kernel \(KernelDescriptor.formatVersion)" {
            return add(
                .formatUnknown, ref, "its descriptor has a format that is not known: '\(head)'",
                hint: "install a newer git ksplice")
        }
        do {
            let kernel = try KernelDescriptor(files: contents, localPaths: .init())
            let own = "\(KernelStore.prefix)\(kernel.identity.arch)/\(kernel.identity.refName)"
            if own != ref { add(.refName, ref, "what it holds belongs to '\(own)'", hint: remedy) }
            for path in Set(contents.keys).subtracting(kernel.files().keys).sorted() {
                add(.kernelDamaged, ref, "no descriptor has a file '\(path)'", hint: remedy)
            }
            if try !repository.hasObject(kernel.sourceCommit) {
                add(
                    .kernelSource, ref,
                    "the commit that it was built from, \(kernel.sourceCommit.prefix(12)), is not here",
                    hint: "fetch the kernel's source: nothing can be made for it without that")
            }
            kernels[ref] = kernel.name
        } catch { add(.kernelDamaged, ref, Failure(error).message, hint: remedy) }
    }

    /// What can be said of kernels only beside each other, and beside updates.
    mutating func checkKernelsTogether() {
        for (name, group) in Dictionary(grouping: kernels.keys.sorted(), by: { kernels[$0] ?? "" })
            .sorted(by: { $0.key < $1.key })
        where group.count > 1 {
            add(
                .kernelDuplicate, group[0], "\(group.count) kernels are called '\(name)'",
                hint: "name them by build-id, and register one of them under another name")
        }
        if isHost { return }
        let updates = refs.keys.filter {
            $0.hasPrefix(UpdateStore.prefix) && $0.split(separator: "/").count == 6
        }
        let needed = Dictionary(grouping: updates) { ref in
            KernelStore.prefix + ref.directoryPart.dropFirst(UpdateStore.prefix.count)
        }
        for (kernel, updates) in needed.sorted(by: { $0.key < $1.key }) where refs[kernel] == nil {
            add(
                .kernelMissing, kernel,
                "\(updates.count) update(s) are for this kernel, which is not registered",
                hint: "to make more of them: git ksplice kernel add NAME --source COMMIT --from PACKAGE")
        }
    }
}
