// What channels and the policy of trust must be: chains in which each commit follows from the one before, and at whose end
// stands what hosts will believe.

extension StorageCheck {
    private func pull(_ ref: String) -> String {
        "git ksplice channel pull REMOTE; to go back to a state that is in order: git update-ref \(ref) COMMIT"
    }

    // MARK: - Trust

    mutating func checkTrust(_ ref: String) async throws {
        let chain = TrustChain(repository)
        var next = refs[ref]
        var newer: TrustPolicy?
        var isWhole = true
        while let id = next {
            guard let commit = commit(id, of: ref) else { return }
            for trailer in commit.trailers where trailer.key == "Format" && trailer.value != "1" {
                return add(
                    .formatUnknown, ref,
                    "commit \(id.prefix(12)) has the format \(trailer.value), which is not known",
                    hint: "install a newer git ksplice")
            }
            if files(commit.tree, of: ref, keeping: { _ in false }) == nil { return }
            do {
                let policy = try chain.policy(of: commit)
                if let said = commit.trailers.first(where: { $0.key == "Trust-Serial" })?.value,
                    said != "\(policy.serial)"
                {
                    add(
                        .trustChain, ref,
                        "commit \(id.prefix(12)) says number \(said) of policy \(policy.serial)",
                        hint: pull(ref))
                }
                if let newer, policy != newer, policy.serial >= newer.serial {
                    isWhole = false
                    add(
                        .trustChain, ref,
                        "policy \(newer.serial) follows \(policy.serial): serial numbers only grow",
                        hint: pull(ref))
                }
                newer = policy
            } catch {
                isWhole = false
                add(.trustPolicy, ref, Failure(error).message, hint: pull(ref))
            }
            if commit.parents.count > 1 {
                isWhole = false
                add(
                    .trustChain, ref, "commit \(id.prefix(12)) is a merge, and no link of a chain",
                    hint: pull(ref))
            }
            next = commit.parents.first
        }
        if isWhole, let tip = refs[ref] { try await checkSigners(chain, tip) }
    }

    /// Each policy is signed by those whom the one before it names.
    private mutating func checkSigners(_ chain: TrustChain, _ tip: String) async throws {
        let ref = TrustChain.ref
        let links = try chain.links(from: tip, downTo: 1)
        var before: TrustPolicy?
        for (place, link) in links.enumerated() {
            var last: Failure?
            var isAgreed = true
            for judge in [before ?? link.policy, link.policy] {
                do { try await TrustChain.check(link, by: judge) } catch {
                    last = Failure(error)
                    do { try await TrustChain.check(link, by: judge, threshold: 1) } catch {
                        isAgreed = false
                    }
                }
            }
            before = link.policy
            guard let last else { continue }
            // The newest one may still wait for others.
            if isAgreed, place == links.count - 1 {
                add(.trustSigners, ref, last.message, hint: "another signer: git ksplice trust sign")
            } else {
                add(.trustChain, ref, last.message, hint: pull(ref))
            }
        }
        do { try before?.validate() } catch {
            add(
                .trustPolicy, ref, Failure(error).message,
                hint: Failure(error).hints.first ?? "git ksplice trust")
        }
    }

    // MARK: - Channels

    mutating func checkChannel(_ ref: String) async throws {
        guard let tip = refs[ref] else { return }
        guard let name = ChannelName(ref: ref) else {
            return add(
                .refName, ref, "a channel's ref ends with architecture, build-id and a word",
                hint: "git update-ref -d \(ref)")
        }
        var next: String? = tip
        var newer: ChannelState?
        while let id = next {
            guard let commit = commit(id, of: ref) else { break }
            if let format = commit.trailers.first(where: { $0.key == "Format" })?.value,
                format != "\(ChannelState.formatVersion)"
            {
                add(
                    .formatUnknown, ref,
                    "commit \(id.prefix(12)) has the format \(format), which is not known",
                    hint: "install a newer git ksplice")
                break
            }
            guard let found = files(commit.tree, of: ref, keeping: { $0 == ChannelIndex.path }) else { break }
            // What is missing was told by its name.
            if found.values.contains(where: { $0.digest == nil }) { break }
            next = commit.parents.first
            let state: ChannelState
            do { state = try ChannelState(id, of: name, in: repository) } catch {
                add(.channelState, ref, Failure(error).message, hint: pull(ref))
                newer = nil
                continue
            }
            if let newer, state.serial != newer.serial - 1 {
                add(
                    .channelSerial, ref, "number \(newer.serial) follows number \(state.serial)",
                    hint: pull(ref))
            }
            newer = state
            if id == tip {
                try checkIndex(state, text: found[ChannelIndex.path]?.bytes ?? [])
                try await checkBelief(state)
            }
        }
    }

    /// What the newest state lists, against what is stored.
    private mutating func checkIndex(_ state: ChannelState, text: [UInt8]) throws {
        let (ref, index) = (state.name.ref, state.index)
        let add = { (self: inout Self, code: StorageProblem.Code, message: String) in
            self.add(code, ref, message, hint: self.pull(ref))
        }
        if index.text != String(decoding: text, as: UTF8.self) {
            add(&self, .channelForm, "its text is not in canonical order")
        }
        let releases = index.releases.map(\.name)
        if Set(releases).count != releases.count { add(&self, .channelForm, "it names a release twice") }
        let listed = Set(index.entries.map(\.id))
        let wanted = Set(try index.wanted().map(\.id))
        var above: Set<String> = []
        for entry in index.entries {
            let short = entry.id.prefix(12)
            for list in [entry.cves, entry.supersedes, entry.depends] where Set(list).count != list.count {
                add(&self, .channelForm, "it says something of update \(short) twice")
            }
            for other in entry.supersedes where other == entry.id || !listed.contains(other) {
                add(
                    &self, .channelForm,
                    "update \(short) replaces \(other.prefix(12)), which it does not list")
            }
            for ground in entry.depends where !above.contains(ground) {
                add(
                    &self, .channelOrder,
                    "update \(short) needs \(ground.prefix(12)), which is not listed before it")
            }
            above.insert(entry.id)
            // One that was withdrawn may be gone for good; a host has only what it is to apply.
            let isNeeded = entry.withdrawn == nil && (!isHost || wanted.contains(entry.id))
            checkEntry(entry, of: state, isNeeded: isNeeded)
        }
    }

    private mutating func checkEntry(_ entry: ChannelEntry, of state: ChannelState, isNeeded: Bool) {
        let (ref, update, short) = (state.name.ref, state.name.ref(of: entry), entry.id.prefix(12))
        guard let commit = refs[update] else {
            if isNeeded {
                add(
                    .channelUpdateMissing, ref, "it lists update \(short), which is not here",
                    hint:
                        "git fetch REMOTE '\(update):\(update)', or: git ksplice withdraw \(short) --reason TEXT"
                )
            }
            return
        }
        guard commit == entry.commit else {
            if entry.withdrawn == nil {
                add(
                    .channelUpdateOther, ref,
                    "it lists update \(short) as commit \(entry.commit.prefix(12)), and its ref names \(commit.prefix(12))",
                    hint: "git update-ref \(update) \(entry.commit) puts it back")
            }
            return
        }
        if let size = sizes[update], size != entry.size {
            add(
                .channelUpdateOther, ref,
                "it says that update \(short) has \(entry.size) bytes; these are \(size)",
                hint: "hosts refuse that: git ksplice withdraw \(short) --reason TEXT")
        }
        if let manifest = manifests[update], Set(manifest.depends) != Set(entry.depends) {
            add(
                .channelUpdateOther, ref, "it says otherwise than update \(short) on which ones that stands",
                hint: "git ksplice withdraw \(short) --reason TEXT")
        }
    }

    /// Whether hosts would believe it.
    private mutating func checkBelief(_ state: ChannelState) async throws {
        let (ref, word) = (state.name.ref, state.name.name)
        if now >= state.validUntil {
            add(
                .channelExpired, ref, "it was valid until \(CalendarTime.text(state.validUntil))",
                hint: isHost ? "git ksplice fetch" : "git ksplice channel renew \(word)")
        }
        var believed = policy
        if believed == nil {
            // One that cannot be read was told of.
            do { believed = try await TrustChain(repository).policy() } catch { return }
        }
        guard let policy = believed else { return }
        do {
            try await policy.check(state, in: repository, threshold: 1)
            do { try await policy.check(state, in: repository) } catch {
                add(
                    .channelSigners, ref, Failure(error).message,
                    hint: "another signer: git ksplice channel sign \(word)")
            }
        } catch {
            add(
                .channelUntrusted, ref, Failure(error).message,
                hint:
                    "look at it (git ksplice channel show \(word)); a signer: git ksplice channel sign \(word)"
            )
        }
        for entry in state.index.entries where entry.withdrawn == nil {
            let update = state.name.ref(of: entry)
            guard refs[update] == entry.commit, manifests[update] != nil else { continue }
            do {
                try await policy.check(repository.signedCommit(entry.commit), of: entry, name: state.name)
            } catch {
                add(
                    .updateUntrusted, update, Failure(error).message,
                    hint:
                        "a signer signs it anew: git ksplice channel add --channel \(word) \(entry.id.prefix(12))"
                )
            }
        }
    }
}
