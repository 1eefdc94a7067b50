// Jump labels of an update whose key can no longer change. The kernel's module loader links each jump label of a module
// into its key; a key that is write-protected after boot (`__ro_after_init`) makes it fault while it holds its locks,
// on kernels that do not seal such keys. But then the key's state is final, too: the instruction is written as the kernel
// would write it, and the loader is not told of the label.
//
// An entry (include/linux/jump_label.h: struct jump_entry with relative fields): s32 code, s32 target, long key. Bit 0 of the key is the branch that is the default: a label jumps where it differs from the key's state.
// A key begins with a signed 32-bit counter; it is enabled where that is above 0.

extension ModuleResolver {
    private static let table = "__jump_table"
    private var entrySize: Int { 8 + architecture.wordSize }

    /// Settles the labels whose keys no longer change.
    /// - Parameters:
    ///   - address: of an undefined symbol.
    ///   - isFinal: whether the key at an address is write-protected.
    ///   - isEnabled: the state of the key at an address.
    public mutating func settleJumpLabels(
        address: (String) throws -> UInt64?, isFinal: (UInt64) -> Bool,
        isEnabled: (UInt64) throws -> Bool
    ) throws {
        guard editor.headers.contains(where: { $0.name == Self.table }) else { return }
        let table = try editor.section(Self.table)
        let symbols = try editor.symbols()
        let relocations = try editor.relocations().filter { $0.section == table }.map(\.relocation)
        var settled: Set<Int> = []
        for field in relocations where field.offset % entrySize == 8 {
            guard symbols.indices.contains(field.symbol) else {
                throw editor.malformed("a jump label without a key")
            }
            let symbol = symbols[field.symbol]
            guard symbol.section == SectionIndex.undefined else { continue }
            // Whether a key is write-protected must be known: registering a label with such a key is a fault.
            guard let base = try address(symbol.name) else {
                throw Failure(
                    "the static key '\(symbol.name)' that new code tests cannot be found",
                    status: .verificationRefused)
            }
            // The addend holds the key's place in a larger object, and the two lowest bits.
            let key = base &+ UInt64(bitPattern: field.addend & ~3)
            guard isFinal(key) else { continue }
            let jumps = try isEnabled(key) != (field.addend & 1 != 0)
            try write(field.offset - 8, relocations, symbols, jumps: jumps)
            settled.insert(field.offset / entrySize)
        }
        if !settled.isEmpty { try editor.removeEntries(settled, of: table, size: entrySize) }
    }

    /// Writes the instruction of a label: a jump to its target, or a nop of the same length.
    private mutating func write(
        _ entry: Int, _ relocations: [Relocation], _ symbols: [ELFEditor.RawSymbol], jumps: Bool
    ) throws {
        func place(_ offset: Int) throws -> (section: Int, offset: Int) {
            guard let relocation = relocations.first(where: { $0.offset == offset }),
                symbols.indices.contains(relocation.symbol),
                editor.headers.indices.contains(symbols[relocation.symbol].section)
            else { throw editor.malformed("a jump label leads nowhere") }
            let symbol = symbols[relocation.symbol]
            return (
                symbol.section,
                Int(truncatingIfNeeded: Int64(bitPattern: symbol.value) &+ relocation.addend)
            )
        }
        let (code, target) = (try place(entry), try place(entry + 4))
        var content = editor.contents(code.section)
        guard code.section == target.section, code.offset >= 0, code.offset + 5 <= content.count,
            target.offset >= 0, target.offset < content.count
        else { throw editor.malformed("a jump label leads out of its section") }
        let length: Int
        switch (content[code.offset], architecture.nops.length(in: content, at: code.offset)) {
        case (0xeb, _), (_, 2): length = 2
        case (0xe9, _), (_, 5): length = 5
        default: throw editor.malformed("the instruction of a jump label is not understood")
        }
        let distance = target.offset - (code.offset + length)
        let bytes: [UInt8]
        switch (jumps, length) {
        case (false, _): bytes = architecture.nops.kernel[length]
        case (true, 2):
            guard let short = Int8(exactly: distance) else {
                throw editor.malformed("a short jump label is too far from its target")
            }
            bytes = [0xeb, UInt8(bitPattern: short)]
        default:
            var jump: [UInt8] = [0xe9]
            jump.append(littleEndian: UInt32(truncatingIfNeeded: distance))
            bytes = jump
        }
        content.replaceSubrange(code.offset..<code.offset + length, with: bytes)
        editor.replaceContents(code.section, with: content)
    }
}
