// Functions of the system call, network, file system and scheduler paths are replaced and put back again and again, while
// all processors do work that goes through them and whose results are checked. Nothing may be lost: no warning, no
// wrong result, no memory. `make stress` does it 10,000 times.

import Core
import Testing

extension KernelChange {
    /// Functions that are always in use somewhere, with code that does the same.
    static let busyPaths = KernelChange(
        "sys, net, fs, sched, mm: the same in other words",
        edits: [
            edit(
                "kernel/sys.c",
                "\trcu_read_lock();\n\tpid = task_tgid_vnr(rcu_dereference(current->real_parent));\n"),
            edit("net/ipv4/tcp.c", "\tlock_sock(sk);\n\tret = tcp_sendmsg_locked(sk, msg, size);\n"),
            edit("fs/namei.c", "\tif (!dir->i_op->unlink)\n\t\treturn -EPERM;\n"),
            edit("kernel/sched/fair.c", "\tif (unlikely(se == pse))\n\t\treturn;\n"),
        ])

    /// An instruction without effect before some text.
    static func edit(_ path: String, _ text: String) -> Edit {
        Edit(
            path: path, old: text,
            new: "\tasm volatile(\"nopl 0x12345678(%rax)\");\n" + text)
    }
}

extension GuestProgram {
    /// Works on all processors until /tmp/stop is there; each worker says what it did, and that nothing was wrong.
    static let work = GuestProgram(
        name: "work",
        code: """
            #include <arpa/inet.h>
            #include <errno.h>
            #include <fcntl.h>
            #include <sched.h>
            #include <stdio.h>
            #include <stdlib.h>
            #include <string.h>
            #include <sys/socket.h>
            #include <sys/wait.h>
            #include <unistd.h>
            static const char *name;
            static long rounds;
            static unsigned seed;
            #define CHECK(x) do { if (!(x)) { \\
                printf("%s: wrong in line %d, round %ld, errno %d\\n", name, __LINE__, rounds, errno); exit(1); } } while (0)
            static unsigned next(void) { return seed = seed * 1103515245 + 12345; }
            static void fill(char *p, size_t n) { while (n--) *p++ = next() >> 16; }
            static void get(int fd, char *p, size_t n) {
                while (n) { ssize_t r = read(fd, p, n); CHECK(r > 0); p += r; n -= r; }
            }
            static void put(int fd, const char *p, size_t n) {
                while (n) { ssize_t r = write(fd, p, n); CHECK(r > 0); p += r; n -= r; }
            }
            static char out[1 << 16], in[1 << 16];
            static void calls(void) {
                static pid_t parent;
                if (!parent) parent = getppid();
                for (int i = 0; i < 1000; i++) CHECK(getppid() == parent);
            }
            static void files(void) {
                char a[64], b[64];
                sprintf(a, "/tmp/%d.a", getpid()); sprintf(b, "/tmp/%d.b", getpid());
                fill(out, sizeof out);
                int fd = open(a, O_RDWR | O_CREAT | O_TRUNC, 0600);
                CHECK(fd >= 0);
                put(fd, out, sizeof out);
                CHECK(!rename(a, b) && lseek(fd, 0, SEEK_SET) == 0);
                get(fd, in, sizeof in);
                CHECK(!memcmp(in, out, sizeof in) && !close(fd) && !unlink(b));
            }
            static void forks(void) {
                for (int i = 1; i < 8; i++) {
                    int status;
                    pid_t pid = fork();
                    CHECK(pid >= 0);
                    if (!pid) _exit(i);
                    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == i);
                }
            }
            static void net(void) {
                static int fd = -1;
                if (fd < 0) {
                    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
                    socklen_t n = sizeof a;
                    int s = socket(AF_INET, SOCK_STREAM, 0);
                    CHECK(s >= 0 && !bind(s, (void *)&a, n) && !listen(s, 1) && !getsockname(s, (void *)&a, &n));
                    if (!fork()) {
                        static char echo[1 << 14];
                        ssize_t r;
                        int c = accept(s, 0, 0);
                        while ((r = read(c, echo, sizeof echo)) > 0) put(c, echo, r);
                        _exit(0);
                    }
                    close(s);
                    fd = socket(AF_INET, SOCK_STREAM, 0);
                    CHECK(fd >= 0 && !connect(fd, (void *)&a, sizeof a));
                }
                size_t n = 1 + next() % (1 << 14);
                fill(out, n);
                put(fd, out, n);
                get(fd, in, n);
                CHECK(!memcmp(in, out, n));
            }
            static void pipes(void) {
                static int to[2], from[2];
                if (!to[1]) {
                    CHECK(!pipe(to) && !pipe(from));
                    if (!fork()) {
                        char c;
                        close(to[1]); close(from[0]);
                        while (read(to[0], &c, 1) == 1) { c++; sched_yield(); if (write(from[1], &c, 1) != 1) break; }
                        _exit(0);
                    }
                    close(to[0]); close(from[1]);
                }
                for (int i = 0; i < 50; i++) {
                    char c = next() >> 16, d = 0;
                    put(to[1], &c, 1);
                    get(from[0], &d, 1);
                    CHECK(d == (char)(c + 1));
                }
            }
            int main(void) {
                static const struct { const char *name; void (*f)(void); } kinds[] = {
                    { "calls", calls }, { "files", files }, { "forks", forks }, { "net", net }, { "pipes", pipes },
                };
                int bad = 0, status;
                for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
                    fflush(stdout);
                    if (fork()) continue;
                    name = kinds[i].name;
                    seed = i + 1;
                    for (; access("/tmp/stop", F_OK); rounds++) kinds[i].f();
                    printf("%s: %ld rounds\\n", name, rounds);
                    fflush(stdout);
                    _exit(0);
                }
                while (wait(&status) > 0 || errno == EINTR) bad |= status;
                return bad != 0;
            }
            """)

    /// `cycles ID N`: applies and undoes an update that is loaded, N times; tries again as long as somebody, or a probe, is
    /// inside. With a third word it prints each pause, in nanoseconds.
    static let cycles = GuestProgram(
        name: "cycles",
        code: """
            #include <errno.h>
            #include <fcntl.h>
            #include <stdio.h>
            #include <stdlib.h>
            #include <string.h>
            #include <unistd.h>
            static char file[200];
            static long number(const char *id, const char *name) {
                char text[64] = "";
                sprintf(file, "/sys/kernel/ksplice/%s/%s", id, name);
                int fd = open(file, O_RDONLY);
                if (fd < 0 || read(fd, text, sizeof text - 1) < 0) { perror(file); exit(1); }
                close(fd);
                return atol(text);
            }
            int main(int n, char **v) {
                long count = atol(v[2]), busy = 0, probed = 0, worst = 0;
                for (long i = 0; i < 2 * count; i++) {
                    for (int tries = 0;; tries++) {
                        sprintf(file, "/sys/kernel/ksplice/%s/enabled", v[1]);
                        int fd = open(file, O_WRONLY);
                        int error = fd < 0 || write(fd, i % 2 ? "0" : "1", 1) == 1 ? 0 : errno;
                        if (fd < 0) { perror(file); return 1; }
                        close(fd);
                        if (!error) break;
                        if ((error != EBUSY && error != EAGAIN) || tries == 5000) { printf("cycle %ld: %s\\n", i / 2, strerror(error)); return 1; }
                        *(error == EBUSY ? &busy : &probed) += 1;
                        usleep(500 + tries * 200);
                    }
                    long pause = number(v[1], "pause_ns");
                    if (pause > worst) worst = pause;
                    if (n > 3) printf("%ld\\n", pause);
                }
                printf("%ld cycles, busy %ld times, probed %ld times, longest pause %ld ns\\n", count, busy, probed, worst);
                return 0;
            }
            """)
}

extension VirtualMachineTests {
    @Suite struct UnderFire {
        /// How many times the update is applied and undone; a handful where nothing else is asked for.
        static let count = Int(Material.value("KSPLICE_STRESS_CYCLES")) ?? 60

        /// How many times without the load. A processor's slab counts as used as a whole: a cache with 64 objects in one may seem
        /// to grow by that much for each processor, and those with more are not looked at.
        static let quiet = max(count, 200)

        static let boot = SharedBoot { laboratory in
            var guest = Guest(laboratory)
            // A cycle takes below a second, most of which is undo's grace period, unless the machine has much else to do.
            guest.configure(commandLine: "", seconds: Guest.patience + 2 * count)
            try await guest.add(.work, .cycles, .shadows)
            guest.add(try await laboratory.update(.busyPaths), as: "busy")
            guest.add(try await laboratory.update(.shadowFire), as: "shadow")
            let shadow =
                "$(cd /sys/kernel/ksplice; echo \(try await laboratory.update(.shadowFire).id)*)"
            let id = "$(cd /sys/kernel/ksplice; echo \(try await laboratory.update(.busyPaths).id)*)"
            func load(_ work: String) -> String {
                """
                ifconfig lo up; rm -f /tmp/stop; work > /tmp/work & pid=$!
                sleep 1; \(work); status=$?; touch /tmp/stop; wait $pid; echo "work ended with $?"; cat /tmp/work
                sleep 2; (exit $status)
                """
            }
            let memory = """
                echo 3 > /proc/sys/vm/drop_caches; sleep 1; grep -c '\\[ksplice\\]' /proc/vmallocinfo
                for c in /sys/kernel/slab/*; do echo 1 > $c/shrink; done 2> /dev/null
                awk '/^(kmalloc|task_struct|filp|dentry|kernfs|cred_jar|pid)/ { if ($5 <= 64) print $1, $2 }' /proc/slabinfo
                """
            guest.step("apply", "git-ksplice apply busy.tar.gz")
            guest.step(
                "keep", "echo 0 > /sys/kernel/ksplice/\(id)/enabled; cat /sys/kernel/ksplice/\(id)/state")
            guest.step("warm up", load("cycles \(id) 10"))
            guest.step("fire", load("cycles \(id) \(count)"))
            // Without the load, whose own memory comes and goes.
            guest.step("settle", "sleep 2; cycles \(id) 10")
            guest.step("memory before", memory)
            guest.step("quiet", "cycles \(id) \(quiet)")
            guest.step("memory after", memory)
            guest.step(
                "shadows",
                """
                git-ksplice apply -q shadow.tar.gz && echo 0 > /sys/kernel/ksplice/\(shadow)/enabled
                rm -f /tmp/stop; shadows > /tmp/shadows & pid=$!
                sleep 1; cycles \(shadow) \(count); status=$?; touch /tmp/stop; wait $pid; echo "work ended with $?"
                cat /tmp/shadows; exit $status
                """)
            return try await guest.run()
        }

        @Test func nothingBreaksUnderLoad() async throws {
            let report = try await Self.boot.report()
            #expect(try report.output("apply").hasSuffix("Done!"))
            #expect(try report.output("keep") == "undone")
            for step in ["warm up", "fire"] {
                let said = try report.output(step)
                #expect(said.contains("work ended with 0"), "\(said)")
                #expect(!said.contains("wrong"), "\(said)")
                for kind in ["calls", "files", "forks", "net", "pipes"] {
                    let line = said.lines.first { $0.hasPrefix(kind + ": ") }
                    let rounds = line?.split(separator: " ").dropFirst().first.flatMap { Int($0) }
                    #expect(rounds ?? 0 > 0, "\(said)")
                }
            }
            #expect(try report.output("fire").contains("\(Self.count) cycles, "))
            #expect(report.warnings == [])
        }

        @Test("shadow variables are right while their update comes and goes, and each is released")
        func shadows() async throws {
            let report = try await Self.boot.report()
            let said = try report.output("shadows")
            #expect(said.contains("\(Self.count) cycles, ") && said.contains("work ended with 0"), "\(said)")
            #expect(
                said.ranges(of: "with some, without some").count == 4 && !said.contains("wrong"), "\(said)")
            #expect(report.warnings == [])
        }

        @Test("nothing is lost: no cache has grown by one object a cycle")
        func memory() async throws {
            let report = try await Self.boot.report()
            let (before, after) = try (
                Self.numbers(report.output("memory before")), Self.numbers(report.output("memory after"))
            )
            #expect(try report.output("quiet").contains("\(Self.quiet) cycles, busy 0 times"))
            #expect(before.count > 10)
            #expect(after["mappings"] == before["mappings"])
            for (cache, count) in after {
                let growth = count - (before[cache] ?? 0)
                #expect(growth < Self.quiet, "\(cache) has grown by \(growth) objects")
            }
        }

        private static func numbers(_ text: String) -> [String: Int] {
            var numbers: [String: Int] = [:]
            for line in text.lines {
                let words = line.split(separator: " ").map { String($0) }
                if words.count == 1 { numbers["mappings"] = Int(words[0]) }
                if words.count == 2 { numbers[words[0]] = Int(words[1]) }
            }
            return numbers
        }
    }
}
