// What create must refuse. Each has its own message and exit status, and leaves no ref and no note.

import Core
import Glibc
import Testing

extension VirtualMachineTests {
    @Suite struct CreateRefusals {
        /// Runs create, expects a status, and that nothing in the repository has changed. Returns what it said.
        private func refused(
            _ commit: String, kernel: String = Laboratory.kernel, status: Int32,
            sourceLocation: SourceLocation = #_sourceLocation
        ) async throws -> String {
            let laboratory = try await Laboratory.shared()
            let before = try await laboratory.traces(of: commit)
            let result = try await laboratory.run("create", "--kernel", kernel, commit)
            #expect(result.status == status, "\(result.said)", sourceLocation: sourceLocation)
            #expect(result.text.isEmpty, "\(result.said)", sourceLocation: sourceLocation)
            #expect(result.errorText.contains("fatal: "), "\(result.said)", sourceLocation: sourceLocation)
            #expect(try await laboratory.traces(of: commit) == before, sourceLocation: sourceLocation)
            return result.errorText
        }

        private func refused(
            _ change: KernelChange, status: Int32, sourceLocation: SourceLocation = #_sourceLocation
        ) async throws -> String {
            try await refused(
                try await Laboratory.shared().commit(change), status: status, sourceLocation: sourceLocation)
        }

        @Test func noSuchCommand() async throws {
            let result = try await Laboratory.shared().run("creat", "HEAD")
            #expect(result.status == 129 && result.text.isEmpty, "\(result.said)")
            #expect(
                result.errorText.hasSuffix("hint: did you mean 'git ksplice create'?\n"), "\(result.said)")
        }

        @Test func noSuchCommit() async throws {
            #expect(try await refused("no-such-commit", status: Status.notFound).contains("'no-such-commit'"))
        }

        @Test func noSuchKernel() async throws {
            let said = try await refused("HEAD", kernel: "no-such-kernel", status: Status.notFound)
            #expect(said.contains("no such kernel: 'no-such-kernel'"))
        }

        @Test func emptyRange() async throws {
            let base = try await Laboratory.shared().base
            #expect(
                try await refused("\(base)..\(base)", status: Status.notFound).contains("holds no commit"))
        }

        @Test("a change that the kernel's source has already")
        func changeThatTheSourceHas() async throws {
            let laboratory = try await Laboratory.shared()
            let parent = try await laboratory.commit(.initialValue)
            let commit = try await laboratory.commit(.initialValueTakenBack, on: parent)
            #expect(
                try await refused(commit, status: Status.noChange).contains("in the kernel's source already"))
        }

        @Test func conflictWithTheKernelsSource() async throws {
            let laboratory = try await Laboratory.shared()
            let parent = try await laboratory.commit(.rewritten)
            let commit = try await laboratory.commit(.conflict, on: parent)
            let said = try await refused(commit, status: Status.fatal)
            #expect(said.contains("the change does not fit the kernel's source"))
            #expect(said.contains("  kernel/sys.c: "))
            #expect(said.contains("hint: "))
        }

        @Test("comments and blank lines are no change", arguments: [KernelChange.comment, .blankLines])
        func noCode(_ change: KernelChange) async throws {
            #expect(try await refused(change, status: Status.noChange).contains("does not change any code"))
        }

        @Test func fileThatIsNotBuilt() async throws {
            #expect(
                try await refused(.notBuilt, status: Status.noChange).contains(
                    "none of the changed files: kernel/kcsan/core.c"))
        }

        @Test func compilersWords() async throws {
            let laboratory = try await Laboratory.shared()
            let said = try await refused(.doesNotCompile, status: Status.fatal)
            #expect(said.contains("kernel/sys.c"))
            #expect(said.contains("'no_such_variable' undeclared"))
            // Nor does it leave what the preprocessor made, which can be gigabytes: but for creates at work, and those that
            // are killed, there is nothing.
            let process = laboratory.folder + "/refused.pid"
            let again = try await Command(
                [
                    "sh", "-c", "echo $$ > \"$0\"; exec \"$@\"", process, laboratory.program, "create",
                    "--kernel", Laboratory.kernel, try await laboratory.commit(.doesNotCompile),
                ], directory: laboratory.repository
            ).run()
            #expect(again.status == Status.fatal, "\(again.said)")
            let left = try Files.list(laboratory.workspace + "/work")
            #expect(try !left.contains(Files.readText(process).trimmed), "\(left)")
        }

        @Test("a new function without a caller is no change, and create says why")
        func uncalledFunction() async throws {
            let said = try await refused(.uncalled, status: Status.noChange)
            #expect(said.contains("does not change any function's code"), "\(said)")
            #expect(
                said.contains("hint: no changed code calls the new function 'probe_for_later'"), "\(said)")
        }

        @Test func structureLayout() async throws {
            let said = try await refused(.layout, status: Status.cannotBePatched)
            #expect(said.contains("struct listener"))
            // The line of the new member, and who uses those that move.
            #expect(said.contains("kernel/taskstats.c:51: error: "), "\(said)")
            #expect(said.contains("new member 'added' at offset 24"), "\(said)")
            #expect(said.contains("    used by "), "\(said)")
        }

        @Test("what is let through is not in an update, and a change of nothing else is none")
        func forcedAlone() async throws {
            let laboratory = try await Laboratory.shared()
            let commit = try await laboratory.commit(.initialValue)
            let result = try await laboratory.run(
                "create", "--kernel", Laboratory.kernel, "--force", "data-changed", commit)
            #expect(result.status == Status.noChange, "\(result.said)")
            #expect(result.errorText.contains("this one has no more than data-changed"), "\(result.said)")
        }

        @Test func initialValue() async throws {
            let said = try await refused(.initialValue, status: Status.cannotBePatched)
            #expect(said.contains("kernel/sys.c:148: error: the variable 'overflowuid'"), "\(said)")
            #expect(said.contains("[data-changed]"))
        }

        @Test func allFindingsAtOnce() async throws {
            let said = try await refused(.several, status: Status.cannotBePatched)
            let places = [
                "kernel/sys.c:148: error: the variable 'overflowuid'", "kernel/taskstats.c:51: error: ",
                "fatal: the change cannot be made to a running kernel",
                "hint: git ksplice explain data-changed",
                "hint: git ksplice explain type-layout", "--force data-changed --force type-layout",
            ].map { said.firstRange(of: $0)?.lowerBound }
            #expect(!places.contains(nil), "\(said)")
            let found = places.compactMap { $0 }
            #expect(found == found.sorted(), "\(said)")
        }

        @Test("a refusal as JSON tells the same findings, and no update")
        func refusalAsJSON() async throws {
            let laboratory = try await Laboratory.shared()
            let commit = try await laboratory.commit(.several)
            let before = try await laboratory.traces(of: commit)
            let result = try await laboratory.run(
                "create", "--kernel", Laboratory.kernel, "--json", "--quiet", commit)
            #expect(result.status == Status.cannotBePatched, "\(result.said)")
            let answer = try JSON(parsing: result.text)
            let findings = try #require(answer["findings"]?.array)
            let errors = findings.filter { $0["severity"]?.string == "error" }
            #expect(errors.map { $0["code"]?.string } == ["data-changed", "type-layout"])
            #expect(errors.map { $0["file"]?.string } == ["kernel/sys.c", "kernel/taskstats.c"])
            #expect(errors.map { $0["line"]?.number } == [148, 51])
            #expect(answer["update"] == .null)
            #expect(try await laboratory.traces(of: commit) == before)
        }

        @Test("a header's change counts the files that it reaches")
        func tooManyUnits() async throws {
            let laboratory = try await Laboratory.shared()
            let commit = try await laboratory.commit(.wideHeader)
            let result = try await laboratory.run(
                "create", "--kernel", Laboratory.kernel, "--max-units", "1", commit)
            #expect(result.status == Status.cannotBePatched, "\(result.said)")
            let reached = result.errorText.firstMatch(
                of: /may reach (\d+) source files that this config builds/)
            let count = try #require(reached.flatMap { Int($0.1) }, "\(result.said)")
            #expect((2...40).contains(count), "\(result.said)")
            #expect(result.errorText.contains("[too-many-units]"))
        }

        @Test func initialValueInARealFix() async throws {
            #expect(try await refused(.table, status: Status.cannotBePatched).contains("'ipv4_net_table'"))
        }

        @Test func otherCompiler() async throws {
            let laboratory = try await Laboratory.shared()
            let kernel = try await register("test-compiler", laboratory) { line in
                line.hasPrefix("CONFIG_CC_VERSION_TEXT=")
                    ? "CONFIG_CC_VERSION_TEXT=\"gcc-2 (Test 2.95.4) 2.95.4\"" : line
            }
            let said = try await refused(
                try await laboratory.commit(Self.ofOthers), kernel: kernel, status: Status.fatal)
            #expect(said.contains("another compiler"))
            #expect(said.contains("gcc-2 (Test 2.95.4) 2.95.4"))
            #expect(said.contains("hint: "))
        }

        @Test("a config that this build environment changes is refused")
        func configDrift() async throws {
            let laboratory = try await Laboratory.shared()
            // An option whose dependency is off: kconfig switches it off, too.
            let kernel = try await register("test-drift", laboratory) { line in
                line == "# CONFIG_KCSAN is not set"
                    ? "CONFIG_DEBUG_INFO_NONE=y\nCONFIG_SLUB_TINY=y\nCONFIG_KASAN=y" : line
            }
            let said = try await refused(
                try await laboratory.commit(Self.ofOthers), kernel: kernel, status: Status.fatal)
            #expect(said.contains("config changes in this build environment"), "\(said)")
            _ = try await laboratory.run("kernel", "remove", kernel)
        }

        /// For kernels that nothing is made for; the registered one's updates are other commits'.
        private static let ofOthers: KernelChange = {
            var change = KernelChange.dumpable
            change.name = "prctl: another range, for kernels of another config"
            return change
        }()

        /// Registers a kernel by the real one's config with some lines changed.
        private func register(_ name: String, _ laboratory: Laboratory, _ change: (String) -> String)
            async throws -> String
        {
            let config = try await Command(
                [
                    "sh", "-c", "dpkg-deb --fsys-tarfile \"$0\" | tar -xO --wildcards './boot/config-*'",
                    Material.oldImage,
                ]
            ).check().text
            let folder = "\(laboratory.folder)/\(name)"
            try Files.createDirectory(folder)
            try Files.write(
                config.lines.map { change(String($0)) }.joined(separator: "\n") + "\n",
                to: folder + "/.config")
            let added = try await laboratory.run(
                "kernel", "add", name, "--source", laboratory.base, "--from", folder)
            #expect(added.status == 0, "\(added.said)")
            return name
        }
    }

    @Suite struct Repositories {
        /// When create is killed, as a condition for the shell.
        enum Moment: String, CaseIterable {
            case preparing = "true"
            case compiling = "grep -q '^compiling' \"$3\" 2>/dev/null"
            /// The workspace holds the change at the place of the kernel's source.
            case sourceChanged = "[ \"$(cat \"$4\"/lock)\" = $program ] && [ ! -e \"$4\"/tree ]"
            case building = "grep -q '^building the update' \"$3\" 2>/dev/null"
        }

        @Test(
            "create that is killed leaves the repository whole, and the next one works",
            arguments: Moment.allCases)
        func killed(_ moment: Moment) async throws {
            let laboratory = try await Laboratory.shared()
            // The workspace is there, so that the moments are those of a daily create.
            _ = try await laboratory.update(.dumpable)
            let number = 10 + Moment.allCases.firstIndex(of: moment)!
            let change = KernelChange(
                "sys: killed in moment \(number)", "kernel/sys.c",
                "if (arg2 != SUID_DUMP_DISABLE && arg2 != SUID_DUMP_USER) {", "if (arg2 > \(number)) {")
            let commit = try await laboratory.commit(change)
            let before = try await laboratory.traces(of: commit)
            let script = """
                "$0" create --progress --kernel "$1" "$2" 2>"$3" & program=$!
                until \(moment.rawValue) || ! kill -0 $program; do sleep 0.002; done
                kill -9 $program
                wait $program
                """
            let log = laboratory.folder + "/killed"
            try Files.write("", to: log)
            let result = try await Command(
                [
                    "sh", "-c", script, laboratory.program, Laboratory.kernel, commit, log,
                    laboratory.workspace,
                ],
                directory: laboratory.repository
            ).run()
            let said = try Files.readText(log)
            #expect(result.status == 137, "it ended before it was killed: \(said)")
            #expect(try await laboratory.traces(of: commit) == before)
            let update = try await laboratory.update(change)
            #expect(update.output.contains("functions  __do_sys_prctl\n"), "\(update.output)")
        }

        @Test func logShowsTheUpdateAfterInit() async throws {
            let laboratory = try await Laboratory.shared()
            let update = try await laboratory.update(.dumpable)
            #expect(try await laboratory.run("init").status == 0)
            let log = try await Laboratory.git(["log", "-1", update.commit])
            #expect(log.contains("Notes (ksplice/updates):"), "\(log)")
            #expect(log.contains(update.id), "\(log)")
            #expect(try await laboratory.run("init", "--undo").status == 0)
            #expect(try await !Laboratory.git(["log", "-1", update.commit]).contains(update.id))
        }

        @Test func secondCreateFindsTheFirst() async throws {
            let laboratory = try await Laboratory.shared()
            let update = try await laboratory.update(.dumpable)
            let again = try await laboratory.run("create", "--kernel", Laboratory.kernel, update.commit)
            #expect(again.status == 0)
            #expect(again.text.contains("update \(update.id) (already made)"), "\(again.said)")
        }
    }
}
