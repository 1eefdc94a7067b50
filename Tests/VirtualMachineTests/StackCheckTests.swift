// A task inside of old code is seen, whatever it does there: sleeps, waits for a processor, is a kernel thread, the idle
// task, or was interrupted; also where its return address is not on its stack, because a tracer keeps it. Each case has
// two halves: the module refuses and names the task, and once one check is taken out of it, it applies the update with the
// task inside. So no case passes because of another check than its own.

import Core
import Testing

extension KernelChange {
    /// Two functions that are exported and rarely used. list_sort() calls a function of its caller, which can do anything; the
    /// other one goes round a list that bites its tail, and calls nothing.
    static let waited = KernelChange(
        "lib, fs: the same in other words",
        edits: [
            edit("lib/list_sort.c", "\tif (list == head->prev)\t/* Zero or one elements */\n"),
            edit(
                "fs/seq_file.c",
                "\thlist_for_each(node, head)\n\t\tif (pos-- == 0)\n\t\t\treturn node;\n\treturn NULL;\n}\nEXPORT_SYMBOL(seq_hlist_start);\n"
            ),
        ])

    /// What the threads run that stop the machine.
    static let stoppers = KernelChange(
        "stop_machine: the same in other words",
        edits: [edit("kernel/stop_machine.c", "repeat:\n\twork = NULL;\n")])
}

extension VirtualMachineTests {
    @Suite struct StackChecks {
        /// A way to be inside.
        struct Way: Sendable, CustomTestStringConvertible {
            var name: String
            /// What is written to /dev/inside.
            var word: String
            /// Commands before and after.
            var begin = "true"
            var end = "true"
            var function = "list_sort"
            /// The start of the task's name.
            var task = "init"
            /// Whether the unwinder has seen all of the stack.
            var certainty = "reliable"
            /// Text of stack.c and what takes the check out; `OUT` stands for the condition that it is out.
            var check: String
            var without: String

            var testDescription: String { name }
        }

        private static let others = "\tif (task == current || !refcount_read(&task->stack_refcount))\n"

        /// Every word between a task's stack pointer and its top is taken for an address. So what can be forgotten is a kind of
        /// task, a kind of word, and a place that is no stack.
        static let ways = [
            Way(
                name: "sleeps", word: "s", check: others,
                without: "\tif (OUT && !task_is_running(task))\n\t\treturn;\n" + others),
            // It runs until the stopper thread takes the processor from it, as every other would.
            Way(
                name: "is preempted", word: "r", check: others,
                without: "\tif (OUT && task_is_running(task))\n\t\treturn;\n" + others),
            Way(
                name: "is a kernel thread", word: "t", task: "inside", check: others,
                without: "\tif (OUT && (task->flags & PF_KTHREAD))\n\t\treturn;\n" + others),
            // On no list of tasks. A tracepoint's function waits in it, before the processor would halt.
            Way(
                name: "is an idle task", word: "i", task: "swapper/", check: "\t\tif (cpu_online(cpu))\n",
                without: "\t\tif (OUT)\n\t\t\tcontinue;\n\t\tif (cpu_online(cpu))\n"),
            // The function calls nothing, so no call has left the address: it is in the registers that the interrupt has saved.
            // The unwinder finds them, but is not asked where no word hits.
            Way(
                name: "is interrupted", word: "a", function: "seq_hlist_start",
                check: "\t\tif (word - low < span)\n",
                without: "\t\tif (word - low < span && !(OUT && *(u8 *)(word - 5) != 0xe8))\n"),
            // These two replace the address on the stack, which the unwinder would know; again it is not asked.
            Way(
                name: "is traced by function_graph", word: "s",
                begin: "echo inside_wait > set_ftrace_filter; echo function_graph > current_tracer",
                end: "echo nop > current_tracer; echo > set_ftrace_filter",
                check: "\t\trange = find_graph(pause, tally, task);\n",
                without: "\t\trange = OUT ? NULL : find_graph(pause, tally, task);\n"),
            Way(
                name: "returns through a kretprobe", word: "s",
                begin: "echo r:inside inside_wait > kprobe_events; echo 1 > events/kprobes/inside/enable",
                end: "echo 0 > events/kprobes/inside/enable; echo > kprobe_events",
                check: "*range = find_kretprobe(pause, task);\n",
                without: "*range = OUT ? NULL : find_kretprobe(pause, task);\n"),
            // As behind a retpoline, which the unwinder takes for the end.
            Way(
                name: "sleeps behind the unwinder's end", word: "h", certainty: "possible",
                check: "\t\tunseen = find_word(pause, tally, state.sp, top);\n",
                without: "\t\tunseen = OUT ? NULL : find_word(pause, tally, state.sp, top);\n"),
        ]

        /// Each processor's stopper thread looks at its own stack.
        private static let own = (
            check: "\tscan(pause, &tally, current, sp,",
            without: "\tif (!OUT)\n\t\tscan(pause, &tally, current, sp,"
        )

        /// The archive of the change, with a ksplice.ko out of which one check at a time can be taken.
        private static func mutilated(_ laboratory: Laboratory) async throws -> [UInt8] {
            let sources = #filePath.directoryPart.directoryPart.directoryPart + "/kernel"
            let folder = laboratory.folder + "/mutilated"
            try Files.createDirectory(folder)
            for name in try Files.list(sources) {
                var text = try Files.readText("\(sources)/\(name)")
                if name == "stack.c" {
                    let checks = ways.map { ($0.check, $0.without) } + [own]
                    for (position, (check, without)) in checks.enumerated() {
                        guard text.ranges(of: check).count == 1 else {
                            throw Failure("stack.c has not exactly one '\(check)'")
                        }
                        text = text.replacing(
                            check, with: without.replacing("OUT", with: "(without == \(position + 1))"))
                    }
                    text = text.replacing(
                        "#include \"internal.h\"\n",
                        with: "#include \"internal.h\"\n#include <linux/moduleparam.h>\n"
                            + "static int without;\nmodule_param(without, int, 0600);\n")
                }
                try Files.write(text, to: "\(folder)/\(name)")
            }
            let update = try await laboratory.update(.waited)
            let file = laboratory.folder + "/mutilated.tar.gz"
            let created = try await laboratory.run(
                "create", "--kernel", Laboratory.kernel, update.commit,
                environment: ["GIT_KSPLICE_KERNEL_DIR": folder])
            guard created.succeeded else { throw Failure("create ended: \(created.said)") }
            let exported = try await laboratory.run("export", "--output", file, update.commit)
            guard exported.succeeded else { throw Failure("export ended: \(exported.said)") }
            return try Files.read(file)
        }

        private static let shell = """
            cd /sys/kernel/tracing
            without=/sys/module/ksplice/parameters/without
            update=$(echo /sys/kernel/ksplice/*/enabled); update=${update%/enabled}
            write() { echo $1 2> /dev/null > $update/enabled; }
            # What came of an attempt: the cause, and who was in the way.
            try() { write 1; echo $1: $(cat $update/cause) $(cat $update/conflicts); }
            enter() {
                echo $1 > /dev/inside & n=0
                while [ -z "$(cat /dev/inside)" ] && [ $((n += 1)) -lt 600 ]; do usleep 50000; done; usleep 200000
            }
            # word, number of the check
            way() {
                enter $1
                echo task: $(cat /dev/inside)
                try seen
                if [ -e $without ]; then echo $2 > $without; try missed; echo 0 > $without; fi
                echo inside: $(cat /dev/inside)
                # A grace period of undo waits for whoever runs in the kernel.
                echo l > /dev/inside; write 0
                try left; write 0; cat $update/state
            }

            """

        static let boot = SharedBoot { laboratory in
            var guest = Guest(laboratory)
            // A tick that stops in the idle loop would not come back there.
            guest.configure(commandLine: "preempt=full nohz=off cpuidle.off=1")
            guest.add(try await laboratory.update(.waited), as: "intact")
            guest.add(try await mutilated(laboratory), as: "mutilated.tar.gz")
            guest.add(try await laboratory.update(.stoppers), as: "stoppers")
            guest.add(try await laboratory.buildModule("inside", StackCheckModule.code), as: "inside.ko")
            guest.add(Array(shell.utf8), as: "shell.sh")
            guest.step("helper", "insmod inside.ko")
            for module in ["intact", "mutilated"] {
                guest.step(
                    "\(module): apply", "git-ksplice apply \(module).tar.gz && . ./shell.sh && write 0")
                for (position, way) in ways.enumerated() {
                    guest.step(
                        "\(module): \(way.name)",
                        ". ./shell.sh; \(way.begin); way \(way.word) \(position + 1); \(way.end)")
                }
                guest.step("\(module): stoppers", "git-ksplice apply --timeout 0 stoppers.tar.gz")
                guest.step(
                    "\(module): unload", "rmmod $(lsmod | grep -o '^ksplice_[0-9a-f]*') && rmmod ksplice")
            }
            guest.step("end", "rmmod inside")
            // Last, because it cannot be undone: they are inside of the new code then.
            guest.step(
                "stoppers missed",
                """
                git-ksplice apply -q mutilated.tar.gz; echo \(ways.count + 1) > /sys/module/ksplice/parameters/without
                git-ksplice apply stoppers.tar.gz
                """)
            guest.step(
                "stoppers stay",
                "echo 0 > /sys/module/ksplice/parameters/without; git-ksplice undo --timeout 0 \(try await laboratory.update(.stoppers).id)"
            )
            return try await guest.run()
        }

        /// The lines of a step by the word before the colon; the state at its end is called `state`.
        private func lines(_ step: String) async throws -> [String: String] {
            var result: [String: String] = [:]
            for line in try await Self.boot.report().output(step).lines {
                let parts = line.split(separator: ":", maxSplits: 1).map { String($0).trimmed }
                result[parts.count == 2 ? parts[0] : "state"] = parts.last ?? ""
            }
            return result
        }

        @Test("a task that is inside is seen", arguments: ways)
        func seen(_ way: Way) async throws {
            for module in ["intact", "mutilated"] {
                let said = try await lines("\(module): \(way.name)")
                let task = try #require(said["task"])
                #expect(task.split(separator: " ").last?.hasPrefix(way.task) == true, "\(said)")
                #expect((task.hasPrefix("0 ")) == (way.word == "i"), "\(said)")
                #expect(said["seen"] == "busy \(task) \(way.function) \(way.certainty)", "\(said)")
                #expect(said["inside"] == task)
                #expect(said["left"] == "none" && said["state"] == "undone", "\(said)")
            }
        }

        @Test("without its check it is not seen", arguments: ways)
        func missed(_ way: Way) async throws {
            let said = try await lines("mutilated: \(way.name)")
            #expect(said["missed"] == "none", "\(said)")
            #expect(try await lines("intact: \(way.name)")["missed"] == nil)
        }

        @Test func theThreadsThatStopTheMachineLookAtThemselves() async throws {
            let report = try await Self.boot.report()
            for module in ["intact", "mutilated"] {
                let said = try report.output("\(module): stoppers", status: Int(Status.busy))
                for processor in 0..<2 {
                    #expect(said.contains("  migration/\(processor)["), "\(said)")
                }
                #expect(said.contains("in cpu_stopper_thread"), "\(said)")
            }
            #expect(try report.output("stoppers missed").hasSuffix("Done!"))
            let stay = try report.output("stoppers stay", status: Int(Status.busy))
            #expect(stay.contains("  migration/1["), "\(stay)")
        }

        @Test func nothingIsWrongInTheEnd() async throws {
            let report = try await Self.boot.report()
            for module in ["intact", "mutilated"] {
                #expect(try report.output("\(module): apply").hasSuffix("Done!"))
                _ = try report.output("\(module): unload")
            }
            _ = try report.output("end")
            #expect(report.warnings == [])
        }
    }
}
