// Instructions as far as matching needs them: their length and text (libopcodes), and which of them are relative
// branches. Everything else is compared as bytes.

import CShims

/// One decoded instruction.
public struct X86Instruction: Sendable, Equatable {
    /// In bytes.
    public let length: Int
    /// AT&T syntax, as objdump prints it.
    public let text: String

    /// Decodes the instruction at `offset`; nil where the bytes are no valid instruction.
    public init?(_ bytes: [UInt8], at offset: Int, address: UInt64 = 0, is64Bit: Bool) {
        guard offset >= 0, offset < bytes.count else { return nil }
        var text = [CChar](repeating: 0, count: 256)
        let length = bytes.withUnsafeBufferPointer {
            ks_disassemble(
                $0.baseAddress! + offset, min(16, bytes.count - offset), address, is64Bit ? 64 : 32, &text,
                text.count)
        }
        guard length > 0, offset + Int(length) <= bytes.count else { return nil }
        self.length = Int(length)
        let end = text.firstIndex(of: 0) ?? text.count
        self.text = String(decoding: text[..<end].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        // What libopcodes says of an instruction that the bytes do not hold completely.
        if self.text.hasPrefix(".byte") { return nil }
    }

    /// The offsets at which the instructions of a range begin, and the range's end. Decoding stops at the first
    /// bytes that are no instruction.
    public static func boundaries(of bytes: [UInt8], in range: Range<Int>, is64Bit: Bool) -> [Int] {
        var found: [Int] = []
        var offset = range.lowerBound
        while offset < range.upperBound {
            found.append(offset)
            guard let instruction = X86Instruction(bytes, at: offset, is64Bit: is64Bit) else { return found }
            offset += instruction.length
        }
        found.append(offset)
        return found
    }

    /// The instruction of a range that covers an offset, decoded from the start of the range.
    public static func covering(_ offset: Int, of bytes: [UInt8], from start: Int, is64Bit: Bool) -> (
        start: Int, text: String
    )? {
        var place = start
        while place <= offset {
            let here = X86Instruction(bytes, at: place, address: UInt64(place - start), is64Bit: is64Bit)
            guard let here else { return nil }
            if offset < place + here.length { return (place, here.text) }
            place += here.length
        }
        return nil
    }
}

/// A relative branch: what it does, and where its displacement stands.
public struct X86Branch: Sendable, Equatable {
    public enum Kind: Sendable, Equatable {
        case jump, call
        /// The condition: the low four bits of the opcode.
        case conditional(UInt8)
        /// `loopne`, `loope`, `loop`, `jrcxz`: their opcode; they have no long form.
        case loop(UInt8)
    }

    public let kind: Kind
    public let length: Int
    /// Of the displacement in the instruction, in bytes.
    public let displacementOffset: Int
    /// 1 or 4 bytes.
    public let width: Int
    public let displacement: Int64

    /// Reads the branch at `offset`; nil where the instruction there is none. Prefixes other than `cs` before a long
    /// form (`-mindirect-branch-cs-prefix`) are not looked through.
    public init?(_ bytes: [UInt8], at offset: Int) {
        guard offset >= 0, offset < bytes.count else { return nil }
        let prefix = bytes[offset] == 0x2e ? 1 : 0
        guard offset + prefix < bytes.count else { return nil }
        let opcode = bytes[offset + prefix]
        let opcodeLength: Int
        switch opcode {
        case 0xe8: (kind, width, opcodeLength) = (.call, 4, 1)
        case 0xe9: (kind, width, opcodeLength) = (.jump, 4, 1)
        case 0xeb where prefix == 0: (kind, width, opcodeLength) = (.jump, 1, 1)
        case 0x70...0x7f where prefix == 0: (kind, width, opcodeLength) = (.conditional(opcode & 15), 1, 1)
        case 0xe0...0xe3 where prefix == 0: (kind, width, opcodeLength) = (.loop(opcode), 1, 1)
        case 0x0f:
            guard offset + prefix + 1 < bytes.count, bytes[offset + prefix + 1] & 0xf0 == 0x80 else {
                return nil
            }
            (kind, width, opcodeLength) = (.conditional(bytes[offset + prefix + 1] & 15), 4, 2)
        default: return nil
        }
        displacementOffset = prefix + opcodeLength
        length = displacementOffset + width
        let value: Int64? =
            width == 1
            ? bytes.load(Int8.self, at: offset + displacementOffset).map { Int64($0) }
            : bytes.load(Int32.self, at: offset + displacementOffset).map { Int64($0) }
        guard let value else { return nil }
        displacement = value
    }

    /// Whether a relocation's field is the displacement of a call or jump, and not an operand that takes an address. The
    /// byte before a PC-relative operand is a ModRM byte of the form `00 reg 101`, which is no opcode of a branch.
    public static func isTarget(of relocation: Relocation, in code: [UInt8]) -> Bool {
        let offset = relocation.offset
        guard X86Relocation.isPC32(relocation.type), offset >= 1,
            offset <= code.count
        else { return false }
        if code[offset - 1] == 0xe8 || code[offset - 1] == 0xe9 { return true }
        return offset >= 2 && code[offset - 1] & 0xf0 == 0x80 && code[offset - 2] == 0x0f
    }
}
