// The way of updates from a maintainer to a host: signed, published to a server that looks at each push, carried over in a file,
// fetched by a host that has git and this program only, applied, withdrawn, replaced.

import Testing

@testable import Core

extension VirtualMachineTests {
    @Suite struct ChannelStory {
        static let boot = SharedBoot { laboratory in
            let site = try await PublisherSite(laboratory)
            defer { try? Files.remove(site.folder) }
            var guest = Guest(laboratory)
            try await guest.add(.numbers, .dumpable)
            guest.add(program: "/usr/bin/git", as: "bin/git")
            func bundle(_ name: String) async throws {
                try await site.check("bundle", site.folder + "/\(name).bundle")
                guest.add(try Files.read(site.folder + "/\(name).bundle"), as: name + ".bundle")
            }
            try await site.check("trust", "init", "alice")
            guest.add(Array(try await site.check("trust", "show").utf8), as: "trust")
            let (first, dumpable) = try await (
                site.take(laboratory.update(.firstNumbers)), site.take(laboratory.update(.dumpable))
            )
            try await site.check("tag", "v1", first, dumpable)
            try await site.check("publish", site.server)
            try await bundle("v1")
            // Signed by somebody whom nobody knows: the server refuses it, and so does a host.
            let tip = try await site.git(
                "for-each-ref", "--format=%(refname) %(objectname)", "refs/ksplice/channels"
            )
            .split(separator: " ").map { String($0) }
            try await site.sign(as: "eve")
            try await site.check("channel", "renew")
            let refused = try await site.run("publish", site.server)
            #expect(
                refused.status == 128 && refused.said.contains("nobody here knows its key"), "\(refused.said)"
            )
            try await bundle("eve")
            try await site.git("update-ref", tip[0], tip[1])
            try await site.sign(as: "alice")
            let both = try await site.take(laboratory.update(.bothNumbers))
            try await site.check("tag", "--supersedes", first, "v2", both)
            try await site.check("withdraw", "--reason", "prints nothing", String(dumpable.prefix(12)))
            try await site.check("publish", site.server)
            try await bundle("v2")

            guest.step("nobody", "git-ksplice fetch v1.bundle")
            guest.step("accept", "git-ksplice trust accept trust")
            guest.step("fetch", "git-ksplice fetch v1.bundle && git-ksplice status")
            guest.step("before", "numbers; dumpable 2")
            guest.step("apply", "git-ksplice apply --all && numbers; dumpable 2; git-ksplice status")
            guest.step("again", "git-ksplice apply --all")
            guest.step("eve", "git-ksplice fetch eve.bundle")
            guest.step("second", "git-ksplice fetch v2.bundle && git-ksplice status")
            guest.step(
                "withdrawn",
                "git-ksplice undo -q \(dumpable.prefix(12)) && git-ksplice apply \(dumpable.prefix(12))")
            guest.step("old", "git-ksplice fetch v1.bundle")
            guest.step("upgrade", "git-ksplice upgrade && numbers; dumpable 2; git-ksplice status")
            guest.step("everything", "git-ksplice upgrade")
            guest.step("back", "git-ksplice upgrade --to v1 && numbers; git-ksplice undo --all")
            guest.step(
                "end", "lsmod | grep -c ^ksplice_; git --git-dir=/var/lib/ksplice/repo.git fsck --strict")
            return try await guest.run()
        }

        @Test func aHostBelievesNobodyUnasked() async throws {
            let report = try await Self.boot.report()
            let nobody = try report.output("nobody", status: Int(Status.verificationRefused))
            #expect(nobody.contains("this host trusts nobody yet"))
            #expect(try report.output("accept").hasPrefix("alice  root,release,renew  SHA256:"))
            let eve = try report.output("eve", status: Int(Status.verificationRefused))
            #expect(eve.contains("nobody here knows its key"))
            #expect(
                try report.output("old", status: Int(Status.verificationRefused)).contains("was rolled back"))
        }

        @Test func whatIsFetchedIsApplied() async throws {
            let report = try await Self.boot.report()
            let fetched = try report.output("fetch")
            #expect(fetched.contains("channel stable, number 1: 2 new update(s)"))
            #expect(fetched.contains("channel 'stable', number 1: 2 to be applied, 0 withdrawn"))
            let before = try report.output("before").lines.map { String($0) }
            #expect(before.first != "1111" && before.last?.hasPrefix("dumpable 2") != true, "\(before)")
            let applied = try report.output("apply")
            #expect(
                applied.contains("\n1111\n") && applied.contains("this kernel has the fixes of release v1"),
                "\(applied)")
            #expect(try report.output("again").contains("everything of channel 'stable' is applied"))
        }

        @Test func whatIsWithdrawnOrReplacedIsUndone() async throws {
            let report = try await Self.boot.report()
            let second = try report.output("second")
            #expect(
                second.contains("  available") && second.contains("  withdrawn")
                    && second.contains("prints nothing"))
            #expect(second.contains("  replaced by a newer one"))
            let withdrawn = try report.output("withdrawn", status: Int(Status.verificationRefused))
            #expect(withdrawn.contains("was withdrawn: prints nothing"))
            let upgraded = try report.output("upgrade")
            #expect(upgraded.contains("\n3333\n") && upgraded.contains("release v2"), "\(upgraded)")
            #expect(upgraded.contains("1 to be applied") == false)
            #expect(try report.output("everything").contains("this host has everything"))
            #expect(try report.output("back").contains("1111"))
        }

        @Test func nothingIsLeft() async throws {
            let report = try await Self.boot.report()
            let (back, end) = try (report.output("back"), report.output("end"))
            // The one that replaces hands on an address of its own, and stays, inert.
            #expect(end.lines.first == "1", "\(end)\n\(back)")
            #expect(report.warnings == [])
        }
    }
}
