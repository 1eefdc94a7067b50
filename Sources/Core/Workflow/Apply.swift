// From an update to a changed kernel, on the host that runs it. Up to `load` nothing has been changed; from there on
// ksplice.ko decides, and every refusal leaves the kernel as it was.

/// What a dry run found out.
public struct Readiness: Sendable {
    public let statistics: MatchResult.Statistics
    /// Names of functions that would be replaced.
    public let functions: [String]
    /// Functions that a tracer is attached to.
    public let traced: [String]
    /// Tasks whose stack holds one of the functions now: apply would be refused as busy.
    public let inside: [String]
    /// Things that apply would stumble over.
    public let warnings: [String]
}

public struct ApplyReport: Sendable {
    public let id: String
    public let functions: [String]
    /// Names of constants whose content was replaced in place.
    public let constants: [String]
    /// How many hooks the update has.
    public let hooks: Int
    public let statistics: MatchResult.Statistics
    /// How long the machine stood still, in nanoseconds.
    public let pause: Int
    /// How often it was tried.
    public let tries: Int
}

public struct Applier: Sendable {
    let host: any Host & Sendable
    let progress: @Sendable (String) -> Void
    /// For tests: whether the kernel's identity is compared; run-pre matching still decides.
    public var checksIdentity = true
    /// Seconds to go on trying while tasks are inside the functions.
    public var timeout = 30.0

    public init(host: any Host & Sendable, progress: @escaping @Sendable (String) -> Void) {
        self.host = host
        self.progress = progress
    }

    /// Everything that can be known without loading anything.
    public func check(_ update: Update) async throws -> Readiness {
        let prepared = try await prepare(update)
        // A function may have several names (aliases of system calls); the kernel prints any of them.
        let entries = Set(prepared.targets.map(\.function.entry))
        let names = Set(prepared.symbols.all.filter { entries.contains($0.address) }.map(\.name))
        let inside = try await host.tasks().compactMap { task -> String? in
            // The innermost frame of a task that is not running is where it left the CPU.
            guard let frame = task.stack.first(where: { names.contains(String($0.prefix { $0 != "+" })) })
            else { return nil }
            return "\(task.name)[\(task.pid)] in \(frame)"
        }
        let traced = prepared.targets.filter { $0.function.isTraced }.map(\.function.name)
        return Readiness(
            statistics: prepared.result.statistics,
            functions: update.manifest.replacements.filter { $0.partOf == nil }.map(\.symbol), traced: traced,
            inside: inside, warnings: [])
    }

    /// Changes the running kernel.
    public func apply(_ update: Update) async throws -> ApplyReport {
        let sysfs = UpdateSysfs(host: host, id: update.id)
        switch try await sysfs.state() {
        case "applied":
            throw Failure(
                "update \(update.id.prefix(12)) is applied already", status: .no, hint: "git ksplice status")
        case "undone" where try await sysfs.number("resident") != 0:
            // It never goes. Its addresses hold as long as it is loaded, because ksplice.ko holds the modules that they lead
            // into; and ksplice.ko compares the code again.
            let (pause, tries) = try await sysfs.enable(timeout: timeout, progress: progress)
            return await finish(update, MatchResult.Statistics(), pause, tries)
        case .some:
            // Inert: an earlier apply was interrupted. It is matched afresh rather than trusted.
            progress("unloading what an interrupted command has left")
            try await host.unload(module: Self.moduleName(update.id))
        case nil: break
        }
        let prepared = try await prepare(update)
        try await loadCore(update, prepared)
        let module = try prepared.module(update)
        let name = Self.moduleName(update.id)
        // ksplice.ko came after the symbols were read; its functions are looked up now.
        let resolved = try await resolve(module, prepared)
        try await host.load(module: resolved, name: name, parameters: "")
        let change: (pause: Int, tries: Int)
        do {
            // From now on ksplice.ko holds them.
            try prepared.checkModules(try await host.modules())
            change = try await sysfs.enable(timeout: timeout, progress: progress)
        } catch {
            try? await host.unload(module: name)
            throw error
        }
        return await finish(update, prepared.result.statistics, change.pause, change.tries)
    }

    /// The kernel is changed; a journal that cannot be written does not make that a failure.
    private func finish(_ update: Update, _ statistics: MatchResult.Statistics, _ pause: Int, _ tries: Int)
        async -> ApplyReport
    {
        let functions = update.manifest.replacements.filter { $0.partOf == nil }.map(\.symbol)
        do {
            try await host.appendToJournal(
                JSON.object([
                    ("v", .number(1)), ("event", .string("apply")), ("update", .string(update.id)),
                    ("description", .string(update.manifest.description)),
                    ("commits", .strings(update.manifest.commits)),
                    ("functions", .strings(functions)),
                    ("constants", .strings(update.manifest.constants.map(\.symbol))),
                    ("pause_ns", .number(pause)),
                    ("tries", .number(tries)),
                ]).text)
        } catch { progress("the update is applied, but the journal cannot be written: \(error)") }
        return ApplyReport(
            id: update.id, functions: functions, constants: update.manifest.constants.map(\.symbol),
            hooks: update.manifest.hooks.count, statistics: statistics, pause: pause, tries: tries)
    }

    /// The module's name: the identity's beginning, as long as the placeholder.
    static func moduleName(_ id: String) -> String { "ksplice_" + id.prefix(12) }

    // MARK: - Identity, matching

    private func prepare(_ update: Update) async throws -> PreparedUpdate {
        let running = try await host.identity()
        if checksIdentity { try compare(update.manifest.kernel, running) }
        progress("reading the kernel's symbols")
        let loaded = try await host.modules()
        let symbols = try await host.symbols()
        for module in update.manifest.modules
        where !loaded.contains(where: { $0.name == module && $0.state == "Live" }) {
            throw Failure(
                "the update changes the module '\(module)', which is not loaded", status: .no,
                hint: "modprobe \(module)")
        }
        try await refuseLivePatched(update)
        try refuseExported(update, symbols)
        progress("matching the code that runs")
        let plan = try MatchPlan(update)
        let memory = try await host.memory(covering: [])
        var matcher = try Matcher(
            units: plan.units, tables: update.manifest.tables, memory: memory, symbols: symbols,
            isImage: false)
        let result = matcher.match()
        try MatchPlan.check(result, what: "the running kernel")
        let constants = try update.manifest.constants.map {
            try matcher.constant(unit: $0.unit, symbolIndex: $0.preSymbol, size: $0.size)
        }
        return try PreparedUpdate(
            update, result: result, constants: constants, symbols: symbols, memory: memory, running: running,
            loaded: loaded)
    }

    /// The kernel's own live patching redirects a function at its fentry site, in front of ours: the new code would
    /// never run, and everything would look right.
    private func refuseLivePatched(_ update: Update) async throws {
        let root = "/sys/kernel/livepatch"
        guard try await host.exists(root) else { return }
        for replacement in update.manifest.replacements where replacement.partOf == nil {
            let object = update.manifest.units[replacement.unit].module ?? "vmlinux"
            for patch in try await host.list(root) where try await host.exists("\(root)/\(patch)/\(object)") {
                let functions = try await host.list("\(root)/\(patch)/\(object)")
                guard functions.contains(where: { $0.hasPrefix(replacement.symbol + ",") }) else { continue }
                throw Failure(
                    "'\(replacement.symbol)' is patched by the kernel's own live patching ('\(patch)')",
                    status: .verificationRefused,
                    hint: "remove that live patch first; its code would run instead of the update's")
            }
        }
    }

    /// The module loader takes no name that is exported already, by another update for example, and does not say why.
    private func refuseExported(_ update: Update, _ symbols: KernelSymbols) throws {
        let module = try ObjectFile(update.file(Update.Path.module), name: Update.Path.module)
        for export in try readExports(module: module, object: Update.Path.module) {
            guard let holder = symbols.named("__ksymtab_" + export.name).first else { continue }
            throw Failure(
                "the update exports '\(export.name)', which \(holder.module.map { "the module '\($0)'" } ?? "the kernel") exports already",
                status: .busy, hint: "undo the update that exports it first")
        }
    }

    private func compare(_ wanted: KernelIdentity, _ running: KernelIdentity) throws {
        let pairs = [
            ("architecture", wanted.arch, running.arch), ("build-id", wanted.buildID, running.buildID),
            ("release", wanted.release, running.release),
        ]
        for (what, a, b) in pairs where !a.isEmpty && a != b {
            throw Failure(
                "the update is for another kernel: \(what) is \(a), \(host.title) runs \(b) (\(running.release))",
                status: .wrongKernel,
                hint: "git ksplice list shows the updates of a repository with their kernels")
        }
    }

    // MARK: - Loading

    private func loadCore(_ update: Update, _ prepared: PreparedUpdate) async throws {
        let file = "/sys/kernel/ksplice/version"
        if try await host.exists(file) {
            let version = String(decoding: try await host.read(file), as: UTF8.self).trimmed
            guard version == "\(ModuleResolver.tableVersion)" else {
                throw Failure(
                    "the loaded ksplice.ko has interface version \(version), this program wants \(ModuleResolver.tableVersion)",
                    status: .busy, hint: "undo all updates, then rmmod ksplice")
            }
            return
        }
        progress("loading ksplice.ko")
        var module = try ModuleResolver(update.file(Update.Path.kernelModule), name: Update.Path.kernelModule)
        try module.resolve { name in
            if prepared.checksums[name] != nil { return nil }
            let found = Set(prepared.symbols.named(name, in: nil).map(\.address))
            guard found.count == 1, let address = found.first else {
                throw Failure(
                    found.isEmpty
                        ? "the kernel has no '\(name)', which ksplice.ko needs"
                        : "'\(name)' is ambiguous in this kernel",
                    status: .verificationRefused)
            }
            return address
        }
        try module.setVersions(prepared.checksums)
        try module.setRelease(prepared.running.release)
        do { try await host.load(module: module.bytes, name: "ksplice", parameters: "") } catch {
            // Somebody else may apply another update at this moment.
            guard try await host.exists(file) else { throw error }
        }
    }

    private func resolve(_ module: ModuleResolver, _ prepared: PreparedUpdate) async throws -> [UInt8] {
        let symbols = try await host.symbols()
        var module = module
        try module.resolve(readOnly: prepared.readOnly) { name in
            guard ModuleResolver.coreFunctions.contains(name) else {
                return try prepared.address(of: name)
            }
            guard let address = symbols.named(name, in: "ksplice").first?.address else {
                throw Failure("ksplice.ko is loaded but has no '\(name)'")
            }
            return address
        }
        try module.setVersions(prepared.checksums)
        return module.bytes
    }
}

/// An update that is proven for the running kernel.
struct PreparedUpdate {
    struct Target {
        var function: MatchedFunction
        var isPart: Bool
    }

    let result: MatchResult
    let symbols: KernelSymbols
    let running: KernelIdentity
    /// What the kernel exports, with checksums.
    let checksums: [String: UInt32]
    /// In the order of the manifest's replacements.
    let targets: [Target]
    /// In the order of the manifest's constants.
    let constants: [MatchedConstant]
    /// What the kernel has write-protected since it booted.
    let readOnly: Range<UInt64>
    /// Addresses of variables of modules that are write-protected since the module was loaded.
    private let readOnlyOfModules: Set<UInt64>
    private let memory: any KernelMemory
    /// The modules that addresses of the update lead into, where they were when it was matched.
    private let modules: [String: UInt64]
    private let addresses: [UInt64]

    init(
        _ update: Update, result: MatchResult, constants: [MatchedConstant], symbols: KernelSymbols,
        memory: any KernelMemory,
        running: KernelIdentity,
        loaded: [LoadedModule]
    ) throws {
        self.result = result
        self.constants = constants
        self.symbols = symbols
        self.running = running
        let exports = try readExports(memory: memory, symbols: symbols)
        checksums = Dictionary(
            exports.filter(\.namespace.isEmpty).map { ($0.name, $0.crc ?? 0) }
        ) { first, _ in first }
        targets = try update.manifest.replacements.map { replacement in
            guard let function = result.function(unit: replacement.unit, symbolIndex: replacement.preSymbol)
            else {
                throw Failure(
                    "'\(replacement.symbol)' is not in the running kernel", status: .verificationRefused)
            }
            return Target(function: function, isPart: replacement.partOf != nil)
        }
        var held = Set(update.manifest.modules)
        addresses = try update.manifest.references.map { reference in
            if let symbol = reference.preSymbol, let value = result.values[reference.unit][symbol] {
                return value
            }
            let found = try result.resolve(
                reference.name, unit: reference.unit, symbolIndex: reference.preSymbol)
            // For example an earlier update, whose new function this one calls.
            if let module = found.module { held.insert(module) }
            return found.address
        }
        self.memory = memory
        readOnlyOfModules = Set(
            zip(update.manifest.references, addresses).compactMap { reference, address in
                result.isReadOnlyAfterInit(reference.preSymbol, unit: reference.unit) ? address : nil
            })
        let places = Dictionary(loaded.map { ($0.name, $0.address) }) { first, _ in first }
        modules = Dictionary(uniqueKeysWithValues: held.map { ($0, places[$0] ?? 0) })
        let (start, end) = (symbols.unique("__start_rodata"), symbols.unique("__end_rodata"))
        readOnly = (start ?? 0)..<max(start ?? 0, end ?? 0)
    }

    /// Fails where a module that was matched or referred to has gone, or come back elsewhere, since.
    func checkModules(_ now: [LoadedModule]) throws {
        for (name, address) in modules
        where !now.contains(where: { $0.name == name && $0.address == address }) {
            throw Failure(
                "the module '\(name)' was unloaded while the update was matched", status: .busy,
                hint: "try again")
        }
    }

    /// Nil for what is left to the kernel's module loader.
    func address(of name: String) throws -> UInt64? {
        let prefix = "ksplice."
        guard name.hasPrefix(prefix), let number = Int(name.dropFirst(prefix.count)) else {
            guard checksums[name] != nil else {
                throw Failure("the kernel does not export '\(name)'", status: .verificationRefused)
            }
            return nil
        }
        guard addresses.indices.contains(number) else {
            throw Failure(
                "the update module refers to a symbol that its manifest does not list",
                status: .verificationRefused)
        }
        return addresses[number]
    }

    /// The update module with its tables filled in.
    func module(_ update: Update) throws -> ModuleResolver {
        var module = try ModuleResolver(update.file(Update.Path.module), name: Update.Path.module)
        try module.settleJumpLabels(
            address: { name in name.hasPrefix("ksplice.") ? try address(of: name) : symbols.unique(name) },
            isFinal: { readOnly.contains($0) || readOnlyOfModules.contains($0) },
            isEnabled: { key in
                // The counter at the beginning of struct static_key.
                let bytes = try memory.read(at: key, count: 4)
                return (bytes.load(Int32.self, at: 0) ?? 0) > 0
            })
        try module.fillTables(
            functions: targets.filter { !$0.isPart }.map { ExpectedCode($0.function) },
            parts: targets.filter(\.isPart).map { ExpectedCode($0.function) }, data: constants,
            id: update.id)
        try module.setModules(modules.keys.sorted())
        try module.rename(to: Applier.moduleName(update.id))
        try module.setRelease(running.release)
        return module
    }
}
