// Small programs that show what the guest's kernel does. Each prints one line and is linked statically, for the guest
// has no C library of its own.

import Core

struct GuestProgram: Sendable {
    var name: String
    var code: String

    /// Compiles it.
    func executable() async throws -> [UInt8] {
        let folder = try Files.temporaryDirectory()
        defer { try? Files.remove(folder) }
        try Files.write(code, to: folder + "/program.c")
        try await Command(["gcc", "-static", "-O1", "-o", folder + "/program", folder + "/program.c"]).check(
            "cannot compile '\(name)'")
        try await Command(["strip", folder + "/program"]).check()
        return try Files.read(folder + "/program")
    }

    /// Sets an auxiliary vector of one entry and prints how long the kernel says it is then.
    static let auxv = GuestProgram(
        name: "auxv",
        code: """
            #include <fcntl.h>
            #include <stdio.h>
            #include <sys/prctl.h>
            #include <unistd.h>
            int main(void) {
                unsigned long one[2] = { 6, 4096 };
                static char buffer[4096];
                if (prctl(PR_SET_MM, 12, one, sizeof one, 0)) { perror("prctl"); return 1; }
                int fd = open("/proc/self/auxv", O_RDONLY);
                long n = read(fd, buffer, sizeof buffer);
                printf("%s\\n", n == 32 ? "replaced" : n > 32 ? "mixed" : "unreadable");
                return 0;
            }
            """)

    /// Prints whether FIONREAD says how many bytes a read of fanotify gives.
    static let fanotify = GuestProgram(
        name: "fanotify",
        code: """
            #define _GNU_SOURCE
            #include <fcntl.h>
            #include <stdio.h>
            #include <sys/fanotify.h>
            #include <sys/ioctl.h>
            #include <sys/stat.h>
            #include <unistd.h>
            int main(void) {
                static char buffer[4096];
                int promised = 0;
                int fd = fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_FID | FAN_NONBLOCK, O_RDONLY);
                if (fd < 0) { perror("fanotify_init"); return 1; }
                mkdir("/tmp/watched", 0755);
                if (fanotify_mark(fd, FAN_MARK_ADD, FAN_CREATE | FAN_ONDIR, AT_FDCWD, "/tmp/watched")) {
                    perror("fanotify_mark");
                    return 1;
                }
                close(open("/tmp/watched/file", O_CREAT | O_WRONLY, 0644));
                unlink("/tmp/watched/file");
                if (ioctl(fd, FIONREAD, &promised)) { perror("FIONREAD"); return 1; }
                long given = read(fd, buffer, sizeof buffer);
                printf("%s\\n", given <= 0 ? "nothing" : given == promised ? "equal" : "different");
                return 0;
            }
            """)

    /// Adds a queue of kind sfq with a quantum of 2,000,000 bytes to the loopback device and removes it.
    static let sfq = GuestProgram(
        name: "sfq",
        code: """
            #include <linux/netlink.h>
            #include <linux/pkt_sched.h>
            #include <linux/rtnetlink.h>
            #include <stdio.h>
            #include <string.h>
            #include <sys/socket.h>
            #include <unistd.h>
            static int ask(int type, int flags) {
                struct { struct nlmsghdr h; struct tcmsg t; char rest[256]; } m;
                struct tc_sfq_qopt q;
                char answer[1024];
                memset(&m, 0, sizeof m);
                memset(&q, 0, sizeof q);
                q.quantum = 2000000;
                m.h.nlmsg_len = NLMSG_LENGTH(sizeof m.t);
                m.h.nlmsg_type = type;
                m.h.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
                m.t.tcm_ifindex = 1;
                m.t.tcm_parent = TC_H_ROOT;
                struct rtattr *a = (void *)((char *)&m + NLMSG_ALIGN(m.h.nlmsg_len));
                a->rta_type = TCA_KIND;
                a->rta_len = RTA_LENGTH(4);
                memcpy(RTA_DATA(a), "sfq", 4);
                m.h.nlmsg_len += RTA_ALIGN(a->rta_len);
                if (type == RTM_NEWQDISC) {
                    a = (void *)((char *)&m + NLMSG_ALIGN(m.h.nlmsg_len));
                    a->rta_type = TCA_OPTIONS;
                    a->rta_len = RTA_LENGTH(sizeof q);
                    memcpy(RTA_DATA(a), &q, sizeof q);
                    m.h.nlmsg_len += RTA_ALIGN(a->rta_len);
                }
                int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
                if (send(fd, &m, m.h.nlmsg_len, 0) < 0 || recv(fd, answer, sizeof answer, 0) < 0) return 1;
                close(fd);
                return ((struct nlmsgerr *)NLMSG_DATA((struct nlmsghdr *)answer))->error;
            }
            int main(void) {
                int error = ask(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL);
                if (!error) ask(RTM_DELQDISC, 0);
                printf("%s\\n", error ? strerror(-error) : "accepted");
                return 0;
            }
            """)

    /// Sends a file descriptor through a socket and reads from it.
    static let unix = GuestProgram(
        name: "unix",
        code: """
            #include <stdio.h>
            #include <string.h>
            #include <sys/socket.h>
            #include <unistd.h>
            int main(void) {
                int pair[2], ends[2], got = -1;
                char byte = 'x', control[CMSG_SPACE(sizeof(int))];
                struct iovec v = { &byte, 1 };
                struct msghdr m;
                memset(&m, 0, sizeof m);
                m.msg_iov = &v;
                m.msg_iovlen = 1;
                m.msg_control = control;
                m.msg_controllen = sizeof control;
                if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) || pipe(ends)) return 1;
                struct cmsghdr *c = CMSG_FIRSTHDR(&m);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(c), &ends[0], sizeof(int));
                if (sendmsg(pair[0], &m, 0) != 1) { perror("sendmsg"); return 1; }
                close(ends[0]);
                m.msg_controllen = sizeof control;
                if (recvmsg(pair[1], &m, 0) != 1) { perror("recvmsg"); return 1; }
                memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
                if (write(ends[1], "y", 1) != 1 || read(got, &byte, 1) != 1) { perror("pipe"); return 1; }
                printf("%c\\n", byte);
                return 0;
            }
            """)

    /// prctl(PR_SET_DUMPABLE) with the number that is its argument.
    static let dumpable = GuestProgram(
        name: "dumpable",
        code: """
            #include <stdio.h>
            #include <stdlib.h>
            #include <sys/prctl.h>
            int main(int argc, char **argv) {
                int result = prctl(PR_SET_DUMPABLE, atoi(argv[1]), 0, 0, 0);
                if (result) printf("%m\\n"); else printf("dumpable %d\\n", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
                return 0;
            }
            """)

    static let pause = GuestProgram(
        name: "sleeper",
        code: """
            #include <stdio.h>
            #include <sys/syscall.h>
            #include <unistd.h>
            int main(void) { syscall(SYS_pause); printf("%m\\n"); return 0; }
            """)

    /// Runs the rest of its arguments as a user who is not root.
    static let nobody = GuestProgram(
        name: "as-nobody",
        code: """
            #include <stdio.h>
            #include <unistd.h>
            int main(int argc, char **argv) {
                if (setgid(65534) || setuid(65534)) { perror("setuid"); return 1; }
                execvp(argv[1], argv + 1);
                perror(argv[1]);
                return 127;
            }
            """)
}
