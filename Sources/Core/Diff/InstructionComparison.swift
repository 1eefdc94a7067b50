// Two versions of a function instruction by instruction, to show where they part. Instructions are compared as text
// with the names of what they refer to; a jump inside the function differs only where nothing else does, because it
// leads elsewhere whenever code in between grows.

/// One instruction as people read it.
struct InstructionText: Sendable, Equatable {
    /// From the function's start.
    var offset: Int
    var text: String
    /// What it refers to by name; empty for nothing.
    var reference = ""
    /// A jump or call to another instruction of the same function.
    var isInternal = false
    /// Text that is equal where the instruction is.
    var comparable: String
    /// As a number, where it accesses memory at a distance from a register.
    var displacement: Int64?
    /// The number that it holds as an operand.
    var immediate: Int64?

    var full: String { reference.isEmpty ? text : "\(text)  # \(reference)" }
}

enum InstructionComparison {
    /// The instructions of a span.
    static func list(_ object: ObjectSpans, _ index: Int) -> [InstructionText] {
        let span = object.spans[index]
        let bytes = Array(object.bytes(of: span))
        let relocations = Array(object.relocations(of: span))
        var next = 0
        var offset = 0
        var result: [InstructionText] = []
        while offset < bytes.count {
            let found = disassemble(
                bytes, at: offset, address: UInt64(offset), is64Bit: object.object.is64Bit)
            let length = max(1, found?.length ?? 1)
            var instruction = InstructionText(
                offset: offset, text: clean(found?.text ?? "(bad)"), comparable: "")
            var names: [String] = []
            var keys: [String] = []
            while next < relocations.count,
                relocations[next].offset - span.range.lowerBound < offset + length
            {
                let target = object.target(of: relocations[next], in: span.section)
                let correction = Int64(object.correction(relocations[next], span.section))
                let (name, offset) = describe(object, target, relocations[next].addend)
                names.append(name + distance(offset.map { $0 + correction } ?? 0))
                keys.append(key(object, target, of: span) ?? names[names.count - 1])
                next += 1
            }
            instruction.reference = names.joined(separator: ", ")
            if names.isEmpty {
                instruction.isInternal = isBranch(instruction.text)
            } else {
                instruction.text = withoutField(instruction.text)
            }
            instruction.comparable = ([instruction.text] + keys).joined(separator: " ")
            instruction.displacement = displacement(instruction.text)
            instruction.immediate = immediate(instruction.text)
            result.append(instruction)
            offset += length
        }
        return result
    }

    /// Positions in the two lists of the first instructions that differ; nil where all are equal.
    static func firstDifference(_ pre: [InstructionText], _ post: [InstructionText]) -> Int? {
        let count = min(pre.count, post.count)
        let real = (0..<count).first { index in
            let (a, b) = (pre[index], post[index])
            if a.isInternal && b.isInternal { return mnemonic(a.text) != mnemonic(b.text) }
            return a.comparable != b.comparable
        }
        if let real { return real }
        if pre.count != post.count { return count }
        return (0..<count).first { pre[$0].comparable != post[$0].comparable }
    }

    /// What a reference leads to, with quotes around the text of a string, and the distance from it.
    private static func describe(_ object: ObjectSpans, _ target: Target, _ addend: Int64) -> (
        name: String, offset: Int64?
    ) {
        switch target {
        case .external(let name): return (name, addend)
        case .span(let index, let offset):
            let span = object.spans[index]
            return (span.names.isEmpty ? object.object.sections[span.section].name : span.name, offset)
        case .content(let index, let offset):
            let bytes = object.content(section: index, offset: offset)
            return (object.roles[index] == .strings ? quoted(bytes) : "constant \(hex(bytes))", nil)
        case .absolute(let value): return (hex(value), nil)
        }
    }

    /// What to compare a reference by where its name will not do: the compiler numbers names anew, and a place in
    /// another part of the same function is as good as a place in this one.
    private static func key(_ object: ObjectSpans, _ target: Target, of user: ObjectSpan) -> String? {
        guard case .span(let index, let offset) = target else { return nil }
        let name = object.spans[index].name
        if object.spans[index].isFunction && Comparison.family(name) == Comparison.family(user.name) {
            return "part"
        }
        return name.isEmpty ? nil : "\(canonicalName(name))+\(offset)"
    }

    static func quoted(_ bytes: [UInt8]) -> String {
        // KERN_SOH and a digit begin the texts of printk.
        let text = bytes.dropLast(bytes.last == 0 ? 1 : 0)
        return JSON.quoted(String(decoding: text, as: UTF8.self)).replacing("\\u0001", with: "\\1")
    }

    private static func distance(_ value: Int64) -> String {
        value == 0 ? "" : value < 0 ? "-\(hex(UInt64(-value)))" : "+\(hex(UInt64(value)))"
    }

    private static func mnemonic(_ text: String) -> Substring { text.prefix { $0 != " " } }

    private static func isBranch(_ text: String) -> Bool {
        let word = mnemonic(text)
        return (word.hasPrefix("j") || word.hasPrefix("call") || word.hasPrefix("loop"))
            && !text.contains("*")
    }

    /// Without the disassembler's remark about the place that a relative operand would have.
    private static func clean(_ text: String) -> String {
        var text = text
        if let remark = text.range(of: " #") { text = String(text[..<remark.lowerBound]) }
        let words = text.split(separator: " ", maxSplits: 1)
        return words.count < 2
            ? text.trimmed : "\(words[0]) \(String(words[1]).trimmed)"
    }

    /// A relocated field is zero in the object: `0x0(%rip)` becomes `(%rip)`, the target of a call nothing.
    private static func withoutField(_ text: String) -> String {
        if isBranch(text) { return String(mnemonic(text)) }
        return text.replacing("0x0(", with: "(")
    }

    /// Of `mov $0x48,%edi` 0x48.
    private static func immediate(_ text: String) -> Int64? {
        guard let sign = text.firstIndex(of: "$") else { return nil }
        return Int64(text[text.index(after: sign)...].dropFirst(2).prefix { $0.isHexDigit }, radix: 16)
    }

    /// Of `mov 0x48(%rdi),%rax` 0x48.
    private static func displacement(_ text: String) -> Int64? {
        guard let open = text.firstIndex(of: "("), !text[open...].hasPrefix("(%rsp"),
            !text[open...].hasPrefix("(%rip")
        else { return nil }
        let before = text[..<open]
        let start = before.lastIndex { $0 == " " || $0 == "," || $0 == ":" }.map { before.index(after: $0) }
        let field = before[(start ?? before.startIndex)...]
        if field.isEmpty { return 0 }
        let isNegative = field.hasPrefix("-")
        let digits = field.drop { $0 == "-" }.dropFirst(2)
        return Int64(digits, radix: 16).map { isNegative ? -$0 : $0 }
    }
}
