// Updates on updates: on the same function, on others of the same file, and with nothing in common. Matching follows the
// redirects of what is applied to the newest code, from archives alone: the guest has no repository. Whatever does not fit
// is refused, and undo keeps the order.

import Testing

@testable import Core

extension KernelChange {
    /// Changes a function that `auxv` has changed.
    static let auxvAgain: KernelChange = {
        var change = KernelChange(
            "sys: no vector of one entry", "kernel/sys.c", "[AT_VECTOR_SIZE] = {};\n",
            "[AT_VECTOR_SIZE] = {};\n\n\tif (len == 16)\n\t\treturn -EDOM;\n")
        change.ground = [.auxv]
        return change
    }()
    /// Another function of the file, which calls none of them directly and is matched with them.
    static let dumpableOnAuxv: KernelChange = {
        var change = KernelChange.dumpable
        change.name = "prctl: another range, on two updates"
        change.ground = [.auxv, .auxvAgain]
        return change
    }()
    /// Brings a static variable, and one that uses it in a function that the first does not change.
    static let bringer = KernelChange(
        "sys: count",
        KernelChange.Edit(
            path: "kernel/sys.c", old: "int overflowuid = DEFAULT_OVERFLOWUID;",
            new: "static int brought_count;\nint overflowuid = DEFAULT_OVERFLOWUID;"),
        KernelChange.Edit(
            path: "kernel/sys.c", old: "\tif (len > sizeof(user_auxv))\n",
            new: "\tbrought_count++;\n\tif (len > sizeof(user_auxv))\n"))
    static let usesBrought = KernelChange(
        "prctl: count", "kernel/sys.c",
        "if (arg2 != SUID_DUMP_DISABLE && arg2 != SUID_DUMP_USER) {",
        "if (arg2 > 2 + brought_count) {")
    /// A function of a module.
    static let sfqError = KernelChange(
        "sch_sfq: an error for a large quantum", "net/sched/sch_sfq.c", "\tif (ctl->divisor &&\n",
        "\tif (ctl->quantum == 2000000)\n\t\treturn -ERANGE;\n\n\tif (ctl->divisor &&\n")
    /// The same once more.
    static let sfqErrorAgain: KernelChange = {
        var change = KernelChange(
            "sch_sfq: yet another error", "net/sched/sch_sfq.c", "return -ERANGE;", "return -EDOM;")
        change.ground = [.sfqError]
        return change
    }()
    /// Brings an inline function in a header.
    static let limit = KernelChange(
        "sys: a limit in a header",
        KernelChange.Edit(
            path: "kernel/uid16.h", old: "#endif /*",
            new: "static inline int auxv_limit(void)\n{\n\treturn 16;\n}\n\n#endif /*"),
        KernelChange.Edit(
            path: "kernel/sys.c", old: "\tif (len > sizeof(user_auxv))\n",
            new: "\tif (len == auxv_limit())\n\t\treturn -EDOM;\n\n\tif (len > sizeof(user_auxv))\n"))
    /// Changes nothing but that header.
    static let limitAgain: KernelChange = {
        var change = KernelChange(
            "sys: another limit in the header", "kernel/uid16.h", "return 16;", "return 24;")
        change.ground = [.limit]
        return change
    }()
    /// Changes the same function in the kernel's own source.
    static let auxvOtherwise = KernelChange(
        "sys: no vector of one entry, in the kernel's source", "kernel/sys.c",
        "\tif (len > sizeof(user_auxv))\n",
        "\tif (len == 16)\n\t\treturn -ERANGE;\n\n\tif (len > sizeof(user_auxv))\n")
}

extension VirtualMachineTests {
    @Suite(.tags(.long)) struct StackedUpdates {
        private static let updates: [(name: String, change: KernelChange)] = [
            ("first", .auxv), ("second", .auxvAgain), ("third", .dumpableOnAuxv), ("beside", .pause),
            ("other", .auxvOtherwise), ("plain", .dumpable),
        ]

        static let boot = SharedBoot { laboratory in
            var guest = Guest(laboratory)
            try await guest.add(.auxv, .dumpable)
            for (name, change) in updates { guest.add(try await laboratory.update(change), as: name) }
            func apply(_ step: String, _ name: String) {
                guest.step(step + ": check", "git-ksplice check \(name).tar.gz")
                guest.step(step, "git-ksplice apply \(name).tar.gz")
            }
            func look(_ step: String) { guest.step("look " + step, "auxv; dumpable 2") }
            look("before")
            apply("too early", "second")
            apply("first", "first")
            look("first")
            apply("skipping one", "third")
            apply("not on the first", "other")
            apply("second", "second")
            look("second")
            apply("plain beside", "plain")
            look("plain")
            let ids = try await updates.asyncMap { try await laboratory.update($0.change).id }
            guest.step("undo plain", "git-ksplice undo \(ids[5].prefix(12))")
            apply("third", "third")
            apply("beside", "beside")
            look("third")
            guest.step("undo first", "git-ksplice undo \(ids[0].prefix(12))")
            guest.step("undo second", "git-ksplice undo \(ids[1].prefix(12))")
            guest.step("undo third", "git-ksplice undo \(ids[2].prefix(12))")
            guest.step("undo second at last", "git-ksplice undo \(ids[1].prefix(12))")
            look("first again")
            apply("second again", "second")
            look("second again")
            guest.step("undo all", "git-ksplice undo --all")
            look("after")
            guest.step("traces", "lsmod | grep ksplice_; true")
            return try await guest.run()
        }

        @Test(
            "each update changes the newest code, and undo gives back what was there before it",
            arguments: [
                ("before", "mixed", "Invalid argument"), ("first", "replaced", "Invalid argument"),
                ("second", "prctl: Numerical argument out of domain", "Invalid argument"),
                ("plain", "prctl: Numerical argument out of domain", "dumpable 2"),
                ("third", "prctl: Numerical argument out of domain", "dumpable 2"),
                ("first again", "replaced", "Invalid argument"),
                ("second again", "prctl: Numerical argument out of domain", "Invalid argument"),
                ("after", "mixed", "Invalid argument"),
            ])
        func effects(_ step: String, _ auxv: String, _ dumpable: String) async throws {
            let lines = try await Self.boot.report().output("look " + step).lines.map { String($0) }
            #expect(lines == [auxv, dumpable])
        }

        @Test(
            "what fits is applied, and check has said so",
            arguments: ["first", "second", "plain beside", "third", "beside", "second again"])
        func fits(_ step: String) async throws {
            let report = try await Self.boot.report()
            #expect(try report.output(step + ": check").contains("it can be applied"))
            #expect(try report.output(step).hasSuffix("Done!"))
        }

        @Test(
            "an update whose ground is missing is refused with the name of what it needs",
            arguments: [("too early", KernelChange.auxv), ("skipping one", KernelChange.auxvAgain)])
        func ground(_ step: String, _ needed: KernelChange) async throws {
            let report = try await Self.boot.report()
            let id = try await Laboratory.shared().update(needed).id.prefix(12)
            let said = try report.output(step, status: Int(Status.no))
            #expect(said.contains("the update was made on update \(id), which is not applied"), "\(said)")
            let check = try report.output(step + ": check", status: Int(Status.no))
            #expect(check.contains("dependencies: the update was made on update \(id)"), "\(check)")
            // Its code cannot be compared before, and nothing is to be concluded from that.
            #expect(check.contains("what the update was made on is not applied"), "\(check)")
            #expect(!check.contains("differ"), "\(check)")
        }

        @Test("an update that knows nothing of the first is refused where it replaces the same function")
        func conflict() async throws {
            let report = try await Self.boot.report()
            let id = try await Laboratory.shared().update(.auxv).id.prefix(12)
            for step in ["not on the first", "not on the first: check"] {
                let said = try report.output(step, status: Int(Status.verificationRefused))
                #expect(said.contains("prctl_set_auxv"), "\(said)")
                #expect(said.contains(id), "\(said)")
            }
        }

        @Test("what others stand on cannot be undone", arguments: ["undo first", "undo second"])
        func order(_ step: String) async throws {
            let said = try await Self.boot.report().output(step, status: Int(Status.busy))
            #expect(said.contains("a later update stands on this one"), "\(said)")
        }

        @Test func undoLeavesNothing() async throws {
            let report = try await Self.boot.report()
            for step in ["undo plain", "undo third", "undo second at last", "undo all"] {
                _ = try report.output(step)
            }
            #expect(try report.output("traces") == "")
            #expect(report.warnings.isEmpty)
        }

        @Test func theGroundIsRecorded() async throws {
            let laboratory = try await Laboratory.shared()
            let third = try await laboratory.update(.dumpableOnAuxv)
            let ids = try await [
                laboratory.update(.auxv).id, laboratory.update(.auxvAgain).id,
            ]
            let manifest = try Update(archive: third.archive).manifest
            #expect(manifest.depends.map { String($0.prefix(ids[0].count)) } == ids)
            let shown = try await laboratory.run("show", third.id)
            for id in manifest.depends { #expect(shown.text.contains("depends on  \(id)"), "\(shown.text)") }
            let rebuilt = try await laboratory.run("verify", "--rebuild", "--cached", third.id)
            #expect(rebuilt.succeeded, "\(rebuilt.said)")
        }

        static let wider = SharedBoot { laboratory in
            var guest = Guest(laboratory)
            try await guest.add(.auxv, .sfq)
            guest.load("net/sched/sch_sfq.ko")
            func look(_ step: String) { guest.step("look " + step, "auxv; sfq") }
            look("before")
            for (name, change) in [
                ("error", KernelChange.sfqError), ("again", .sfqErrorAgain),
                ("limit", .limit), ("other limit", .limitAgain),
            ] {
                let file = name.replacing(" ", with: "-")
                guest.add(try await laboratory.update(change), as: file)
                guest.step("check " + name, "git-ksplice check \(file).tar.gz")
                guest.step("apply " + name, "git-ksplice apply \(file).tar.gz")
                look(name)
            }
            guest.step("undo", "git-ksplice undo --all")
            look("after")
            return try await guest.run()
        }

        @Test(
            "a ground may be in a module, and may have changed a header",
            arguments: [
                ("before", "mixed", "accepted"), ("error", "mixed", "Numerical result out of range"),
                ("again", "mixed", "Numerical argument out of domain"),
                ("limit", "prctl: Numerical argument out of domain", "Numerical argument out of domain"),
                ("other limit", "mixed", "Numerical argument out of domain"),
                ("after", "mixed", "accepted"),
            ])
        func wider(_ step: String, _ auxv: String, _ sfq: String) async throws {
            let report = try await Self.wider.report()
            #expect(try report.output("look " + step).lines.map { String($0) } == [auxv, sfq])
            if step != "before" && step != "after" {
                #expect(try report.output("check " + step).contains("it can be applied"))
                #expect(try report.output("apply " + step).hasSuffix("Done!"))
            }
            #expect(report.warnings == [])
        }

        @Test("what an older update has brought, and half a ground, are refused by create")
        func unsafeGrounds() async throws {
            let laboratory = try await Laboratory.shared()
            let first = try await laboratory.update(.bringer)
            let commit = try await laboratory.commit(.usesBrought, on: first.commit)
            let brought = try await laboratory.run(
                "create", "--kernel", Laboratory.kernel, "--on", first.id, commit)
            #expect(brought.status == Status.cannotBePatched, "\(brought.said)")
            #expect(
                brought.errorText.contains(
                    "refers to 'brought_count' of kernel/sys.c, which an update before it"),
                "\(brought.said)")
            let second = try await laboratory.update(.auxvAgain)
            let third = try await laboratory.update(.dumpableOnAuxv)
            let half = try await laboratory.run(
                "create", "--kernel", Laboratory.kernel, "--on", second.id, third.commit)
            #expect(half.status == Status.fatal, "\(half.said)")
            #expect(half.errorText.contains("was itself made on update"), "\(half.said)")
            let base = try await laboratory.update(.auxv).id
            let other = try await laboratory.update(.auxvOtherwise).id
            for (grounds, words) in [
                ([base, other], "both replace 'prctl_set_auxv'"), ([base, base], "is named twice with --on"),
            ] {
                let result = try await laboratory.run(
                    "create", "--kernel", Laboratory.kernel, "--on", grounds[0], "--on", grounds[1],
                    third.commit)
                #expect(result.status == Status.fatal && result.errorText.contains(words), "\(result.said)")
            }
        }

        @Test func theGroundIsTriedWithTheUpdate() async throws {
            let laboratory = try await Laboratory.shared()
            let result = try await laboratory.run("test", try await laboratory.update(.dumpableOnAuxv).id)
            #expect(result.succeeded, "\(result.said)")
            #expect(result.text.contains("3 updates were applied and undone"), "\(result.said)")
        }

        @Test func whatIsNoUpdateCannotBeTheGround() async throws {
            let laboratory = try await Laboratory.shared()
            let commit = try await laboratory.commit(.comment)
            let result = try await laboratory.run(
                "create", "--kernel", Laboratory.kernel, "--on", "deadbeefdead", commit)
            #expect(result.status == Status.notFound, "\(result.said)")
        }
    }
}

extension Sequence {
    /// The results of an asynchronous function, in order.
    fileprivate func asyncMap<T>(_ transform: (Element) async throws -> T) async rethrows -> [T] {
        var results: [T] = []
        for element in self { results.append(try await transform(element)) }
        return results
    }
}
