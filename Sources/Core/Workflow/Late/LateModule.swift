// What ksplice.ko asks for when a module comes that applied updates wait for: the module stands at a gate in front of its
// init function until this has ended, and is loaded only if it ends well (kernel/late.c).

extension Applier {
    /// Gives a module that is being loaded its parts of all updates that wait for it, in the order in which those were applied.
    /// Fails where an update whose policy is `refuse` could not be given.
    ///
    /// - Returns: the identities of the updates that it got, and what there is to say of those that it goes without.
    public func serve(module: String) async throws -> (given: [String], missing: [String]) {
        guard let late else { throw Failure("no update waits here") }
        return try await late.locked(patience: 90) {
            let waiting = try await HostRecords(host).awaited.filter { $0.module == module }
            // What they brought for a module of that name whose init function failed; the last stands on the others.
            for awaited in waiting.reversed() { try await takeAway(awaited, late) }
            var given: [String] = []
            var missing: [String] = []
            for awaited in waiting {
                do {
                    try await serve(awaited, late)
                    given.append(awaited.update)
                } catch {
                    let failure = Failure(error)
                    let text = "update \(awaited.update.prefix(12)): \(failure.message)"
                    guard awaited.policy == .allow else {
                        throw Failure(text, status: failure.status, hints: failure.hints)
                    }
                    missing.append(text)
                }
            }
            return (given, missing)
        }
    }

    private func part(_ awaited: AwaitedModule, _ late: LateUpdates) throws -> Update {
        guard let part = try late.update(awaited.update).parts().first(where: { $0.home == awaited.module })
        else { throw Failure("it does not change '\(awaited.module)'", status: .verificationRefused) }
        return part
    }

    private func takeAway(_ awaited: AwaitedModule, _ late: LateUpdates) async throws {
        // Without its archive it is told of when it is to be given.
        guard let part = try? part(awaited, late),
            let record = try await HostRecords(host).records.first(where: { $0.id == part.id })
        else { return }
        // One that is resident stays once it was applied, unless the module that it was for is gone.
        let isResident = try await UpdateSysfs(host: host, id: part.id).number("resident") != 0
        guard record.state == "lost" || record.state == "loaded" || record.state == "undone" && !isResident
        else {
            throw Failure(
                "update \(awaited.update.prefix(12)): what it brought for an earlier '\(awaited.module)' cannot be taken away",
                status: .busy)
        }
        try await host.unload(module: Self.moduleName(part.id))
    }

    private func serve(_ awaited: AwaitedModule, _ late: LateUpdates) async throws {
        let part = try part(awaited, late)
        try await withPrepared([part], coming: awaited.module) { prepared in
            let step = Transition.Step(id: part.id, whole: awaited.update, isUndo: false)
            let (pause, tries) = try await withLoaded(prepared) {
                try await Transition(host, [step], patience).make(progress: progress.step)
            }
            await finish(
                part, prepared[0].prepared.result.statistics, pause, tries, waiting: [],
                module: awaited.module)
        }
    }
}
