// The compressed symbol tables of an image, found and decoded without any symbol that says where they are.
//
// Format (scripts/kallsyms.c and kernel/kallsyms.c of Linux): 256 tokens as C strings, which names are sequences of;
// an index of the tokens' offsets; names, each a length (ULEB128 of one or two bytes) and that many token numbers, of
// which the first begins with the symbol's kind; every 256th name's offset ("markers"); addresses. All tables lie in
// one run of .rodata, each aligned to the size of a pointer, since 7.0 to four bytes:
//
//     5.10 to 6.3   addresses, num_syms, names, markers, [seqs_of_names,] token_table, token_index
//     6.4 and later num_syms, names, markers, token_table, token_index, addresses, [seqs_of_names]
//
// Characters that occur in names are tokens of their own, so the ten digits in turn find the token table; everything
// else follows from it and is checked in full, so a wrong hit is never taken.

/// Where the tables of an image are, and what they hold. All offsets are those of the file.
struct KallsymsTables {
    let bytes: [UInt8]
    /// Of a pointer, in bytes: 8 or 4.
    let word: Int
    /// Of each table, in bytes.
    private var alignment: Int
    /// The offset of the first token.
    private(set) var tokenTable = 0
    /// The offset behind the token index.
    private(set) var indexEnd = 0
    /// Of each token in the token table.
    private(set) var tokenOffsets: [Int] = []
    private(set) var tokenLengths: [Int] = []
    /// The offset of the number of symbols.
    private(set) var countOffset = 0
    private(set) var count = 0
    private(set) var names = 0

    /// Finds the tables. Fails where there are none.
    init(searching bytes: [UInt8], is64Bit: Bool, name: String) throws {
        self.bytes = bytes
        word = is64Bit ? 8 : 4
        alignment = word
        let digits: [UInt8] = "0123456789".utf8.flatMap { [$0, UInt8(0)] }
        var start = 0
        while let hit = bytes.firstOffset(of: digits, from: start) {
            start = hit + 1
            for candidate in Set([word, 4]).sorted(by: >) {
                alignment = candidate
                if findTokens(digits: hit) && findNames() { return }
            }
        }
        throw Failure(
            "no symbol tables in the kernel image '\(name)': it was built without CONFIG_KALLSYMS, or they have an unknown form",
            hint: KernelImage.hintForSystemMap)
    }

    private func align(_ offset: Int) -> Int { (offset + alignment - 1) / alignment * alignment }

    /// Reads the tokens from that of the digit 0 to the last, then the index behind them, which says where the first is.
    private mutating func findTokens(digits: Int) -> Bool {
        var end = digits
        for _ in 0x30..<256 {
            guard let next = bytes[end..<min(bytes.count, end + 1024)].firstIndex(of: 0) else { return false }
            end = next + 1
        }
        let index = align(end)
        guard index + 512 <= bytes.count else { return false }
        let offsets = (0..<256).map { Int(bytes.load(UInt16.self, at: index + $0 * 2) ?? 0) }
        let table = digits - offsets[0x30]
        guard table >= 0, offsets[0] == 0 else { return false }
        var lengths: [Int] = []
        for token in 0..<256 {
            let next = token == 255 ? end - table : offsets[token + 1]
            guard next > offsets[token], table + next <= end, bytes[table + next - 1] == 0 else {
                return false
            }
            lengths.append(next - 1 - offsets[token])
        }
        (tokenTable, indexEnd, tokenOffsets, tokenLengths) = (table, index + 512, offsets, lengths)
        return true
    }

    /// Searches backwards from the token table for the number of symbols, behind which the names begin.
    private mutating func findNames() -> Bool {
        let longest = 64 << 20
        let kinds = Set("aAbBcCdDgGiInNpPrRsStTuUvVwW?-".utf8)
        let beginsName = (0..<256).map {
            tokenLengths[$0] > 0 && kinds.contains(bytes[tokenTable + tokenOffsets[$0]])
        }
        var place = tokenTable / alignment * alignment - alignment
        while place >= max(0, tokenTable - longest) {
            if let value = bytes.load(UInt32.self, at: place), value > 256,
                Int(value) <= (tokenTable - place) / 2,
                namesEndAtTokens(first: align(place + 4), count: Int(value), beginsName)
            {
                (countOffset, count, names) = (place, Int(value), align(place + 4))
                return true
            }
            place -= alignment
        }
        return false
    }

    /// Whether `count` names from `first` on are followed by their markers and, but for the sequence numbers that
    /// some versions have, by the token table.
    private func namesEndAtTokens(first: Int, count: Int, _ beginsName: [Bool]) -> Bool {
        bytes.withUnsafeBufferPointer { all in
            var markers: [UInt32] = []
            var place = first
            for number in 0..<count {
                if number & 255 == 0 { markers.append(UInt32(truncatingIfNeeded: place - first)) }
                guard place + 2 < tokenTable else { return false }
                var length = Int(all[place])
                place += 1
                if length & 0x80 != 0 {
                    length = length & 0x7f | Int(all[place]) << 7
                    place += 1
                }
                guard length > 0, place + length <= tokenTable, beginsName[Int(all[place])] else {
                    return false
                }
                place += length
            }
            place = align(place)
            for marker in markers {
                guard bytes.load(UInt32.self, at: place) == marker else { return false }
                place += 4
            }
            place = align(place)
            return place == tokenTable || align(place + 3 * count) == tokenTable
        }
    }
}

extension KallsymsTables {
    /// The names in the order of the tables, each with its kind. The walk cannot leave the tables: `findNames` has
    /// walked it before.
    func decodeNames() -> [(kind: UInt8, name: String)] {
        var result: [(kind: UInt8, name: String)] = []
        result.reserveCapacity(count)
        let longest = 0x3fff * (tokenLengths.max() ?? 0)
        withUnsafeTemporaryAllocation(of: UInt8.self, capacity: longest + 1) { buffer in
            bytes.withUnsafeBufferPointer { all in
                var place = names
                for _ in 0..<count {
                    var length = Int(all[place])
                    place += 1
                    if length & 0x80 != 0 {
                        length = length & 0x7f | Int(all[place]) << 7
                        place += 1
                    }
                    var filled = 0
                    for token in all[place..<place + length] {
                        let start = tokenTable + tokenOffsets[Int(token)]
                        for offset in 0..<tokenLengths[Int(token)] {
                            buffer[filled] = all[start + offset]
                            filled += 1
                        }
                    }
                    place += length
                    let name = UnsafeBufferPointer(rebasing: UnsafeBufferPointer(buffer)[1..<max(1, filled)])
                    result.append((buffer[0], String(decoding: name, as: UTF8.self)))
                }
            }
        }
        return result
    }

    /// The addresses in the order of the tables. Five encodings are known; which one it is shows in the result, which
    /// must ascend and lead into the image: encodings of one layout contradict each other in that.
    func decodeAddresses(_ isMapped: (UInt64) -> Bool, addressOf: (Int) -> UInt64?) -> [UInt64]? {
        let offsetsSize = (4 * count + word - 1) / word * word
        // Behind the token index (6.4 and later) or before the number of symbols (earlier).
        let places = [align(indexEnd), countOffset - word - offsetsSize]
        for place in places where place >= 0 {
            guard let base = loadWord(place + offsetsSize), isMapped(base) else { continue }
            if let found = ascending(place, isMapped, { base &+ UInt64($0) }) { return found }
            // CONFIG_KALLSYMS_ABSOLUTE_PERCPU: positive values are absolute, negative ones count down from the base.
            let percpu: (UInt32) -> UInt64 = {
                Int32(bitPattern: $0) >= 0 ? UInt64($0) : base &+ UInt64(~$0)
            }
            if let found = ascending(place, isMapped, percpu) { return found }
        }
        // 7.0 and later: relative to the place of the value itself; plain values where the kernel cannot be relocated.
        let place = (indexEnd + 3) / 4 * 4
        if var own = addressOf(place) {
            let mask = word == 8 ? UInt64.max : UInt64(UInt32.max)
            let relative: (UInt32) -> UInt64 = {
                defer { own &+= 4 }
                return (own &+ UInt64(bitPattern: Int64(Int32(bitPattern: $0)))) & mask
            }
            if let found = ascending(place, isMapped, relative) { return found }
        }
        if word == 4, let found = ascending(place, isMapped, { UInt64($0) }) { return found }
        return plainAddresses(isMapped)
    }

    /// Full addresses before the number of symbols: without CONFIG_KALLSYMS_BASE_RELATIVE.
    private func plainAddresses(_ isMapped: (UInt64) -> Bool) -> [UInt64]? {
        let start = countOffset - (word * count + word - 1) / word * word
        guard start >= 0 else { return nil }
        var result: [UInt64] = []
        for index in 0..<count {
            guard let value = loadWord(start + index * word), value >= result.last ?? 0 else { return nil }
            result.append(value)
        }
        return isMapped(result[count / 2]) ? result : nil
    }

    private func ascending(_ place: Int, _ isMapped: (UInt64) -> Bool, _ value: (UInt32) -> UInt64)
        -> [UInt64]?
    {
        guard place >= 0, place + 4 * count <= bytes.count else { return nil }
        var result: [UInt64] = []
        result.reserveCapacity(count)
        var last: UInt64 = 0
        for index in 0..<count {
            let address = value(bytes.load(UInt32.self, at: place + 4 * index) ?? 0)
            guard address >= last else { return nil }
            result.append(address)
            last = address
        }
        return isMapped(result[count / 2]) ? result : nil
    }

    private func loadWord(_ offset: Int) -> UInt64? {
        word == 8
            ? bytes.load(UInt64.self, at: offset) : bytes.load(UInt32.self, at: offset).map { UInt64($0) }
    }
}

extension KernelImage {
    /// The way out where the tables cannot be read. The importer knows the case by it.
    static let hintForSystemMap = "give the kernel's System.map as well"

    /// The symbols in the image's own compressed tables, at their link addresses.
    ///
    /// Fails where there are none (`CONFIG_KALLSYMS` is off), and where their addresses contradict the image.
    public func symbols() throws -> KernelSymbols {
        let tables = try KallsymsTables(searching: bytes, is64Bit: is64Bit, name: name)
        guard let addresses = tables.decodeAddresses(contains, addressOf: address(ofFileOffset:)) else {
            throw Failure(
                "cannot read the symbol tables of the kernel image '\(name)': the addresses have an unknown form",
                hint: Self.hintForSystemMap)
        }
        let symbols = KernelSymbols(
            zip(tables.decodeNames(), addresses).map {
                KernelSymbol(address: $1, kind: $0.kind, name: $0.name)
            })
        // What every x86 kernel has: the start of its text, which is where its first executable segment begins.
        guard let start = symbols.unique("_text") ?? symbols.unique("_stext"), contains(start),
            segments.contains(where: {
                $0.isExecutable && start >= $0.address && start - $0.address < 1 << 21
            })
        else {
            throw malformedImage(name, "its symbol tables do not name the start of its text")
        }
        return symbols
    }
}
