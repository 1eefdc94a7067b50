// The sizes and places by which the two classes of ELF differ, for those who write or edit files themselves. (System V ABI:
// Elf32_Ehdr, Elf64_Ehdr, ...) 32-bit x86 has relocations without addends, x86-64 with them.

/// The form of a relocatable file of one class.
struct ELFForm: Sendable {
    let is64Bit: Bool

    /// Of an address, and of what is as wide, in bytes.
    var word: Int { is64Bit ? 8 : 4 }
    /// Whether relocations have their addends beside them.
    var isRela: Bool { is64Bit }
    /// The size of the file's header.
    var header: Int { is64Bit ? 64 : 52 }
    /// The size of a section header.
    var section: Int { is64Bit ? 64 : 40 }
    /// The size of a symbol.
    var symbol: Int { is64Bit ? 24 : 16 }
    /// The size of a relocation.
    var relocation: Int { is64Bit ? 24 : 8 }

    // Places in the file's header.
    var sectionTable: Int { is64Bit ? 40 : 32 }
    var sectionSize: Int { is64Bit ? 58 : 46 }
    var sectionCount: Int { is64Bit ? 60 : 48 }
    var sectionNames: Int { is64Bit ? 62 : 50 }

    // Places in a section header; name and type are the first two fields of 4 bytes.
    var flags: Int { 8 }
    var offset: Int { is64Bit ? 24 : 16 }
    var size: Int { is64Bit ? 32 : 20 }
    var link: Int { is64Bit ? 40 : 24 }
    var info: Int { is64Bit ? 44 : 28 }

    // Places in a symbol; its name comes first.
    var symbolInfo: Int { is64Bit ? 4 : 12 }
    var symbolSection: Int { is64Bit ? 6 : 14 }
    var symbolValue: Int { is64Bit ? 8 : 4 }

    /// `r_info`.
    func information(symbol: Int, type: UInt32) -> UInt64 {
        is64Bit
            ? UInt64(symbol) << 32 | UInt64(type)
            : UInt64(symbol) << 8 | UInt64(InPlaceAddends.rawType(type) & 0xff)
    }

    /// Symbol and type of an `r_info`.
    func parts(ofInformation info: UInt64, machine: UInt16) -> (symbol: Int, type: UInt32) {
        is64Bit
            ? (Int(info >> 32), UInt32(truncatingIfNeeded: info))
            : (Int(info >> 8), InPlaceAddends.type(UInt32(info & 0xff), machine: machine))
    }

    /// What is as wide as an address; nil where the bytes end before.
    func word(_ bytes: [UInt8], at offset: Int) -> UInt64? {
        is64Bit
            ? bytes.load(UInt64.self, at: offset)
            : bytes.load(UInt32.self, at: offset).map { UInt64($0) }
    }

    /// Writes what is as wide as an address.
    func store(_ value: UInt64, to bytes: inout [UInt8], at offset: Int) {
        if is64Bit {
            bytes.store(value, at: offset)
        } else {
            bytes.store(UInt32(truncatingIfNeeded: value), at: offset)
        }
    }
}
