// Patch sites: the places of an object's code that the kernel itself rewrites, at boot or while it runs. They are
// found in an object as the compiler and the assembler left it (objtool has not run): in the tables that inline
// assembly fills, and in the relocations to the thunks and trampolines that the kernel replaces by name.
//
// What memory may hold at a site follows from the site's meaning (PatchVariants.swift), never from a wildcard. The
// facts are those of arch/x86/kernel/{alternative,paravirt,jump_label,static_call,ftrace}.c of Linux 6.1.

/// One place that the kernel may rewrite.
public struct PatchSite: Sendable, Equatable {
    public enum Kind: Sendable, Equatable {
        /// Instructions that may be replaced by any of these.
        case alternative([CodeRange])
        /// An indirect call through `pv_ops` at this offset in bytes.
        case paravirt(slot: Int)
        /// A call or jump to the thunk for a register (its number in the instruction set).
        case retpoline(register: UInt8)
        case returnThunk
        /// A nop or a jump to this place.
        case jumpLabel(section: Int, offset: Int)
        /// A call or jump to the trampoline of a static call of this name (without `__SCT__`).
        case staticCall(String)
        /// The trampoline itself.
        case trampoline(String)
        case fentry
        case endbr
        /// An instruction whose last `width` bytes are the value of a variable of this name, which the kernel writes when it
        /// boots (`runtime_const_init`, since Linux 6.11).
        case runtimeConstant(String, width: Int)
    }

    /// In its section, in bytes.
    public let offset: Int
    public let length: Int
    public let kind: Kind
    /// Sites inside the original instructions of an alternative.
    public var inner: [PatchSite] = []

    public var range: Range<Int> { offset..<offset + length }

    /// Whether the kernel may rewrite the site again after it has booted.
    public var changesAtRunTime: Bool {
        switch kind {
        case .jumpLabel, .staticCall, .trampoline, .fentry: true
        case .alternative, .paravirt, .retpoline, .returnThunk, .endbr, .runtimeConstant: false
        }
    }

    /// The words for messages.
    public var title: String {
        switch kind {
        case .alternative: "alternative"
        case .paravirt: "paravirtual call"
        case .retpoline: "retpoline"
        case .returnThunk: "return thunk"
        case .jumpLabel: "jump label"
        case .staticCall(let name): "static call of \(name)"
        case .trampoline(let name): "static call trampoline of \(name)"
        case .fentry: "fentry site"
        case .endbr: "endbr64"
        case .runtimeConstant(let name, _): "runtime constant \(name)"
        }
    }
}

/// A piece of a section.
public struct CodeRange: Sendable, Equatable {
    public let section: Int
    public let offset: Int
    public let length: Int
    public var range: Range<Int> { offset..<offset + length }
}

/// The patch sites of one object.
public struct PatchSites: Sendable {
    /// By section index, sorted by offset; no two of a section overlap.
    public private(set) var sites: [Int: [PatchSite]] = [:]
    /// Offsets of lock prefixes by section index, sorted.
    public private(set) var locks: [Int: [Int]] = [:]

    /// Finds the sites of an object. `tables` gives the entry size of each table section in bytes. Fails on a table
    /// whose size is missing or not understood, on entries that point outside of code, and on sites that overlap.
    public init(of object: ObjectFile, tables: [String: Int]) throws {
        var finder = PatchSiteFinder(object: object, tables: tables)
        try finder.run()
        locks = finder.locks.mapValues { Array(Set($0)).sorted() }
        for (section, found) in finder.sites {
            do {
                sites[section] = try Self.nest(found)
            } catch let failure as Failure {
                throw Failure("section \(object.sections[section].name): \(failure.message)")
            }
        }
    }

    /// The sites that begin in a range of a section.
    public func sites(in range: Range<Int>, of section: Int) -> ArraySlice<PatchSite> {
        guard let all = sites[section] else { return [] }
        return all[all.lowerBound(range.lowerBound)..<all.lowerBound(range.upperBound)]
    }

    /// The lock prefixes in a range of a section.
    public func locks(in range: Range<Int>, of section: Int) -> [Int] {
        (locks[section] ?? []).filter { range.contains($0) }
    }

    /// Puts sites inside the alternatives that contain them, merges alternatives of one range and drops duplicates.
    private static func nest(_ found: [PatchSite]) throws -> [PatchSite] {
        var result: [PatchSite] = []
        // An alternative comes before whatever else has the same range.
        let ordered = found.enumerated().sorted {
            ($0.element.offset, -$0.element.length, $0.element.rank, $0.offset)
                < ($1.element.offset, -$1.element.length, $1.element.rank, $1.offset)
        }
        for (_, site) in ordered {
            guard let last = result.indices.last, site.offset < result[last].range.upperBound else {
                result.append(site)
                continue
            }
            try insert(site, into: &result[last])
        }
        return result
    }

    private static func insert(_ site: PatchSite, into outer: inout PatchSite) throws {
        if site.range == outer.range {
            if site.kind == outer.kind { return }
            if case .alternative(let more) = site.kind, case .alternative(let known) = outer.kind {
                outer = PatchSite(
                    offset: outer.offset, length: outer.length, kind: .alternative(known + more),
                    inner: outer.inner)
                return
            }
        }
        guard case .alternative = outer.kind, site.range.upperBound <= outer.range.upperBound else {
            throw Failure(
                "the \(site.title) at \(hex(UInt64(site.offset))) overlaps the \(outer.title) at "
                    + hex(UInt64(outer.offset)))
        }
        if let last = outer.inner.indices.last, site.offset < outer.inner[last].range.upperBound {
            try insert(site, into: &outer.inner[last])
        } else {
            outer.inner.append(site)
        }
    }
}

extension PatchSite {
    fileprivate var rank: Int { if case .alternative = kind { 0 } else { 1 } }
}

extension [PatchSite] {
    /// The index of the first site at or behind an offset.
    func lowerBound(_ offset: Int) -> Int {
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) / 2
            if self[middle].offset < offset { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

extension ArraySlice where Element == PatchSite {
    /// Of the sites from the beginning of a function on: where a redirect may stand, behind `endbr64` and the fentry site, as
    /// an offset from the beginning; and whether there is a fentry site.
    func entrySite(from start: Int) -> (offset: Int, hasFentry: Bool) {
        var offset = 0
        var hasFentry = false
        for site in self where site.offset == start + offset {
            switch site.kind {
            case .endbr: offset += site.length
            case .fentry:
                offset += site.length
                hasFentry = true
            default: return (offset, hasFentry)
            }
        }
        return (offset, hasFentry)
    }
}
