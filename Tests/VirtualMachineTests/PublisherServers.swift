// The publisher's bare repository as others reach it: over http, by git's own program behind a small web server, and over ssh.
// Both listen at 127.0.0.1 only, which a guest sees as 10.0.2.2. The ssh server has a home folder of its own, in a namespace of
// mounts.

import Testing

@testable import Core

/// Two servers that run until they are stopped.
struct PublisherServers {
    private let site: PublisherSite
    private let http: (port: Int, process: Int32)
    private let ssh: (port: Int, process: Int32)
    /// The key that the ssh server lets in, and what a client has to know of the server.
    let key: String

    /// Whether one may make namespaces here.
    static func isPossible() async throws -> Bool {
        try await Command(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/root"]).run().succeeded
    }

    init(_ site: PublisherSite) async throws {
        self.site = site
        let folder = site.folder
        key = folder + "/key"
        let path = site.laboratory.program.directoryPart + ":/usr/sbin:/usr/bin:/sbin:/bin"
        try await Command(["git", "-C", site.server, "config", "http.receivepack", "true"]).check()
        let backend = try await Command(["git", "--exec-path"]).check().text.trimmed + "/git-http-backend"
        try Files.createDirectory(folder + "/web/cgi-bin")
        try Files.write(
            Array(
                "#!/bin/sh\nPATH=\(path) GIT_PROJECT_ROOT=\(folder) GIT_HTTP_EXPORT_ALL=1 exec \(backend)\n"
                    .utf8),
            to: folder + "/web/cgi-bin/git", mode: 0o755)
        let port = try await Self.freePort()
        http = (
            port,
            try await Self.start(
                "busybox httpd -f -p 127.0.0.1:\(port) -h \(folder)/web", log: folder + "/http.log")
        )
        try await Command(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key]).check()
        try await Command(["dropbearkey", "-t", "ed25519", "-f", folder + "/host"]).check()
        try Files.write(
            Array("#!/bin/sh\nPATH=\(path) exec git-shell -c \"$SSH_ORIGINAL_COMMAND\"\n".utf8),
            to: folder + "/shell", mode: 0o755)
        try Files.write(
            Array("command=\"\(folder)/shell\" \(try Files.readText(key + ".pub"))".utf8),
            to: folder + "/authorized", mode: 0o600)
        let second = try await Self.freePort()
        try Files.write(
            """
            mount -t tmpfs -o mode=700 none /root && mkdir -m 700 /root/.ssh || exit 1
            install -m 600 \(folder)/authorized /root/.ssh/authorized_keys || exit 1
            exec dropbear -F -E -s -r \(folder)/host -P \(folder)/ssh.pid -p 127.0.0.1:\(second)

            """, to: folder + "/ssh.sh")
        ssh = (second, try await Self.start("unshare -m sh \(folder)/ssh.sh", log: folder + "/ssh.log"))
    }

    func stop() async throws {
        try await Command(["kill", "\(http.process)", "\(ssh.process)"]).check()
    }

    /// The repository's addresses, as who is on `host` writes them.
    func web(_ host: String) -> String { "http://\(host):\(http.port)/cgi-bin/git/server.git" }
    func shell(_ host: String) -> String { "ssh://root@\(host):\(ssh.port)\(site.server)" }

    /// The line that makes the ssh server known to a client.
    func known(_ host: String) async throws -> String {
        let text = try await Command(["dropbearkey", "-y", "-f", site.folder + "/host"]).check().text
        let line = try #require(text.lines.first { $0.hasPrefix("ssh-") })
        return "[\(host)]:\(ssh.port) \(line)\n"
    }

    /// What the maintainer's git needs for it. A small web server wants to know the length of what it gets.
    func environment() async throws -> [String: String?] {
        try Files.write(await known("127.0.0.1"), to: site.folder + "/known")
        return [
            "GIT_SSH_COMMAND":
                "ssh -F none -i \(key) -o UserKnownHostsFile=\(site.folder)/known -o StrictHostKeyChecking=yes",
            "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "http.postBuffer", "GIT_CONFIG_VALUE_0": "100000000",
        ]
    }

    private static func freePort() async throws -> Int {
        let script = "print IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1')->sockport"
        let text = try await Command(["perl", "-MIO::Socket::INET", "-e", script]).check().text
        return try #require(Int(text))
    }

    private static func start(_ command: String, log: String) async throws -> Int32 {
        let text = try await Command(["sh", "-c", "\(command) < /dev/null > \(log) 2>&1 & echo $!"]).check()
            .text
        return try #require(Int32(text.trimmed))
    }
}
