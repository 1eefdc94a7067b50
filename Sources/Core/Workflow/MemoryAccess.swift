// How a command comes to the memory of the kernel that a host runs: directly where the host shows it, else through
// ksplice.ko, which is loaded for that if need be; loading it changes no code. What was opened and loaded for it goes
// again in the end.

struct MemoryAccess {
    let memory: any KernelMemory
    /// Whether ksplice.ko was loaded for it.
    let hasLoadedCore: Bool
    private let window: (any OpenMemory)?
    private let host: any Host & Sendable

    /// - Parameters:
    ///   - ranges: what will be read, as far as that is known; asked for only where it helps.
    ///   - load: loads ksplice.ko; nil where nothing may be loaded. Then there is no access where nothing shows the kernel's
    ///     memory yet.
    init?(
        _ host: any Host & Sendable, covering ranges: () throws -> [Range<UInt64>] = { [] },
        load: (() async throws -> Void)?
    ) async throws {
        self.host = host
        // The kernel itself gives one error number for this and for missing rights.
        if let refusal = try await ModulePolicy(of: host).memoryRefusal { throw refusal }
        if let memory = try await host.memory(covering: host.isFarAway ? ranges() : []) {
            self.memory = memory
            window = nil
            hasLoadedCore = false
            return
        }
        hasLoadedCore = try await !host.exists(CoreModule.versionPath)
        if hasLoadedCore {
            guard let load else { return nil }
            try await load()
        }
        do {
            let opened = try await host.window()
            (memory, window) = (opened, opened)
        } catch {
            guard hasLoadedCore else { throw error }
            var failure = Failure(error)
            do { try await host.unload(module: CoreModule.name) } catch {
                failure.hints.append("ksplice.ko stays loaded: \(error)")
            }
            throw failure
        }
    }

    /// What to say where there is none; the hint says what else to do.
    static func hidden(_ hint: String) -> Failure {
        Failure(
            "the kernel's memory is not to be seen: '/proc/kcore' is missing, or something else is mounted over it",
            hints: ["the kernel has no CONFIG_PROC_KCORE, or a container hides it", hint])
    }

    /// Reads, and ends the reading whatever comes of it.
    func use<Result>(
        progress: Progress, _ body: (any KernelMemory) async throws -> Result
    ) async throws -> Result {
        do {
            let result = try await body(memory)
            await end(progress: progress)
            return result
        } catch {
            await end(progress: progress)
            throw error
        }
    }

    /// Ends the reading, and unloads ksplice.ko if it came for this alone and no update has come since.
    func end(progress: Progress) async {
        window?.close()
        guard hasLoadedCore else { return }
        do {
            guard try await HostRecords(host).updates.isEmpty else { return }
            try await host.unload(module: CoreModule.name)
        } catch { progress.warn("ksplice.ko stays loaded: \(error)") }
    }
}
