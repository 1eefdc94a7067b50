// Which sources a change reaches through what they include.

struct HeaderUsers {
    let repository: Repository
    let preTree: String
    let postTree: String
    let compiler: Compiler
    /// The files of the change as they are compiled; nil for one that is deleted.
    let postFiles: [String: [UInt8]?]
    /// The folder under `arch/`.
    let architecture: String
    let progress: @Sendable (String) -> Void

    private var workspace: Workspace { compiler.workspace }

    /// Up to as many users are compiled without a closer look: to look takes as long as some of them do.
    private static let few = 40
    /// So many are asked where the members of a type are.
    private static let probes = 8

    /// The same files with all sources that include a changed file and can be reached by its change.
    func complete(_ affected: AffectedFiles) async throws -> AffectedFiles {
        if !affected.headers.isEmpty {
            progress("looking for the users of \(affected.headers.count) changed header(s)")
        }
        let graph = try await workspace.includeGraph(
            tree: preTree, architecture: architecture, sourcesOnly: affected.headers.isEmpty)
        var complete = affected
        var users = graph.users(of: affected.headers).filter(isOfKernel)
        if users.count > Self.few {
            progress("following what changed through \(users.count) possible users")
            let reach = HeaderReach(
                source: workspace.source,
                generated: [
                    "\(workspace.object)/include/generated",
                    "\(workspace.object)/arch/\(architecture)/include/generated",
                ], graph: graph)
            let changes = try affected.headers.map { ($0, try change($0)) }
            (users, complete.closest) = try await reach.narrowed(
                users, Dictionary(uniqueKeysWithValues: changes)
            ) {
                let all = graph.users(of: [$1]).filter { isOfKernel($0) && $0.hasSuffix(".c") }
                return try await keptLayouts($0, $1, Set(all).intersection(affected.sources).sorted() + all)
            }
            progress("\(users.count) of them may be reached")
        }
        // Sources include sources, too: compat_binfmt_elf.c is binfmt_elf.c once more.
        let includers = graph.users(of: affected.sources)
        let all = Set(affected.sources + affected.assembly + users + includers).filter(isOfKernel).sorted()
        complete.sources = all.filter { $0.hasSuffix(".c") }
        complete.assembly = all.filter { $0.hasSuffix(".S") }
        for header in affected.headers {
            complete.reached[header] = graph.users(of: [header]).filter(Set(all).contains)
        }
        return complete
    }

    private func change(_ path: String) throws -> HeaderChange {
        HeaderChange(
            pre: try repository.blob(path, tree: preTree) ?? [],
            post: try repository.blob(path, tree: postTree) ?? [])
    }

    /// Of types, those whose other members all stay where they are, with the names of those that change.
    private func keptLayouts(
        _ types: [String: HeaderChange.Aggregate], _ header: String, _ sources: [String]
    ) async throws -> [String: Set<String>] {
        var unknown = Set(types.keys)
        var kept: [String: Set<String>] = [:]
        var asked = 0
        for source in sources where !unknown.isEmpty && asked < Self.probes {
            guard let place = try await compiler.places(of: [source]).built.first else { continue }
            asked += 1
            do {
                let keys = unknown.sorted()
                let unit = try await compiler.units([place], complete: true)[0]
                let pre = try await compiler.layouts(of: keys, unit: unit, isOriginal: true)
                let post = try await workspace.withFiles(postFiles) {
                    try await compiler.layouts(of: keys, unit: unit, isOriginal: false)
                }
                for key in keys {
                    // Another type may have the name.
                    guard let old = pre[key], let new = post[key], let type = types[key],
                        [old, new].allSatisfy({
                            $0.file == header || $0.file?.hasSuffix("/" + header) == true
                        })
                    else { continue }
                    unknown.remove(key)
                    kept[key] = Self.names(old, new, type.members)
                }
            } catch is Failure {
                // One that does not compile, or not with these types, says nothing about them. If it is of the change,
                // it is told when it is compiled.
                continue
            }
        }
        return kept
    }

    /// The names of members that change; nil where another one, the size or the alignment is not what it was, or where
    /// something stands in a place that was empty: whoever writes or copies whole objects would go on leaving it out.
    private static func names(
        _ old: PlacedLayout, _ new: PlacedLayout, _ changing: Set<String>
    ) -> Set<String>? {
        func parts(_ member: TypeLayout.Member) -> [String] {
            TypeLayout.Member.parts(of: member.name).map(String.init)
        }
        let (before, after) = (old.layout.members, new.layout.members)
        let added = after.filter { !before.contains($0) }
        guard old.layout.size == new.layout.size, old.alignment == new.alignment, !new.layout.isEnum,
            before.allSatisfy({ after.contains($0) || changing.contains(parts($0).last ?? "") }),
            added.allSatisfy({ member in
                before.contains { $0.position == member.position && $0.size == member.size }
            })
        else { return nil }
        return changing.union(added.flatMap(parts))
    }

    private func isOfKernel(_ path: String) -> Bool {
        (!path.hasPrefix("arch/") || path.hasPrefix("arch/\(architecture)/"))
            && !["tools/", "samples/", "scripts/"].contains { path.hasPrefix($0) }
    }
}
