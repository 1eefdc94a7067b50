// Fixes that the distribution made between two versions of its kernel, each as a commit: made into an update for the
// older version's own build, checked, applied, seen, undone. One boot serves them all.

import Core
import Testing

extension VirtualMachineTests {
    @Suite struct RealFixes {
        /// A fix, the functions that it must replace, and the program that shows it.
        struct Fix: Sendable, CustomTestStringConvertible {
            var name: String
            var change: KernelChange
            var functions: [String]
            var program: GuestProgram?
            var before = ""
            var after = ""
            var testDescription: String { name }
        }

        static let fixes = [
            Fix(
                name: "auxv", change: .auxv, functions: ["prctl_set_auxv"], program: .auxv, before: "mixed",
                after: "replaced"),
            Fix(
                name: "fanotify", change: .fanotify, functions: ["fanotify_ioctl", "fanotify_add_mark"], program: .fanotify,
                before: "different", after: "equal"),
            Fix(
                name: "bloom", change: .bloom,
                functions: ["bloom_map_alloc", "bloom_map_push_elem", "bloom_map_peek_elem"]),
            Fix(
                name: "sfq", change: .sfq, functions: ["sfq_init"], program: .sfq, before: "accepted",
                after: "Invalid argument"),
            Fix(
                name: "unix", change: .unix, functions: ["unix_read_skb", "unix_stream_read_skb", "unix_scm_to_skb"], program: .unix, before: "y",
                after: "y"),
            Fix(name: "audit", change: .audit, functions: ["audit_del_rule", "audit_rule_change"]),
        ]

        static let boot = SharedBoot { laboratory in
            var guest = Guest(laboratory)
            guest.load("net/sched/sch_sfq.ko")
            for fix in fixes {
                let name = fix.name
                let update = try await laboratory.update(fix.change)
                guest.add(update, as: name)
                if let program = fix.program {
                    try await guest.add(program)
                    guest.step("\(name) before", program.name)
                }
                guest.step("\(name) check", "git-ksplice check \(name).tar.gz")
                guest.step("\(name) unchanged", "git-ksplice status")
                guest.step("\(name) apply", "git-ksplice apply \(name).tar.gz")
                guest.step("\(name) status", "git-ksplice status")
                if let program = fix.program { guest.step("\(name) after", program.name) }
                guest.step("\(name) undo", "git-ksplice undo \(update.id)")
                if let program = fix.program { guest.step("\(name) after undo", program.name) }
                guest.step("\(name) status after undo", "git-ksplice status")
            }
            guest.step("names", "cut -d' ' -f3 /proc/kallsyms | sort | uniq -d")
            guest.step("modules", "lsmod")
            return try await guest.run()
        }

        @Test("the update replaces the functions that the fix changes", arguments: fixes)
        func replaces(_ fix: Fix) async throws {
            let update = try await Laboratory.shared().update(fix.change)
            let row = try #require(update.output.lines.first { $0.hasPrefix("  functions ") })
            let functions = row.dropFirst("  functions ".count).split(whereSeparator: { $0 == " " || $0 == "," }).map { String($0) }
            #expect(!functions.isEmpty)
            for function in fix.functions { #expect(functions.contains(function), "\(row)") }
            #expect(functions.count < 12, "functions that the fix does not touch: \(row)")
        }

        @Test("check predicts, apply changes, status tells, undo changes back", arguments: fixes)
        func appliesAndUndoes(_ fix: Fix) async throws {
            let report = try await Self.boot.report()
            let id = try await Laboratory.shared().update(fix.change).id
            let check = try report.output("\(fix.name) check")
            #expect(check.contains("it can be applied"))
            for function in fix.functions { #expect(check.contains(function)) }
            #expect(try !report.output("\(fix.name) unchanged").contains("\(id)  applied"))
            #expect(try report.output("\(fix.name) apply").contains("Done!"))
            #expect(try report.output("\(fix.name) status").contains("\(id)  applied"))
            #expect(try report.output("\(fix.name) undo").contains("update \(id) undone"))
            #expect(try !report.output("\(fix.name) status after undo").contains("\(id)  applied"))
        }

        @Test("a program sees the old behaviour, the new one, and the old one again", arguments: fixes.filter { $0.program != nil })
        func behaves(_ fix: Fix) async throws {
            let report = try await Self.boot.report()
            #expect(try report.output("\(fix.name) before") == fix.before)
            #expect(try report.output("\(fix.name) after") == fix.after)
            #expect(try report.output("\(fix.name) after undo") == fix.before)
        }

        @Test func kernelLogHasNoWarnings() async throws {
            let report = try await Self.boot.report()
            #expect(report.warnings.isEmpty)
            #expect(report.kernelLog.contains("ksplice"))
        }

        @Test("the module's fix replaces code of the module")
        func isInModule() async throws {
            let laboratory = try await Laboratory.shared()
            let shown = try await laboratory.run("show", laboratory.update(.sfq).id)
            #expect(shown.text.contains("net/sched/sch_sfq.c (sch_sfq)"), "\(shown.said)")
        }

        @Test("a fix that adds functions keeps its module, for buffers may hold their addresses")
        func addsFunctions() async throws {
            let laboratory = try await Laboratory.shared()
            let update = try await laboratory.update(.unix)
            let code = try await laboratory.run("show", "--disassemble", update.id)
            #expect(code.text.contains("unix_wfree:"), "\(code.said)")
            let report = try await Self.boot.report()
            #expect(try report.output("unix undo").contains("its module stays loaded, inert"))
            #expect(try report.output("modules").contains("ksplice_\(update.id)"))
            let other = try await laboratory.update(.auxv)
            #expect(try !report.output("modules").contains("ksplice_\(other.id)"))
        }

        @Test("a fix refers to static symbols whose names are ambiguous")
        func refersToAmbiguousNames() async throws {
            let laboratory = try await Laboratory.shared()
            let code = try await laboratory.run("show", "--disassemble", laboratory.update(.audit).id)
            let report = try await Self.boot.report()
            let names = try Set(report.output("names").lines.map { String($0) })
            #expect(names.count > 10)
            let used = names.filter { code.text.contains("# \($0)") }
            #expect(!used.isEmpty, "\(code.said)")
        }
    }
}
