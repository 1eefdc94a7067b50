import Glibc

@testable import Core

/// A publisher's repository with signers, a server, and the folder of a host that follows it.
final class TrustFixture: Sendable {
    let publisher: GitFixture
    let folder: String
    let kernel = GitFixture.update().manifest.kernel
    var server: String { folder + "/server.git" }
    var host: Subscription { Subscription(folder: folder + "/host", anchor: folder + "/etc/trust") }
    var channel: ChannelName { get throws { try ChannelName(kernel, "stable") } }

    /// With `alice`, who may do all, as the first signer.
    init(format: ObjectFormat = .sha1) async throws {
        publisher = try await GitFixture(format: format)
        folder = try Files.temporaryDirectory("ksplice-test")
        try await publisher.git("config", "gpg.format", "ssh")
        try await publisher.git(
            "init", "-q", "--bare", "--template=", "--object-format=" + format.rawValue, server)
        try await sign(as: "alice")
        let signer = try await signer("alice", TrustRole.allCases)
        try await chain { $0.signers = [signer] }
    }

    deinit { try? Files.remove(folder) }

    /// The file of somebody's public key, which is made where there is none.
    func key(_ name: String, type: String = "ed25519") async throws -> String {
        let file = "\(folder)/\(name)"
        if !Files.exists(file) {
            try await Command(["ssh-keygen", "-q", "-t", type, "-N", "", "-C", name, "-f", file]).check()
        }
        return file + ".pub"
    }

    func sign(as name: String, type: String = "ed25519") async throws {
        try await publisher.git("config", "user.signingKey", key(name, type: type))
    }

    func signer(_ name: String, _ roles: [TrustRole], type: String = "ed25519") async throws -> Signer {
        let key = try await TrustKey.load(file: key(name, type: type), repository: publisher.repository)
        return Signer(name: name, roles: roles, key: key)
    }

    @discardableResult
    func chain(_ change: (inout TrustPolicy) throws -> Void) async throws -> TrustPolicy {
        try await TrustChain(publisher.repository).append("test", change)
    }

    /// The host trusts what the repository's policy says now.
    func accept() async throws {
        guard let policy = try await TrustChain(publisher.repository).policy() else {
            throw Failure("no policy")
        }
        try await host.accept(policy)
    }

    var store: ChannelStore { get async throws { ChannelStore(try await publisher.repository) } }

    /// Stores an update that replaces a function of this name, and puts it into the channel.
    @discardableResult
    func list(_ function: String, release: String? = nil) async throws -> StoredUpdate {
        let update = GitFixture.update(description: "fix \(function)", functions: [function])
        let stored = try await UpdateStore(publisher.repository).store(update)
        try await store.add([stored], to: channel, release: release)
        guard let now = try await UpdateStore(publisher.repository).list(pattern: stored.ref).first else {
            throw Failure("it is gone")
        }
        return now
    }

    @discardableResult
    func publish() async throws -> [Publisher.Sent] {
        try await Publisher(publisher.repository, remote: server).publish()
    }

    @discardableResult
    func fetch() async throws -> Subscription.Fetched {
        try await host.fetch(from: server, channel: "stable", kernel: kernel)
    }

    @discardableResult
    func onServer(_ arguments: String...) async throws -> String {
        try await Command(["git", "--git-dir=" + server] + arguments).check().text.trimmed
    }

    /// A commit on the server in the place of the channel's newest one: that one with its text changed, unsigned.
    func forge(
        _ ref: String, parents: [String] = [], tree: String? = nil, _ change: (String) -> String = { $0 }
    ) async throws {
        let old = try await onServer("rev-parse", ref)
        let message = try await onServer("log", "-1", "--format=%B", old)
        let base = try await onServer("rev-parse", old + "^{tree}")
        let result = try await Command(
            [
                "git", "--git-dir=" + server, "-c", "user.name=Eve", "-c", "user.email=eve@example.org",
                "commit-tree", tree ?? base,
            ]
                + parents.flatMap { ["-p", $0] } + ["-F", "-"], input: Array(change(message).utf8)
        ).check()
        try await onServer("update-ref", ref, result.text.trimmed)
    }

    /// The failure of something that must fail.
    static func failure<Result>(_ body: () async throws -> Result) async -> Failure {
        do {
            _ = try await body()
            return Failure("nothing failed", status: .success)
        } catch { return Failure(error) }
    }
}
