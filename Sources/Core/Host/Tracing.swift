// Who else has hands on the kernel's functions, as the kernel's own lists say: `enabled_functions` of tracefs for what is
// attached to entries, and `kprobes/list` of debugfs for probes. Both are for people and have no documented grammar; the
// forms are those of kernel/trace/ftrace.c (t_show) and kernel/kprobes.c (report_probe), Linux 5.10 to 6.12. A line that is
// not understood is kept out, never guessed at.

/// A function whose entry calls a tracer now.
public struct TracedFunction: Sendable, Equatable {
    public var name: String
    /// Nil for the kernel image.
    public var module: String?
    /// In words where the kind is known, else the name of the function that is called.
    public var tracers: [String]
    /// Whether a tracer may send callers elsewhere, as live patches do.
    public var redirects: Bool
}

/// A kprobe or kretprobe.
public struct KernelProbe: Sendable, Equatable {
    /// 0 where the kernel hides it.
    public var address: UInt64
    public var symbol: String
    /// From the symbol, in bytes.
    public var offset: UInt64
    /// `k` for a kprobe, `r` for a kretprobe.
    public var kind: String
    public var isDisabled: Bool
    /// Whether it sits on the function's fentry site, outside of its body.
    public var isOnFentry: Bool
    /// Whether the module that it was in is gone.
    public var isGone = false
    /// Whether it is a jump rather than a breakpoint.
    public var isOptimised = false
}

/// The two lists of a host; nil where one cannot be read there.
public struct Tracing: Sendable {
    public var functions: [TracedFunction]?
    public var probes: [KernelProbe]?

    static let functionLists = [
        "/sys/kernel/tracing/enabled_functions", "/sys/kernel/debug/tracing/enabled_functions",
    ]
    static let probeList = "/sys/kernel/debug/kprobes/list"

    public init(functions: [TracedFunction]?, probes: [KernelProbe]?) {
        self.functions = functions
        self.probes = probes
    }

    public init(of host: any Host) async throws {
        for path in Self.functionLists where functions == nil {
            guard try await host.exists(path) else { continue }
            functions = Self.functions(String(decoding: try await host.read(path), as: UTF8.self))
        }
        probes = await Self.probes(of: host)
    }

    /// Nil where the list cannot be read, whatever the reason: then every probe is in the way.
    static func probes(of host: any Host) async -> [KernelProbe]? {
        do { return probes(String(decoding: try await host.read(probeList), as: UTF8.self)) } catch {
            return nil
        }
    }

    /// The kinds of tracers, by a word in what the kernel prints of them.
    private static let kinds = [
        ("klp_ftrace_handler", "the kernel's live patching"), ("bpf_trampoline", "a BPF program"),
        ("bpf_", "a BPF program"), ("kprobe_ftrace_handler", "a kprobe"), ("fprobe_", "an fprobe"),
        ("graph", "the function graph tracer"), ("function_", "the function tracer"),
        ("trace_call", "the function tracer"), ("perf_", "perf"),
        ("ftrace_ops_list_func", "several tracers"),
    ]

    /// The lines of `enabled_functions`: a name, the number of tracers in parentheses, letters, and what is called. Lines
    /// that begin with white space belong to the function above.
    static func functions(_ text: String) -> [TracedFunction] {
        var found: [TracedFunction] = []
        for line in text.lines {
            if line.first == "\t" || line.first == " " {
                if !found.isEmpty { add(tracers(of: line), to: &found[found.count - 1]) }
                continue
            }
            let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" }).map { String($0) }
            guard let count = words.firstIndex(where: { $0.first == "(" && $0.last == ")" }), count > 0,
                Int(words[count].dropFirst().dropLast()) != nil
            else { continue }
            let module =
                count > 1 && words[1].first == "[" ? String(words[1].dropFirst().dropLast()) : nil
            let letters = words[(count + 1)...].prefix { $0.count == 1 }
            var function = TracedFunction(
                name: words[0], module: module, tracers: [], redirects: letters.contains("I"))
            add(tracers(of: words[(count + 1 + letters.count)...].joined(separator: " ")), to: &function)
            found.append(function)
        }
        return found
    }

    private static func add(_ tracers: [String], to function: inout TracedFunction) {
        for tracer in tracers where !function.tracers.contains(tracer) { function.tracers.append(tracer) }
    }

    private static func tracers(of text: some StringProtocol) -> [String] {
        // The innermost function in parentheses says who it is; what stands before are generic trampolines.
        for (word, title) in kinds where text.contains(word) { return [title] }
        // What it leads to is on the next line.
        if text.contains("call_direct_funcs") { return [] }
        let names = text.split(whereSeparator: { " \t()->".contains($0) })
        return names.last { $0.contains("+0x") }.map { [String($0.prefix { $0 != "+" })] } ?? []
    }

    /// The lines of `kprobes/list`: address, kind, `symbol+offset`, perhaps a module, and states in brackets.
    static func probes(_ text: String) -> [KernelProbe] {
        text.lines.compactMap { line in
            let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
            guard words.count >= 3, let address = UInt64(words[0], radix: 16) else { return nil }
            let place = words[2].split(separator: "+")
            // Where the kernel does not find the symbol by its address, a size may follow the offset.
            let offset =
                place.count == 2 ? UInt64(place[1].dropFirst(2).prefix { $0 != "/" }, radix: 16) : 0
            guard let symbol = place.first, let offset else { return nil }
            return KernelProbe(
                address: address, symbol: String(symbol), offset: offset, kind: String(words[1]),
                isDisabled: line.contains("[DISABLED]"), isOnFentry: line.contains("[FTRACE]"),
                isGone: line.contains("[GONE]"), isOptimised: line.contains("[OPTIMIZED]"))
        }
    }
}
