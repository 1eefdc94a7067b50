// A relocatable object as values: what pre, post and the update module are made of. Reading and writing the
// ELF format are in ELFReader.swift and ELFWriter.swift; nothing else knows the format's bytes.
//
// Sections and symbols are arrays whose indices are those of the file, so that a reference is a number.
// Unknown types and flags survive: they are kept as the numbers of the format, named by constants below.

/// One relocatable (or linked) ELF object.
public struct ObjectFile: Sendable {
    /// `EM_X86_64` or `EM_386`.
    public var machine: UInt16
    public var is64Bit: Bool
    /// `ET_REL` for objects and modules, `ET_EXEC` or `ET_DYN` for images.
    public var type: UInt16
    /// Index 0 is the null section.
    public var sections: [Section]
    /// Index 0 is the null symbol.
    public var symbols: [Symbol]

    public init(machine: UInt16, is64Bit: Bool, type: UInt16) {
        self.machine = machine
        self.is64Bit = is64Bit
        self.type = type
        self.sections = [Section(name: "", type: SectionType.null)]
        self.symbols = [Symbol(name: "")]
    }

    public func section(named name: String) -> Int? {
        sections.firstIndex { $0.name == name }
    }
}

/// A section with the relocations that apply to it. Relocation, symbol and string table sections are not kept as
/// sections of their own: their place in `sections` holds a section of type null.
public struct Section: Sendable {
    public var name: String
    public var type: UInt32
    public var flags: UInt64
    /// The address in a linked object, else 0.
    public var address: UInt64 = 0
    public var alignment: UInt64
    public var entrySize: UInt64
    public var info: UInt32 = 0
    public var link: UInt32 = 0
    /// Empty for sections without content (`SectionType.noBits`).
    public var contents: [UInt8]
    /// In bytes; equal to `contents.count` except without content.
    public var size: Int
    /// In the order of their offsets.
    public var relocations: [Relocation] = []

    public init(
        name: String, type: UInt32, flags: UInt64 = 0, alignment: UInt64 = 1, entrySize: UInt64 = 0,
        contents: [UInt8] = []
    ) {
        self.name = name
        self.type = type
        self.flags = flags
        self.alignment = alignment
        self.entrySize = entrySize
        self.contents = contents
        self.size = contents.count
    }

    public var isAllocated: Bool { flags & SectionFlags.alloc != 0 }
    public var isExecutable: Bool { flags & SectionFlags.exec != 0 }
    public var isWritable: Bool { flags & SectionFlags.write != 0 }
    public var isMergeableStrings: Bool {
        flags & (SectionFlags.merge | SectionFlags.strings) == SectionFlags.merge | SectionFlags.strings
    }
    public var hasContents: Bool { type != SectionType.noBits }

    /// The relocations whose fields begin in a range of offsets, found by bisection.
    public func relocations(in range: Range<Int>) -> ArraySlice<Relocation> {
        relocations[lowerBound(range.lowerBound)..<lowerBound(range.upperBound)]
    }

    private func lowerBound(_ offset: Int) -> Int {
        var low = 0
        var high = relocations.count
        while low < high {
            let middle = (low + high) / 2
            if relocations[middle].offset < offset { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

public struct Symbol: Sendable {
    public var name: String
    /// The offset in its section; the address in a linked object.
    public var value: UInt64 = 0
    public var size: UInt64 = 0
    /// `SymbolBinding`
    public var binding: UInt8 = 0
    /// `SymbolType`
    public var type: UInt8 = 0
    /// `st_other`: visibility.
    public var other: UInt8 = 0
    /// An index into `sections`, or one of `SectionIndex`.
    public var section: Int = 0

    public init(
        name: String, value: UInt64 = 0, size: UInt64 = 0, binding: UInt8 = 0, type: UInt8 = 0,
        section: Int = 0
    ) {
        self.name = name
        self.value = value
        self.size = size
        self.binding = binding
        self.type = type
        self.section = section
    }

    public var isUndefined: Bool { section == SectionIndex.undefined }
    /// Whether it stands in a section of the object (not undefined, absolute or common).
    public var isDefinedInSection: Bool { section > 0 && section < SectionIndex.reservedLow }
    public var isSectionSymbol: Bool { type == SymbolType.section }
    public var isFunction: Bool { type == SymbolType.function }
    public var isLocal: Bool { binding == SymbolBinding.local }
    public var isWeak: Bool { binding == SymbolBinding.weak }
}

public struct Relocation: Sendable, Equatable {
    /// Of the field in its section, in bytes.
    public var offset: Int
    /// The number of the machine's ABI (`R_X86_64_PC32`, ...); those of 32-bit x86 are marked, so that a number says by itself
    /// what it is (`InPlaceAddends`).
    public var type: UInt32
    /// An index into `ObjectFile.symbols`.
    public var symbol: Int
    /// From the relocation entry, or taken out of the field where the format keeps it there (32-bit x86). The field is zero.
    public var addend: Int64

    public init(offset: Int, type: UInt32, symbol: Int, addend: Int64) {
        self.offset = offset
        self.type = type
        self.symbol = symbol
        self.addend = addend
    }
}

/// `sh_type` of the System V ABI.
public enum SectionType {
    public static let null: UInt32 = 0
    public static let progBits: UInt32 = 1
    public static let symbolTable: UInt32 = 2
    public static let stringTable: UInt32 = 3
    public static let rela: UInt32 = 4
    public static let note: UInt32 = 7
    public static let noBits: UInt32 = 8
    public static let rel: UInt32 = 9
    public static let group: UInt32 = 17
    public static let symbolTableIndices: UInt32 = 18
}

/// `sh_flags` of the System V ABI.
public enum SectionFlags {
    public static let write: UInt64 = 1
    public static let alloc: UInt64 = 2
    public static let exec: UInt64 = 4
    public static let merge: UInt64 = 0x10
    public static let strings: UInt64 = 0x20
    public static let infoLink: UInt64 = 0x40
}

public enum SymbolBinding {
    public static let local: UInt8 = 0
    public static let global: UInt8 = 1
    public static let weak: UInt8 = 2
}

public enum SymbolType {
    public static let none: UInt8 = 0
    public static let object: UInt8 = 1
    public static let function: UInt8 = 2
    public static let section: UInt8 = 3
    public static let file: UInt8 = 4
}

public enum SectionIndex {
    public static let undefined = 0
    public static let reservedLow = 0xff00
    public static let absolute = 0xfff1
    public static let common = 0xfff2
}
