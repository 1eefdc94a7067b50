// 32-bit x86 keeps the addend of a relocation in the field itself (`SHT_REL`), and numbers its relocations anew. Neither is
// to be seen above this layer: a relocation has its addend, its field is zero, and its type says by itself what it is,
// because the numbers of 32-bit x86 are marked. What was read is written back as it was.

import Glibc

/// The relocations of objects for 32-bit x86, between file and model.
enum InPlaceAddends {
    /// Added to the numbers of 32-bit x86 (`R_386_32` is 0x101); those of x86-64 stay as they are. 0 means none in both.
    static let mark: UInt32 = 0x100

    /// The model's number of a type in a file.
    static func type(_ raw: UInt32, machine: UInt16) -> UInt32 {
        machine == UInt16(EM_386) && raw != 0 ? raw | mark : raw
    }

    /// The file's number of a type in the model.
    static func rawType(_ type: UInt32) -> UInt32 { type & ~mark }

    /// The width in bytes of the field of a type; nil for types that are not known. (System V psABI for i386: R_386_32, PC32,
    /// PLT32, then 16, PC16, 8, PC8.)
    static func width(_ type: UInt32) -> Int? {
        switch type {
        case 0: 0
        case mark | 1, mark | 2, mark | 4: 4
        case mark | 20, mark | 21: 2
        case mark | 22, mark | 23: 1
        default: nil
        }
    }

    /// The addend that a field holds; nil where the type is not known or the field lies outside.
    static func read(_ bytes: [UInt8], at offset: Int, type: UInt32) -> Int64? {
        switch width(type) {
        case 0: 0
        case 1: bytes.load(Int8.self, at: offset).map { Int64($0) }
        case 2: bytes.load(Int16.self, at: offset).map { Int64($0) }
        case 4: bytes.load(Int32.self, at: offset).map { Int64($0) }
        default: nil
        }
    }

    /// Puts an addend into its field. False where the type is not known, the field lies outside, or the addend does not fit.
    static func write(_ addend: Int64, to bytes: inout [UInt8], at offset: Int, type: UInt32) -> Bool {
        guard let width = width(type), offset >= 0, offset <= bytes.count - width else { return false }
        switch width {
        case 0: return addend == 0
        case 1:
            guard let value = Int8(exactly: addend) else { return false }
            bytes.store(value, at: offset)
        case 2:
            guard let value = Int16(exactly: addend) else { return false }
            bytes.store(value, at: offset)
        default:
            // Arithmetic is modulo 2^32: an addend is as good as its lower half.
            guard addend >= Int64(Int32.min), addend <= Int64(UInt32.max) else { return false }
            bytes.store(UInt32(truncatingIfNeeded: addend), at: offset)
        }
        return true
    }
}
