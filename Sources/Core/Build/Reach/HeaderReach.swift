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

    /// Of structs and unions with changed members, by their keys, and the header that declares them: those all of whose
    /// other members are where they were, with the names of all that changes in them.
    typealias KeptLayouts = ([String: HeaderChange.Aggregate], String) async throws -> [String: Set<String>]

    /// Of the sources that include one of some changed headers, those that the changes can reach, sorted, and those of them
    /// that mention what changes themselves.
    /// - Parameter changes: by the headers' paths.
    func narrowed(_ users: [String], _ changes: [String: HeaderChange], keptLayouts: KeptLayouts) async throws
        -> (all: [String], closest: [String])
    {
        var opaque: Set<String> = []
        var (names, members): (Set<String>, Set<String>) = ([], [])
        for (path, change) in changes {
            names.formUnion(change.names)
            if change.isOpaque { opaque.insert(path) }
        }
        if opaque.count == changes.count { return (users, []) }
        // Old code serves a type whose members stay where they are. Who uses those that change says so.
        let headers = Dictionary(
            changes.values.flatMap(\.aggregates.keys).map { ($0, 1) }, uniquingKeysWith: +)
        for (path, change) in changes where !change.aggregates.isEmpty {
            // Of two types with one name, a unit that knows one says nothing about the other.
            let single = change.aggregates.filter { headers[$0.key] == 1 }
            let kept = single.isEmpty ? [:] : try await keptLayouts(single, path)
            for (key, aggregate) in change.aggregates {
                if let own = kept[key] { members.formUnion(own) } else { names.formUnion(aggregate.names) }
            }
        }
        // Also parts of sources that include nothing themselves: kernel/sched/build_policy.c is made of such.
        let included = graph.included(by: users + Self.everywhere, among: try await filesOfTree())
        let texts = try await read(users + included.union(Self.everywhere).subtracting(users).sorted())
        let generated = try await read(generatedHeaders())
        var search = ReachSearch(try await pastePatterns(texts), lists: texts.map(\.lists))
        search.opaque = opaque
        search.members = members.subtracting(names)
        search.names = names.union(members)
        var closest: [String] = []
        repeat {
            search.begin()
            guard search.names.count < Self.mostNames, search.pasting.count < Self.mostMacros,
                !generated.contains(where: { search.isNamed(in: $0.words) })
            else { return (users, closest) }
            try await advance(&search, texts)
            if closest.isEmpty { closest = search.found.intersection(users).sorted() }
        } while search.hasGrown
        // What these make of names goes on in generated headers under others.
        if search.found.contains(where: { Self.generators.contains($0.lastPathComponent) }) {
            return (users, closest)
        }
        // A source that others include is reached where they are.
        let found = search.found + graph.users(of: search.found.sorted())
        let all = Set(found + graph.users(of: search.opaque.sorted())).intersection(users).sorted()
        return (all, closest)
    }

    /// What is kept of a file.
    private struct Text: Sendable {
        /// In the tree, or absolute.
        var path: String
        var words: [Word]
        /// The macros that hold `##`.
        var pasting: [HeaderItem.Macro]
        var lists: MacroLists
    }

    private func read(_ files: [String]) async throws -> [Text] {
        let folder = source
        return try await inParallel(files) { file in
            let text = try Files.read(file.hasPrefix("/") ? file : "\(folder)/\(file)")
            var lists = MacroLists(text)
            return Text(
                path: file, words: Word.all(in: text) + lists.takeMembers(),
                pasting: PastePatterns.definitions(in: text, using: WordSet()), lists: lists)
        }
    }

    private func advance(_ search: inout ReachSearch, _ texts: [Text]) async throws {
        let folder = source
        var mentioning: [String] = []
        for text in texts where !search.opaque.contains(text.path) && !search.found.contains(text.path) {
            let words = text.words.filter(search.interest.contains)
            if words.isEmpty { continue }
            if text.path.hasSuffix(".h") {
                if search.matters(words) { mentioning.append(text.path) }
            } else if search.reaches(words) {
                search.found.insert(text.path)
            }
        }
        let unread = mentioning.filter { search.items[$0] == nil }
        let items = try await inParallel(unread) { file in
            HeaderItem.items(of: try Files.read("\(folder)/\(file)")).map(ReachSearch.Item.init)
        }
        for (file, items) in zip(unread, items) { search.items[file] = items }
        for file in mentioning { search.follow(file) }
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
    private func pastePatterns(_ texts: [Text]) async throws -> PastePatterns {
        let folder = source
        var macros = texts.flatMap(\.pasting)
        var operators: Set<String> = []
        while true {
            let found = PastePatterns.operators(macros)
            if found == operators { return PastePatterns(macros) }
            operators = found
            let wanted = operators.reduce(into: WordSet()) { $0.insert(Word($1)) }
            macros = try await inParallel(texts) { text in
                guard text.words.contains(where: wanted.contains) else { return text.pasting }
                return PastePatterns.definitions(in: try Files.read("\(folder)/\(text.path)"), using: wanted)
            }.flatMap { $0 }
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
    private(set) var pasting: [Word: Set<Word>] = [:]
    private let shapes: [(pieces: [PastePattern.Piece], macros: [Word])]
    /// What the names can be put together from, for each of `shapes`.
    private var ways: [Ways]
    /// For each pasting macro, those of `shapes` that it holds.
    private var making: [Word: [Int]] = [:]
    /// Headers by which whoever includes them is reached.
    var opaque: Set<String> = []
    var found: Set<String> = []
    var items: [String: [Item]] = [:]
    /// What to look for in texts.
    private(set) var interest = WordSet()
    private var nameWords: Set<Word> = []
    private let operators: Set<Word>
    /// Of `pasting`, what is of interest in this round.
    private var held: [Word: [Word]] = [:]
    private let lists: [MacroLists]
    /// Of `lists`, those that hold something of interest, and what.
    private var listed: [Word: [Word]] = [:]
    private let takingMember: Set<Word>
    /// The members among the names, as plain words.
    private var memberWords: Set<Word> = []
    private var hasMoreLists = false
    /// What an operator in plain code can put a name together from.
    private var operatorWays = Ways()
    /// Grows with all that is known.
    private var size: Int { names.count - members.count + opaque.count + pasting.count + heldWords }
    private var heldWords = 0
    private var before = 0

    /// An item of a header as it is looked at in each round.
    struct Item: Sendable {
        let words: [Word]
        let names: Set<String>?
        let isCondition: Bool
        /// The name of a macro that is called. One that is not hands nothing on: what it makes is in it.
        let macro: Word?
        let declared: Set<String>
        let pointers: [(type: Word, members: Set<String>)]

        init(_ item: HeaderItem) {
            words = item.words.map { Word($0) }
            names = item.names
            isCondition = item.isCondition
            macro = item.macro.flatMap { $0.parameters == nil ? nil : Word($0.name) }
            declared = item.aggregate?.declared ?? []
            pointers = item.pointers.map { (Word($0.key), $0.value) }
        }
    }

    /// Sets of words, each of which is enough, by one of them.
    private struct Ways {
        var isAlways = false
        var others: [Word: [[Word]]] = [:]

        mutating func add(_ way: Set<Word>) {
            guard let first = way.first else {
                isAlways = true
                return
            }
            others[first, default: []].append(Array(way.dropFirst()))
        }

        func isOpen(to words: Set<Word>) -> Bool {
            isAlways || words.contains { others[$0]?.contains { $0.allSatisfy(words.contains) } ?? false }
        }
    }

    init(_ patterns: PastePatterns, lists: [MacroLists]) {
        self.lists = lists
        operators = Set(patterns.operators.map { Word($0) })
        shapes = patterns.macrosByPieces.map { ($0.key, $0.value.map { Word($0) }) }
        ways = Array(repeating: Ways(), count: shapes.count)
        takingMember = Set(lists.flatMap(\.takingMember))
        for word in operators.union(takingMember) { interest.insert(word) }
    }

    /// Begins a round.
    mutating func begin() {
        for name in names where nameWords.insert(Word(name)).inserted { add(name) }
        for macro in pasting.keys { interest.insert(macro) }
        let known = interest
        let old = listed.count
        listed = [:]
        for list in lists {
            for macro in list.macros {
                let words = list.words[macro.words].filter(known.contains)
                if !words.isEmpty { listed[macro.name, default: []] += words }
            }
        }
        for macro in listed.keys { interest.insert(macro) }
        hasMoreLists = listed.count != old
        held = pasting.mapValues { $0.filter(known.contains) }
        before = size
    }

    private mutating func add(_ name: String) {
        interest.insert(Word(name))
        let plain = name.hasPrefix(".") ? String(name.dropFirst()) : name
        if plain != name { memberWords.insert(Word(plain)) }
        for (index, shape) in shapes.enumerated() {
            guard let found = PastePattern.ways(shape.pieces, to: plain) else { continue }
            for way in found { ways[index].add(way) }
            for macro in shape.macros {
                if pasting[macro] == nil { pasting[macro] = [] }
                if making[macro]?.contains(index) != true { making[macro, default: []].append(index) }
            }
        }
        // What the name can be put together from.
        let bytes = Array(plain.utf8)
        for start in bytes.indices {
            for end in (start + 1)...bytes.count { interest.insert(Word(bytes[start..<end])) }
        }
        for pieces in [[PastePattern.Piece.word, .word], [.word, .word, .word]] where !operators.isEmpty {
            for way in PastePattern.ways(pieces, to: plain) ?? [] where way != [Word(plain)] {
                operatorWays.add(way)
            }
        }
    }

    var hasGrown: Bool { before != size || hasMoreLists }

    /// Whether one of the words is a name.
    func isNamed(in words: [Word]) -> Bool { words.contains(where: nameWords.contains) }

    /// Whether a header with these words may hold something to follow.
    func matters(_ words: [Word]) -> Bool {
        words.contains {
            nameWords.contains($0) || operators.contains($0) || pasting[$0] != nil || memberWords.contains($0)
        }
    }

    /// Whether words can lead to a name.
    func reaches(_ words: [Word]) -> Bool {
        if isNamed(in: words) { return true }
        if words.contains(where: memberWords.contains) && words.contains(where: takingMember.contains) {
            return true
        }
        var all = Set(words)
        var open = words.filter { listed[$0] != nil }
        while let macro = open.popLast() {
            for word in listed[macro] ?? [] where all.insert(word).inserted && listed[word] != nil {
                open.append(word)
            }
        }
        var queue = all.filter { pasting[$0] != nil }
        let hasOperator = !operators.isDisjoint(with: all)
        if queue.isEmpty && !hasOperator { return false }
        if hasOperator && operatorWays.isOpen(to: all) { return true }
        var macros = queue
        while let macro = queue.popFirst() {
            for word in held[macro] ?? [] {
                all.insert(word)
                if pasting[word] != nil && macros.insert(word).inserted { queue.insert(word) }
            }
        }
        let shapes = macros.reduce(into: Set<Int>()) { $0.formUnion(making[$1] ?? []) }
        return shapes.contains { ways[$0].isOpen(to: all) }
    }

    /// What the items of a header that mention something lead to.
    mutating func follow(_ header: String) {
        for item in items[header] ?? [] {
            var words = item.words.filter(interest.contains)
            if words.isEmpty { continue }
            if let macro = item.macro, pasting[macro] != nil || words.contains(where: { pasting[$0] != nil })
            {
                for word in item.words where pasting[macro, default: []].insert(word).inserted {
                    heldWords += 1
                }
            }
            if !item.declared.isEmpty {
                let declared = Set(item.declared.intersection(members).map { Word($0) })
                words.removeAll(where: declared.contains)
            }
            let pointed = item.pointers.filter { nameWords.contains($0.type) && pasting[$0.type] == nil }
            words.removeAll { word in pointed.contains { $0.type == word } }
            guard reaches(words) else {
                // Who follows a pointer of another type says by which member.
                names.formUnion(pointed.flatMap(\.members).map(Word.member))
                continue
            }
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
