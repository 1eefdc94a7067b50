// The relocations of x86 objects: how wide the field is, whether it counts from its own place, and how the
// processor or the kernel extends it. Numbers and meanings are those of the System V psABIs for AMD64 and i386; the numbers
// of 32-bit x86 are marked (`InPlaceAddends`), so that no reader needs to know the machine. GOT and TLS kinds do not occur in
// kernel objects and are not understood: a reader of this table names them and stops.

/// What one relocation type does to its field.
public struct X86Relocation: Sendable, Equatable {
    /// The number, as `Relocation` has it.
    public let type: UInt32
    public let name: String
    /// Of the field, in bytes: 1, 2, 4 or 8.
    public let width: Int
    /// Whether the field holds the distance from its own address.
    public let isRelative: Bool
    /// Whether the field is sign-extended to 64 bits; otherwise it is zero-extended.
    public let isSigned: Bool
    /// Whether it is one of 32-bit x86: the file has the addend in the field, and addresses have 32 bits.
    public var isInPlace: Bool { type & InPlaceAddends.mark != 0 }

    public static let absolute64 = X86Relocation(
        type: 1, name: "R_X86_64_64", width: 8, isRelative: false, isSigned: false)
    public static let pc32 = X86Relocation(
        type: 2, name: "R_X86_64_PC32", width: 4, isRelative: true, isSigned: true)
    public static let plt32 = X86Relocation(
        type: 4, name: "R_X86_64_PLT32", width: 4, isRelative: true, isSigned: true)
    public static let absolute32 = X86Relocation(
        type: 10, name: "R_X86_64_32", width: 4, isRelative: false, isSigned: false)
    public static let absolute32Signed = X86Relocation(
        type: 11, name: "R_X86_64_32S", width: 4, isRelative: false, isSigned: true)

    public static let i386Absolute32 = i386(1, "R_386_32", width: 4)
    public static let i386PC32 = i386(2, "R_386_PC32", width: 4, isRelative: true)
    public static let i386PLT32 = i386(4, "R_386_PLT32", width: 4, isRelative: true)

    private static func i386(_ number: UInt32, _ name: String, width: Int, isRelative: Bool = false)
        -> X86Relocation
    {
        X86Relocation(
            type: InPlaceAddends.mark | number, name: name, width: width, isRelative: isRelative,
            isSigned: isRelative)
    }

    /// The whole table.
    public static let all: [X86Relocation] = [
        absolute64, pc32, plt32, absolute32, absolute32Signed, i386Absolute32, i386PC32, i386PLT32,
        i386(20, "R_386_16", width: 2), i386(21, "R_386_PC16", width: 2, isRelative: true),
        i386(22, "R_386_8", width: 1), i386(23, "R_386_PC8", width: 1, isRelative: true),
        X86Relocation(type: 12, name: "R_X86_64_16", width: 2, isRelative: false, isSigned: false),
        X86Relocation(type: 13, name: "R_X86_64_PC16", width: 2, isRelative: true, isSigned: true),
        X86Relocation(type: 14, name: "R_X86_64_8", width: 1, isRelative: false, isSigned: false),
        X86Relocation(type: 15, name: "R_X86_64_PC8", width: 1, isRelative: true, isSigned: true),
        X86Relocation(type: 24, name: "R_X86_64_PC64", width: 8, isRelative: true, isSigned: true),
    ]

    /// The relocation of a type number; nil where the table does not know it.
    public static func of(_ type: UInt32) -> X86Relocation? {
        switch type {
        case 1: absolute64
        case 2: pc32
        case 4: plt32
        case 11: absolute32Signed
        default: all.first { $0.type == type }
        }
    }

    /// The number of a type as its ABI has it, for messages.
    public static func number(_ type: UInt32) -> UInt32 { InPlaceAddends.rawType(type) }

    /// Whether a type is a relative field of 32 bits, as calls and jumps have.
    public static func isPC32(_ type: UInt32) -> Bool {
        type == pc32.type || type == i386PC32.type || isPLT32(type)
    }

    /// Whether a type is that of a call or jump, and of nothing else.
    public static func isPLT32(_ type: UInt32) -> Bool { type == plt32.type || type == i386PLT32.type }

    /// Whether a type's field holds an address: a pointer, or an operand of code.
    public static func isAddress(_ type: UInt32) -> Bool {
        [absolute64, absolute32, absolute32Signed, i386Absolute32].contains { $0.type == type }
    }

    /// What the field holds, extended to 64 bits; nil where the bytes end before the field does.
    public func field(in bytes: [UInt8], at offset: Int) -> UInt64? {
        switch (width, isSigned) {
        case (8, _): bytes.load(UInt64.self, at: offset)
        case (4, true): bytes.load(Int32.self, at: offset).map { UInt64(bitPattern: Int64($0)) }
        case (4, false): bytes.load(UInt32.self, at: offset).map { UInt64($0) }
        case (2, true): bytes.load(Int16.self, at: offset).map { UInt64(bitPattern: Int64($0)) }
        case (2, false): bytes.load(UInt16.self, at: offset).map { UInt64($0) }
        case (1, true): bytes.load(Int8.self, at: offset).map { UInt64(bitPattern: Int64($0)) }
        default: bytes.load(UInt8.self, at: offset).map { UInt64($0) }
        }
    }

    /// The value of the symbol that a linked field was computed from: field - addend, + place where it is relative.
    /// The arithmetic is modulo 2^64, on 32-bit x86 modulo 2^32, as the linker's is.
    public func symbolValue(field: UInt64, addend: Int64, place: UInt64) -> UInt64 {
        let value = field &- UInt64(bitPattern: addend) &+ (isRelative ? place : 0)
        return isInPlace ? value & 0xffff_ffff : value
    }

    /// What the field would hold for a symbol's value, extended to 64 bits; nil where it does not fit.
    public func fieldValue(symbol: UInt64, addend: Int64, place: UInt64) -> UInt64? {
        var value = symbol &+ UInt64(bitPattern: addend) &- (isRelative ? place : 0)
        if isInPlace {
            // Everything can be reached; the upper half of the result has no meaning but that of its extension.
            guard symbol >> 32 == 0, place >> 32 == 0 else { return nil }
            let low = UInt32(truncatingIfNeeded: value)
            value = isSigned ? UInt64(bitPattern: Int64(Int32(bitPattern: low))) : UInt64(low)
        }
        return fits(value) ? value : nil
    }

    /// Writes the field. Fails where the value does not fit, naming the type.
    public func apply(
        to bytes: inout [UInt8], at offset: Int, symbol: UInt64, addend: Int64, place: UInt64
    ) throws {
        guard offset >= 0, offset <= bytes.count - width else {
            throw Failure("\(name) at offset \(offset) lies outside of its section")
        }
        guard let value = fieldValue(symbol: symbol, addend: addend, place: place) else {
            throw Failure("\(name) at \(hex(place)) cannot reach \(hex(symbol))")
        }
        switch width {
        case 8: bytes.store(value, at: offset)
        case 4: bytes.store(UInt32(truncatingIfNeeded: value), at: offset)
        case 2: bytes.store(UInt16(truncatingIfNeeded: value), at: offset)
        default: bytes.store(UInt8(truncatingIfNeeded: value), at: offset)
        }
    }

    private func fits(_ value: UInt64) -> Bool {
        if width == 8 { return true }
        let bits = UInt64(width * 8)
        if !isSigned { return value >> bits == 0 }
        let signed = Int64(bitPattern: value)
        let limit = Int64(1) << Int64(bits - 1)
        return signed >= -limit && signed < limit
    }
}
