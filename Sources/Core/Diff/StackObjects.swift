// Types whose objects live on stacks only, in frames of functions that are replaced. Objects of another layout cannot
// meet new code then: the stack check of apply, and that of undo, waits until none of these frames exists.
//
// An object can live elsewhere only if something says so: a variable with an address of its own, a member of a type, or a
// pointer that is not a parameter. Debug information tells these; casts, `sizeof` and `container_of`, of which it
// knows nothing, are looked for in the source. All is decided the careful way: what is not understood is no stack object.

struct StackObjects {
    /// One of the two objects.
    struct Side {
        let debug: DebugInformation
        /// The source of the unit.
        let source: [String]
        /// Where functions start that are replaced, in pre, or shipped, in post.
        let replaced: Set<UInt64>
    }

    private let sides: [Side]
    private let path: String

    init(pre: Side, post: Side, path: String) {
        sides = [pre, post]
        self.path = path
    }

    /// The functions in whose frames all objects of a type live, sorted; nil if they may live elsewhere, or in a frame that
    /// neither stack check would see. `key` is as in `TypeLayouts`.
    func holders(of key: String) -> [String]? {
        guard key.hasPrefix("struct ") || key.hasPrefix("union ") else { return nil }
        var names: Set<String> = []
        for side in sides {
            guard let holders = holders(of: key, in: side) else { return nil }
            names.formUnion(holders)
        }
        return names.isEmpty ? nil : names.sorted()
    }

    private func holders(of key: String, in side: Side) -> [String]? {
        let debug = side.debug
        let layouts = TypeLayouts(debug)
        guard let type = layouts.types[key], layouts.place(key)?.file == path,
            let (values, pointers) = uses(of: type, debug)
        else { return nil }
        for variable in debug.variables {
            guard let type = variable.type else { continue }
            if pointers.contains(type) { return nil }
            if values.contains(type), variable.function == nil || variable.address != nil { return nil }
        }
        guard Self.staysOnStack(key, SourceLexer.tokens(of: Array(side.source.joined(separator: "\n").utf8)))
        else { return nil }
        let functions = UnitFunctions(debug)
        var names: [String] = []
        for index in debug.functions.indices where !debug.functions[index].ranges.isEmpty {
            guard !functions.types(index).isDisjoint(with: values) else { continue }
            guard debug.functions[index].ranges.contains(where: { side.replaced.contains($0.lowerBound) })
            else { return nil }
            names.append(functions.name(index))
        }
        return names
    }

    /// The types of an object and of pointers to one; nil if another type has either as a part.
    private func uses(of type: Int, _ debug: DebugInformation) -> (values: Set<Int>, pointers: Set<Int>)? {
        var values: Set<Int> = [type]
        var pointers: Set<Int> = []
        var isGrowing = true
        while isGrowing {
            isGrowing = false
            for (index, user) in debug.types.enumerated() {
                let isMember = user.members.contains { member in
                    member.type.map { values.contains($0) || pointers.contains($0) } ?? false
                }
                if isMember, user.kind != .function { return nil }
                guard let target = user.target else { continue }
                switch user.kind {
                case .pointer where values.contains(target):
                    isGrowing = pointers.insert(index).inserted || isGrowing
                case .qualifier, .alias:
                    if values.contains(target) { isGrowing = values.insert(index).inserted || isGrowing }
                    if pointers.contains(target) { isGrowing = pointers.insert(index).inserted || isGrowing }
                case _ where values.contains(target) || pointers.contains(target):
                    // An array, a pointer to a pointer, a result.
                    return nil
                default: break
                }
            }
        }
        return (values, pointers)
    }

    /// Whether the source names a type only to declare it, its variables, and parameters that point to one.
    static func staysOnStack(_ key: String, _ tokens: [SourceToken]) -> Bool {
        let name = key.split(separator: " ").last.map(String.init) ?? ""
        func text(_ index: Int) -> String { tokens.indices.contains(index) ? tokens[index].text : "" }
        func isWord(_ index: Int) -> Bool { tokens.indices.contains(index) && tokens[index].kind == .word }
        var objects: Set<String> = []
        for (index, token) in tokens.enumerated() {
            if token.kind == .directive, hasWord(name, token.text) { return false }
            guard token.kind == .word, token.text == name, ["struct", "union"].contains(text(index - 1))
            else { continue }
            if text(index - 2) == "extern" { return false }
            var next = index + 1
            if ["{", ";"].contains(text(next)) { continue }
            let isPointer = text(next) == "*"
            if isPointer { next += 1 }
            if text(next) == "const" { next += 1 }
            if isPointer, text(next) == "," { continue }
            guard isWord(next) else { return false }
            if isPointer, ![",", ")"].contains(text(next + 1)) { return false }
            objects.insert(text(next))
        }
        for (index, token) in tokens.enumerated()
        where token.text == "sizeof" || token.text.contains("typeof") {
            var next = index + 1
            while ["(", "*"].contains(text(next)) { next += 1 }
            if objects.contains(text(next)) { return false }
        }
        return true
    }

    private static func hasWord(_ word: String, _ text: String) -> Bool {
        text.utf8.split { !SourceLexer.isWordByte($0) }.contains { $0.elementsEqual(word.utf8) }
    }
}
