// Reading JSON (RFC 8259): what the project itself has written, and no more of numbers than whole ones.

extension JSON {
    /// Reads one value. Fails on anything that is not exactly one.
    public init(parsing text: String) throws {
        var parser = JSONParser(bytes: Array(text.utf8))
        self = try parser.value(depth: 0)
        parser.skipBlanks()
        guard parser.position == parser.bytes.count else {
            throw parser.failure("something follows the value")
        }
    }

    /// The member of an object; nil for other values and where there is none.
    public subscript(name: String) -> JSON? {
        guard case .object(let members) = self else { return nil }
        return members.first { $0.0 == name }?.1
    }

    public var string: String? { if case .string(let value) = self { value } else { nil } }
    public var number: Int? { if case .number(let value) = self { value } else { nil } }
    public var array: [JSON]? { if case .array(let values) = self { values } else { nil } }
}

private struct JSONParser {
    let bytes: [UInt8]
    var position = 0

    func failure(_ what: String) -> Failure {
        Failure("malformed JSON at byte \(position): \(what)", status: .verificationRefused)
    }

    mutating func skipBlanks() {
        while position < bytes.count, [0x20, 0x09, 0x0a, 0x0d].contains(bytes[position]) { position += 1 }
    }

    private mutating func take(_ character: Character) -> Bool {
        skipBlanks()
        guard position < bytes.count, bytes[position] == character.asciiValue else { return false }
        position += 1
        return true
    }

    private mutating func word(_ text: String) -> Bool {
        guard bytes[position...].starts(with: text.utf8) else { return false }
        position += text.utf8.count
        return true
    }

    mutating func value(depth: Int) throws -> JSON {
        guard depth < 64 else { throw failure("it is nested too deeply") }
        skipBlanks()
        guard position < bytes.count else { throw failure("it ends early") }
        switch Character(UnicodeScalar(bytes[position])) {
        case "{": return try object(depth)
        case "[": return try array(depth)
        case "\"": return .string(try string())
        case "t" where word("true"): return .bool(true)
        case "f" where word("false"): return .bool(false)
        case "n" where word("null"): return .null
        default: return .number(try number())
        }
    }

    private mutating func object(_ depth: Int) throws -> JSON {
        position += 1
        var members: [(String, JSON)] = []
        if take("}") { return .object([]) }
        repeat {
            skipBlanks()
            guard position < bytes.count, bytes[position] == UInt8(ascii: "\"") else {
                throw failure("a member's name is missing")
            }
            let name = try string()
            guard take(":") else { throw failure("':' is missing") }
            members.append((name, try value(depth: depth + 1)))
        } while take(",")
        guard take("}") else { throw failure("'}' is missing") }
        return .object(members)
    }

    private mutating func array(_ depth: Int) throws -> JSON {
        position += 1
        var values: [JSON] = []
        if take("]") { return .array([]) }
        repeat { values.append(try value(depth: depth + 1)) } while take(",")
        guard take("]") else { throw failure("']' is missing") }
        return .array(values)
    }

    private mutating func number() throws -> Int {
        let start = position
        if position < bytes.count, bytes[position] == UInt8(ascii: "-") { position += 1 }
        while position < bytes.count, (0x30...0x39).contains(bytes[position]) { position += 1 }
        guard let value = Int(String(decoding: bytes[start..<position], as: UTF8.self)) else {
            throw failure("not a value")
        }
        return value
    }

    private mutating func string() throws -> String {
        position += 1
        var out: [UInt8] = []
        while position < bytes.count {
            let byte = bytes[position]
            position += 1
            switch byte {
            case UInt8(ascii: "\""): return String(decoding: out, as: UTF8.self)
            case UInt8(ascii: "\\"): out += Array(String(try escaped()).utf8)
            case 0..<0x20: throw failure("a control character stands in a string")
            default: out.append(byte)
            }
        }
        throw failure("a string does not end")
    }

    private mutating func escaped() throws -> Character {
        guard position < bytes.count else { throw failure("a string does not end") }
        let letter = Character(UnicodeScalar(bytes[position]))
        position += 1
        switch letter {
        case "\"", "\\", "/": return letter
        case "n": return "\n"
        case "t": return "\t"
        case "r": return "\r"
        case "b": return "\u{8}"
        case "f": return "\u{c}"
        case "u":
            let digits = String(decoding: bytes[position..<min(position + 4, bytes.count)], as: UTF8.self)
            // Halves of a pair are never written by this program: it writes what is beyond ASCII as it is.
            guard digits.count == 4, let code = UInt32(digits, radix: 16), let scalar = UnicodeScalar(code)
            else {
                throw failure("an escape is not understood")
            }
            position += 4
            return Character(scalar)
        default: throw failure("an escape is not understood")
        }
    }
}
