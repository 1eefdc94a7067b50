// What a host remembers outside of the repository, so that whoever can write there, or sends what is fetched, cannot take it
// back: the policy of trust as it is now, and how far each channel had come.
//
//     policy                              the newest policy that was learned
//     channels/<arch>.<build-id>.<name>   the serial number of the newest state that was accepted, and the
//                                       SHA-256 of what was signed of it

import Glibc

struct TrustMemory: Sendable {
    let folder: DurableFolder
    /// The administrator's own policy, where trust begins: a file of root.
    let anchor: String

    init(path: String, anchor: String) {
        folder = DurableFolder(path)
        self.anchor = anchor
    }

    /// What is trusted now: the newer one of what the administrator said and what was learned since. Fails where nobody has ever
    /// said whom to trust.
    func policy() throws -> TrustPolicy {
        guard Files.exists(anchor) else {
            throw Failure(
                "this host trusts nobody yet: there is no '\(anchor)'", status: .verificationRefused,
                hint: "get the publisher's policy in a way that you trust, and: git ksplice trust accept FILE"
            )
        }
        try refuseForeignFile(anchor)
        // Whoever may write to the folder can put another file there.
        try DurableFolder(anchor.directoryPart).refuseForeign([])
        try folder.refuseForeign(["channels"])
        let first = try TrustPolicy(parsing: Files.readText(anchor))
        guard let learned = try learned() else { return first }
        return learned.serial > first.serial ? learned : first
    }

    private func refuseForeignFile(_ path: String) throws {
        guard Files.isOwn(path) else {
            throw Failure(
                "others than root may write to '\(path)'", status: .verificationRefused,
                hint: "look what is in it, then: chown root '\(path)' && chmod go-w '\(path)'")
        }
    }

    /// The newest policy that came through git; nil where none did.
    func learned() throws -> TrustPolicy? {
        try folder.read("policy").map { try TrustPolicy(parsing: String(decoding: $0, as: UTF8.self)) }
    }

    func forget() throws { try folder.remove("policy") }

    func learn(_ policy: TrustPolicy) throws { try folder.write(Array(policy.text.utf8), to: "policy") }

    private func file(_ name: ChannelName) -> String { "channels/\(name.arch).\(name.kernel).\(name.name)" }

    /// The newest state that was accepted, by the digest of what was signed: a signature can be written in several ways, and
    /// each gives another commit. Nil where there was none.
    func accepted(_ name: ChannelName) throws -> (serial: Int, digest: String)? {
        guard let bytes = try folder.read(file(name)) else { return nil }
        let words = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isWhitespace)
        guard words.count == 2, let serial = Int(words[0]), ChannelIndex.isDigest(String(words[1])) else {
            throw Failure(
                "'\(folder.path)/\(file(name))' is damaged", status: .verificationRefused,
                hint: "whether an old state is being sent cannot be told any more; look at it, then remove it"
            )
        }
        return (serial, String(words[1]))
    }

    /// The files about channels, each with the channel that it is about; nil for a name that none has.
    func channels() throws -> [(file: String, name: ChannelName?)] {
        try folder.names(in: "channels").map { file in
            let parts = file.split(separator: ".", omittingEmptySubsequences: false).map { String($0) }
            let name =
                parts.count == 3
                ? try? ChannelName(arch: parts[0], kernel: parts[1], name: parts[2]) : nil
            return ("channels/" + file, name)
        }
    }

    func accept(_ state: ChannelState) throws {
        try folder.write(Array("\(state.serial) \(state.digest)\n".utf8), to: file(state.name))
    }

    /// Fails where a state is older than what was accepted, or another one in its place.
    func checkProgress(_ state: ChannelState, in repository: Repository) throws {
        guard let last = try accepted(state.name) else { return }
        let what = "channel '\(state.name.name)'"
        guard state.serial >= last.serial else {
            throw Failure(
                "\(what) was rolled back: its serial number is \(state.serial), and \(last.serial) was seen here",
                status: .verificationRefused, hint: "an old state hides newer fixes; ask who publishes it")
        }
        var before = state
        while before.serial > last.serial, let parent = before.commit.parents.first {
            before = try ChannelState(parent, of: state.name, in: repository)
        }
        guard before.serial == last.serial, before.digest == last.digest else {
            throw Failure(
                "\(what) does not go on from what was seen here: number \(last.serial) is another commit",
                status: .verificationRefused, hint: "its history was written anew; ask who publishes it")
        }
    }
}

extension Files {
    /// Whether a file is root's, or the user's who runs this, and nobody else may write to it.
    static func isOwn(_ path: String) -> Bool {
        var info = stat()
        return stat(path, &info) == 0 && (info.st_uid == 0 || info.st_uid == geteuid())
            && info.st_mode & 0o022 == 0
            && info.st_mode & S_IFMT == S_IFREG
    }
}
