// What kprobes cover of a function's code: the first byte of an instruction, where a breakpoint stands, or five bytes,
// where the kernel has made a jump of it (arch/x86/kernel/kprobes/core.c, opt.c). A probe counts only if the kernel's own list
// has it at this very place: any other breakpoint or jump is different code.

struct ProbedCode {
    /// The pseudo module under which kallsyms lists the out-of-line code of probes.
    static let module = "__builtin__kprobes"

    /// What is covered, as offsets from where the code begins in memory; in order.
    let covered: [Range<Int>]

    static let none = ProbedCode(covered: [])

    private init(covered: [Range<Int>]) { self.covered = covered }

    /// A probe stands where an instruction begins. One that is disabled or gone covers nothing.
    init(of run: [UInt8], _ span: Span, at address: UInt64, _ state: MatchState) {
        guard !state.environment.isImage, run.count == span.size else {
            covered = []
            return
        }
        covered = (state.evidence.probes ?? []).compactMap { probe -> Range<Int>? in
            guard probe.address >= address, probe.address - address < UInt64(run.count) else { return nil }
            let offset = Int(probe.address - address)
            guard !probe.isDisabled, !probe.isGone,
                span.code.boundaries(span.section, around: span.start).contains(span.start + offset)
            else { return nil }
            if run[offset] == 0xcc { return offset..<offset + 1 }
            return probe.isOptimised && Self.isOptimised(run, offset, address, state)
                ? offset..<offset + 5 : nil
        }.sorted { $0.lowerBound < $1.lowerBound }
    }

    /// Whether a jump to the code of an optimised probe stands at an offset.
    static func isOptimised(_ run: [UInt8], _ offset: Int, _ address: UInt64, _ state: MatchState) -> Bool {
        guard run.indices.contains(offset), run[offset] == 0xe9, let branch = X86Branch(run, at: offset)
        else {
            return false
        }
        let target =
            address &+ UInt64(offset + branch.length) &+ UInt64(bitPattern: branch.displacement)
        guard let (symbol, distance) = state.symbols.nearest(to: target) else { return false }
        return symbol.module == module && symbol.name == "kprobe_optinsn_page" && distance < 4096
    }

    func overlaps(_ range: Range<Int>) -> Bool { covered.contains { $0.overlaps(range) } }

    func covers(_ offset: Int) -> Bool { covered.contains { $0.contains(offset) } }

    /// Memory with the covered bytes of a range taken from `bytes`, which stands for memory from `start`.
    func uncovered(_ run: [UInt8], in range: Range<Int>, from bytes: [UInt8], start: Int = 0) -> [UInt8] {
        var run = run
        for part in covered where part.overlaps(range) {
            for offset in part.clamped(to: range) where offset - start < bytes.count {
                run[offset] = bytes[offset - start]
            }
        }
        return run
    }
}
