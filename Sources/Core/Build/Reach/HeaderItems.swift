// A header's text in items: macros, and declarations as they stand there, not preprocessed. Both branches of an #if are
// read. Each item knows by which names code elsewhere reaches it; where that cannot be told from the text alone, as with
// a macro that declares something, an item has none, and whoever includes the header may be reached.

/// One macro or declaration.
struct HeaderItem: Sendable {
    /// The text without blanks, with the conditions that it stands under: equal for equal items.
    var key: String
    /// Names that lead to it; nil where the text does not tell them.
    var names: Set<String>?
    /// All identifiers in it; where one may name a member, also with a point in front (`Word.member`).
    var words: Set<String>
    /// A test by #if: whoever changes what it tests may change anything below it.
    var isCondition = false
    /// Of a macro: its name, its parameters and the tokens of its body.
    var macro: Macro?
    /// Of a struct or union with a name: what it is called and what it holds.
    var aggregate: Aggregate?
    /// Structs and unions that it knows by pointers alone, which stay what they are whatever the type becomes, with the names
    /// of the members that lead to an object of the type. A parameter leads nowhere.
    var pointers: [String: Set<String>] = [:]

    struct Macro: Sendable {
        var name: String
        /// Nil for a macro that is not called.
        var parameters: Set<String>?
        var body: [SourceToken]
    }

    struct Aggregate: Sendable {
        /// `struct NAME` or `union NAME`.
        var key: String
        /// The declarations of its members, also of those in nested braces, without blanks.
        var members: [String]
        /// What stands before and behind the braces.
        var frame: String

        /// The names that its members declare, as far as they are told, and that stand nowhere else in it.
        var declared: Set<String> {
            let words = members.flatMap { $0.split(separator: " ") }.map(String.init)
            let counts = Dictionary(words.map { ($0, 1) }, uniquingKeysWith: +)
            return members.reduce(into: Set()) { $0.formUnion(Self.declaredNames($1) ?? []) }
                .filter { counts[$0] == 1 }
        }
    }

    /// Cuts a header (or any C source) into items.
    static func items(of text: [UInt8]) -> [HeaderItem] {
        var reader = HeaderReader()
        for token in SourceLexer.tokens(of: text) { reader.add(token) }
        return reader.finish()
    }
}

/// Collects tokens to items.
private struct HeaderReader {
    private var items: [HeaderItem] = []
    /// The conditions around the next token, outermost first.
    private var conditions: [String] = []
    private var tokens: [DepthToken] = []
    /// The conditions around the first of `tokens`.
    private var context = ""
    /// Conditions between `tokens`, with how many stand before each.
    private var inner: [(position: Int, text: String)] = []
    private var depth = 0
    private var isBody = false

    mutating func add(_ token: SourceToken) {
        if token.kind == .directive {
            addDirective(token.text)
            return
        }
        if token.is("}") || token.is(")") || token.is("]") { depth = max(0, depth - 1) }
        if depth == 0 && token.is("{") { isBody = ItemShape.beginsBody(tokens) }
        if tokens.isEmpty { context = conditions.joined(separator: "\n") }
        tokens.append(DepthToken(token: token, depth: depth))
        if token.is("{") || token.is("(") || token.is("[") { depth += 1 }
        if depth == 0 && (token.is(";") || token.is("}") && isBody) { close() }
    }

    mutating func finish() -> [HeaderItem] {
        close()
        return items
    }

    private mutating func close() {
        guard !tokens.isEmpty else { return }
        let text = tokens.map(\.token.text).joined(separator: " ")
        let conditions = inner.map { "\n@\($0.position) \($0.text)" }.joined()
        let shape = ItemShape(tokens)
        items.append(
            HeaderItem(
                key: context + conditions + "\n" + text, names: shape.names,
                words: words(tokens.map(\.token)),
                aggregate: shape.aggregate(tokens, context, inner), pointers: shape.pointers(tokens)))
        tokens = []
        inner = []
        isBody = false
    }

    private mutating func addDirective(_ text: String) {
        let parts = SourceLexer.tokens(of: Array(text.utf8.dropFirst()))
        let rest = parts.dropFirst()
        let plain = rest.map(\.text).joined(separator: " ")
        switch parts.first?.text {
        case "if", "ifdef", "ifndef":
            conditions.append(parts[0].text + " " + plain)
        case "elif", "else":
            if let last = conditions.popLast() { conditions.append(last + "\nelse " + plain) }
        case "endif":
            conditions.removeLast(conditions.isEmpty ? 0 : 1)
        case "define":
            items.append(define(Array(rest), text))
            return
        case "undef":
            items.append(item("undef " + plain, names: Set(rest.map(\.text)), rest))
            return
        case nil:
            return
        default:
            // An include, a pragma, an error: what it does to others is not known.
            items.append(item(parts[0].text + " " + plain, names: nil, rest))
            return
        }
        // Conditions matter to whom they enclose, and a test of a macro to whoever defines it.
        if !tokens.isEmpty { inner.append((tokens.count, "#\(parts[0].text) \(plain)")) }
        if parts[0].text != "else" && parts[0].text != "endif" {
            items.append(HeaderItem(key: "", names: [], words: words(rest), isCondition: true))
        }
    }

    private func item(_ text: String, names: Set<String>?, _ tokens: ArraySlice<SourceToken>) -> HeaderItem {
        HeaderItem(
            key: conditions.joined(separator: "\n") + "\n#" + text, names: names, words: words(tokens))
    }

    private func words(_ tokens: some Sequence<SourceToken>) -> Set<String> {
        var found: Set<String> = []
        var isMember = false
        for token in tokens {
            // A number can be a piece of a name that a macro makes.
            if token.kind == .word || token.kind == .number {
                found.insert(token.text)
                if isMember { found.insert(Word.member(token.text)) }
            }
            // The last sign of an arrow will do.
            isMember = token.is(".") || token.is(">") || token.is(",")
        }
        return found
    }

    private func define(_ tokens: [SourceToken], _ text: String) -> HeaderItem {
        guard let name = tokens.first?.text else { return item("define", names: nil, []) }
        var found = item(
            "define " + tokens.map(\.text).joined(separator: " "), names: [name], tokens.dropFirst())
        // Any word of a macro may stand behind an arrow where the macro does.
        found.words.formUnion(tokens.dropFirst().filter { $0.kind == .word }.map { Word.member($0.text) })
        // A parenthesis directly behind the name begins parameters.
        let isFunction = text.contains(name + "(") && tokens.dropFirst().first?.is("(") == true
        guard isFunction, let end = tokens.firstIndex(where: { $0.is(")") }) else {
            found.macro = HeaderItem.Macro(name: name, parameters: nil, body: Array(tokens.dropFirst()))
            return found
        }
        let parameters = Set(tokens[2..<max(2, end)].filter { $0.kind == .word }.map(\.text))
        found.macro = HeaderItem.Macro(
            name: name, parameters: parameters.union(["__VA_ARGS__"]), body: Array(tokens[(end + 1)...]))
        return found
    }
}

/// A token with the number of parentheses, brackets and braces around it.
private struct DepthToken {
    var token: SourceToken
    var depth: Int

    var isOuterWord: Bool { depth == 0 && token.kind == .word }
    func `is`(_ mark: String) -> Bool { token.is(mark) }
}

/// What a declaration of a header is, from its tokens alone.
private struct ItemShape {
    /// Nil where it makes code or data by itself, or where a macro hides what it declares.
    let names: Set<String>?

    private static let attributes: Set = [
        "__attribute__", "__attribute", "__alignas", "_Alignas", "typeof", "__typeof__", "__aligned",
        "__printf", "__scanf", "__acquires", "__releases", "__must_hold", "__section", "__alloc_size",
        "__diagnose_as", "__cond_acquires", "__nonstring", "__counted_by",
    ]
    private static let tags: Set = ["struct", "union", "enum"]
    /// Words that declare nothing.
    private static let keywords: Set = attributes.union(tags).union([
        "const", "volatile", "unsigned", "signed", "int", "long", "short", "char", "void", "bool", "_Bool",
        "float", "double", "typedef", "extern", "static", "inline", "restrict", "__restrict", "aligned",
        "packed",
        "__packed__", "__aligned__", "__may_alias__", "__packed", "__read_mostly", "__ro_after_init", "__rcu",
        "__percpu", "__initdata", "__initconst", "__user", "__iomem", "__visible", "__weak", "__refdata",
        "__maybe_unused", "__cacheline_aligned", "____cacheline_aligned", "__cacheline_aligned_in_smp",
        "____cacheline_aligned_in_smp", "__must_check", "__init", "__exit", "__cold", "__pure", "__noreturn",
        "__force", "__bitwise", "__always_inline", "noinline",
    ])

    /// Words at depth 0 that a parenthesis follows, as it follows a function's name.
    private static func called(_ tokens: [DepthToken]) -> [String] {
        zip(tokens, tokens.dropFirst()).compactMap { token, next in
            token.isOuterWord && next.depth == 0 && next.is("(") && !attributes.contains(token.token.text)
                ? token.token.text : nil
        }
    }

    static func beginsBody(_ tokens: [DepthToken]) -> Bool {
        tokens.last?.is(")") == true && !tokens.contains { $0.depth == 0 && $0.is("=") }
            && !called(tokens).isEmpty
    }

    init(_ tokens: [DepthToken]) { self.init(names: Self.names(tokens)) }

    private static func names(_ tokens: [DepthToken]) -> Set<String>? {
        let outer = tokens.filter { $0.depth == 0 }
        let words = Set(outer.filter { $0.token.kind == .word }.map(\.token.text))
        let called = called(tokens)
        if outer.count == 1 && outer[0].is(";") {
            return []
        }
        guard outer.first?.token.kind == .word, outer.first?.token.text != called.first,
            // A name without small letters is a macro's.
            !called.contains(where: { name in !name.utf8.contains { (0x61...0x7a).contains($0) } }),
            !outer.contains(where: { $0.is("=") }), !words.contains("asm"), !words.contains("__used"),
            !words.contains("__initcall")
        else { return nil }
        let braces = outer.indices.filter { outer[$0].is("{") }
        if let brace = braces.first, brace > 0, outer[brace - 1].is(")"), !called.isEmpty {
            // A body; what follows it was taken along by mistake.
            let isInline = words.contains("static") && words.contains { $0.contains("inline") }
            return isInline && braces.count == 1 && outer.last?.is("}") == true ? Set(called) : nil
        }
        if words.contains("typedef") {
            return types(tokens).union(
                braces.isEmpty
                    ? Set(tokens.filter { $0.token.kind == .word }.map(\.token.text))
                    : Set(outer[braces.last!...].filter { $0.token.kind == .word }.map(\.token.text)))
        }
        if !called.isEmpty {
            // A prototype. Parentheses around a name make a pointer to a function, which is data.
            let hasInner = zip(tokens, tokens.dropFirst()).contains {
                $0.depth == 0 && $0.is("(") && $1.is("*")
            }
            guard braces.isEmpty, !hasInner else { return nil }
            // An attribute with a parenthesis may follow a variable.
            return Set(called).union(words.contains("extern") ? variables(outer) : [])
        }
        if !braces.isEmpty {
            return outer.contains { tags.contains($0.token.text) } ? typeNames(tokens, outer) : nil
        }
        if outer.count == 3 && tags.contains(outer[0].token.text) { return [outer[1].token.text] }
        return words.contains("extern") ? variables(outer) : nil
    }

    /// The last word of each declarator; where that may be an attribute, the one before, too.
    private static func variables(_ outer: [DepthToken]) -> Set<String> {
        var found: Set<String> = []
        for declarator in outer.split(whereSeparator: { $0.is(",") || $0.is(";") }) {
            let words = declarator.filter { $0.token.kind == .word && !keywords.contains($0.token.text) }
            for word in words.suffix(2).reversed() {
                found.insert(word.token.text)
                if !word.token.text.hasPrefix("__") { break }
            }
        }
        return found
    }

    /// Names that are nothing but keywords are not understood.
    private init(names: Set<String>?) {
        let own = names?.subtracting(Self.keywords)
        self.names = own?.isEmpty == true && names?.isEmpty == false ? nil : own
    }

    /// What a struct or union holds, where it is no more than that. A condition stands among the members.
    func aggregate(_ tokens: [DepthToken], _ context: String, _ conditions: [(position: Int, text: String)])
        -> HeaderItem.Aggregate?
    {
        guard names != nil, tokens.count > 3, ["struct", "union"].contains(tokens[0].token.text),
            tokens[1].token.kind == .word, tokens[2].is("{"),
            let end = tokens.lastIndex(where: { $0.depth == 0 && $0.is("}") }),
            conditions.allSatisfy({ (3...end).contains($0.position) })
        else { return nil }
        var members: [String] = []
        var words: [String] = []
        for index in 3...end {
            for condition in conditions where condition.position == index { members.append(condition.text) }
            let token = tokens[index]
            if token.is(";") || token.is("{") || token.is("}") {
                if !words.isEmpty { members.append(words.joined(separator: " ")) }
                words = []
            } else {
                words.append(token.token.text)
            }
        }
        let outside = tokens[...2].map(\.token.text) + tokens[end...].map(\.token.text)
        return HeaderItem.Aggregate(
            key: tokens[0].token.text + " " + tokens[1].token.text, members: members,
            frame: context + "\n" + outside.joined(separator: " "))
    }

    /// See `HeaderItem.pointers`.
    func pointers(_ tokens: [DepthToken]) -> [String: Set<String>] {
        guard names != nil else { return [:] }
        let hasBraces = tokens.contains { $0.is("{") }
        let isAggregate = hasBraces && aggregate(tokens, "", []) != nil
        var found: [String: Set<String>] = [:]
        var others: Set<String> = []
        for (index, token) in tokens.enumerated() where token.token.kind == .word {
            let word = token.token.text
            guard Self.isPointed(tokens, index) else {
                others.insert(word)
                continue
            }
            if isAggregate, let members = Self.memberNames(tokens, index) {
                found[word, default: []].formUnion(members)
            } else if !hasBraces && token.depth > 0 {
                found[word] = found[word] ?? []
            } else {
                others.insert(word)
            }
        }
        return found.filter { !others.contains($0.key) }
    }

    /// `struct WORD *`, also with an attribute such as `__rcu` in between.
    private static func isPointed(_ tokens: [DepthToken], _ index: Int) -> Bool {
        guard index > 0, ["struct", "union"].contains(tokens[index - 1].token.text) else { return false }
        let next = tokens[(index + 1)...].first { !$0.token.text.hasPrefix("__") }
        return next?.is("*") == true
    }

    /// Whether a declaration has several declarators: the next need not be a pointer.
    private static func hasSeveral(_ declaration: ArraySlice<DepthToken>) -> Bool {
        let outer = declaration.map(\.depth).min() ?? 0
        return declaration.contains { $0.is(",") && $0.depth == outer }
    }

    /// The names of the members whose declaration holds a token; none where it is a parameter's type, nil where the
    /// declaration does not tell them.
    private static func memberNames(_ tokens: [DepthToken], _ index: Int) -> Set<String>? {
        func isEnd(_ token: DepthToken) -> Bool { token.is(";") || token.is("{") || token.is("}") }
        guard let start = tokens[..<index].lastIndex(where: isEnd),
            let end = tokens[index...].firstIndex(where: isEnd), tokens[end].is(";")
        else { return nil }
        let declaration = tokens[(start + 1)..<end]
        let text = declaration.map(\.token.text).joined(separator: " ")
        guard let names = HeaderItem.Aggregate.declaredNames(text), !Self.hasSeveral(declaration),
            // A last word without small letters is an attribute that hides the name.
            names.allSatisfy({ $0.utf8.contains { (0x61...0x7a).contains($0) } })
        else { return nil }
        let pair = zip(declaration.indices, declaration.indices.dropFirst()).first {
            tokens[$0].is("(") && tokens[$1].is("*")
        }
        return pair.map { index > $0.1 } == true ? [] : names
    }

    /// Of `struct s { ... };`: nil where it makes a variable, too.
    private static func typeNames(_ tokens: [DepthToken], _ outer: [DepthToken]) -> Set<String>? {
        let close = outer.lastIndex { $0.is("}") } ?? 0
        let behind = outer[close...].filter { $0.token.kind == .word }.map(\.token.text)
        guard behind.allSatisfy({ $0.hasPrefix("__") }) else { return nil }
        return types(tokens)
    }

    /// Tags of types that are defined, and all words inside of enumerations.
    private static func types(_ tokens: [DepthToken]) -> Set<String> {
        var found: Set<String> = []
        for (index, token) in tokens.enumerated() where tags.contains(token.token.text) {
            guard let open = tokens[index...].firstIndex(where: { $0.is("{") || $0.is(";") }),
                tokens[open].is("{")
            else { continue }
            for word in tokens[(index + 1)..<open] where word.token.kind == .word {
                found.insert(word.token.text)
            }
            guard token.token.text == "enum" else { continue }
            for word in tokens[(open + 1)...].prefix(while: { $0.depth > tokens[open].depth })
            where word.token.kind == .word {
                found.insert(word.token.text)
            }
        }
        return found
    }
}
