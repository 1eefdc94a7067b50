// The functions of a C source file, found by braces and parentheses.

/// A function's definition. Those that several branches of an #if define under one name are taken as one, with all
/// their bodies.
struct SourceFunction: Sendable {
    var name: String
    /// Of its name.
    var line: Int
    var isInline: Bool
    /// Declared never to return.
    var isEndless: Bool
    /// Between the outer braces; without directives.
    var body: [SourceToken]
    var calls: [SourceCall]

    /// Whether the body names something, as a call or otherwise.
    func names(_ word: String) -> Bool { body.contains { $0.kind == .word && $0.text == word } }

    func hasSameText(as other: SourceFunction) -> Bool {
        body.elementsEqual(other.body) { $0.kind == $1.kind && $0.text == $1.text }
    }
}

struct SourceCall: Sendable {
    var name: String
    var line: Int
    /// Of the name in the function's body.
    var position: Int
    /// The tokens between the parentheses.
    var arguments: ArraySlice<SourceToken>

    /// The first argument, as written without blanks.
    var firstArgument: String { argumentTexts.first ?? "" }

    /// The arguments, as written without blanks.
    var argumentTexts: [String] {
        var depth = 0
        var texts = [""]
        for token in arguments {
            if token.is("(") || token.is("[") || token.is("{") { depth += 1 }
            if token.is(")") || token.is("]") || token.is("}") { depth -= 1 }
            if depth == 0 && token.is(",") { texts.append("") } else { texts[texts.count - 1] += token.text }
        }
        return texts
    }
}

/// A source file as a reviewer reads it.
struct SourceFile: Sendable {
    var path: String
    /// In the order of their first definition.
    var functions: [SourceFunction]
    private var positions: [String: Int] = [:]

    init(path: String, text: [UInt8]) {
        self.path = path
        functions = []
        var finder = FunctionFinder()
        for token in SourceLexer.tokens(of: text) { finder.read(token) }
        for function in finder.functions {
            if let known = positions[function.name] {
                functions[known].body += function.body
                functions[known].isEndless = functions[known].isEndless || function.isEndless
            } else {
                positions[function.name] = functions.count
                functions.append(function)
            }
        }
        for index in functions.indices { functions[index].calls = Self.calls(functions[index].body) }
    }

    subscript(name: String) -> SourceFunction? { positions[name].map { functions[$0] } }

    private static let keywords: Set = ["if", "while", "for", "switch", "return", "sizeof", "typeof"]

    private static func calls(_ body: [SourceToken]) -> [SourceCall] {
        body.indices.dropLast().compactMap { index in
            guard body[index].kind == .word, body[index + 1].is("("), !keywords.contains(body[index].text)
            else { return nil }
            var depth = 0
            var end = index + 1
            while end < body.count {
                if body[end].is("(") { depth += 1 }
                if body[end].is(")") { depth -= 1 }
                if depth == 0 { break }
                end += 1
            }
            return SourceCall(
                name: body[index].text, line: body[index].line, position: index,
                arguments: body[min(index + 2, end)..<end])
        }
    }
}

private struct FunctionFinder {
    var functions: [SourceFunction] = []
    private var depth = 0
    private var parentheses = 0
    /// Tokens since the last definition or declaration ended.
    private var head: [SourceToken] = []
    private var current: SourceFunction?
    /// Where each #if began: its branches all begin at the same depth.
    private var branches: [(depth: Int, parentheses: Int)] = []

    mutating func read(_ token: SourceToken) {
        if token.kind == .directive { return follow(token.text) }
        if token.is("(") || token.is("[") { parentheses += 1 }
        if token.is(")") || token.is("]") { parentheses = max(0, parentheses - 1) }
        if depth == 0 { return readOutside(token) }
        if token.is("{") { depth += 1 }
        if token.is("}") {
            depth -= 1
            if depth == 0 { return end() }
        }
        current?.body.append(token)
    }

    private mutating func readOutside(_ token: SourceToken) {
        if token.is("{") && parentheses == 0 {
            current = Self.function(head)
            depth = 1
            head = []
        } else if token.is("}") || token.is(";") && parentheses == 0 {
            head = []
        } else {
            head.append(token)
        }
    }

    private mutating func end() {
        if let current { functions.append(current) }
        current = nil
        head = []
        parentheses = 0
    }

    private mutating func follow(_ directive: String) {
        let word = directive.dropFirst().drop { $0 == " " || $0 == "\t" }
        if word.hasPrefix("if") {
            branches.append((depth, parentheses))
        } else if word.hasPrefix("el"), let begin = branches.last {
            (depth, parentheses) = begin
            // Each branch begins a function of its own, and what follows is the body of the last.
            if depth == 0 { (current, head) = (nil, []) }
        } else if word.hasPrefix("endif") {
            _ = branches.popLast()
        }
    }

    private static let attributes: Set = [
        "__attribute__", "__printf", "__scanf", "__aligned", "__section", "__releases", "__acquires",
        "__must_hold",
        "__alloc_size", "__assume_aligned", "__printf_like", "__no_sanitize", "__diag_ignore",
    ]

    /// The function that a head declares; nil for types and initialised data.
    private static func function(_ head: [SourceToken]) -> SourceFunction? {
        var depth = 0
        var found: Int?
        for (index, token) in head.enumerated() {
            if depth == 0 && token.is("=") { return nil }
            if token.is("("), depth == 0, found == nil, index > 0, head[index - 1].kind == .word,
                !attributes.contains(head[index - 1].text)
            {
                found = index - 1
            }
            if token.is("(") { depth += 1 }
            if token.is(")") { depth -= 1 }
        }
        guard let found else { return nil }
        var name = head[found].text
        if name.contains("SYSCALL_DEFINE"), found + 2 < head.count {
            let prefix =
                name.hasPrefix("COMPAT_")
                ? "__do_compat_sys_" : name.hasSuffix("0") ? "__x64_sys_" : "__do_sys_"
            name = prefix + head[found + 2].text
        } else if name.allSatisfy({ $0.isUppercase || $0.isNumber || $0 == "_" }), found + 2 < head.count {
            // A macro that defines a function, named by its first argument: BPF_CALL_5(bpf_find_vma, ...).
            name = head[found + 2].text
        }
        let isInline = head[..<found].contains {
            $0.kind == .word && ["inline", "__inline", "__inline__", "__always_inline"].contains($0.text)
        }
        let isEndless = head.contains {
            $0.kind == .word && ["__noreturn", "noreturn", "__noreturn__", "_Noreturn"].contains($0.text)
        }
        return SourceFunction(
            name: name, line: head[found].line, isInline: isInline, isEndless: isEndless, body: [], calls: [])
    }
}
