// The parts of a dry run that need no kernel: what the kernel's lists say of tracers and probes, whether there is room for
// a redirect, and whose stack leads into what would be replaced.

import Testing

@testable import Core

@Suite struct ForecastPartTests {
    // MARK: - Lists

    @Test func tracersAreNamed() {
        let list = """
            kernel_clone (1)           \ttramp: 0xffffffffc0a4e000 (function_trace_call+0x0/0x130) ->function_trace_call+0x0/0x130
            vfs_read (2) R             \ttramp: ftrace_regs_caller+0x0/0x63 (ftrace_ops_list_func+0x0/0x190)
            sfq_init [sch_sfq] (1) R I     \ttramp: 0xffffffffc0a51000 (klp_ftrace_handler+0x0/0x190) ->klp_ftrace_handler+0x0/0x190
            vfs_mkdir (1)     D   \ttramp: ftrace_regs_caller+0x0/0x63 (call_direct_funcs+0x0/0x20) ->call_direct_funcs+0x0/0x20
            \tdirect-->bpf_trampoline_6442451234_1+0x0/0xb9
            schedule (1)           \ttramp: 0xffffffffc0000000 (other_tool+0x0/0x10 [other]) ->other_tool+0x0/0x10 [other]
            no grammar at all

            """
        let found = Tracing.functions(list)
        #expect(
            found == [
                TracedFunction(
                    name: "kernel_clone", module: nil, tracers: ["the function tracer"], redirects: false),
                TracedFunction(
                    name: "vfs_read", module: nil, tracers: ["several tracers"], redirects: false),
                TracedFunction(
                    name: "sfq_init", module: "sch_sfq", tracers: ["the kernel's live patching"],
                    redirects: true),
                TracedFunction(
                    name: "vfs_mkdir", module: nil, tracers: ["a BPF program"], redirects: false),
                TracedFunction(name: "schedule", module: nil, tracers: ["other_tool"], redirects: false),
            ])
    }

    @Test func probesAreRead() {
        let list = """
            ffffffff81234570  k  do_sys_openat2+0x10    [OPTIMIZED]
            ffffffffc0a00010  r  sfq_init+0x0  sch_sfq [DISABLED][FTRACE]
            0000000000000000  k  vfs_write+0x1c
            not a line

            """
        let found = Tracing.probes(list)
        #expect(found.count == 3)
        #expect(found[0].address == 0xffff_ffff_8123_4570 && found[0].offset == 0x10 && !found[0].isDisabled)
        #expect(found[1].kind == "r" && found[1].isDisabled && found[1].isOnFentry)
        #expect(found[2].address == 0 && found[2].symbol == "vfs_write" && found[2].offset == 0x1c)
    }

    // MARK: - Room

    private static let symbols = KernelSymbols([
        KernelSymbol(address: 0x1000, kind: UInt8(ascii: "T"), name: "__entry_text_start"),
        KernelSymbol(address: 0x1800, kind: UInt8(ascii: "T"), name: "__entry_text_end"),
        KernelSymbol(address: 0x2000, kind: UInt8(ascii: "t"), name: "twin"),
        KernelSymbol(address: 0x2040, kind: UInt8(ascii: "t"), name: "changed"),
        KernelSymbol(address: 0x2080, kind: UInt8(ascii: "t"), name: "twin"),
        KernelSymbol(address: 0x2100, kind: UInt8(ascii: "t"), name: "last"),
    ])

    private func function(
        at address: UInt64 = 0x2040, size: Int = 32, site: Int = 5, rewritten: Range<Int> = 0..<5,
        byte: UInt8 = 0x90, hasFentry: Bool = false
    ) -> MatchedFunction {
        var mask = [UInt8](repeating: 0xff, count: size)
        for index in rewritten { mask[index] = 0 }
        return MatchedFunction(
            symbolIndex: 1, name: "changed", entry: address, address: address, runSize: size,
            bytes: [UInt8](repeating: byte, count: size), mask: mask, entrySite: site, hasFentry: hasFentry,
            isTraced: false, isProbed: false)
    }

    private func causes(
        _ function: MatchedFunction, _ probes: [KernelProbe]? = [], isPart: Bool = false,
        isRedirected: Bool = false
    ) -> [String] {
        RedirectRoom(symbols: Self.symbols, probes: probes)
            .objections(function, isPart: isPart, function: "changed", isRedirected: isRedirected)
            .map(\.cause)
    }

    @Test func thereIsRoom() {
        #expect(causes(function()) == [])
        // The fentry site before the redirect has a life of its own; so has a lock prefix under it.
        #expect(causes(function(rewritten: 5..<6, byte: 0xf0)) == [])
    }

    @Test func whatIsInTheWayOfARedirectIsKnown() {
        #expect(causes(function(size: 9)) == ["size"])
        #expect(causes(function(at: 0x2037)) == ["cache-line"])
        #expect(causes(function(rewritten: 9..<11)) == ["reserved"])
        #expect(causes(function(rewritten: 5..<7, byte: 0xf0)) == ["reserved"])
        #expect(causes(function(at: 0x17f0, size: 64)) == ["address"])
        #expect(causes(function(size: 9), isPart: true) == [])
    }

    @Test func ftraceRedirectsWhereNoJumpCan() {
        let functions = [
            function(size: 9, hasFentry: true), function(at: 0x2037, hasFentry: true),
            function(rewritten: 9..<11, hasFentry: true),
        ]
        for function in functions {
            #expect(causes(function) == [])
            #expect(causes(function, isRedirected: true) == ["tracer"])
        }
        // A jump needs nobody's leave.
        #expect(causes(function(hasFentry: true), isRedirected: true) == [])
    }

    @Test func probesInTheWayAreKnown() {
        func probe(_ address: UInt64, onFentry: Bool = false) -> KernelProbe {
            KernelProbe(
                address: address, symbol: "changed", offset: 0x10, kind: "k", isDisabled: true,
                isOnFentry: onFentry)
        }
        #expect(causes(function(), [probe(0x2050)]) == ["kprobe"])
        #expect(causes(function(), [probe(0x2060), probe(0x203f), probe(0x2040, onFentry: true)]) == [])
        // Where the kernel hides addresses, it says names.
        #expect(causes(function(), [probe(0)]) == ["kprobe"])
    }

    // MARK: - Tasks

    private func inside(_ frames: String...) -> [TaskInside] {
        let census = TaskCensus(
            symbols: Self.symbols,
            code: [
                OldCode(function: "changed", range: 0x2046..<0x2080),
                OldCode(function: "twin", range: 0x2006..<0x2040),
            ])
        return census.inside([HostTask(pid: 7, name: "sleeper", stack: frames)])
    }

    @Test func tasksInsideAreFound() {
        let found = inside("schedule+0x1/0x2", "changed+0x10/0x40", "entry+0x0/0x1")
        #expect(found.map(\.description) == ["sleeper[7] in changed+0x10/0x40"])
        #expect(found.first?.function == "changed" && found.first?.isCertain == true)
    }

    @Test("the entry itself, other modules and what is no frame do not count")
    func outside() {
        #expect(inside("changed+0x5/0x40", "changed+0x10/0x40 [module]", "0xffffffff81000000") == [])
    }

    @Test("functions of one name are told apart by their size where that differs")
    func twins() {
        #expect(inside("twin+0x10/0x40").first?.isCertain == true)
        #expect(inside("twin+0x10/0x80") == [])
        #expect(inside("twin+0x10/0x7").first?.description == "sleeper[7] in twin+0x10/0x7 (possibly)")
    }
}
