// Code of an update's author on a real kernel: hooks in their order, refusals that leave nothing behind, fields that
// several updates share, constants replaced in place.

import Core
import Testing

extension VirtualMachineTests {
    @Suite(.tags(.long)) struct CustomCode {
        static let fields = SharedBoot { laboratory in
            var guest = Guest(laboratory)
            guest.add(try await laboratory.update(.shadow), as: "shadow")
            guest.add(try await laboratory.update(.shadowShared), as: "shared")
            let write = "echo m > /proc/sys/kernel/hostname"
            let set = "for n in 1 2 3; do hostname n$n 2>/dev/null; done; hostname"
            guest.step("before", set)
            guest.step("apply", "git-ksplice apply shadow.tar.gz")
            guest.step("after", set)
            // Objects of their own, and objects that die with their field.
            let inNew = "unshare -u sh -c '\(set)'"
            guest.step("new namespace", "\(inNew); \(inNew)")
            let loop = "for i in $(seq 30); do unshare -u hostname x; done"
            guest.step("many", "(\(loop)) & (\(loop)); wait; echo done")
            guest.step("apply shared", "git-ksplice apply shared.tar.gz")
            guest.step(
                "shared",
                "cd /proc/sys/kernel; (\(write); cat hostname; unshare -u sh -c 'for n in 1 2 3; do echo m$n > hostname; done; cat hostname') 2>/dev/null"
            )
            guest.step("undo first", "git-ksplice undo \(try await laboratory.update(.shadow).id)")
            guest.step("still counted", "(hostname n4; hostname; \(write); hostname) 2>/dev/null")
            guest.step("undo second", "git-ksplice undo --all")
            guest.step("undone", "\(set) >/dev/null; \(write); hostname")
            guest.step("from the beginning", "git-ksplice apply -q shadow.tar.gz >/dev/null; \(set)")
            guest.step("nothing is left", "git-ksplice undo -q --all >/dev/null; rmmod ksplice && echo gone")
            return try await guest.run()
        }

        @Test func aFieldIsAddedToAStructure() async throws {
            let report = try await Self.fields.report()
            #expect(try report.output("before") == "n3")
            _ = try report.output("apply")
            #expect(try report.output("after") == "n2")
            #expect(try report.output("new namespace") == "n2\nn2")
            #expect(try report.output("many") == "done")
            #expect(try report.output("undone") == "m")
            #expect(try report.output("from the beginning") == "n2")
            #expect(try report.output("nothing is left").hasSuffix("gone"))
        }

        @Test func updatesShareTheFieldOfAnId() async throws {
            let report = try await Self.fields.report()
            _ = try report.output("apply shared")
            // The count of the namespace goes on; a new one begins anew.
            #expect(try report.output("shared") == "n2\nm2")
            _ = try report.output("undo first")
            // The old sethostname() does not count, the new sysctl still knows the count.
            #expect(try report.output("still counted") == "n4\nn4")
            _ = try report.output("undo second")
        }

        static let hooks = SharedBoot { laboratory in
            var guest = Guest(laboratory)
            guest.add(try await laboratory.update(.initial), as: "initial")
            guest.add(try await laboratory.update(.order), as: "order")
            guest.add(try await laboratory.update(.shadowCalls), as: "calls")
            guest.add(try await laboratory.update(.busyHooks), as: "busy")
            try await guest.add(.pause)
            let value = "cat /proc/sys/kernel/overflowuid"
            // The last four lines; one too many would push another out.
            let said = "dmesg | grep -o 'hook [a-z]*_[a-z]* [ab]$' | tail -n 4 | tr '\\n' ';'"
            guest.step("before", value)
            guest.step("apply", "git-ksplice apply initial.tar.gz && \(value)")
            guest.step("undo", "git-ksplice undo -q --all >/dev/null && \(value)")
            guest.step("chosen", "echo 77 > /proc/sys/kernel/overflowuid; git-ksplice apply initial.tar.gz")
            guest.step("unchanged", "\(value); \(Guest.updates); rmmod ksplice && echo gone")
            guest.step("refused", "echo 5 > /proc/sys/kernel/overflowuid; git-ksplice apply order.tar.gz")
            guest.step("refused: order", said)
            guest.step("refused: left", "\(Guest.updates); rmmod ksplice && echo gone")
            guest.step(
                "ordered",
                "echo 65534 > /proc/sys/kernel/overflowuid; git-ksplice apply order.tar.gz && \(said)")
            guest.step("undo refused", "echo 6 > /proc/sys/kernel/overflowuid; git-ksplice undo --all")
            guest.step(
                "undo refused: order",
                "\(said); git-ksplice status; cat /sys/kernel/ksplice/*/cause /sys/kernel/ksplice/*/hook")
            guest.step(
                "undone",
                "echo 7 > /proc/sys/kernel/overflowuid; git-ksplice undo -q --all >/dev/null; \(said)")
            guest.step("calls", "git-ksplice apply -q calls.tar.gz >/dev/null && dmesg | grep -o 'shadow .*'")
            guest.step(
                "calls undone", "git-ksplice undo -q --all >/dev/null && dmesg | grep -o 'shadow release .*'")
            guest.step(
                "busy",
                "sleeper & sleep 1; git-ksplice apply --timeout 0.2 busy.tar.gz; s=$?; kill $!; exit $s")
            guest.step(
                "busy: pairs",
                "for k in pre fail post; do dmesg | grep -c \"hook ${k}_apply a$\"; done; \(Guest.updates) | wc -l"
            )
            return try await guest.run()
        }

        @Test func everyCallOfShadowVariables() async throws {
            let report = try await Self.hooks.report()
            let lines = [
                "shadow values 41 0 7", "shadow detached 1", "shadow release 1 0", "shadow release 0 42",
                "shadow empty 1",
            ]
            #expect(try report.output("calls").lines.map { String($0) } == lines)
            // What is left goes with the last update that declares the id.
            #expect(try report.output("calls undone").hasSuffix("\nshadow release 3 99"))
        }

        @Test func everyAttemptEndsWhatItsHooksHaveBegun() async throws {
            let report = try await Self.hooks.report()
            #expect(try report.output("busy", status: Int(Status.busy)).contains("sleeper"))
            // Of both updates with such hooks: one success, several refusals; two stay, being resident.
            let numbers = try report.output("busy: pairs").lines.compactMap { Int($0) }
            try #require(numbers.count == 4)
            #expect(numbers[0] == numbers[1] + numbers[2], "\(numbers)")
            #expect(numbers[1] >= 3 && numbers[2] == 1 && numbers[3] == 2, "\(numbers)")
        }

        @Test func aHookChangesInitialData() async throws {
            let report = try await Self.hooks.report()
            #expect(try report.output("before") == "65534")
            let applied = try report.output("apply")
            #expect(applied.contains("3 hook(s)") && applied.hasSuffix("4711"))
            #expect(try report.output("undo") == "65534")
        }

        @Test func aCheckHookRefuses() async throws {
            let report = try await Self.hooks.report()
            let refusal = try report.output("chosen", status: Int(Status.hookRefused))
            #expect(refusal.contains("the check_apply hook 'nobody_has_chosen' refused with -16"))
            let unchanged = try report.output("unchanged")
            #expect(unchanged == "77\ngone")
        }

        @Test func hooksRunInTheirOrderAndFailuresEndWhatTheyBegan() async throws {
            let report = try await Self.hooks.report()
            #expect(try report.output("refused", status: Int(Status.hookRefused)).contains("'check_b'"))
            #expect(
                try report.output("refused: order")
                    == "hook pre_apply a;hook pre_apply b;hook fail_apply b;hook fail_apply a;")
            let left = try report.output("refused: left")
            #expect(left == "gone")
            #expect(
                try report.output("ordered").hasSuffix(
                    "hook pre_apply a;hook pre_apply b;hook post_apply a;hook post_apply b;"))
            #expect(
                try report.output("undo refused", status: Int(Status.hookRefused)).contains(
                    "the check_reverse hook 'check_b' refused with 42"))
            let refused = try report.output("undo refused: order")
            #expect(
                refused.hasPrefix(
                    "hook pre_reverse b;hook pre_reverse a;hook fail_reverse a;hook fail_reverse b;"))
            #expect(refused.contains("applied") && refused.hasSuffix("hook\ncheck_reverse check_b 42"))
            #expect(
                try report.output("undone")
                    == "hook pre_reverse b;hook pre_reverse a;hook post_reverse b;hook post_reverse a;")
        }

        static let constants = SharedBoot { laboratory in
            var guest = Guest(laboratory)
            guest.add(try await laboratory.update(.nameTable), as: "names")
            guest.add(try await laboratory.update(.operations), as: "operations")
            guest.add(try await laboratory.update(.nameTableAgain), as: "again")
            guest.add(try await laboratory.update(.deviceOperations), as: "device")
            guest.load("drivers/net/dummy.ko")
            guest.step("before", "head -1 /proc/vmstat; head -1 /proc/cpuinfo")
            guest.step("check", "git-ksplice check names.tar.gz")
            guest.step("apply", "git-ksplice apply names.tar.gz && git-ksplice apply operations.tar.gz")
            guest.step("after", "head -1 /proc/vmstat; head -1 /proc/cpuinfo")
            guest.step("undo", "git-ksplice undo --all && git-ksplice status")
            guest.step("undone", "head -1 /proc/vmstat; head -1 /proc/cpuinfo")
            guest.step("again", "git-ksplice apply -q names.tar.gz >/dev/null && head -1 /proc/vmstat")
            guest.step("another on top", "git-ksplice apply again.tar.gz")
            guest.step("undone again", "git-ksplice undo -q --all >/dev/null && head -1 /proc/vmstat")
            guest.step("another", "git-ksplice apply -q again.tar.gz >/dev/null && head -1 /proc/vmstat")
            guest.step(
                "first on top",
                "git-ksplice apply names.tar.gz; s=$?; cat /sys/kernel/ksplice/*/cause; exit $s")
            guest.step("another undone", "git-ksplice undo -q --all >/dev/null && head -1 /proc/vmstat")
            let carrier =
                "for n in 0 1; do echo $n 2>/dev/null >/sys/class/net/dummy0/carrier; cat /sys/class/net/dummy0/carrier; done"
            guest.step("device", "ip link set dummy0 up; \(carrier)")
            guest.step(
                "device changed",
                "git-ksplice apply -q device.tar.gz >/dev/null && (\(carrier)) 2>/dev/null; rmmod dummy; lsmod | grep -c dummy"
            )
            guest.step(
                "device undone",
                "git-ksplice undo -q --all >/dev/null && \(carrier) && rmmod dummy && echo gone"
            )
            return try await guest.run()
        }

        @Test func constantsAreReplacedInPlace() async throws {
            let report = try await Self.constants.report()
            let (old, new) = ("nr_free_pages", "nr_pages_free")
            let before = try report.output("before")
            #expect(before.hasPrefix(old) && before.hasSuffix("processor\t: 0"))
            #expect(try report.output("check").contains("replaces   vmstat_text"))
            #expect(try report.output("apply").contains("1 constant(s) replaced: vmstat_text"))
            let after = try report.output("after")
            #expect(after.hasPrefix(new) && after.hasSuffix("processor\t: some"))
            _ = try report.output("undo")
            let undone = try report.output("undone")
            #expect(undone.hasPrefix(old) && undone.hasSuffix("processor\t: 0"))
            #expect(try report.output("again").hasPrefix(new))
            #expect(try report.output("undone again").hasPrefix(old))
        }

        @Test func twoUpdatesCannotReplaceTheSameConstant() async throws {
            let report = try await Self.constants.report()
            let refused = try report.output("another on top", status: Int(Status.verificationRefused))
            #expect(refused.contains("'vmstat_text' cannot be replaced in place"))
            #expect(try report.output("another").hasPrefix("nr_free_frames"))
            // The first is still loaded, inert, and is not matched again: ksplice.ko refuses by itself.
            let dependent = try report.output("first on top", status: Int(Status.busy))
            #expect(dependent.contains("dependent"))
            #expect(try report.output("another undone").hasPrefix("nr_free_pages"))
        }

        @Test func aConstantOfAModuleIsReplacedForObjectsThatExist() async throws {
            let report = try await Self.constants.report()
            #expect(try report.output("device") == "0\n1")
            // As long as the update is loaded, the module stays.
            #expect(try report.output("device changed").hasPrefix("1\n1\n"))
            #expect(try report.output("device changed").hasSuffix("\n1"))
            #expect(try report.output("device undone") == "0\n1\ngone")
        }

        @Test func kernelLogsHaveNoWarnings() async throws {
            for boot in [Self.fields, Self.hooks, Self.constants] {
                #expect(try await boot.report().warnings.isEmpty)
            }
        }

        @Test func aConstantIsReplacedOnlyOnRequest() async throws {
            let laboratory = try await Laboratory.shared()
            let commit = try await laboratory.commit(.nameTable)
            let refused = try await laboratory.run("create", "--kernel", Laboratory.kernel, commit)
            #expect(refused.status == Status.cannotBePatched)
            #expect(refused.errorText.contains("--replace-constant vmstat_text"))
            let unknown = try await laboratory.run(
                "create", "--kernel", Laboratory.kernel, "--force", "constant-changed", "--replace-constant",
                "no_such", commit)
            #expect(unknown.status == Status.notFound, "\(unknown.said)")
        }
    }
}
