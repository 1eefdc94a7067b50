// The two x86 architectures, and what differs between them besides the instructions: widths, names, and where a kernel
// has its things. Whoever needs to know asks here, so that nobody else has to ask which of the two it is.

import Glibc

/// An x86 architecture.
public enum X86Architecture: Sendable, CaseIterable {
    case i686
    case amd64

    /// By the name of `uname -m`, which kernel descriptors have; nil for other machines.
    public init?(arch: String) {
        guard let found = Self.allCases.first(where: { $0.name == arch }) else { return nil }
        self = found
    }

    /// By the `e_machine` of an object; nil for other machines.
    public init?(machine: UInt16) {
        guard let found = Self.allCases.first(where: { $0.machine == machine }) else { return nil }
        self = found
    }

    public var is64Bit: Bool { self == .amd64 }

    /// As `uname -m` says it.
    public var name: String { is64Bit ? "x86_64" : "i686" }

    /// The `e_machine` of objects.
    public var machine: UInt16 { UInt16(is64Bit ? EM_X86_64 : EM_386) }

    /// Of an address, in bytes.
    public var wordSize: Int { is64Bit ? 8 : 4 }

    /// What `ld -m` calls it.
    public var linkerEmulation: String { is64Bit ? "elf_x86_64" : "elf_i386" }

    /// Where modules live: a module's sections may stand anywhere from the first address to below the last. On 32-bit x86 they
    /// are anywhere in vmalloc space, which begins behind the memory that is mapped.
    public var moduleSpace: Range<UInt64> {
        is64Bit ? 0xffff_ffff_c000_0000..<0xffff_ffff_ff00_0000 : 0xe000_0000..<0xffff_f000
    }

    /// What numbers in code must reach to be taken for addresses of the kernel. (With VMSPLIT_3G, the usual split, a 32-bit
    /// kernel begins at 0xc0000000, with others lower.)
    var firstKernelAddress: UInt64 { is64Bit ? 0xffff_ffff_8000_0000 : 0xb000_0000 }

    /// The segment through which per-CPU variables are reached, as instructions show it.
    var perCPUSegment: String { is64Bit ? "%gs:" : "%fs:" }

    /// A field that is as wide as an address and holds one.
    public var pointer: X86Relocation { is64Bit ? .absolute64 : .i386Absolute32 }

    /// A field of 32 bits that holds a distance from itself.
    public var pc32: X86Relocation { is64Bit ? .pc32 : .i386PC32 }

    /// The no-operations that a kernel's text may hold.
    var nops: X86Nops { is64Bit ? .bits64 : .bits32 }

    /// Whether calls of static calls are rewritten where they stand, and not only their trampolines
    /// (`CONFIG_HAVE_STATIC_CALL_INLINE`, which needs objtool, which does not know 32-bit code).
    var rewritesStaticCalls: Bool { is64Bit }

    /// An empty relocatable object.
    public func emptyObject() -> ObjectFile {
        ObjectFile(machine: machine, is64Bit: is64Bit, type: UInt16(ET_REL))
    }
}

extension ObjectFile {
    /// Objects are of one of the two; others are refused where they are compared (`Matcher`).
    public var architecture: X86Architecture { is64Bit ? .amd64 : .i686 }
}
