// Which of a header's users its change can reach. A header of the core is included by thousands of sources, and most
// changes of one concern a function that a dozen of them call. To preprocess the thousands before and after takes many
// minutes; here the names of what changed are followed through the text instead: who mentions one, and which macros and
// inline functions do so and are thereby reached themselves, until nothing new is found.
//
// What is left out is never looked at again, so each doubt keeps users in: a header whose change has no name that could be
// followed keeps all of its users, and so does one in which a followed name stands where the text does not tell what
// it declares. Names that a macro puts together are found by what they can be put together from (`PastePattern`).

struct HeaderReach {
    /// The folder that holds the tree before the change.
    let source: String
    /// Folders with headers that the build generated.
    let generated: [String]
    let graph: IncludeGraph

    /// Beyond this nothing is gained by following on.
    private static let (mostNames, mostMacros) = (2000, 10000)
    /// What the compiler is told to include everywhere.
    private static let everywhere = [
        "include/linux/compiler-version.h", "include/linux/kconfig.h", "include/linux/compiler_types.h",
    ]

    /// Sources of which kbuild makes headers.
    private static let generators: Set = [
        "asm-offsets.c", "bounds.c", "devicetable-offsets.c", "rq-offsets.c",
    ]

    /// Of structs and unions with changed members, by their keys, those all of whose other members are where they were,
    /// with the names of all that changes in them.
    typealias KeptLayouts = ([String: HeaderChange.Aggregate]) async throws -> [String: Set<String>]

    /// Of the sources that include one of some changed headers, those that the changes can reach, sorted.
    /// - Parameter changes: by the headers' paths.
    func narrowed(_ users: [String], _ changes: [String: HeaderChange], keptLayouts: KeptLayouts) async throws
        -> [String]
    {
        var search = ReachSearch()
        for (path, change) in changes {
            search.names.formUnion(change.names)
            if change.isOpaque { search.opaque.insert(path) }
        }
        if search.opaque.count == changes.count { return users }
        // Old code serves a type whose members stay where they are. Who uses those that change says so.
        let aggregates = changes.values.reduce(into: [:]) { $0.merge($1.aggregates) { $0.united(with: $1) } }
        let kept = aggregates.isEmpty ? [:] : try await keptLayouts(aggregates)
        for (key, aggregate) in aggregates {
            if let members = kept[key] {
                search.members.formUnion(members)
            } else {
                search.names.formUnion(aggregate.names)
            }
        }
        search.members.subtract(search.names)
        search.names.formUnion(search.members)
        // Also parts of sources that include nothing themselves: kernel/sched/build_policy.c is made of such.
        let included = graph.included(by: users + Self.everywhere, among: try await filesOfTree())
        let files = users + included.union(Self.everywhere).subtracting(users).sorted()
        search.patterns = try await pastePatterns(files)
        let generated = try await generatedHeaders()
        repeat {
            search.begin()
            guard search.names.count < Self.mostNames, search.pasting.count < Self.mostMacros,
                try await advance(&search, files, generated)
            else { return users }
        } while search.hasGrown
        // What these make of names goes on in generated headers under others.
        if search.found.contains(where: { Self.generators.contains($0.lastPathComponent) }) { return users }
        // A source that others include is reached where they are.
        let found = search.found + graph.users(of: search.found.sorted())
        return Set(found + graph.users(of: search.opaque.sorted())).intersection(users).sorted()
    }

    /// One round; false where what is looked for stands in a generated header.
    private func advance(_ search: inout ReachSearch, _ files: [String], _ generated: [String]) async throws
        -> Bool
    {
        let (folder, interest, names) = (source, search.interest, search.names)
        let words = try await inParallel(files) { file in
            interest.words(in: try Files.read("\(folder)/\(file)"))
        }
        for file in generated {
            if !names.isDisjoint(with: interest.words(in: try Files.read(file))) { return false }
        }
        var mentioning: [String] = []
        for (file, words) in zip(files, words) where !search.opaque.contains(file) {
            if file.hasSuffix(".h") {
                if search.matters(words) { mentioning.append(file) }
            } else if search.reaches(words) {
                search.found.insert(file)
            }
        }
        let unread = mentioning.filter { search.items[$0] == nil }
        let items = try await inParallel(unread) { file in
            HeaderItem.items(of: try Files.read("\(folder)/\(file)"))
        }
        for (file, items) in zip(unread, items) { search.items[file] = items }
        for file in mentioning { search.follow(file) }
        return true
    }

    private func filesOfTree() async throws -> [String] {
        let names = ["*.h", "*.c", "*.S", "*.inc"].flatMap { ["-o", "-name", $0] }.dropFirst()
        return try await find(["("] + names + [")", "-printf", "%P\\n"], in: source)
    }

    private func generatedHeaders() async throws -> [String] {
        var found: [String] = []
        for folder in generated where Files.isDirectory(folder) {
            found += try await find(["-name", "*.h"], in: folder)
        }
        return found
    }

    private func find(_ condition: [String], in folder: String) async throws -> [String] {
        let result = try await Command(["find", folder] + condition).run()
        guard result.succeeded else {
            throw Failure("cannot search '\(folder)': \(result.errorText.trimmed)")
        }
        return result.text.lines.map(String.init)
    }

    /// The patterns of the macros of some files that paste. Operators (`__PASTE`) are found first, where `##` stands, then
    /// those that hand on to them, then all that use one.
    private func pastePatterns(_ files: [String]) async throws -> PastePatterns {
        let folder = source
        var operators: Set<String> = []
        while true {
            let wanted = operators.reduce(into: WordSet()) { $0.insert($1.utf8) }
            let macros = try await inParallel(files) { file -> [HeaderItem.Macro] in
                PastePatterns.definitions(in: try Files.read("\(folder)/\(file)"), using: wanted)
            }.flatMap { $0 }
            let found = PastePatterns.operators(macros)
            if found == operators { return PastePatterns(macros) }
            operators = found
        }
    }
}

/// What is known on the way.
private struct ReachSearch {
    /// What leads to something that changed.
    var names: Set<String> = []
    /// Those of them that are names of members: to declare a member of that name is not to use one.
    var members: Set<String> = []
    /// Macros that can make one of the names, and those that lead to them, with what they hold.
    private(set) var pasting: [String: Set<String>] = [:]
    var patterns = PastePatterns([])
    /// By name.
    private var making: [String: [PastePattern]] = [:]
    /// Headers by which whoever includes them is reached.
    var opaque: Set<String> = []
    var found: Set<String> = []
    var items: [String: [HeaderItem]] = [:]
    /// What to look for in texts.
    private(set) var interest = WordSet()
    private var before = (0, 0, 0)

    /// Begins a round.
    mutating func begin() {
        for name in names where making[name] == nil {
            let patterns = patterns.making(name)
            making[name] = patterns
            for pattern in patterns where pasting[pattern.macro] == nil { pasting[pattern.macro] = [] }
            // What the name can be put together from.
            let bytes = Array(name.utf8)
            for start in bytes.indices {
                for end in (start + 1)...bytes.count { interest.insert(bytes[start..<end]) }
            }
        }
        for macro in pasting.keys { interest.insert(macro.utf8) }
        for name in patterns.operators { interest.insert(name.utf8) }
        before = (names.count, pasting.count, opaque.count)
    }

    var hasGrown: Bool { before != (names.count, pasting.count, opaque.count) }

    /// Whether a header with these words may hold something to follow.
    func matters(_ words: Set<String>) -> Bool {
        !names.isDisjoint(with: words) || !patterns.operators.isDisjoint(with: words)
            || words.contains { pasting[$0] != nil }
    }

    /// Whether words can lead to a name.
    func reaches(_ words: Set<String>) -> Bool {
        if !names.isDisjoint(with: words) { return true }
        if !patterns.operators.isDisjoint(with: words), names.contains(where: { isTwoWords($0, words) }) {
            return true
        }
        var queue = words.filter { pasting[$0] != nil }
        if queue.isEmpty { return false }
        var (macros, all) = (queue, words)
        while let macro = queue.popFirst() {
            let more = pasting[macro] ?? []
            all.formUnion(more)
            for next in more where pasting[next] != nil && macros.insert(next).inserted { queue.insert(next) }
        }
        return making.contains { name, patterns in
            patterns.contains { macros.contains($0.macro) && $0.makes(name, from: all) }
        }
    }

    private func isTwoWords(_ name: String, _ words: Set<String>) -> Bool {
        name.indices.dropFirst().contains {
            words.contains(String(name[..<$0])) && words.contains(String(name[$0...]))
        }
    }

    /// What the items of a header that mention something lead to.
    mutating func follow(_ header: String) {
        for item in items[header] ?? [] {
            // One that is not called hands nothing on: what it makes is in it.
            if let macro = item.macro, macro.parameters != nil {
                if pasting[macro.name] != nil || item.words.contains(where: { pasting[$0] != nil }) {
                    pasting[macro.name, default: []].formUnion(item.words)
                }
            }
            let declared = item.aggregate?.declared.intersection(members) ?? []
            guard reaches(item.words.subtracting(declared)) else { continue }
            if let own = item.names, !item.isCondition {
                names.formUnion(own)
                members.subtract(own)
            } else {
                opaque.insert(header)
                return
            }
        }
    }
}
