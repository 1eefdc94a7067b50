// The distribution's kernel for 32-bit x86, worked on from outside: matched, updated with fixes that the distribution made
// after it, and changed back.

import Testing

@testable import Core

extension VirtualMachineTests {
    @Suite(.serialized, .enabled(if: ThirtyTwoBitKernel.isThere, ThirtyTwoBitKernel.reason))
    struct ThirtyTwoBits {
        /// A fix, the functions that it must replace, and what a program sees of it.
        struct Fix: Sendable, CustomTestStringConvertible {
            var change: KernelChange
            var functions: [String]
            var module: String?
            var program: String?
            var before = ""
            var after = ""
            var testDescription: String { change.name }
        }

        static let fixes = [
            // What a product of 32 bits loses.
            Fix(change: .cpuTimers, functions: ["update_rlimit_cpu"]),
            Fix(
                change: .atMark, functions: ["unix_ioctl"], program: "/bin/atmark", before: "answered",
                after: "refused"),
            Fix(change: .binfmt, functions: ["bm_register_write"], module: "binfmt_misc"),
        ]

        @Test("whole objects are those of the kernel that runs, and of its files")
        func matches() async throws {
            let machine = try await ThirtyTwoBitGuest.shared.machine()
            let files = [
                "kernel/sys.c", "kernel/fork.c", "kernel/sched/core.c", "mm/memory.c", "net/core/skbuff.c",
                "net/ipv4/tcp_input.c", "fs/namei.c", "fs/binfmt_misc.c",
            ]
            let offline = try await Command(
                [machine.laboratory.program, "match", "--kernel", ThirtyTwoBitKernel.registered] + files,
                directory: machine.laboratory.repository
            ).run()
            #expect(offline.succeeded, "\(offline.said)")
            let running = try await Command(
                [machine.laboratory.program, "match", "--host", machine.command] + files,
                directory: machine.laboratory.repository
            ).run()
            #expect(running.succeeded, "\(running.said)")
            for said in [offline.text, running.text] {
                let summary = try #require(said.lines.last)
                #expect(summary.contains(" 0 differ"), "\(said)")
                let count = try #require(Int(summary.prefix { $0.isNumber }))
                #expect(count > 900, "\(summary)")
            }
        }

        @Test("a fix is made into an update, checked, applied, seen, and undone", arguments: fixes)
        func fix(_ fix: Fix) async throws {
            let machine = try await ThirtyTwoBitGuest.shared.machine()
            let laboratory = machine.laboratory
            let commit = try await laboratory.commit(fix.change, on: machine.kernel.sourceCommit)
            let created = try await laboratory.run(
                "create", "--kernel", ThirtyTwoBitKernel.registered, commit)
            #expect(created.succeeded, "\(created.said)")
            #expect(created.text.contains("are those of the kernel's files"), "\(created.said)")
            func seen() async throws -> String {
                guard let program = fix.program else { return "" }
                return String(
                    decoding: try machine.host.check(program, "run '\(program)'"), as: UTF8.self
                ).trimmed
            }
            #expect(try await seen() == fix.before)
            let checked = try await machine.run("check", commit)
            #expect(checked.succeeded && checked.text.contains("it can be applied"), "\(checked.said)")
            let applied = try await machine.run("apply", commit)
            #expect(applied.succeeded && applied.text.contains("Done!"), "\(applied.said)")
            let status = try await machine.run("status")
            for function in fix.functions { #expect(status.text.contains(function), "\(status.said)") }
            #expect(status.text.contains("  applied  "), "\(status.said)")
            #expect(try await seen() == fix.after)
            let id = try #require(status.text.lines.first { $0.contains("  applied  ") }).prefix(12)
            let loaded = try #require(try await UpdateSysfs.loaded(machine.host).first { $0.hasPrefix(id) })
            #expect(try await machine.text("/sys/kernel/ksplice/\(loaded)/enabled") == "1")
            if let module = fix.module {
                let users = try await machine.host.modules().first { $0.name == module }
                #expect((users?.references ?? 0) > 0, "the update holds the module")
            }
            // The kernel's own code stands behind the redirects.
            let again = try await machine.run("apply", commit)
            #expect(again.status == Status.no, "\(again.said)")
            let undone = try await machine.run("undo", commit)
            #expect(undone.succeeded && undone.text.contains("undone"), "\(undone.said)")
            #expect(try await seen() == fix.before)
            // One that hands on addresses of its own stays, inert.
            let after = try await machine.run("status")
            #expect(!after.text.contains("  applied  "), "\(after.said)")
        }

        @Test("code that is not the kernel's does not match")
        func refusesOtherCode() async throws {
            let machine = try await ThirtyTwoBitGuest.shared.machine()
            let laboratory = machine.laboratory
            let folder = laboratory.folder + "/i386-objects"
            let kept = try await laboratory.run(
                "match", "--quiet", "--kernel", ThirtyTwoBitKernel.registered, "--save", folder,
                "fs/namei.c")
            #expect(kept.succeeded, "\(kept.said)")
            let file = folder + "/fs/namei.o"
            #expect(try await machine.run("match", "--object", file).succeeded)
            var object = try ObjectFile(path: file)
            let section = try #require(object.section(named: ".text.path_init"))
            // Behind the ftrace site: another register is saved.
            object.sections[section].contents[5] ^= 1
            try Files.write(ELFWriter.write(object), to: file)
            let refused = try await machine.run("match", "--object", file)
            #expect(refused.status == Status.verificationRefused, "\(refused.said)")
            #expect(refused.text.contains("differs  path_init"), "\(refused.said)")
        }

        @Test("a probe in a function that is to be replaced is refused, and nothing is loaded")
        func refusesProbes() async throws {
            let machine = try await ThirtyTwoBitGuest.shared.machine()
            let laboratory = machine.laboratory
            let commit = try await laboratory.commit(.atMark, on: machine.kernel.sourceCommit)
            let tracing = "/sys/kernel/tracing"
            #expect(
                try await machine.host.store("p:probe unix_ioctl+5", into: tracing + "/kprobe_events") == 0)
            #expect(try await machine.host.store("1", into: tracing + "/events/kprobes/probe/enable") == 0)
            // What could not be unloaded after its test stays.
            let before = try await UpdateSysfs.loaded(machine.host)
            let refused = try await machine.run("apply", commit)
            #expect(refused.status == Status.busy, "\(refused.said)")
            #expect(refused.said.contains("kprobe"), "\(refused.said)")
            #expect(try await UpdateSysfs.loaded(machine.host) == before)
            #expect(try await machine.host.store("0", into: tracing + "/events/kprobes/probe/enable") == 0)
            #expect(try await machine.host.store("-:probe", into: tracing + "/kprobe_events") == 0)
        }

        @Test("a task that sleeps in a function is in the way, and is named")
        func seesTasksInside() async throws {
            let machine = try await ThirtyTwoBitGuest.shared.machine()
            let laboratory = machine.laboratory
            let commit = try await laboratory.commit(.pauseOn32Bits, on: machine.kernel.sourceCommit)
            let created = try await laboratory.run(
                "create", "--kernel", ThirtyTwoBitKernel.registered, commit)
            #expect(created.succeeded, "\(created.said)")
            let sleeper = String(
                decoding: try machine.host.check(
                    "sleeper >/dev/null 2>&1 & echo $!; sleep 0.5", "start a program"),
                as: UTF8.self
            ).trimmed
            let refused = try await machine.run("apply", "--timeout", "1", commit)
            #expect(refused.status == Status.busy, "\(refused.said)")
            #expect(refused.said.contains("sleeper[\(sleeper)]"), "\(refused.said)")
            _ = try machine.host.check("kill \(sleeper)", "stop it")
            let applied = try await machine.run("apply", commit)
            #expect(applied.succeeded, "\(applied.said)")
            #expect(try await machine.run("undo", "--all").succeeded)
        }

        @Test("the kernel's log has no warning")
        func logHasNoWarning() async throws {
            let report = try await ThirtyTwoBitGuest.shared.stop()
            #expect(report.warnings.isEmpty, "\(report.warnings)")
            #expect(report.kernelLog.contains("ksplice"))
        }
    }
}
