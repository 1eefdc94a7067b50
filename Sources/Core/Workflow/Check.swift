// The dry run of apply; see Forecast.swift for what it gives.

extension Applier {
    /// Everything that can be known without loading anything but, where nothing else shows the kernel's memory and it is
    /// allowed, ksplice.ko, which goes again. Fails where the question cannot be asked at all, for example
    /// without the rights to look; what apply would fail with is an obstacle in the result.
    public func check(_ update: Update, mayLoad: Bool = false) async throws -> Forecast {
        var forecast = Forecast(update.manifest)
        let parts = try update.parts()
        let records = try await HostRecords(host)
        let loaded = try await host.modules()
        let presence = Presence(parts, records, loaded)
        if records.isApplied(update.id), presence.ready.isEmpty {
            forecast.add(.state, [Self.isApplied(update)])
            return forecast
        }
        forecast.waiting = presence.absent
        // What stays loaded is not matched again.
        var isThere = !records.of(update.id).isEmpty
        for record in records.of(update.id) where record.state != "applied" {
            let isResident = try await UpdateSysfs(host: host, id: record.id).number("resident") != 0
            isThere = isThere && record.state == "undone" && isResident
        }
        let policy = try await ModulePolicy(of: host)
        if !isThere { forecast.add(.loading, [policy.loadingRefusal].compactMap { $0 }) }
        let conditions = ApplyConditions(update: update, host: host)
        let running = try await host.identity()
        if checksIdentity {
            guard await forecast.collect(.identity, { try conditions.identity(running) }) != nil else {
                // Everything else would be said of another kernel.
                return forecast
            }
        }
        progress("reading the kernel's symbols")
        let symbols = try update.completed(try await host.symbols())
        let hasGround = await forecast.collect(.dependencies) { try await conditions.dependencies() } != nil
        let ready = presence.ready
        if let late, !presence.absent.isEmpty {
            await forecast.collect(.updates) { try await refuseRivals(of: update, late) }
        } else if !presence.absent.isEmpty {
            forecast.add(.modules, [Self.isAbsent(presence.absent[0])])
        }
        for part in ready {
            let own = ApplyConditions(update: part, host: host)
            await forecast.collect(.modules) { try own.modules(loaded) }
            await forecast.collect(.neighbours) { try await own.livePatches() }
            await forecast.collect(.neighbours) { try own.exports(symbols) }
        }
        guard hasGround else {
            // Its code is made to follow code that is not there.
            for point in [Forecast.Point.matching, .symbols] {
                forecast.leave(point, "what the update was made on is not applied")
            }
            for part in ready {
                try await lookAround(part, replaced(part, nil, symbols), [], symbols, &forecast)
            }
            return forecast
        }
        if ready.isEmpty { return forecast }
        let access = try await look(update, symbols, running, mayLoad: mayLoad, isThere: isThere, &forecast)
        guard let access else {
            for part in ready {
                try await lookAround(part, replaced(part, nil, symbols), [], symbols, &forecast)
            }
            return forecast
        }
        try await access.use(progress: progress) { memory in
            let evidence = try await host.matchEvidence(madeFor: update.manifest.kernel)
            for part in ready {
                let found = matched(part, memory, symbols, evidence, isThere: isThere, &forecast)
                var below: Set<String> = []
                if let found {
                    forecast.statistics.add(found.result.statistics)
                    below = await dryRun(part, found, running, loaded, &forecast)
                }
                try await lookAround(part, replaced(part, found, symbols), below, symbols, &forecast)
            }
        }
        return forecast
    }

    /// The way to the kernel's memory. Nil where there is none, which the forecast then says; where it has nothing else to say
    /// against the update, that is a failure.
    private func look(
        _ update: Update, _ symbols: KernelSymbols, _ running: KernelIdentity, mayLoad: Bool, isThere: Bool,
        _ forecast: inout Forecast
    ) async throws -> MemoryAccess? {
        var trouble: Failure?
        do {
            if let access = try await memoryAccess(update, symbols, running, mayLoad: mayLoad) {
                return access
            }
        } catch { trouble = Failure(error) }
        if let trouble, !isThere {
            forecast.add(.matching, [trouble])
        } else {
            let hidden =
                trouble
                ?? MemoryAccess.hidden(
                    "with --window, ksplice.ko is loaded, shows the kernel's code, and is unloaded")
            guard isThere || !forecast.obstacles.isEmpty else { throw hidden }
            forecast.leave(.matching, hidden.message)
        }
        forecast.leave(.symbols, "matching could not begin")
        return nil
    }

    /// Nil where matching could not begin. A module that is there already is not matched again: ksplice.ko compares the code
    /// with what was matched when it came.
    private func matched(
        _ update: Update, _ memory: any KernelMemory, _ symbols: KernelSymbols,
        _ evidence: MatchEvidence, isThere: Bool, _ forecast: inout Forecast
    ) -> MatchedUpdate? {
        progress("matching the code that runs")
        do {
            return try MatchedUpdate(
                update, memory: memory, symbols: symbols, evidence: evidence)
        } catch {
            let failure = Failure(error)
            if isThere {
                forecast.leave(.matching, failure.message)
            } else {
                forecast.add(.matching, [failure])
            }
            forecast.leave(.symbols, "matching could not begin")
            return nil
        }
    }

    /// Both modules are made ready as for loading. Gives the modules that the update would lead into.
    private func dryRun(
        _ update: Update, _ matched: MatchedUpdate, _ running: KernelIdentity, _ loaded: [LoadedModule],
        _ forecast: inout Forecast
    ) async -> Set<String> {
        guard
            await forecast.collect(
                .matching,
                {
                    try MatchPlan.check(matched.result, what: "the running kernel")
                    _ = try matched.constants(of: update)
                }) != nil
        else {
            forecast.leave(.symbols, "the code does not match")
            return []
        }
        return await forecast.collect(.symbols) {
            let records = try await HostRecords(host)
            let prepared = try PreparedUpdate(
                update, matched, running: running, loaded: loaded,
                grounds: records.moduleNames(of: update.manifest.depends))
            let isLoaded = try await CoreModule.isLoaded(host)
            if !isLoaded {
                _ = try CoreModule(
                    update.file(Update.Path.kernelModule), symbols: matched.symbols, release: running.release
                ).resolved(exports: prepared.checksums)
            }
            // It may have come after the symbols were read; what another part brings has not come.
            let needsSibling = update.manifest.references.contains { $0.bringer != nil }
            _ = try updateModule(
                PreparedPart(update: update, prepared: prepared),
                now: isLoaded && !needsSibling ? try await host.symbols() : nil)
            return Set(prepared.modules.keys)
        } ?? []
    }

    /// A function or part that would be replaced, as far as it was found.
    private struct Place {
        var replacement: Manifest.Replacement
        var function: String
        var module: String?
        var found: MatchedFunction?
        /// Where it is, for what does not match, by name alone.
        var range: Range<UInt64>?
        var isPart: Bool { replacement.partOf != nil }

        /// What a return address must not point into.
        var inside: Range<UInt64>? {
            guard let range, !range.isEmpty else { return nil }
            return isPart
                ? range
                : min(
                    range.lowerBound + UInt64(found?.entrySite ?? 0) + 1, range.upperBound)..<range.upperBound
        }
    }

    private func replaced(_ update: Update, _ matched: MatchedUpdate?, _ symbols: KernelSymbols) -> [Place] {
        let manifest = update.manifest
        return manifest.replacements.map { replacement in
            let owner = replacement.partOf.map { manifest.replacements[$0] } ?? replacement
            var place = Place(
                replacement: replacement, function: owner.symbol,
                module: manifest.units[replacement.unit].module)
            place.found = matched?.result.function(
                unit: replacement.unit, symbolIndex: replacement.preSymbol)
            if let found = place.found {
                place.range = found.address..<found.address &+ UInt64(found.runSize)
                return place
            }
            let named = symbols.named(replacement.symbol, in: place.module)
            if named.count == 1, let end = symbols.next(above: named[0].address) {
                place.range = named[0].address..<end
            }
            return place
        }
    }

    /// What stands on the code that would be replaced: probes, tracers, other updates, tasks. `below` are the modules that the
    /// update leads into, as far as that is known.
    private func lookAround(
        _ update: Update, _ places: [Place], _ below: Set<String>, _ symbols: KernelSymbols,
        _ forecast: inout Forecast
    ) async throws {
        for record in try await HostRecords(host).records where record.update != update.wholeID {
            let module = Self.moduleName(record.id)
            guard record.state != "applied",
                below.contains(module)
                    || places.contains(where: { place in
                        place.found.map { symbols.nearest(to: $0.address)?.symbol.module == module } ?? false
                    })
            else { continue }
            forecast.add(
                .updates,
                [
                    UpdateSysfs.refusal(
                        "apply", update.wholeID, "dependent", detail: "update \(record.update.prefix(12))")
                ].compactMap { $0 })
        }
        let tracing = try await Tracing(of: host)
        let room = RedirectRoom(symbols: symbols, probes: tracing.probes)
        forecast.traced = traced(places, tracing, symbols)
        let redirected = Set(forecast.traced.filter(\.redirects).map(\.name))
        for place in places {
            guard let found = place.found else {
                forecast.leave(.room, "'\(place.replacement.symbol)' was not matched")
                continue
            }
            forecast.add(
                .room,
                room.objections(
                    found, isPart: place.isPart, function: place.function,
                    isRedirected: redirected.contains(place.replacement.symbol)
                ).compactMap {
                    UpdateSysfs.refusal("apply", update.wholeID, $0.cause, detail: $0.detail)
                })
        }
        if tracing.probes == nil {
            forecast.leave(.room, "the list of kprobes cannot be read (is debugfs mounted?)")
        }
        let code = places.compactMap { place in
            place.inside.map { OldCode(function: place.function, range: $0) }
        }
        forecast.inside = TaskCensus(symbols: symbols, code: code).inside(try await host.tasks())
        for index in forecast.inside.indices {
            forecast.inside[index].still = await host.stillness(of: forecast.inside[index].pid)
        }
        if !forecast.inside.isEmpty {
            let who = forecast.inside.map { ($0.description, $0.json) }
            forecast.add(.tasks, [UpdateSysfs.busy("apply", update.wholeID, who, mayNudge: true)])
        }
    }

    /// From the kernel's list where it can be read, else what matching saw at the entry.
    private func traced(_ places: [Place], _ tracing: Tracing, _ symbols: KernelSymbols) -> [TracedFunction] {
        places.filter { !$0.isPart }.compactMap { place in
            let names = Set(
                [place.replacement.symbol]
                    + (place.range.map { range in
                        symbols.named(at: range.lowerBound).map(\.name)
                    } ?? []))
            if let functions = tracing.functions {
                return functions.first { names.contains($0.name) && $0.module == place.module }
            }
            guard place.found?.isTraced == true else { return nil }
            return TracedFunction(
                name: place.replacement.symbol, module: place.module, tracers: [], redirects: false)
        }
    }
}
