// Small programs that show what the guest's kernel does. Each prints one line and is linked statically, for the guest
// has no C library of its own.

import Core

struct GuestProgram: Sendable {
    var name: String
    var code: String

    /// Compiles it.
    func executable(_ flags: [String] = []) async throws -> [UInt8] {
        let folder = try Files.temporaryDirectory()
        defer { try? Files.remove(folder) }
        try Files.write(code, to: folder + "/program.c")
        try await Command(
            ["gcc-12", "-static", "-O1"] + flags + ["-o", folder + "/program", folder + "/program.c"]
        ).check("cannot compile '\(name)'")
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

    /// Attaches a BPF program to the entry of a kernel function, or with `exit` behind it to its return, and stays.
    static let fentry = GuestProgram(
        name: "fentry",
        code: """
            #include <fcntl.h>
            #include <linux/bpf.h>
            #include <linux/btf.h>
            #include <stdio.h>
            #include <stdlib.h>
            #include <string.h>
            #include <sys/syscall.h>
            #include <unistd.h>
            static char *read_all(const char *path, long *size) {
                int fd = open(path, O_RDONLY);
                char *text = malloc(64 << 20);
                long n, done = 0;
                while (fd >= 0 && (n = read(fd, text + done, 1 << 20)) > 0) done += n;
                *size = done;
                return text;
            }
            /* The number of a function's type in the kernel's BTF; 0 where there is none. */
            static int find(const char *name) {
                long size;
                char *all = read_all("/sys/kernel/btf/vmlinux", &size);
                struct btf_header *header = (void *)all;
                char *type = all + header->hdr_len + header->type_off;
                char *end = type + header->type_len;
                char *strings = all + header->hdr_len + header->str_off;
                for (int id = 1; type < end; id++) {
                    struct btf_type *t = (void *)type;
                    int kind = BTF_INFO_KIND(t->info), count = BTF_INFO_VLEN(t->info);
                    if (kind == BTF_KIND_FUNC && !strcmp(strings + t->name_off, name)) return id;
                    type += sizeof *t;
                    switch (kind) {
                    case BTF_KIND_INT: case BTF_KIND_VAR: case BTF_KIND_DECL_TAG: type += 4; break;
                    case BTF_KIND_ARRAY: type += sizeof(struct btf_array); break;
                    case BTF_KIND_STRUCT: case BTF_KIND_UNION: type += count * sizeof(struct btf_member); break;
                    case BTF_KIND_ENUM: case BTF_KIND_FUNC_PROTO: type += count * 8; break;
                    case BTF_KIND_DATASEC: case BTF_KIND_ENUM64: type += count * 12; break;
                    }
                }
                return 0;
            }
            int main(int argc, char **argv) {
                struct bpf_insn code[] = {
                    { .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 0 },
                    { .code = BPF_JMP | BPF_EXIT },
                };
                static char log[4096];
                union bpf_attr load, open;
                int id = find(argv[1]);
                if (!id) { puts("no such function"); return 1; }
                memset(&load, 0, sizeof load);
                load.prog_type = BPF_PROG_TYPE_TRACING;
                load.expected_attach_type = argc > 2 ? BPF_TRACE_FEXIT : BPF_TRACE_FENTRY;
                load.attach_btf_id = id;
                load.insns = (unsigned long)code;
                load.insn_cnt = 2;
                load.license = (unsigned long)"GPL";
                load.log_buf = (unsigned long)log;
                load.log_size = sizeof log;
                load.log_level = 1;
                int program = syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load);
                if (program < 0) { perror("load"); puts(log); return 1; }
                memset(&open, 0, sizeof open);
                open.raw_tracepoint.prog_fd = program;
                if (syscall(SYS_bpf, BPF_RAW_TRACEPOINT_OPEN, &open, sizeof open) < 0) {
                    perror("attach");
                    return 1;
                }
                puts("attached");
                fflush(stdout);
                pause();
                return 0;
            }
            """)
}
