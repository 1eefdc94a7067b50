// The no-operations that a kernel's text may hold: what the kernel writes over patch sites (arch/x86/include/asm/nops.h,
// of 6.1: `x86_nops[1...8]`), what older kernels wrote for K8 (0x66 prefixes before 0x90), and what the assembler fills
// alignment gaps with (binutils gas/config/tc-i386.c). Tables, no wildcard: an operand that differs is no nop.

/// The no-operations of 64-bit, or of 32-bit x86.
public struct X86Nops: Sendable {
    /// The form that the kernel writes, by length; index 0 is empty.
    public let kernel: [[UInt8]]
    /// The others that may stand in a kernel's text, longest first, without 0x66 prefixes.
    private let others: [[UInt8]]
    /// Whether a form may have any number of 0x66 prefixes.
    private let takesPrefixes: Bool

    public static let bits64 = X86Nops(
        kernel: [
            [],
            [0x90],
            [0x66, 0x90],
            [0x0f, 0x1f, 0x00],
            [0x0f, 0x1f, 0x40, 0x00],
            [0x0f, 0x1f, 0x44, 0x00, 0x00],
            [0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
            [0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
            [0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
        ], others: [], takesPrefixes: true)

    /// `lea` and `mov` of a register to itself, with a segment prefix that changes nothing.
    public static let bits32 = X86Nops(
        kernel: [
            [],
            [0x90],
            [0x89, 0xf6],
            [0x8d, 0x76, 0x00],
            [0x8d, 0x74, 0x26, 0x00],
            [0x3e, 0x8d, 0x74, 0x26, 0x00],
            [0x8d, 0xb6, 0x00, 0x00, 0x00, 0x00],
            [0x8d, 0xb4, 0x26, 0x00, 0x00, 0x00, 0x00],
            [0x3e, 0x8d, 0xb4, 0x26, 0x00, 0x00, 0x00, 0x00],
        ],
        others: [
            [0x2e, 0x8d, 0xb4, 0x26, 0x00, 0x00, 0x00, 0x00],
            [0x2e, 0x8d, 0x74, 0x26, 0x00],
            [0x66, 0x90],
        ], takesPrefixes: false)

    /// Nops of 64-bit x86 that take prefixes before them: 0x66 before each, and `cs` between the prefixes and the long form.
    private static let prefixed: [[UInt8]] = [
        [0x90],
        [0x0f, 0x1f, 0x44, 0x00, 0x00],
        [0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
        [0x2e, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
    ]

    /// The length of the nop at `offset`; nil where there is none.
    public func length(in bytes: [UInt8], at offset: Int) -> Int? {
        guard offset >= 0, offset < bytes.count else { return nil }
        guard takesPrefixes else {
            return (kernel.reversed() + others).first {
                !$0.isEmpty && Self.starts(bytes, at: offset, with: $0)
            }?.count
        }
        let first = bytes[offset]
        guard first == 0x90 || first == 0x66 || first == 0x0f || first == 0x2e else { return nil }
        if first == 0x0f {
            return kernel.last { !$0.isEmpty && Self.starts(bytes, at: offset, with: $0) }?.count
        }
        // No instruction is longer than 15 bytes.
        var prefixes = 0
        while prefixes < 14, offset + prefixes < bytes.count, bytes[offset + prefixes] == 0x66 {
            prefixes += 1
        }
        guard let form = Self.prefixed.last(where: { Self.starts(bytes, at: offset + prefixes, with: $0) }),
            form.count + prefixes <= 15
        else { return nil }
        return prefixes + form.count
    }

    /// Whether a range holds nops and nothing else, the last one ending where the range ends.
    public func fill(_ range: Range<Int>, of bytes: [UInt8]) -> Bool {
        var offset = range.lowerBound
        while offset < range.upperBound {
            guard let length = length(in: bytes, at: offset) else { return false }
            offset += length
        }
        return offset == range.upperBound
    }

    private static func starts(_ bytes: [UInt8], at offset: Int, with form: [UInt8]) -> Bool {
        guard offset + form.count <= bytes.count else { return false }
        for index in form.indices where bytes[offset + index] != form[index] { return false }
        return true
    }
}
