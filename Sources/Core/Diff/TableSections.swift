// The one table of sections: what each kind of section in a kernel object holds, and so what differencing, shipping
// and matching do with it. A section that no row names is an error: a table that is ignored is a table whose code
// misbehaves after the update (jump labels, alternatives, exception fix-ups).

/// What a section holds.
enum SectionRole: Sendable, Equatable {
    /// Functions that the kernel runs at any time.
    case code
    /// Functions that run once at boot or at module load, or at unload of a module; not part of a running kernel.
    case initCode
    case exitCode
    /// Named objects: variables, constants. Whether they can change follows from the section's flags and name.
    case data
    /// Variables of which each CPU has its own.
    case perCPU
    /// Data that exists only while booting or loading.
    case initData
    /// Strings, identified by content.
    case strings
    /// Nameless constants, identified by content.
    case constants
    /// The code that alternatives put in; a piece belongs to the entry that names it.
    case replacementCode
    /// Entries that describe code, each beginning with a reference to it. They go where the code goes.
    case codeTable
    /// The same, read by objtool only and discarded by the module linker script.
    case objtoolTable
    /// Entries that register data at boot or at load: a new entry in an update would not be registered.
    case registration
    /// Exported symbols.
    case export
    /// Descriptors of pr_debug statements: existing ones keep their place, new ones are shipped.
    case dynamicDebug
    /// Entries of ksplice.h: what the patch's author wants to run, and the ids of shadow variables.
    case hook
    /// Nothing that the running kernel reads.
    case ignored
}

enum TableSections {
    /// Names that end in `*` are prefixes. The first row that fits decides.
    private static let rows: [(name: String, role: SectionRole)] = [
        (".init.text*", .initCode), (".head.text", .initCode), (".meminit.text*", .initCode),
        (".exit.text*", .exitCode), (".memexit.text*", .exitCode),
        (".init.data*", .initData), (".init.rodata*", .initData), (".init.setup", .registration),
        (".meminit.data*", .initData), (".meminit.rodata*", .initData), (".memexit.*", .initData),
        (".exit.data*", .initData), (".init.bss*", .initData), (".init.ramfs*", .initData),
        (".init_array*", .registration), (".ctors*", .registration),
        (".fini_array*", .registration), (".dtors*", .registration), (".init.scratch", .initData),
        (".dtb.init.rodata", .initData),
        (".exitcall*", .registration), (".initcall*", .registration), (".con_initcall*", .registration),
        (".security_initcall*", .registration),
        (".text*", .code), (".noinstr.text*", .code), (".ref.text*", .code), (".sched.text*", .code),
        (".kprobes.text*", .code), (".cpuidle.text*", .code), (".entry.text*", .code),
        (".spinlock.text*", .code),
        (".irqentry.text*", .code), (".softirqentry.text*", .code), (".static_call.text", .code),
        (".fixup*", .code),
        (".altinstructions", .codeTable), (".altinstr_replacement", .replacementCode),
        (auxiliaryCode, .code),
        ("__bug_table", .codeTable), ("__ex_table", .codeTable), ("__jump_table", .codeTable),
        (".parainstructions", .codeTable), (".smp_locks", .codeTable), ("__mcount_loc", .codeTable),
        ("__patchable_function_entries", .codeTable),
        (".retpoline_sites", .ignored), (".return_sites", .ignored), (".call_sites", .ignored),
        (".ibt_endbr_seal", .ignored), (".cfi_sites", .ignored), (".orc_*", .ignored),
        (".static_call_sites", .ignored), (".kcfi_traps", .codeTable),
        (".discard.addressable*", .ignored), (".discard.sym_func_*", .ignored), (".discard.cfi", .ignored),
        (".discard.*", .objtoolTable), (".discard", .ignored), (".static_call_tramp_key", .registration),
        ("__dyndbg*", .dynamicDebug), (".ksplice.*", .hook),
        ("___ksymtab*", .export), ("___kcrctab*", .export), ("__ksymtab*", .export), ("__kcrctab*", .export),
        (".export_symbol", .export),
        ("__param", .registration), ("__obsparm", .registration), (".modinfo", .ignored),
        ("__tracepoints_ptrs", .registration), ("__tracepoints_strings", .strings), ("__tracepoints", .data),
        // Pointers that tracers print strings by, of the image only; srcu_struct objects that a module's load prepares.
        ("__tracepoint_str", .data), ("___srcu_struct_ptrs", .registration),
        ("_ftrace_events", .registration), ("__syscalls_metadata", .registration),
        ("_ftrace_eval_map", .registration),
        ("_kprobe_blacklist", .registration), ("_error_injection_whitelist", .registration),
        ("__bpf_raw_tp_map", .registration), ("__trace_printk_fmt", .registration),
        (".printk_index", .ignored),
        (".BTF_ids", .data), (".BTF*", .ignored), ("__modver", .registration), (".discard.ksym", .ignored),
        ("__dummy_device_table", .registration), (".acpi_probe_table*", .registration),
        ("__earlycon_table", .registration),
        ("__thermal_table*", .registration), ("__governor_thermal_table", .registration),
        ("__timer_of_table", .registration),
        ("__irqchip_of_table", .registration), ("__clk_of_table*", .registration),
        ("__irqchip_acpi_probe_table", .registration), ("__timer_acpi_probe_table", .registration),
        ("__reservedmem_of_table", .registration),
        ("__cpu_method_of_table*", .registration), ("__cpuidle_method_of_table*", .registration),
        ("__lsm_info.init", .registration),
        (".lsm_info.init", .registration), (".early_lsm_info.init", .registration),
        (".kunit_test_suites", .registration), (".kunit_init_test_suites", .registration),
        ("__sched_class*", .data), ("__*_sched_class", .data), (".apicdrivers*", .registration),
        (".x86_cpu_dev.init*", .registration),
        (".x86_intel_mid_dev.init", .registration), (".iommu_table*", .registration),
        (".tracing_initcall*", .registration),
        (".pci_fixup*", .registration), (".builtin_fw*", .registration), (".rodata.runtime*", .data),
        (runtimeConstants + "*", .codeTable),
        // Counters of memory profiling, one a place that allocates; the loader registers those of a module.
        ("alloc_tags", .data),
        (".data..percpu*", .perCPU), (".bss..decrypted", .data), (".data..decrypted", .data),
        (".data*", .data), (".bss*", .data), (".brk*", .initData), (".rodata*", .data), (".ref.data*", .data),
        (".ref.rodata*", .data), (".vvar*", .data), ("__bss*", .data),
        (".note*", .ignored), (".comment", .ignored), (".gnu.linkonce.this_module", .ignored),
        // What modpost adds to a module.
        ("__versions", .ignored), ("__version_ext_*", .ignored),
        (".debug*", .ignored),
        (".eh_frame", .ignored), (".llvm*", .ignored), (".gnu.version*", .ignored),
        (".gnu.attributes", .ignored),
    ]

    /// Code that runs until alternatives are applied; pieces of functions, without symbols.
    static let auxiliaryCode = ".altinstr_aux"

    /// Lists of places in code that hold a constant which the kernel computes while it boots (since Linux 6.11).
    static let runtimeConstants = "runtime_"

    /// The size of a table's entries in bytes; nil where they have no common size or it is not known.
    /// - Parameter tables: the sizes that depend on the kernel.
    static func entrySize(_ name: String, _ tables: [String: Int]) -> Int? {
        // Self-relative offsets of 32 bits (include/asm-generic/vmlinux.lds.h: RUNTIME_CONST).
        name.hasPrefix(runtimeConstants) ? 4 : tables[name]
    }

    /// The role of a section. Fails on an allocated section that no row names.
    static func role(of section: Section, object: String) throws -> SectionRole {
        if section.type == SectionType.null { return .ignored }
        let found = rows.first { matches(section.name, $0.name) }?.role
        if found == .data && section.isMergeableStrings { return .strings }
        if found == .data && section.flags & SectionFlags.merge != 0 { return .constants }
        if let found { return found }
        if !section.isAllocated { return .ignored }
        // Sections that are named for one object (`__attribute__((section))` of C identifiers are registration tables:
        // the linker gives them start and stop symbols) are not known to be harmless.
        throw Failure(
            "object '\(object)' has a section that git-ksplice does not know: '\(section.name)'",
            status: .cannotBePatched,
            hint:
                "please report it with the name of the source file; it is not ignored because it may hold a table that code needs",
            finding: "unknown-section")
    }

    private static func matches(_ name: String, _ pattern: String) -> Bool {
        guard let star = pattern.firstIndex(of: "*") else { return name == pattern }
        let head = pattern[..<star]
        let tail = pattern[pattern.index(after: star)...]
        return name.count >= head.count + tail.count && name.hasPrefix(head) && name.hasSuffix(tail)
    }
}
