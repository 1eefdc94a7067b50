// What memory may hold at a patch site, spelled out: bytes, and fields in them with what each must lead to. Whoever
// compares reads the fields by the relocation arithmetic and checks where they lead.
//
// An image that has not booted holds the original bytes, except that objtool has turned jump labels into nops and
// the build may have done so with fentry sites.

/// One content that a site may have.
public struct PatchVariant: Sendable {
    /// What stands there, for messages.
    public var title: String
    /// As long as the site. Bytes of fields are without meaning.
    public var bytes: [UInt8]
    public var fields: [Field]
    /// Ranges of nops, in which memory may hold any nops of the same total length: the kernel joins those next to
    /// each other, and which of them it had to join depends on its version.
    public var nops: [Range<Int>] = []

    public struct Field: Sendable {
        /// From the start of the site, in bytes.
        public var offset: Int
        public var width: Int
        public var target: Target
    }

    public enum Target: Sendable {
        /// The symbol and addend of a relocation of this section. A field that is narrower than the relocation's is
        /// the displacement of a branch to the same place.
        case relocation(Relocation, section: Int)
        /// A relative displacement to a place in the object.
        case place(section: Int, offset: Int)
        /// A relative displacement to one of these addresses.
        case addresses([UInt64])
        /// A relative displacement to code of ftrace or of a BPF trampoline.
        case tracer
        /// A relative displacement to an indirect jump through this register that the kernel made for one module.
        case indirectThunk(register: UInt8)
    }
}

/// What the running kernel's data says about its patch sites.
public struct PatchEnvironment: Sendable {
    /// Whether the bytes are those of an image that has not booted.
    public var isImage: Bool
    /// Addresses of the thunks that may stand in place of `__x86_return_thunk`.
    public var returnThunks: [UInt64]
    /// The pointer at an offset of `pv_ops`; nil where it cannot be read.
    public var operation: @Sendable (Int) -> UInt64?
    /// What the key of a static call holds; nil where the key is not known.
    public var staticCall: @Sendable (String) -> UInt64?
    /// The value of a variable of the kernel image, of this many bytes; nil where there is none or it cannot be read.
    public var variable: @Sendable (String, Int) -> UInt64?
    /// The address of a function of the kernel image with exactly this name; nil where there is none.
    public var function: @Sendable (String) -> UInt64?

    public init(
        isImage: Bool, returnThunks: [UInt64], operation: @escaping @Sendable (Int) -> UInt64?,
        staticCall: @escaping @Sendable (String) -> UInt64?,
        variable: @escaping @Sendable (String, Int) -> UInt64? = { _, _ in nil },
        function: @escaping @Sendable (String) -> UInt64?
    ) {
        self.variable = variable
        self.isImage = isImage
        self.returnThunks = returnThunks
        self.operation = operation
        self.staticCall = staticCall
        self.function = function
    }
}

extension PatchSite {
    /// Everything that memory may hold here, the original first.
    public func variants(in object: ObjectFile, section: Int, _ environment: PatchEnvironment)
        -> [PatchVariant]
    {
        let builder = PatchVariantBuilder(object: object, section: section, environment: environment)
        return builder.variants(of: self).map { builder.withNops($0, isAlternative: joinsNops) }
    }

    private var joinsNops: Bool {
        switch kind {
        case .alternative, .paravirt, .retpoline: true
        default: false
        }
    }
}

private struct PatchVariantBuilder {
    let object: ObjectFile
    let section: Int
    let environment: PatchEnvironment

    private var nops: X86Nops { object.architecture.nops }

    func variants(of site: PatchSite) -> [PatchVariant] {
        let original = original(of: site)
        switch site.kind {
        case .jumpLabel(let target, let offset): return jumpLabel(site, target, offset)
        case .fentry: return fentry(site, original)
        default: break
        }
        if environment.isImage { return [original] }
        switch site.kind {
        case .alternative(let replacements):
            return originals(of: site, original)
                + replacements.flatMap { replacement($0, length: site.length) }
        case .paravirt(let slot): return [original] + paravirt(slot, length: site.length)
        case .retpoline(let register): return [original] + retpoline(register, original)
        case .returnThunk: return [original] + returns(length: site.length)
        case .staticCall(let name): return [original] + staticCall(name, original, isTrampoline: false)
        case .trampoline(let name): return [original] + staticCall(name, original, isTrampoline: true)
        case .endbr:
            // `gen_endbr_poison`: of 5.18 to 6.14, and of later kernels.
            return [
                original, fixed("sealed endbr64", [0x66, 0x0f, 0x1f, 0x00]),
                fixed("sealed endbr64", [0x0f, 0x1f, 0x40, 0xd6]),
            ]
        case .runtimeConstant(let name, let width): return constants(name, width, original)
        case .jumpLabel, .fentry: return []
        }
    }

    /// Marks the ranges of nop instructions.
    func withNops(_ variant: PatchVariant, isAlternative: Bool) -> PatchVariant {
        guard isAlternative else { return variant }
        var variant = variant
        for start in X86Instruction.boundaries(
            of: variant.bytes, in: 0..<variant.bytes.count, is64Bit: object.is64Bit)
        {
            guard let length = nops.length(in: variant.bytes, at: start) else { continue }
            if let last = variant.nops.last, last.upperBound == start {
                variant.nops[variant.nops.count - 1] = last.lowerBound..<start + length
            } else {
                variant.nops.append(start..<start + length)
            }
        }
        return variant
    }

    private func fixed(_ title: String, _ bytes: [UInt8]) -> PatchVariant {
        PatchVariant(title: title, bytes: bytes, fields: [])
    }

    private func copy(_ range: CodeRange, title: String) -> PatchVariant {
        let source = object.sections[range.section]
        let fields = source.relocations(in: range.range).map {
            PatchVariant.Field(
                offset: $0.offset - range.offset, width: X86Relocation.of($0.type)?.width ?? 0,
                target: .relocation($0, section: range.section))
        }
        return PatchVariant(title: title, bytes: Array(source.contents[range.range]), fields: fields)
    }

    private func original(of site: PatchSite) -> PatchVariant {
        copy(CodeRange(section: section, offset: site.offset, length: site.length), title: "original")
    }

    /// The original of an alternative, with every content of the sites inside it.
    private func originals(of site: PatchSite, _ original: PatchVariant) -> [PatchVariant] {
        var result = [original]
        for inner in site.inner {
            let start = inner.offset - site.offset
            result = result.flatMap { outer in
                variants(of: inner).map { variant in
                    var merged = outer
                    merged.title = variant.title
                    merged.bytes.replaceSubrange(start..<start + inner.length, with: variant.bytes)
                    merged.fields.removeAll { (start..<start + inner.length).contains($0.offset) }
                    merged.fields += variant.fields.map {
                        PatchVariant.Field(offset: $0.offset + start, width: $0.width, target: $0.target)
                    }
                    return merged
                }
            }
        }
        return result
    }

    private func replacement(_ range: CodeRange, length: Int) -> [PatchVariant] {
        var variant = copy(range, title: "replacement")
        variant.bytes += [UInt8](repeating: 0x90, count: length - range.length)
        guard range.length == 5, variant.bytes[0] == 0xe9, variant.fields.count == 1 else { return [variant] }
        // `recompute_jump` makes a jump short where its target is near.
        var short = variant
        short.title = "replacement, short jump"
        short.bytes.replaceSubrange(0..<5, with: [0xeb, 0, 0x90, 0x90, 0x90])
        short.fields[0].width = 1
        // Since Linux 6.6 what is left of a shortened jump is filled with breakpoints.
        var filled = short
        filled.bytes.replaceSubrange(2..<5, with: [0xcc, 0xcc, 0xcc])
        return [variant, short, filled]
    }

    private func branch(
        _ opcode: [UInt8], _ target: PatchVariant.Target, length: Int, fill: UInt8, title: String
    )
        -> PatchVariant?
    {
        guard length >= opcode.count + 4 else { return nil }
        let bytes = opcode + [0, 0, 0, 0] + [UInt8](repeating: fill, count: length - opcode.count - 4)
        return PatchVariant(
            title: title, bytes: bytes, fields: [.init(offset: opcode.count, width: 4, target: target)])
    }

    private func paravirt(_ slot: Int, length: Int) -> [PatchVariant] {
        guard let operation = environment.operation(slot) else { return [] }
        let nothing = fixed("paravirtual nop", [UInt8](repeating: 0x90, count: length))
        let (nops, traps) = (["_paravirt_nop", "nop_func"], ["paravirt_BUG", "BUG_func"])
        if nops.contains(where: { environment.function($0) == operation }) { return [nothing] }
        guard let target = operation != 0 ? operation : traps.lazy.compactMap(environment.function).first
        else { return [] }
        return [
            branch([0xe8], .addresses([target]), length: length, fill: 0x90, title: "direct paravirtual call")
        ]
        .compactMap { $0 }
    }

    private func constants(_ name: String, _ width: Int, _ original: PatchVariant) -> [PatchVariant] {
        let values = environment.variable(name, width).map { [$0] } ?? []
        return values.map { value in
            let bytes = (0..<width).map { UInt8(truncatingIfNeeded: value >> (8 * UInt64($0))) }
            return fixed("runtime constant", original.bytes.dropLast(width) + bytes)
        }
    }

    private func jumpLabel(_ site: PatchSite, _ target: Int, _ offset: Int) -> [PatchVariant] {
        let field = PatchVariant.Field(
            offset: 1, width: site.length - 1, target: .place(section: target, offset: offset))
        let opcode: UInt8 = site.length == 2 ? 0xeb : 0xe9
        return [
            PatchVariant(
                title: "jump label: jump", bytes: [opcode] + [UInt8](repeating: 0, count: site.length - 1),
                fields: [field]),
            fixed("jump label: nop", nops.kernel[site.length]),
        ]
    }

    private func fentry(_ site: PatchSite, _ original: PatchVariant) -> [PatchVariant] {
        let nop = fixed("fentry nop", nops.kernel[5])
        if environment.isImage { return [nop, original] }
        return [nop, original]
            + [branch([0xe8], .tracer, length: 5, fill: 0, title: "call of a tracer")].compactMap { $0 }
    }

    private func returns(length: Int) -> [PatchVariant] {
        [
            fixed("return", [0xc3] + [UInt8](repeating: 0xcc, count: length - 1)),
            branch(
                [0xe9], .addresses(environment.returnThunks), length: length, fill: 0xcc,
                title: "return thunk"),
        ].compactMap { $0 }
    }

    /// The forms of `patch_retpoline`; the last branch of the original says whether it is a call or a jump.
    private func retpoline(_ register: UInt8, _ original: PatchVariant) -> [PatchVariant] {
        let length = original.bytes.count
        guard length == 5 || length == 6, register != 4, let branch = X86Branch(original.bytes, at: 0) else {
            return []
        }
        var result: [PatchVariant] = []
        for fence in [[], [0x0f, 0xae, 0xe8]] as [[UInt8]] {
            var bytes: [UInt8] = []
            if case .conditional(let condition) = branch.kind {
                bytes = [0x70 | condition ^ 1, UInt8(length - 2)]
            }
            bytes += fence
            if register >= 8 { bytes.append(0x41) }
            bytes += [0xff, (branch.kind == .call ? 0xd0 : 0xe0) | register & 7]
            if branch.kind != .call && bytes.count < length { bytes.append(0xcc) }
            guard bytes.count <= length else { continue }
            bytes += [UInt8](repeating: 0x90, count: length - bytes.count)
            result.append(fixed(fence.isEmpty ? "indirect branch" : "indirect branch behind lfence", bytes))
        }
        var thunk = original
        thunk.title = "ITS thunk"
        thunk.fields = [.init(offset: length - 4, width: 4, target: .indirectThunk(register: register))]
        return result + [thunk]
    }

    /// The forms of `__static_call_transform`.
    private func staticCall(_ name: String, _ original: PatchVariant, isTrampoline: Bool) -> [PatchVariant] {
        let length = original.bytes.count
        let value = environment.staticCall(name)
        let opcode = Array(original.bytes.prefix(length - 4))
        let isCall = !isTrampoline && opcode == [0xe8]
        let isConditional = length == 6
        var result: [PatchVariant] = []
        func add(_ opcode: [UInt8], _ targets: [UInt64], _ title: String) {
            if targets.isEmpty { return }
            if let variant = branch(opcode, .addresses(targets), length: length, fill: 0xcc, title: title) {
                result.append(variant)
            }
        }
        if let value, value != 0 {
            add(isTrampoline ? [0xe9] : opcode, [value], "static call target")
        }
        // Where the key cannot be read, the forms without a target stand for themselves.
        if value == nil || value == 0 {
            if isCall { result.append(fixed("static call nop", nops.kernel[5])) }
            if !isCall && !isConditional {
                result.append(fixed("static call return", [0xc3, 0xcc, 0xcc, 0xcc, 0xcc]))
                add([0xe9], environment.returnThunks, "static call return thunk")
            }
            if isConditional {
                let returning = environment.function("__static_call_return")
                add(opcode, environment.returnThunks + [returning].compactMap { $0 }, "static call return")
            }
        }
        if isCall, value == nil || value == environment.function("__static_call_return0") {
            result.append(fixed("static call returning 0", [0x2e, 0x2e, 0x2e, 0x31, 0xc0]))
        }
        return result
    }
}
