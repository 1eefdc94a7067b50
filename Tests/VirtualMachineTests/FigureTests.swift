// Measurements of the pause and of calls, in a guest. `make bench` asks for them and prints them as rows of a table; nothing
// here fails because something is slow.
//
// Beside each pause stands what the kernel's own stop_machine() takes with a callback that does nothing, with as many tasks in
// the same guest. The function graph tracer measures the whole call in both cases; the pause itself lies within it.

import Core
import Testing

extension KernelChange {
    /// One instruction more in this many functions of files without code for boot.
    static func wide(_ count: Int, _ laboratory: Laboratory) async throws -> KernelChange {
        var edits: [Edit] = []
        for path in [
            "fs/xattr.c", "fs/stat.c", "fs/open.c", "fs/splice.c", "kernel/sys.c", "net/ipv4/tcp_input.c",
            "net/ipv4/tcp_output.c", "mm/gup.c", "fs/super.c", "fs/file.c", "lib/kobject.c",
            "fs/kernfs/dir.c",
        ] {
            let text = try await laboratory.source(path, at: laboratory.base)
            for head in text.matches(of: /\n[a-zA-Z][^\n;{}#]*\n?[^\n;{}#]*\)\n\{\n/)
            where edits.count < count {
                let old = String(head.output)
                guard !old.contains("inline"), !old.contains("__init"), text.ranges(of: old).count == 1 else {
                    continue
                }
                edits.append(
                    Edit(path: path, old: old, new: old + "\tasm volatile(\"nopl 0x1234(%rax)\");\n"))
            }
        }
        return KernelChange("figures: \(count) functions", edits: edits)
    }

    static let squareRoot = KernelChange(
        "figures: a function that is cheap to call", "lib/math/int_sqrt.c",
        "\tif (x <= 1)\n\t\treturn x;\n\n\tm = 1UL",
        "\tif (x <= 1)\n\t\treturn x + 1;\n\n\tm = 1UL")
}

extension GuestProgram {
    /// `idle N`: N processes that wait; it ends when they are there.
    static let idle = GuestProgram(
        name: "idle",
        code: """
            #include <stdlib.h>
            #include <unistd.h>
            int main(int n, char **v) {
                for (int i = atoi(v[1]); i > 0; i--) {
                    pid_t p = fork();
                    if (p < 0) return 1;
                    if (!p) for (;;) pause();
                }
                return 0;
            }
            """)
}

extension VirtualMachineTests {
    @Suite(.tags(.long), .enabled(if: !Material.value("KSPLICE_FIGURES").isEmpty, "make bench measures"))
    struct Figures {
        private static let functions = [1, 10, 100, 500]
        /// Tasks that are added.
        private static let tasks = [0, 950, 9000]
        private static let cycles = 50

        /// Stops the machine for nothing, so many times.
        private static let empty = """
            #include <linux/module.h>
            #include <linux/stop_machine.h>
            static int nothing(void *data) { return 0; }
            static int __init begin(void)
            {
                int i;
                for (i = 0; i < 100; i++)
                    stop_machine(nothing, NULL, cpu_online_mask);
                return -EAGAIN;
            }
            module_init(begin);
            MODULE_LICENSE("GPL");

            """

        /// Calls a function a million times, and says how many nanoseconds and cycles of the emulated processor's counter each took.
        private static let calls = """
            #include <linux/module.h>
            #include <linux/kernel.h>
            #include <linux/timekeeping.h>
            #include <linux/preempt.h>
            #include <asm/tsc.h>
            static int __init begin(void)
            {
                unsigned long i, sum = 0;
                u64 best = ~0ULL, fastest = ~0ULL;
                int round;
                for (round = 0; round < 20; round++) {
                    u64 t, c;
                    preempt_disable();
                    t = ktime_get_mono_fast_ns();
                    c = rdtsc_ordered();
                    for (i = 0; i < 50000; i++)
                        sum += int_sqrt(1);
                    c = rdtsc_ordered() - c;
                    t = ktime_get_mono_fast_ns() - t;
                    preempt_enable();
                    best = min(best, t);
                    fastest = min(fastest, c);
                }
                pr_info("calls: %llu %llu %lu\\n", best * 1000 / 50000, fastest * 1000 / 50000, sum / 1000000);
                return -EAGAIN;
            }
            module_init(begin);
            MODULE_LICENSE("GPL");

            """

        private static let shell = """
            graph=/sys/kernel/tracing
            [ -e $graph/trace ] || mount -t tracefs none $graph
            watch() {
                echo stop_machine_cpuslocked > $graph/set_ftrace_filter; echo > $graph/trace
                echo function_graph > $graph/current_tracer
            }
            # The lengths of all calls, in nanoseconds.
            whole() {
                echo 0 > $graph/tracing_on
                sed -n 's/.* \\([0-9]*\\)\\.\\([0-9]\\{3\\}\\) us *|.*stop_machine.*/\\1\\2/p' $graph/trace
                echo nop > $graph/current_tracer; echo > $graph/set_ftrace_filter; echo 1 > $graph/tracing_on
            }
            empty() { watch; insmod /root/empty.ko 2> /dev/null; whole; }
            pauses() { cycles $(cd /sys/kernel/ksplice; echo $1*) \(cycles) each | grep -x '[0-9]*'; }
            count() { ls -d /proc/[0-9]* | wc -l; }
            calls() { insmod /root/calls.ko 2> /dev/null; dmesg | sed -n 's/.*calls: //p' | tail -n 1; }
            """

        static let boot = SharedBoot { laboratory in
            var guest = Guest(laboratory)
            guest.configure(commandLine: "", memoryMiB: 4096, seconds: 3600)
            try await guest.add(.cycles, .idle)
            guest.add(try await laboratory.buildModule("empty", empty), as: "empty.ko")
            guest.add(try await laboratory.buildModule("calls", calls), as: "calls.ko")
            let live = try await laboratory.livePatch(
                "livesqrt", of: "int_sqrt",
                """
                static unsigned long replacement(unsigned long x)
                {
                    unsigned long b, m, y = 0;
                    if (x <= 1)
                        return x + 1;
                    m = 1UL << (__fls(x) & ~1UL);
                    while (m != 0) {
                        b = y + m;
                        y >>= 1;
                        if (x >= b) { x -= b; y += m; }
                        m >>= 2;
                    }
                    return y;
                }
                """)
            guest.add(live, as: "livesqrt.ko")
            let squareRoot = try await laboratory.update(.squareRoot)
            guest.add(squareRoot, as: "sqrt")
            guest.add(Array(shell.utf8), as: "shell.sh")
            func step(_ name: String, _ command: String) {
                guest.step(name, ". /root/shell.sh; \(command)")
            }
            step("calls of the kernel's", "calls")
            step(
                "calls of the update's",
                "git-ksplice apply -q sqrt.tar.gz && calls && git-ksplice undo -q --all")
            step(
                "calls of the live patch's",
                """
                insmod livesqrt.ko; n=0; while [ "$(cat /sys/kernel/livepatch/livesqrt/transition)" = 1 ] && [ $((n += 1)) -lt 300 ]; do
                usleep 200000; done; calls; echo 0 > /sys/kernel/livepatch/livesqrt/enabled
                n=0; while [ -e /sys/kernel/livepatch/livesqrt ] && [ $((n += 1)) -lt 300 ]; do usleep 200000; done; rmmod livesqrt
                """)
            var ids: [Int: String] = [:]
            for count in functions {
                let update = try await laboratory.update(.wide(count, laboratory))
                guest.add(update, as: "wide\(count)")
                ids[count] = update.id
                let manifest = try Update(archive: update.archive).manifest
                print(
                    "figure of functions: \(count) edited, \(manifest.replacements.count { $0.partOf == nil }) replaced"
                )
            }
            for added in tasks {
                step("\(added) tasks", "idle \(added); sleep 5; count")
                step("\(added) tasks, empty", "empty")
                for count in functions {
                    step(
                        "\(added) tasks, \(count) functions",
                        """
                        git-ksplice apply -q wide\(count).tar.gz && echo 0 > /sys/kernel/ksplice/\(ids[count]!)/enabled
                        pauses \(ids[count]!)
                        """)
                    step(
                        "\(added) tasks, \(count) functions, whole",
                        "watch; pauses \(ids[count]!) > /dev/null; whole; git-ksplice undo -q --all > /dev/null"
                    )
                }
            }
            return try await guest.run()
        }

        /// Numbers of lines, sorted.
        private static func numbers(_ text: String) -> [Int] { text.lines.compactMap { Int($0) }.sorted() }

        /// Nanoseconds as microseconds.
        private static func micro(_ value: Int) -> String {
            value < 100_000 ? "\(value / 1000).\(value % 1000 / 100)" : "\(value / 1000)"
        }

        @Test func pauses() async throws {
            let report = try await Self.boot.report()
            for added in Self.tasks {
                let count = try report.output("\(added) tasks")
                let empty = Self.numbers(try report.output("\(added) tasks, empty"))
                try #require(empty.count == 100)
                for functions in Self.functions {
                    let inside = Self.numbers(try report.output("\(added) tasks, \(functions) functions"))
                    let whole = Self.numbers(
                        try report.output("\(added) tasks, \(functions) functions, whole"))
                    try #require(inside.count == 2 * Self.cycles && whole.count >= inside.count)
                    let cells = [
                        count, "\(functions)", Self.micro(inside[inside.count / 2]),
                        Self.micro(inside[inside.count * 99 / 100]), Self.micro(inside[inside.count - 1]),
                        Self.micro(whole[whole.count / 2]), Self.micro(empty[empty.count / 2]),
                    ]
                    print("figure of the pause: | " + cells.joined(separator: " | ") + " |")
                }
            }
        }

        @Test func calls() async throws {
            let report = try await Self.boot.report()
            for (name, sum) in [("kernel", 1), ("update", 2), ("live patch", 2)] {
                let numbers = try report.output("calls of the \(name)'s").split(separator: " ").compactMap {
                    Int($0)
                }
                try #require(numbers.count == 3)
                // It is the new function that was called.
                #expect(numbers[2] == sum)
                print(
                    "figure of calls: | the \(name)'s int_sqrt(1) | \(numbers[0] / 1000).\(numbers[0] % 1000 / 100) | \(numbers[1] / 1000) |"
                )
            }
        }
    }
}
