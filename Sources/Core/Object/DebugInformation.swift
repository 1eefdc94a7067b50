// What the debug information of an object says, as values: types with their members, functions with what the compiler
// has inlined into them, variables, and the source line of each instruction. DebugReader.swift reads it.
//
// Types and functions refer to each other by their index in the arrays.

/// A line of a source file, by its path in the kernel's tree.
public struct SourceLine: Sendable, Hashable {
    public var file: String
    public var line: Int

    public init(file: String, line: Int) {
        self.file = file
        self.line = line
    }

    public var text: String { "\(file):\(line)" }
}

struct DebugInformation: Sendable {
    /// Paths in the kernel's tree; a generated file's is that in the object tree.
    var files: [String] = []
    var types: [DebugType] = []
    var functions: [DebugFunction] = []
    var variables: [DebugVariable] = []
    /// In the order of their addresses.
    private(set) var lines: [DebugLine] = []
    /// Where each section of the object was put, so that an address means one place.
    private(set) var bases: [UInt64]

    init(bases: [UInt64]) { self.bases = bases }

    /// The same for a copy of the object whose sections have other indices.
    func placed(as object: ObjectFile) -> DebugInformation {
        var copy = self
        copy.bases = Self.bases(of: object)
        return copy
    }

    /// Sections that are part of the running kernel, one behind the other.
    static func bases(of object: ObjectFile) -> [UInt64] {
        var next: UInt64 = 0x1000
        return object.sections.map { section in
            guard section.isAllocated else { return 0 }
            defer { next += (UInt64(section.size) + 31) & ~15 }
            return next
        }
    }

    mutating func setLines(_ rows: [DebugLine]) { lines = rows }
}

/// A place in a source file: index into `DebugInformation.files`.
struct DebugPlace: Sendable, Hashable {
    var file: Int
    var line: Int
}

struct DebugLine: Sendable {
    var address: UInt64
    var place: DebugPlace
    /// Behind the last instruction of a stretch.
    var isEnd: Bool
}

struct DebugType: Sendable {
    enum Kind: Sendable {
        case base, pointer, structure, union, enumeration, alias, array, function, qualifier
        /// Not read yet, or of a kind that C does not have.
        case unknown
    }

    var kind = Kind.unknown
    /// Empty for a type without one.
    var name = ""
    /// In bytes; nil where the type has none of its own.
    var size: Int64?
    /// `DW_ATE_*` of a base type.
    var encoding: Int64 = 0
    /// Known by name only.
    var isDeclaration = false
    /// What it points to, is an array of, another name of, or returns.
    var target: Int?
    /// Members, values or parameters.
    var members: [DebugMember] = []
    /// Elements of an array in each dimension; nil where it is open.
    var counts: [Int64?] = []
    var place: DebugPlace?
    /// The function in whose body it is declared.
    var function: Int?

    var isAggregate: Bool { kind == .structure || kind == .union || kind == .enumeration }
}

struct DebugMember: Sendable {
    var name: String
    /// Bits from the start of the type; for an enumeration the value.
    var position: Int64
    /// Of a bit field.
    var bits: Int64?
    var type: Int?
    var place: DebugPlace?
}

struct DebugFunction: Sendable {
    var name = ""
    var place: DebugPlace?
    var isDeclaration = false
    /// Of its code; empty for what exists only inlined.
    var ranges: [Range<UInt64>] = []
    /// The function of which this is the code.
    var origin: Int?
    /// Types of its result, parameters and variables, and of those of what is inlined into it.
    var types: Set<Int> = []
    /// The calls that the compiler has replaced by the callee's code, callers before callees.
    var inlined: [DebugInline] = []
}

struct DebugInline: Sendable {
    /// The callee.
    var function: Int
    /// The caller where it is itself inlined: index into the same array.
    var parent: Int?
    var ranges: [Range<UInt64>]
    /// Of the call.
    var call: DebugPlace?
}

struct DebugVariable: Sendable {
    var name: String
    var type: Int?
    var place: DebugPlace?
    /// The function in whose body it is declared.
    var function: Int?
    /// Nil for what lives on the stack, in a register, or elsewhere.
    var address: UInt64?
}

extension DebugInformation {
    func address(section: Int, offset: Int) -> UInt64 { bases[section] + UInt64(offset) }

    func source(_ place: DebugPlace?) -> SourceLine? {
        guard let place, files.indices.contains(place.file), place.line > 0 else { return nil }
        return SourceLine(file: files[place.file], line: place.line)
    }

    /// The line that an instruction was made from.
    func line(at address: UInt64) -> DebugPlace? {
        var low = 0
        var high = lines.count
        while low < high {
            let middle = (low + high) / 2
            if lines[middle].address <= address { low = middle + 1 } else { high = middle }
        }
        guard low > 0, !lines[low - 1].isEnd else { return nil }
        return lines[low - 1].place
    }

    /// The rows of the line table in a range of addresses.
    func lines(in range: Range<UInt64>) -> ArraySlice<DebugLine> {
        var low = 0
        var high = lines.count
        while low < high {
            let middle = (low + high) / 2
            if lines[middle].address < range.lowerBound { low = middle + 1 } else { high = middle }
        }
        var end = low
        while end < lines.count, lines[end].address < range.upperBound { end += 1 }
        return lines[low..<end]
    }

    /// The function whose code stands at an address.
    func function(at address: UInt64) -> Int? {
        functions.firstIndex { $0.ranges.contains { $0.contains(address) } }
    }

    /// The function as it was written, of which another one is the code.
    func abstract(_ function: Int) -> Int {
        var index = function
        for _ in 0..<4 {
            guard let origin = functions[index].origin else { break }
            index = origin
        }
        return index
    }

    /// A type without qualifiers and other names.
    func resolved(_ type: Int?) -> Int? {
        var index = type
        for _ in 0..<32 {
            guard let current = index, types[current].kind == .qualifier || types[current].kind == .alias
            else {
                return index
            }
            index = types[current].target
        }
        return index
    }

    /// In bytes; nil for what has no size (void, an open array, an incomplete type).
    func size(of type: Int?) -> Int64? {
        guard let index = resolved(type) else { return nil }
        let type = types[index]
        guard type.kind == .array else { return type.isDeclaration ? nil : type.size }
        guard let element = size(of: type.target) else { return nil }
        return type.counts.reduce(element) { total, count in total.flatMap { t in count.map { t * $0 } } }
    }
}
