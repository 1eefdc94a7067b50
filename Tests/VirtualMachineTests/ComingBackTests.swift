// Updates that come back: the same machine with its disk is booted again and again. The machine is a stock kernel with
// nothing around it; that systemd and the initial file system of Debian do what the steps here do, RealBootTests shows.

import Testing

@testable import Core

extension KernelChange {
    /// Kills the machine while it is applied.
    static let killer = KernelChange(
        "sys: a hook that kills the machine",
        Edit(
            path: "kernel/sys.c", old: "EXPORT_SYMBOL(overflowuid);\n",
            new: """
                EXPORT_SYMBOL(overflowuid);

                #include "ksplice.h"

                static int kill_machine(void)
                {
                	panic("an update that kills");
                	return 0;
                }
                ksplice_pre_apply(kill_machine);

                """))
}

extension VirtualMachineTests {
    @Suite struct ComingBack {
        private static let state = "/var/lib/git-ksplice"

        /// The steps of one boot, behind those that every boot has.
        private func boot(
            _ disk: String, _ laboratory: Laboratory, parameters: String = "",
            _ steps: (name: String, command: String)...
        ) async throws -> GuestReport {
            var guest = Guest(laboratory)
            try await guest.add(.auxv, .pause, .sfq)
            guest.add(try laboratory.module("net/sched/sch_sfq.ko"), as: "sch_sfq.ko")
            for (name, change) in [
                ("auxv", KernelChange.auxv), ("again", .auxvAgain), ("killer", .killer), ("sfq", .sfq),
                ("pause", .pause), ("other", .auxvOtherwise),
            ] {
                guest.add(try await laboratory.update(change), as: name)
            }
            guest.configure(commandLine: parameters)
            try guest.mount(disk, at: Self.state)
            for (name, command) in steps { guest.step(name, command) }
            return try await guest.run()
        }

        @Test(
            "an update comes back until it is switched off; one that kills the machine is tried once, then held"
        )
        func comesBack() async throws {
            let laboratory = try await Laboratory.shared()
            let folder = try Files.temporaryDirectory()
            defer { try? Files.remove(folder) }
            let disk = folder + "/disk"
            try await Command(["/sbin/mke2fs", "-q", "-t", "ext4", "-F", disk, "64M"]).check()
            let auxv = try await laboratory.update(.auxv).id.prefix(12)
            let again = try await laboratory.update(.auxvAgain).id.prefix(12)
            let sfq = try await laboratory.update(.sfq).id.prefix(12)
            let other = try await laboratory.update(.auxvOtherwise).id.prefix(12)
            let pause = try await laboratory.update(.pause).id.prefix(12)
            let killer = try await laboratory.update(.killer).id.prefix(12)
            let fixedTwice = "prctl: Numerical argument out of domain"

            let first = try await boot(
                disk, laboratory,
                ("too early", "git-ksplice boot add again.tar.gz"),
                ("apply", "auxv; git-ksplice apply -q --boot auxv.tar.gz; auxv"),
                ("add", "git-ksplice boot add again.tar.gz other.tar.gz sfq.tar.gz"),
                ("list", "git-ksplice boot list"),
                ("undo", "git-ksplice undo \(auxv) 2>&1; git-ksplice boot remove \(auxv)"))
            #expect(
                try first.output("too early", status: Int(Status.no)).hasSuffix(
                    "hint: git ksplice boot add \(auxv)"))
            let applied = try first.output("apply")
            #expect(applied.hasPrefix("mixed\n") && applied.hasSuffix("Done!\nreplaced"), "\(applied)")
            #expect(try first.output("add").lines.filter { $0.hasPrefix("update ") }.count == 3)
            let list = try first.output("list").lines
            #expect(list.count == 5 && list[0].hasSuffix(" (running)"), "\(list)")
            #expect(list.dropFirst().allSatisfy { $0.contains("  ready  ") })
            let undo = try first.output("undo", status: Int(Status.busy))
            #expect(undo.contains("note: the next boot applies update \(auxv) again"))
            #expect(undo.contains("stands on update \(auxv)"))

            // One does not fit the others: it is refused, and stops nobody. Another changes a module that comes later.
            let second = try await boot(
                disk, laboratory, ("run", "auxv; git-ksplice boot run; s=$?; auxv; exit $s"),
                ("confirm", "git-ksplice boot confirm"),
                ("state", "git-ksplice boot list; git-ksplice status"),
                ("module", "insmod sch_sfq.ko && sfq"),
                ("remove", "git-ksplice boot remove \(sfq) \(other)"),
                // One that never gets done: tasks are inside.
                (
                    "endless",
                    "git-ksplice boot add pause.tar.gz; sleeper & sleep 1; git-ksplice boot run --timeout 60 --limit 2"
                ), ("ended", "git-ksplice boot list; git-ksplice boot remove \(pause)"),
                ("add", "git-ksplice boot add killer.tar.gz"))
            let run = try second.output("run", status: Int(Status.no))
            #expect(run.hasPrefix("mixed\n") && run.hasSuffix(fixedTwice), "\(run)")
            #expect(run.contains("error: update \(other)"))
            #expect(try second.output("confirm").lines.count == 3)
            #expect(try second.output("module") == "Invalid argument")
            let state = try second.output("state")
            #expect(state.contains("  refused  ") && state.contains("refused at boot"), "\(state)")
            _ = try second.output("remove")
            _ = try second.output("endless", status: 128 + 14)
            let died = "[the program did not survive the attempt to apply it]"
            let ended = try second.output("ended")
            #expect(ended.lines.contains { $0.contains(pause) && $0.hasSuffix(died) }, "\(ended)")
            _ = try second.output("add")
            #expect(second.warnings == [])

            let off = try await boot(
                disk, laboratory, parameters: "ksplice=off",
                ("run", "git-ksplice boot run; auxv; git-ksplice boot confirm"))
            #expect(
                try off.output("run")
                    == "no update is applied at this boot: the kernel parameter 'ksplice=off'\nmixed")

            let death = await #expect(throws: Failure.self) {
                try await boot(disk, laboratory, ("run", "git-ksplice boot run"), ("after", "true"))
            }
            #expect(death?.message.contains("ended after 'mount'") == true, "\(death?.message ?? "")")
            #expect(
                death?.message.contains("Rebooting") == true
                    || death?.message.contains("Kernel Offset") == true)

            let held = try await boot(
                disk, laboratory, ("run", "git-ksplice boot run; s=$?; auxv; exit $s"),
                ("confirm", "git-ksplice boot confirm"), ("list", "git-ksplice boot list --json"),
                ("status", "git-ksplice status"), ("add", "git-ksplice boot add killer.tar.gz"),
                ("release", "git-ksplice boot release \(killer)"),
                ("released", "git-ksplice boot list"))
            let survived = try held.output("run", status: Int(Status.no))
            #expect(survived.hasSuffix(fixedTwice), "\(survived)")
            #expect(survived.contains("update \(auxv)") && survived.contains("update \(again)"))
            #expect(survived.contains("hint: git ksplice boot release \(killer)"))
            #expect(try held.output("confirm").lines.count == 2)
            let kernels = try JSON(parsing: held.output("list"))["kernels"]?.array ?? []
            let states = kernels.flatMap { $0["updates"]?.array ?? [] }.map { $0["state"]?.string }
            #expect(states == ["ready", "ready", "held"])
            #expect(try held.output("status").contains("\(killer)  held at boot  "))
            #expect(try held.output("add").contains("is kept already, and held: the machine did not"))
            _ = try held.output("release")
            #expect(try !held.output("released").contains("held"))
            #expect(held.warnings == [])
        }
    }
}
