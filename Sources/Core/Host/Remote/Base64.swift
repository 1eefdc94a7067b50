// Base64 of RFC 4648, as base64(1) writes and reads it.

enum Base64 {
    private static let alphabet = Array(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    private static let values: [UInt8] = {
        var table = [UInt8](repeating: 0xff, count: 256)
        for (value, letter) in alphabet.enumerated() { table[Int(letter)] = UInt8(value) }
        return table
    }()

    /// The bytes of a text, in which white space does not count. Nil where anything else stands in it, or something is missing
    /// at its end.
    static func decode(_ text: some Sequence<UInt8>) -> [UInt8]? {
        var bytes: [UInt8] = []
        var (bits, count, padding): (UInt32, Int, Int) = (0, 0, 0)
        for letter in text where letter != 0x0a && letter != 0x0d && letter != 0x20 {
            if letter == UInt8(ascii: "=") {
                padding += 1
                count += 1
                bits <<= 6
            } else {
                let value = values[Int(letter)]
                // Several texts may stand one behind the other.
                guard value != 0xff, padding == 0 else { return nil }
                bits = bits << 6 | UInt32(value)
                count += 1
            }
            guard count == 4 else { continue }
            guard padding <= 2 else { return nil }
            for place in 0..<3 - padding {
                bytes.append(UInt8(truncatingIfNeeded: bits >> (16 - 8 * UInt32(place))))
            }
            (bits, count, padding) = (0, 0, 0)
        }
        return count == 0 ? bytes : nil
    }

    /// In one line.
    static func word(_ bytes: [UInt8]) -> String { encode(bytes).filter { $0 != "\n" } }

    /// Lines of 76 characters.
    static func encode(_ bytes: [UInt8]) -> String {
        var text: [UInt8] = []
        text.reserveCapacity(bytes.count / 3 * 4 + bytes.count / 57 + 8)
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let part = bytes[start..<min(start + 3, bytes.count)]
            let bits = part.enumerated().reduce(UInt32(0)) {
                $0 | UInt32($1.element) << (16 - 8 * UInt32($1.offset))
            }
            for place in 0..<4 {
                text.append(
                    place <= part.count
                        ? alphabet[Int(bits >> (18 - 6 * UInt32(place)) & 63)] : UInt8(ascii: "="))
            }
            if start % 57 == 54 { text.append(0x0a) }
        }
        return String(decoding: text, as: UTF8.self)
    }
}
