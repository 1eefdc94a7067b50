// Whether ksplice.ko would write the redirects (kernel/check.c), as far as that can be known without it: the place, the
// cache line, bytes that the kernel rewrites itself, and probes.

struct RedirectRoom {
    let symbols: KernelSymbols
    /// Nil where the kernel's list cannot be read.
    let probes: [KernelProbe]?

    /// Causes in the words of ksplice.ko, each with the function's name; `function` is the update's name for it.
    /// - Parameter isRedirected: whether somebody redirects it by ftrace already.
    func objections(_ found: MatchedFunction, isPart: Bool, function: String, isRedirected: Bool = false)
        -> [(cause: String, detail: String)]
    {
        let range = found.address..<found.address &+ UInt64(found.runSize)
        var objections: [(String, String)] = []
        if let start = symbols.unique("__entry_text_start"), let end = symbols.unique("__entry_text_end"),
            start < end, range.overlaps(start..<end)
        {
            objections.append(("address", "'\(function)' is entry code"))
        }
        if !isPart { objections += redirect(found, function, isRedirected) }
        for probe in probes ?? [] where range.contains(address(of: probe)) && !probe.isOnFentry {
            let state = probe.isDisabled ? ", which is disabled," : ""
            objections.append(
                ("kprobe", "a probe\(state) stands at \(symbols.describe(address(of: probe)))"))
        }
        return objections
    }

    private func redirect(_ found: MatchedFunction, _ function: String, _ isRedirected: Bool)
        -> [(String, String)]
    {
        let objections = jump(found, function)
        // Where there is no room for a jump, ksplice.ko redirects by ftrace, which allows one to do so.
        if objections.isEmpty || !found.hasFentry { return objections }
        return isRedirected ? [("tracer", "'\(function)'")] : []
    }

    private func jump(_ found: MatchedFunction, _ function: String) -> [(String, String)] {
        let site = found.entrySite
        let size = RedirectReview.jumpSize
        guard site + size <= found.runSize else {
            return [
                ("size", "'\(function)' has \(found.runSize) bytes, and the redirect would stand at \(site)")
            ]
        }
        if RedirectReview.isSplit(found) {
            return [("cache-line", "'\(function)', \(hex(found.address &+ UInt64(site)))")]
        }
        // A byte by itself is a lock prefix, which a redirect may cover.
        let rewritten = (site..<site + size).filter { found.mask[$0] == 0 }
        let isReserved = rewritten.contains { byte in
            let isLock = found.bytes[byte] == 0xf0 || found.bytes[byte] == 0x3e
            let hasNeighbour =
                byte > site && found.mask[byte - 1] == 0
                || byte + 1 < found.mask.count && found.mask[byte + 1] == 0
            return !isLock || hasNeighbour
        }
        return isReserved ? [("reserved", "'\(function)'")] : []
    }

    private func address(of probe: KernelProbe) -> UInt64 {
        if probe.address != 0 { return probe.address }
        // The kernel hides addresses, not names.
        return (symbols.unique(probe.symbol) ?? 0) &+ probe.offset
    }
}
