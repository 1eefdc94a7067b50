// All of it: a maintainer with the kernel's source and the distribution's own fixes, a server behind http and ssh, and two
// administrators' machines that run different stock kernels, one of which is booted again. What is published is fetched over the
// network, applied, withdrawn, replaced by a cumulative update, and comes back.

import Testing

@testable import Core

extension VirtualMachineTests {
    @Suite(.tags(.long)) struct WholeStory {
        /// A kernel and the updates that its machine is to get.
        private struct Part {
            let kernel: String
            /// A fix, another one, both in one update, and one that is withdrawn.
            var auxv = "", fanotify = "", both = "", mistake = ""
            var all: [String] { [auxv, fanotify, both, mistake] }
        }

        /// Creates the updates of one kernel in the laboratory, and hands them over to the maintainer.
        private static func prepare(
            _ kernel: String, _ laboratory: Laboratory, _ site: PublisherSite
        ) async throws -> Part {
            var part = Part(kernel: kernel)
            // Commits of their own: other suites make these fixes, too.
            func own(_ change: KernelChange) -> KernelChange {
                var change = change
                change.name += ", published"
                return change
            }
            let first = try await laboratory.commit(own(.auxv))
            let second = try await laboratory.commit(own(.fanotify), on: first)
            let mistake = try await laboratory.commit(own(.dumpable))
            func create(_ revision: String) async throws -> String {
                let created = try await laboratory.run("create", "--kernel", kernel, revision)
                let line = try #require(created.text.lines.first, "\(created.said)")
                #expect(created.succeeded && line.hasPrefix("update "), "\(created.said)")
                let id = String(line.split(separator: " ")[1])
                let file = "\(site.folder)/\(id).tar.gz"
                let exported = try await laboratory.run("export", "-o", file, id)
                #expect(exported.succeeded, "\(exported.said)")
                return try await UpdateStore(Repository(directory: site.repository)).store(
                    Update(archive: Files.read(file))
                ).id
            }
            part.auxv = try await create(first)
            part.fanotify = try await create(second)
            part.both = try await create("\(laboratory.base)..\(second)")
            part.mistake = try await create(mistake)
            return part
        }

        private static func short(_ id: String) -> String { String(id.prefix(12)) }

        /// A machine that reaches the server, with the host's state on a disk.
        private static func guest(
            _ laboratory: Laboratory, _ servers: PublisherServers, _ disk: String, _ trust: String,
            other: KernelDescriptor? = nil
        ) async throws -> Guest {
            var guest = Guest(laboratory)
            if let other { guest = Guest(laboratory, bootImage: try #require(other.bootImagePath)) }
            try await guest.add(.auxv, .fanotify, .dumpable)
            guest.add(program: "/usr/bin/git", as: "bin/git")
            let transport =
                try await Command(["git", "--exec-path"]).check().text.trimmed + "/git-remote-http"
            guest.add(program: transport, as: String(transport.dropFirst()))
            guest.add(program: "/usr/bin/ssh", as: "bin/ssh")
            guest.add(try Files.read(servers.key), as: "key")
            guest.add(Array(try await servers.known("10.0.2.2").utf8), as: "known")
            guest.add(Array(trust.utf8), as: "trust")
            try guest.connect(other?.modulesPath)
            try guest.mount(disk, at: "/var/lib", modules: other?.modulesPath)
            // What a machine has on its root: who root is, and whom it trusts.
            guest.step(
                "root",
                """
                mkdir -p /etc/ksplice /var/lib/etc-ksplice && mount --bind /var/lib/etc-ksplice /etc/ksplice
                [ -e /etc/passwd ] || echo root:x:0:0::/root:/bin/sh > /etc/passwd; chmod 600 /root/key
                git config --file /etc/gitconfig core.sshCommand \
                    'ssh -i /root/key -o UserKnownHostsFile=/root/known -o StrictHostKeyChecking=yes'
                """)
            return guest
        }

        /// What a host holds: names of the updates in its repository.
        private static let held =
            "git --git-dir=/var/lib/ksplice/repo.git for-each-ref --format='%(refname:lstrip=5)' refs/ksplice/updates"

        @Test("from a commit to two running kernels and back, over http and ssh")
        func story() async throws {
            guard try await PublisherServers.isPossible() else {
                try Test.cancel("namespaces of mounts cannot be made here")
            }
            let cloud = OtherKernel.all[0]
            let laboratory = try await Laboratory.shared()
            let descriptor = try await cloud.descriptor(laboratory)
            var site = try await PublisherSite(laboratory, source: true)
            defer { try? Files.remove(site.folder) }
            let (a, b) = try await (
                Self.prepare(Laboratory.kernel, laboratory, site),
                Self.prepare(cloud.registered, laboratory, site)
            )
            let servers = try await PublisherServers(site)
            site.environment = try await servers.environment()
            do {
                try await tell(a, b, site, servers, laboratory, descriptor)
            } catch {
                try await servers.stop()
                throw error
            }
            try await servers.stop()
        }

        private func tell(
            _ a: Part, _ b: Part, _ site: PublisherSite, _ servers: PublisherServers,
            _ laboratory: Laboratory,
            _ other: KernelDescriptor
        ) async throws {
            try await site.check("trust", "init", "alice")
            let trust = try await site.check("trust", "show")
            // The first release, over http.
            try await site.check("tag", "v1", a.auxv, a.mistake, b.auxv, b.mistake)
            try await site.check("publish", servers.web("127.0.0.1"))
            let (diskA, diskB) = (site.folder + "/a.disk", site.folder + "/b.disk")
            for disk in [diskA, diskB] {
                try await Command(["/sbin/mke2fs", "-q", "-t", "ext4", "-F", disk, "256M"]).check()
            }

            var guest = try await Self.guest(laboratory, servers, diskA, trust)
            guest.step("accept", "git-ksplice trust accept trust")
            guest.step("fetch", "git-ksplice fetch \(servers.web("10.0.2.2")) && \(Self.held)")
            guest.step(
                "apply",
                "auxv; dumpable 2; git-ksplice apply --all --boot -q && auxv; dumpable 2; git-ksplice status")
            guest.step("up", "git-ksplice boot confirm")
            let firstA = try await guest.run()
            #expect(try firstA.output("fetch").contains("channel stable, number 1: 2 new update(s)"))
            // Its own kernel's, and nothing else.
            let held = try firstA.output("fetch").lines.suffix(2).map { String($0) }
            #expect(Set(held) == [a.auxv, a.mistake], "\(held)")
            let applied = try firstA.output("apply").lines.map { String($0) }
            #expect(applied.first == "mixed" && applied.contains("replaced"), "\(applied)")
            #expect(applied.contains { $0.contains("this kernel has the fixes of release v1") }, "\(applied)")

            guest = try await Self.guest(laboratory, servers, diskB, trust, other: other)
            guest.step("accept", "git-ksplice trust accept trust")
            guest.step("fetch", "git-ksplice fetch \(servers.shell("10.0.2.2")) && \(Self.held)")
            guest.step("apply", "auxv; git-ksplice apply --all -q && auxv; git-ksplice status")
            let firstB = try await guest.run()
            #expect(
                Set(try firstB.output("fetch").lines.suffix(2).map { String($0) }) == [b.auxv, b.mistake])
            let appliedB = try firstB.output("apply")
            #expect(appliedB.hasPrefix("mixed\n") && appliedB.contains("\nreplaced\n"), "\(appliedB)")

            // One was a mistake; another fix came, in one update with the first. Over ssh.
            try await site.check("tag", "v2", a.both, b.both)
            for mistake in [a.mistake, b.mistake] {
                try await site.check("withdraw", "--reason", "refuses good values", mistake)
            }
            try await site.check("publish", servers.shell("127.0.0.1"))

            guest = try await Self.guest(laboratory, servers, diskA, trust)
            guest.step("boot", "auxv; git-ksplice boot run && auxv && git-ksplice boot confirm")
            // From where it came the last time.
            guest.step("fetch", "git-ksplice fetch && git-ksplice status")
            guest.step(
                "upgrade",
                "fanotify; git-ksplice upgrade --boot -q && auxv; fanotify; dumpable 2; git-ksplice status")
            guest.step("kept", "git-ksplice boot list")
            let secondA = try await guest.run()
            let back = try secondA.output("boot").lines.map { String($0) }
            #expect(back.first == "mixed" && back.contains("replaced"), "\(back)")
            let fetched = try secondA.output("fetch")
            #expect(fetched.contains("channel stable, number 3: 1 new update(s)"), "\(fetched)")
            #expect(fetched.contains("  withdrawn") && fetched.contains("refuses good values"), "\(fetched)")
            #expect(fetched.contains("  replaced by a newer one"), "\(fetched)")
            let upgraded = try secondA.output("upgrade").lines.map { String($0) }
            #expect(
                upgraded.first == "different" && upgraded.contains("replaced") && upgraded.contains("equal"),
                "\(upgraded)")
            #expect(
                upgraded.contains { $0.contains("this kernel has the fixes of release v2") }, "\(upgraded)")
            let kept = try secondA.output("kept")
            #expect(kept.contains(Self.short(a.both)) && !kept.contains(Self.short(a.mistake)), "\(kept)")

            guest = try await Self.guest(laboratory, servers, diskA, trust)
            guest.step(
                "boot", "fanotify; git-ksplice boot run && fanotify && auxv && git-ksplice boot confirm")
            guest.step("status", "git-ksplice status; git-ksplice fetch; git-ksplice upgrade")
            guest.step("undo", "git-ksplice undo --all --boot; git-ksplice boot list; auxv; fanotify")
            let thirdA = try await guest.run()
            let again = try thirdA.output("boot").lines.map { String($0) }
            #expect(
                again.first == "different" && again.contains("equal") && again.contains("replaced"),
                "\(again)")
            #expect(try thirdA.output("status").contains("this host has everything"))
            let undone = try thirdA.output("undo")
            #expect(undone.contains("mixed") && undone.contains("different"), "\(undone)")

            guest = try await Self.guest(laboratory, servers, diskB, trust, other: other)
            guest.step(
                "fetch", "git-ksplice fetch && git-ksplice apply --all -q; git-ksplice status; auxv; fanotify"
            )
            guest.step("held", Self.held)
            let secondB = try await guest.run()
            let endB = try secondB.output("fetch")
            #expect(endB.hasSuffix("replaced\nequal"), "\(endB)")
            for report in [firstA, firstB, secondA, thirdA, secondB] { #expect(report.warnings == []) }
        }
    }
}
