// Whether what a channel says may be believed. The rules are those of The Update Framework, told in commits: enough signers of
// one content (the commits behind each other that have the same tree count together), no serial number smaller than one
// that was seen (rollback), and an end of validity that somebody keeps moving (freeze).

extension TrustPolicy {
    /// Fails unless the newest state of a channel was signed as this policy wants it. It need not be valid any more.
    public func check(
        _ tip: ChannelState, in repository: Repository, threshold: Int? = nil
    ) async throws {
        let threshold = threshold ?? self.threshold(.release)
        let what = "channel '\(tip.name.name)'"
        var commit = tip.commit
        _ = try await signer(of: commit, roles: [.release, .renew], what: what)
        var agreed: Set<Signer> = []
        var serial = tip.serial
        while true {
            // One who only renews adds nothing; one whose key was revoked since neither.
            if let signer = try? await signer(of: commit, what: what), signer.roles.contains(.release) {
                agreed.insert(signer)
            }
            let isEnough = distinct(agreed) >= threshold
            guard let parent = commit.parents.first, serial > 1 else {
                if isEnough { return }
                break
            }
            let before = try ChannelState(parent, of: tip.name, in: repository)
            guard before.serial == serial - 1 else {
                throw Failure("'\(tip.name.ref)' leaves out serial numbers", status: .verificationRefused)
            }
            if isEnough { return }
            guard before.commit.tree == tip.commit.tree else { break }
            (commit, serial) = (before.commit, before.serial)
        }
        throw Failure(
            "\(what) is not to be trusted: \(distinct(agreed)) of \(threshold) signers have agreed to what it says",
            status: .verificationRefused,
            hint: "another signer says so with 'git ksplice channel sign \(tip.name.name)'")
    }

    /// How many have agreed: one with two keys is one, and so is a key under two names.
    func distinct(_ signers: Set<Signer>) -> Int {
        min(Set(signers.map(\.name)).count, Set(signers.map(\.key.fingerprint)).count)
    }

    /// Fails unless a commit that a channel lists as an update was signed by one who may, and stands where it says.
    public func check(_ commit: SignedCommit, of entry: ChannelEntry, name: ChannelName) async throws {
        let what = "update \(entry.id.prefix(12))"
        let ref = name.ref(of: entry)
        guard commit.id == entry.commit else {
            throw Failure(
                "\(what) is not the one that channel '\(name.name)' lists", status: .verificationRefused,
                hint: "its ref was moved; tell who published it")
        }
        _ = try await signer(of: commit, roles: [.release], what: what)
        guard try commit.trailer("Ref") == ref, try commit.trailer("Manifest") == "sha256:" + entry.id else {
            throw Failure("\(what) says that it is another one", status: .verificationRefused)
        }
        guard commit.parents.isEmpty else {
            throw Failure("\(what) is not a commit of its own", status: .verificationRefused)
        }
    }
}

extension ChannelState {
    /// Fails where nobody has said for too long that this is still so.
    public func checkValidity(now: Int64 = CalendarTime.now) throws {
        guard now < validUntil else {
            throw Failure(
                "channel '\(name.name)' is out of date: it was valid until \(CalendarTime.text(validUntil))",
                status: .stale,
                hints: [
                    "git ksplice fetch gets a newer state, if there is one",
                    "whoever publishes it makes one with 'git ksplice channel renew \(name.name)'",
                ])
        }
    }
}
