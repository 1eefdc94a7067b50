// Updates that replace others in one pause, while a program looks whether any call ever runs without one of them.

import Core
import Testing

extension KernelChange {
    private static let parent = "\tpid = task_tgid_vnr(rcu_dereference(current->real_parent));\n"
    private static let group = "\treturn task_tgid_vnr(current);\n"

    /// Functions whose results tell which code has run.
    static let firstNumbers = KernelChange(
        "sys: the parent is 1111", "kernel/sys.c", parent, parent + "\tpid = 1111;\n")
    static let secondNumbers = KernelChange(
        "sys: the parent is 2222", "kernel/sys.c", parent, parent + "\tpid = 2222;\n")
    /// The same and another function.
    static let bothNumbers = KernelChange(
        "sys: the parent is 3333, the process 4444",
        edits: [
            Edit(path: "kernel/sys.c", old: parent, new: parent + "\tpid = 3333;\n"),
            Edit(
                path: "fs/read_write.c", old: writing,
                new: writing + "\tif (count == 4444)\n\t\treturn -EDOM;\n"),
        ])
    /// Made on the first.
    static let numbersAgain: KernelChange = {
        var change = KernelChange("sys: the parent is 1112", "kernel/sys.c", "pid = 1111;", "pid = 1112;")
        change.ground = [.firstNumbers]
        return change
    }()
    private static let writing =
        "\tif (!(file->f_mode & FMODE_CAN_WRITE))\n\t\treturn -EINVAL;\n\tif (unlikely(!access_ok(buf, count)))\n\t\treturn -EFAULT;\n\n\tret = rw_verify_area(WRITE, file, pos, count);\n"
    /// On the way of every write, that of the program which asks for it included.
    static let ownWay = KernelChange(
        "read_write: no writes of 4445 bytes", "fs/read_write.c", writing,
        writing + "\tif (count == 4445)\n\t\treturn -EDOM;\n")
}

extension GuestProgram {
    /// `numbers` prints what the kernel says of the parent; `numbers A B` asks until /tmp/stop is there, and counts the
    /// answers A, B and others.
    static let numbers = GuestProgram(
        name: "numbers",
        code: """
            #include <stdio.h>
            #include <stdlib.h>
            #include <sys/syscall.h>
            #include <unistd.h>
            int main(int n, char **v) {
                long counts[3] = { 0 };
                if (n < 3) { printf("%ld\\n", syscall(SYS_getppid)); return 0; }
                long a = atol(v[1]), b = atol(v[2]);
                while (access("/tmp/stop", F_OK))
                    for (int i = 0; i < 1000; i++) {
                        long now = syscall(SYS_getppid);
                        counts[now == a ? 0 : now == b ? 1 : 2]++;
                    }
                printf("%s %s %ld others\\n", counts[0] ? "first" : "-", counts[1] ? "second" : "-", counts[2]);
                return 0;
            }
            """)
    /// Writes so many bytes to a file in memory.
    static let writes = GuestProgram(
        name: "writes",
        code: """
            #include <fcntl.h>
            #include <stdio.h>
            #include <stdlib.h>
            #include <unistd.h>
            static char bytes[1 << 16];
            int main(int n, char **v) {
                int fd = open("/tmp/file", O_CREAT | O_WRONLY, 0600);
                if (write(fd, bytes, atoi(v[1])) < 0) perror("write"); else puts("written");
                return 0;
            }
            """)
}

extension VirtualMachineTests {
    @Suite struct Upgrades {
        static let boot = SharedBoot { laboratory in
            var guest = Guest(laboratory)
            try await guest.add(.numbers, .writes)
            let changes: [(String, KernelChange)] = [
                ("first", .firstNumbers), ("second", .secondNumbers), ("both", .bothNumbers),
                ("again", .numbersAgain), ("way", .ownWay), ("apart", .bloom),
            ]
            var ids: [String: String] = [:]
            for (name, change) in changes {
                let update = try await laboratory.update(change)
                guest.add(update, as: name)
                ids[name] = update.id
            }
            guest.add(try await range(laboratory), as: "range.tar.gz")
            let traces = "git-ksplice status; lsmod | grep -o 'ksplice_[0-9a-f]*' | sort; true"
            guest.step("first", "git-ksplice upgrade first.tar.gz; numbers")
            guest.step(
                "files",
                """
                cd /sys/kernel/ksplice; id=$(cat */update); echo "+$id dummy allow" > await
                find . -type f | while read f; do stat -c '%a %n' $f; done; echo "-$id dummy" > await
                """)
            guest.step(
                "events on",
                "mount -t tracefs none /sys/kernel/tracing 2> /dev/null; echo 1 > /sys/kernel/tracing/events/ksplice/enable"
            )
            guest.step(
                "in between",
                """
                rm -f /tmp/stop; numbers 1111 2222 > /tmp/seen & numbers 1111 2222 > /tmp/also & sleep 1
                git-ksplice upgrade --undo \(ids["first"]!) second.tar.gz; s=$?; sleep 1; touch /tmp/stop; wait; cat /tmp/seen /tmp/also; exit $s
                """)
            guest.step("second", "numbers; \(traces)")
            guest.step(
                "events", "cat /sys/kernel/tracing/trace; echo 0 > /sys/kernel/tracing/events/ksplice/enable")
            guest.step("second again", "git-ksplice upgrade second.tar.gz")
            guest.step("other commits", "git-ksplice upgrade first.tar.gz")
            guest.step(
                "back",
                "git-ksplice upgrade --all first.tar.gz && git-ksplice upgrade range.tar.gz && numbers; \(traces)"
            )
            guest.step(
                "no ground",
                "git-ksplice upgrade -q --all first.tar.gz && git-ksplice upgrade --undo \(ids["first"]!) again.tar.gz"
            )
            guest.step(
                "back again",
                "git-ksplice apply again.tar.gz && numbers")
            guest.step("stands on", "git-ksplice upgrade --undo \(ids["first"]!) again.tar.gz")
            guest.step("stands on: still", "numbers; \(traces)")
            guest.step(
                "over two",
                "git-ksplice upgrade --undo \(ids["first"]!) --undo \(ids["again"]!) both.tar.gz && numbers && writes 4444; \(traces)"
            )
            guest.step("loss", "git-ksplice upgrade second.tar.gz")
            guest.step("loss: still", "numbers; \(traces)")
            guest.step(
                "named", "git-ksplice upgrade --undo \(ids["both"]!) second.tar.gz && numbers && writes 4444")
            guest.step("apart", "git-ksplice apply apart.tar.gz")
            guest.step(
                "two and all", "git-ksplice upgrade --all first.tar.gz way.tar.gz && numbers; \(traces)")
            guest.step("two: effect", "writes 4445; writes 4446")
            guest.step("unknown", "git-ksplice upgrade --undo ffffffffffff first.tar.gz")
            guest.step("half a word", "printf '+abc' | cat > /sys/kernel/ksplice/transition; numbers")
            guest.step(
                "order",
                "printf '+%s\\n-%s\\n' \(ids["second"]!) $(ls /sys/kernel/ksplice | grep ^\(ids["first"]!)) | cat > /sys/kernel/ksplice/transition"
            )
            guest.step("undo", "git-ksplice undo --all; numbers | grep -c 1111; writes 4445; \(traces)")
            guest.step("own way", "git-ksplice apply way.tar.gz && writes 4445")
            guest.step("own way undone", "git-ksplice undo --all && writes 4445")
            return try await guest.run()
        }

        /// An update of two commits, of which the first is that of another update.
        private static func range(_ laboratory: Laboratory) async throws -> [UInt8] {
            let first = try await laboratory.update(.firstNumbers).commit
            let commit = try await laboratory.commit(
                KernelChange("sys: the parent is 5555", "kernel/sys.c", "pid = 1111;", "pid = 5555;"),
                on: first)
            let created = try await laboratory.run(
                "create", "--kernel", Laboratory.kernel, "\(laboratory.base)..\(commit)")
            let id = created.text.lines.first.map { String($0.split(separator: " ")[1]) } ?? ""
            let file = laboratory.folder + "/range.tar.gz"
            let exported = try await laboratory.run("export", "--output", file, id)
            guard created.succeeded, exported.succeeded else {
                throw Failure("no update of a range: \(created.said) \(exported.said)")
            }
            return try Files.read(file)
        }

        @Test func oneReplacesTheOtherAndNoCallRunsWithoutBoth() async throws {
            let report = try await Self.boot.report()
            #expect(try report.output("first").hasSuffix("Done!\n1111"))
            let seen = try report.output("in between")
            #expect(seen.contains(" undone\n") && seen.contains(" applied: "), "\(seen)")
            #expect(seen.hasSuffix("Done!\nfirst second 0 others\nfirst second 0 others"), "\(seen)")
            let second = try await Laboratory.shared().update(.secondNumbers).id
            let after = try report.output("second")
            #expect(
                after.hasPrefix("2222\n\(second)  applied") && after.hasSuffix("\nksplice_\(second)"),
                "\(after)")
            #expect(try report.output("second again", status: Int(Status.no)).contains("is applied already"))
        }

        @Test func aCumulativeUpdateReplacesUnasked() async throws {
            let report = try await Self.boot.report()
            #expect(
                try report.output("other commits", status: Int(Status.no)).contains(
                    "was made of other commits"))
            let back = try report.output("back")
            #expect(back.contains("Done!\n5555\n") && back.ranges(of: "  applied").count == 1, "\(back)")
        }

        @Test("each file is described, with its mode, and nothing that is not there")
        func interface() async throws {
            let updates = try await Laboratory.shared().update(.firstNumbers)
            let text = try Files.readText(
                #filePath.directoryPart.directoryPart.directoryPart
                    + "/Documentation/ABI/sysfs-kernel-ksplice")
            let described = text.ranges(of: "What:").map { found in
                let words = text[found.upperBound...].split(whereSeparator: \.isWhitespace).prefix(3)
                return words[words.startIndex + 2].dropFirst() + " " + words[words.startIndex].dropFirst(20)
            }
            let there = try await Self.boot.report().output("files").lines.map { line in
                line.split(separator: "/").enumerated().map { index, part in
                    part.contains(":")
                        ? "<update>:<module>"
                        : part.hasPrefix(updates.id)
                            ? "<id>"
                            : part.contains(",") ? "<function>,<n>" : String(part)
                }.joined(separator: "/").replacing(" ./", with: " ")
            }
            #expect(Set(described.map { String($0) }) == Set(there))
            #expect(described.count > 10)
        }

        @Test func traceEventsTellEachAttempt() async throws {
            let report = try await Self.boot.report()
            let (first, second) = try await (
                Laboratory.shared().update(.firstNumbers).id, Laboratory.shared().update(.secondNumbers).id
            )
            let lines = try report.output("events").lines.filter { $0.contains("ksplice_") }
            func event(_ name: String, _ id: String) -> Bool {
                lines.contains {
                    $0.contains("\(name): update=\(id)") && $0.contains(" cause=none functions=1 tries=")
                }
            }
            #expect(event("ksplice_undo", first) && event("ksplice_apply", second), "\(lines)")
        }

        @Test func whatStandsOnTheReplacedGoesWithIt() async throws {
            let report = try await Self.boot.report()
            #expect(try report.output("back again").hasSuffix("1112"))
            #expect(
                try report.output("no ground", status: 129).contains("which it would replace"))
            #expect(try report.output("stands on", status: Int(Status.busy)).contains("stands on this one"))
            let still = try report.output("stands on: still")
            #expect(still.hasPrefix("1112") && still.ranges(of: "  applied").count == 2, "\(still)")
            let over = try report.output("over two")
            #expect(over.ranges(of: " undone\n").count == 2, "\(over)")
            #expect(over.contains("Done!\n3333\nwrite: Numerical argument out of domain\n"), "\(over)")
            #expect(over.ranges(of: "  applied").count == 1)
        }

        @Test func noFixGoesUnasked() async throws {
            let report = try await Self.boot.report()
            #expect(try report.output("loss", status: Int(Status.no)).contains("also changes 'vfs_write'"))
            #expect(try report.output("loss: still").hasPrefix("3333"))
            #expect(try report.output("named").hasSuffix("2222\nwritten"))
            #expect(try report.output("apart").hasSuffix("Done!"))
            let all = try report.output("two and all")
            #expect(
                all.ranges(of: " undone\n").count == 2 && all.ranges(of: " applied: ").count == 2, "\(all)")
            #expect(all.contains("Done!\n1111\n") && all.ranges(of: "  applied").count == 2, "\(all)")
            #expect(
                try report.output("two: effect") == "write: Numerical argument out of domain\nwritten")
        }

        @Test func wrongRequestsChangeNothing() async throws {
            let report = try await Self.boot.report()
            #expect(
                try report.output("unknown", status: Int(Status.no)).contains(
                    "no update 'ffffffffffff' is loaded")
            )
            let half = try report.output("half a word")
            #expect(half.contains("Invalid argument") && half.hasSuffix("1111"), "\(half)")
            #expect(try report.output("order", status: 1).contains("Invalid argument"))
        }

        @Test func whatIsOnTheWayOfTheWriteIsReplacedToo() async throws {
            let report = try await Self.boot.report()
            let undone = try report.output("undo")
            #expect(undone.contains("Done!\n0\nwritten\n") && !undone.contains("  applied"), "\(undone)")
            #expect(try report.output("own way").hasSuffix("Done!\nwrite: Numerical argument out of domain"))
            #expect(try report.output("own way undone").hasSuffix("Done!\nwritten"))
            #expect(report.warnings == [])
        }
    }
}
