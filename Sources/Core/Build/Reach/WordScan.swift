// Which of some words a text holds. A wide header's users are a hundred megabytes of source that are read once a
// round, so no word is made into a string before it is known to be one that is looked for.

/// Words to look for.
struct WordSet: Sendable {
    private var hashes: Set<UInt64> = []

    private static let seed: UInt64 = 0xcbf2_9ce4_8422_2325
    private static func mix(_ hash: UInt64, _ byte: UInt8) -> UInt64 {
        (hash ^ UInt64(byte)) &* 0x100_0000_01b3
    }

    mutating func insert(_ word: some Sequence<UInt8>) {
        hashes.insert(word.reduce(Self.seed, Self.mix))
    }

    /// The words of this set that stand in a text, also in its comments and strings.
    func words(in text: [UInt8]) -> Set<String> {
        var found: [UInt64: String] = [:]
        text.withUnsafeBufferPointer { bytes in
            var position = 0
            while position < bytes.count {
                guard SourceLexer.isWordByte(bytes[position]) else {
                    position += 1
                    continue
                }
                let start = position
                var hash = Self.seed
                while position < bytes.count, SourceLexer.isWordByte(bytes[position]) {
                    hash = Self.mix(hash, bytes[position])
                    position += 1
                }
                if hashes.contains(hash), found[hash] == nil {
                    found[hash] = String(decoding: bytes[start..<position], as: UTF8.self)
                }
            }
        }
        return Set(found.values)
    }
}
