// Whether a change of a unit's preprocessed text can change its code. Most units that include a changed header use nothing
// of what changed in it: a prototype more, an inline function that nobody here calls, a struct that nobody here names.
// Such a unit need not be compiled, and its types need not be compared.
//
// The text is divided into top-level declarations. Those that make code or data are roots; the others (prototypes,
// types, static inline functions, extern variables) matter only where something that matters names them. If no
// declaration that differs is a root or is named from one, directly or through others, the code is the same.
//
// Every doubt makes a declaration a root, or gives it more names than it has: then the unit is compiled, which is
// never wrong.

struct DeclarationReach {
    private struct Declaration {
        /// Of all tokens: equal for equal declarations.
        var hash: UInt64
        var isRoot: Bool
        /// Hashes of the identifiers that lead to it, and of those in it.
        var names: [UInt64]
        var identifiers: [UInt64]
        /// The same without the body of a function, and without keywords.
        var headingHash: UInt64
        var headingNames: [UInt64]
        var headingIdentifiers: [UInt64]
    }

    private let declarations: [Declaration]

    /// - Parameter text: what a preprocessor left; line markers do not count.
    init(_ text: [UInt8]) {
        var found: [Declaration] = []
        var reader = DeclarationReader(text)
        while let tokens = reader.next() {
            let shape = DeclarationShape(tokens)
            let heading = DeclarationShape.heading(tokens)
            found.append(
                Declaration(
                    hash: Token.hash(tokens[...]), isRoot: shape.isRoot, names: shape.names,
                    identifiers: tokens.filter(\.isIdentifier).map(\.hash), headingHash: Token.hash(heading),
                    headingNames: DeclarationShape.names(
                        ofHeading: heading, shape.names, hasBody: heading.count < tokens.count),
                    headingIdentifiers: DeclarationShape.meaningful(heading)))
        }
        declarations = found
    }

    /// Whether two texts of a unit give the same code, as far as that can be said without compiling them.
    static func isSameCode(_ pre: DeclarationReach, _ post: DeclarationReach) -> Bool {
        isSame(pre, post, \.hash) { text, changed in
            let roots = text.declarations.indices.filter { text.declarations[$0].isRoot }
            return text.reaches(changed, from: roots, by: \.names, through: \.identifiers)
        }
    }

    /// Whether the types that some functions and variables are made of are the same in two texts of a unit. What stands
    /// inside of functions says nothing of them.
    static func isSameInterface(_ pre: DeclarationReach, _ post: DeclarationReach, of names: Set<String>)
        -> Bool
    {
        let hashes = Set(names.map { Token.hash($0) })
        return isSame(pre, post, \.headingHash) { text, changed in
            let own = text.declarations.indices.filter {
                !hashes.isDisjoint(with: text.declarations[$0].headingNames)
            }
            return text.reaches(changed, from: own, by: \.headingNames, through: \.headingIdentifiers)
        }
    }

    /// Whether the declarations that differ, of which each text may have some, are out of reach.
    private static func isSame(
        _ pre: DeclarationReach, _ post: DeclarationReach, _ key: KeyPath<Declaration, UInt64>,
        isReached: (_ text: DeclarationReach, _ changed: Set<Int>) -> Bool
    ) -> Bool {
        let difference = SequenceDifference(
            pre.declarations.map { $0[keyPath: key] }, post.declarations.map { $0[keyPath: key] })
        return difference.keepsOrder && !isReached(pre, difference.removed)
            && !isReached(post, difference.added)
    }

    /// Whether some declarations are, or lead to, one of others.
    private func reaches(
        _ wanted: Set<Int>, from roots: [Int], by names: KeyPath<Declaration, [UInt64]>,
        through identifiers: KeyPath<Declaration, [UInt64]>
    ) -> Bool {
        if wanted.isEmpty { return false }
        var owners: [UInt64: [Int]] = [:]
        for (index, declaration) in declarations.enumerated() {
            for name in declaration[keyPath: names] { owners[name, default: []].append(index) }
        }
        var seen = Set(roots)
        var queue = Array(seen)
        while let index = queue.popLast() {
            if wanted.contains(index) { return true }
            for identifier in declarations[index][keyPath: identifiers] {
                // Each name is followed once.
                for owner in owners.removeValue(forKey: identifier) ?? [] where seen.insert(owner).inserted {
                    queue.append(owner)
                }
            }
        }
        return false
    }
}

/// A token of C: an identifier or keyword, a number or a literal, or one character.
private struct Token {
    var hash: UInt64
    var isIdentifier: Bool
    /// The character of a token of one; 0 for the others.
    var character: UInt8
    /// Of parentheses, brackets and braces around it; an opening one stands outside of itself, as a closing one does.
    var depth: Int

    static let seed: UInt64 = 0xcbf2_9ce4_8422_2325
    static func mix(_ hash: UInt64, _ value: UInt64) -> UInt64 { (hash ^ value) &* 0x100_0000_01b3 &+ 1 }

    static func hash(_ tokens: ArraySlice<Token>) -> UInt64 { tokens.reduce(seed) { mix($0, $1.hash) } }

    static func hash(_ identifier: String) -> UInt64 { identifier.utf8.reduce(seed) { mix($0, UInt64($1)) } }

    static func hash(_ text: StaticString) -> UInt64 {
        text.withUTF8Buffer { $0.reduce(seed) { mix($0, UInt64($1)) } }
    }

    func isOne(of words: [UInt64]) -> Bool { isIdentifier && words.contains(hash) }
    func `is`(_ c: Unicode.Scalar) -> Bool { character == UInt8(ascii: c) }
}

/// Divides a text into top-level declarations.
private struct DeclarationReader {
    private let text: [UInt8]
    private var position = 0

    init(_ text: [UInt8]) { self.text = text }

    /// The tokens of the next declaration; nil at the end.
    mutating func next() -> [Token]? {
        var tokens: [Token] = []
        var depth = 0
        var isBody = false
        while var token = self.token() {
            let closes = token.is(")") || token.is("]") || token.is("}")
            if closes { depth = max(0, depth - 1) }
            token.depth = depth
            if depth == 0 && token.is("{") { isBody = DeclarationShape.beginsBody(tokens) }
            if token.is("(") || token.is("[") || token.is("{") { depth += 1 }
            tokens.append(token)
            if tokens.count == 1 && token.character == Self.pragma { return tokens }
            if depth == 0 && (token.is(";") || token.is("}") && isBody) { return tokens }
        }
        return tokens.isEmpty ? nil : tokens
    }

    private mutating func token() -> Token? {
        while position < text.count {
            let c = text[position]
            let isLineStart = position == 0 || text[position - 1] == UInt8(ascii: "\n")
            if c == UInt8(ascii: "#") && isLineStart {
                if let pragma = directive() { return pragma }
            } else if c <= 0x20 {
                position += 1
            } else if c == UInt8(ascii: "\"") || c == UInt8(ascii: "'") {
                return literal(c)
            } else if Self.isWord(c) {
                return word(c)
            } else {
                // `--` is not `- -`.
                let isJoined = position > 0 && text[position - 1] > 0x20 && !Self.isWord(text[position - 1])
                position += 1
                return Token(
                    hash: UInt64(c) << 32 | (isJoined ? 1 : 0), isIdentifier: false, character: c, depth: 0)
            }
        }
        return nil
    }

    /// A line that begins with `#`: a marker is nothing, a pragma (pack, weak, ...) a token of its own.
    private mutating func directive() -> Token? {
        let end = text[position...].firstIndex(of: UInt8(ascii: "\n")) ?? text.count
        let line = text[position..<end]
        position = end
        if isLineMarker(line) { return nil }
        return Token(
            hash: line.reduce(Token.seed) { Token.mix($0, UInt64($1)) }, isIdentifier: false,
            character: DeclarationReader.pragma, depth: 0)
    }

    /// Stands for a whole line that is no declaration.
    static let pragma: UInt8 = 1

    private static func isWord(_ c: UInt8) -> Bool {
        c >= UInt8(ascii: "a") && c <= UInt8(ascii: "z") || c >= UInt8(ascii: "A") && c <= UInt8(ascii: "Z")
            || c >= UInt8(ascii: "0") && c <= UInt8(ascii: "9") || c == UInt8(ascii: "_")
            || c == UInt8(ascii: "$") || c >= 0x80
    }

    private mutating func word(_ first: UInt8) -> Token {
        var hash = Token.seed
        while position < text.count, Self.isWord(text[position]) {
            hash = Token.mix(hash, UInt64(text[position]))
            position += 1
        }
        let isNumber = first >= UInt8(ascii: "0") && first <= UInt8(ascii: "9")
        return Token(hash: hash, isIdentifier: !isNumber, character: 0, depth: 0)
    }

    private mutating func literal(_ quote: UInt8) -> Token {
        var hash = Token.mix(Token.seed, UInt64(quote))
        position += 1
        while position < text.count, text[position] != quote {
            if text[position] == UInt8(ascii: "\\") && position + 1 < text.count {
                hash = Token.mix(hash, UInt64(text[position]))
                position += 1
            }
            hash = Token.mix(hash, UInt64(text[position]))
            position += 1
        }
        position += 1
        return Token(hash: hash, isIdentifier: false, character: 0, depth: 0)
    }
}

/// What a declaration is: whether it makes code or data by itself, and by which names others reach it.
private struct DeclarationShape {
    private(set) var isRoot = true
    private(set) var names: [UInt64] = []

    private static let attributes = [
        Token.hash("__attribute__"), Token.hash("__attribute"), Token.hash("asm"), Token.hash("__asm__"),
        Token.hash("__asm"), Token.hash("typeof"), Token.hash("__typeof__"), Token.hash("__typeof"),
        Token.hash("_Alignas"), Token.hash("alignas"), Token.hash("__extension__"), Token.hash("__declspec"),
        Token.hash("typeof_unqual"), Token.hash("__typeof_unqual__"), Token.hash("_Atomic"),
    ]
    private static let tags = [Token.hash("struct"), Token.hash("union"), Token.hash("enum")]
    private static let inline = [Token.hash("inline"), Token.hash("__inline"), Token.hash("__inline__")]
    private static let storage = [Token.hash("static"), Token.hash("extern")]
    private static let used = [
        Token.hash("used"), Token.hash("__used__"), Token.hash("constructor"), Token.hash("__constructor__"),
        Token.hash("alias"), Token.hash("__alias__"),
    ]

    /// Whether a brace behind these tokens begins a function's body.
    static func beginsBody(_ tokens: [Token]) -> Bool {
        guard let last = tokens.last, last.is(")"), !tokens.contains(where: { $0.depth == 0 && $0.is("=") })
        else { return false }
        return !called(tokens).isEmpty
    }

    /// A declaration without the body of a function.
    static func heading(_ tokens: [Token]) -> ArraySlice<Token> {
        guard tokens.last?.is("}") == true,
            let brace = tokens.lastIndex(where: { $0.depth == 0 && $0.is("{") })
        else { return tokens[...] }
        return tokens[..<brace]
    }

    /// By which names a declaration without its body is reached: a function only by its own, and by those of types that
    /// are defined there. `names` are those of the whole declaration.
    static func names(ofHeading heading: ArraySlice<Token>, _ names: [UInt64], hasBody: Bool) -> [UInt64] {
        let tokens = Array(heading)
        guard hasBody, !hasInnerDeclarator(tokens) else { return names.filter { !keywords.contains($0) } }
        return called(tokens) + typeNames(tokens)
    }

    /// All identifiers but keywords.
    static func meaningful(_ tokens: ArraySlice<Token>) -> [UInt64] {
        tokens.filter { $0.isIdentifier && !keywords.contains($0.hash) }.map(\.hash)
    }

    private static let keywords = Set(
        [
            "void", "char", "short", "int", "long", "signed", "unsigned", "float", "double", "_Bool", "const",
            "volatile", "struct", "union", "enum", "static", "extern", "typedef", "inline", "__inline",
            "__inline__", "__attribute__", "__extension__",
        ].map { Token.hash($0) })

    /// Identifiers outside of all parentheses that stand before one, as a function's name does.
    private static func called(_ tokens: [Token]) -> [UInt64] {
        zip(tokens, tokens.dropFirst()).compactMap { token, next in
            token.depth == 0 && token.isIdentifier && next.depth == 0 && next.is("(")
                && !token.isOne(of: attributes)
                ? token.hash : nil
        }
    }

    init(_ tokens: [Token]) {
        let outer = tokens.filter { $0.depth == 0 }
        guard let first = tokens.first(where: { !$0.isOne(of: [Token.hash("__extension__")]) }) else {
            return
        }
        if first.isOne(of: [Token.hash("_Static_assert")]) || first.is(";") {
            isRoot = false
            return
        }
        if tokens.contains(where: { $0.isOne(of: Self.used) }) || outer.contains(where: { $0.is("=") })
            || first.isOne(of: [Token.hash("asm"), Token.hash("__asm__"), Token.hash("__asm")])
        {
            names = tokens.filter(\.isIdentifier).map(\.hash)
            return
        }
        // A body that is not recognised as one has taken what follows it along.
        let isUnread = zip(tokens, tokens.dropFirst()).contains {
            $0.depth == 0 && $0.is(")") && $1.depth == 0 && $1.is("{")
        }
        if first.is("{") || isUnread && tokens.last?.is("}") != true {
            names = tokens.filter(\.isIdentifier).map(\.hash)
            return
        }
        names = Self.called(outer) + Self.declared(outer) + Self.typeNames(tokens)
        let has = { (words: [UInt64]) in outer.contains { $0.isOne(of: words) } }
        if tokens.last?.is("}") == true {
            isRoot = !(has(Self.inline) && has(Self.storage))
        } else if has([Token.hash("typedef")]) {
            // Its name may stand inside of parentheses: all names in it are taken for it.
            names = tokens.filter(\.isIdentifier).map(\.hash)
            isRoot = false
        } else if has([Token.hash("extern")]) {
            isRoot = false
        } else if first.isOne(of: Self.tags) && Self.isTypeAlone(outer) {
            isRoot = false
        } else {
            // A prototype, unless a parenthesis is there for a pointer to a function.
            isRoot =
                Self.called(outer).isEmpty || Self.declaresPointer(tokens) || tokens.last?.is(";") != true
        }
        if isRoot || Self.hasInnerDeclarator(tokens) { names = tokens.filter(\.isIdentifier).map(\.hash) }
    }

    /// `(*name)(...)`, `(name)(...)`, `(*name)[...]`: the name stands inside of parentheses.
    private static func hasInnerDeclarator(_ tokens: [Token]) -> Bool {
        tokens.indices.dropFirst().dropLast().contains { index in
            let (before, token, next) = (tokens[index - 1], tokens[index], tokens[index + 1])
            guard token.depth == 0 else { return false }
            if token.is("("), !before.isOne(of: attributes) {
                return next.is("*") || next.is("(") || next.isOne(of: attributes)
            }
            return token.is(")") && (next.is("(") || next.is("["))
        }
    }

    /// `(*name)(...)`: a parenthesis that follows no name but a type.
    private static func declaresPointer(_ tokens: [Token]) -> Bool {
        tokens.indices.dropFirst().dropLast().contains { index in
            tokens[index].depth == 0 && tokens[index].is("(") && !tokens[index - 1].isOne(of: attributes)
                && (tokens[index + 1].is("*") || tokens[index + 1].is("("))
        }
    }

    /// Identifiers outside of all parentheses that stand before the end of a declarator.
    private static func declared(_ outer: [Token]) -> [UInt64] {
        zip(outer, outer.dropFirst()).compactMap { token, next in
            token.isIdentifier
                && (next.is(",") || next.is(";") || next.is("[") || next.isOne(of: attributes))
                ? token.hash : nil
        }
    }

    /// Tags that are defined here, and all identifiers inside of enumerations.
    private static func typeNames(_ tokens: [Token]) -> [UInt64] {
        var found: [UInt64] = []
        for (index, token) in tokens.enumerated() where token.isOne(of: tags) {
            // Up to the brace there may be attributes and the tag.
            var end = index + 1
            while end < tokens.count, !tokens[end].is("{"),
                tokens[end].isIdentifier || tokens[end].depth > token.depth
                    || tokens[end].is("(") || tokens[end].is(")") || tokens[end].is(":")
            {
                end += 1
            }
            guard end < tokens.count, tokens[end].is("{"), tokens[end].depth == token.depth else { continue }
            found += tokens[(index + 1)..<end].filter(\.isIdentifier).map(\.hash)
            guard token.isOne(of: [Token.hash("enum")]) else { continue }
            var inner = end + 1
            while inner < tokens.count, tokens[inner].depth > token.depth {
                if tokens[inner].isIdentifier { found.append(tokens[inner].hash) }
                inner += 1
            }
        }
        return found
    }

    /// `struct s { ... };`, with attributes perhaps, or `struct s;`: nothing is declared but a type.
    private static func isTypeAlone(_ outer: [Token]) -> Bool {
        guard let close = outer.lastIndex(where: { $0.is("}") }) else {
            return outer.count == 3 && outer[2].is(";")
        }
        return outer[(close + 1)...].allSatisfy { !$0.isIdentifier || $0.isOne(of: attributes) }
    }
}
