// The words of texts, as numbers. A wide header's users are a hundred megabytes of source; each is read once, and no
// word of it is made into a string.

/// A word's hash (FNV-1a, 64 bits). Two words of one number would be taken for the same: something that is not reached
/// would be kept, as in any doubt.
struct Word: Hashable, Sendable {
    let number: UInt64

    init(number: UInt64) { self.number = number }

    init(_ bytes: ArraySlice<UInt8>) {
        var hash = Self.seed
        for byte in bytes { hash = Self.mix(hash, byte) }
        number = hash
    }

    init(_ text: String) { self.init(Array(text.utf8)[...]) }

    static let seed: UInt64 = 0xcbf2_9ce4_8422_2325
    static func mix(_ hash: UInt64, _ byte: UInt8) -> UInt64 { (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }

    /// What stands for the use of a member: its name behind a point, an arrow, or, as in `offsetof`, a comma.
    static func member(_ name: String) -> String { "." + name }

    /// The different words of a text, also those in its comments and strings, in no order; where one may name a member,
    /// `member`, too.
    static func all(in text: [UInt8]) -> [Word] {
        // Open addressing; a word of source has four bytes or more on average. No word has the number 0.
        var bits = 6
        while 1 << bits <= text.count + 1 { bits += 1 }
        var table = [UInt64](repeating: 0, count: 1 << bits)
        let mask = table.count - 1
        var found: [Word] = []
        text.withUnsafeBufferPointer { bytes in
            table.withUnsafeMutableBufferPointer { table in
                var position = 0
                while position < bytes.count {
                    guard SourceLexer.isWordByte(bytes[position]) else {
                        position += 1
                        continue
                    }
                    let isMember = mayNameMember(bytes, position)
                    var hash = seed
                    var dotted = mix(seed, UInt8(ascii: "."))
                    while position < bytes.count, SourceLexer.isWordByte(bytes[position]) {
                        hash = mix(hash, bytes[position])
                        dotted = mix(dotted, bytes[position])
                        position += 1
                    }
                    if isMember { add(dotted) }
                    add(hash)
                }
                func add(_ hash: UInt64) {
                    var slot = Int(truncatingIfNeeded: hash >> 20) & mask
                    while table[slot] != 0 && table[slot] != hash { slot = (slot + 1) & mask }
                    if table[slot] == 0 {
                        table[slot] = hash
                        found.append(Word(number: hash))
                    }
                }
            }
        }
        return found
    }

    private static func mayNameMember(_ bytes: UnsafeBufferPointer<UInt8>, _ position: Int) -> Bool {
        var before = position - 1
        while before >= 0, bytes[before] <= UInt8(ascii: " ") || bytes[before] == UInt8(ascii: "\\") {
            before -= 1
        }
        guard before >= 0 else { return false }
        switch bytes[before] {
        // Behind a comment, anything.
        case UInt8(ascii: "."), UInt8(ascii: ","), UInt8(ascii: "/"): return true
        case UInt8(ascii: ">"): return before > 0 && bytes[before - 1] == UInt8(ascii: "-")
        default: return false
        }
    }
}

/// Words to look for. Most words are in no such set: a bit says so.
struct WordSet: Sendable {
    private var words: Set<Word> = []
    private var mayHold = [UInt64](repeating: 0, count: 1 << 12)

    private static func place(_ word: Word) -> (Int, UInt64) {
        let bit = Int(truncatingIfNeeded: word.number >> 24) & 0x3ffff
        return (bit >> 6, 1 << UInt64(bit & 63))
    }

    var isEmpty: Bool { words.isEmpty }

    mutating func insert(_ word: Word) {
        let (index, bit) = Self.place(word)
        mayHold[index] |= bit
        words.insert(word)
    }

    func contains(_ word: Word) -> Bool {
        let (index, bit) = Self.place(word)
        return mayHold[index] & bit != 0 && words.contains(word)
    }
}
