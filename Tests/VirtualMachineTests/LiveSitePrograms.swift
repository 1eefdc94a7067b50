// What runs in the guest of LiveSiteTests.

extension GuestProgram {
    /// prctl with two numbers; prints what it returns.
    static let ask = GuestProgram(
        name: "ask",
        code: """
            #include <stdio.h>
            #include <stdlib.h>
            #include <sys/syscall.h>
            #include <unistd.h>
            int main(int argc, char **argv) {
                long result = syscall(SYS_prctl, strtoul(argv[1], 0, 0), argc > 2 ? strtoul(argv[2], 0, 0) : 0, 0, 0, 0);
                if (result < 0) printf("%m\\n"); else printf("%ld\\n", result);
                return 0;
            }
            """)

    /// Gives itself the name of its argument and prints the one that it has then.
    static let rename = GuestProgram(
        name: "rename",
        code: """
            #include <stdio.h>
            #include <sys/prctl.h>
            int main(int argc, char **argv) {
                char name[16];
                prctl(PR_SET_NAME, argv[1]);
                prctl(PR_GET_NAME, name);
                puts(name);
                return 0;
            }
            """)

    static let forker = GuestProgram(
        name: "forker",
        code: """
            #include <sys/wait.h>
            #include <unistd.h>
            int main(void) {
                if (!fork()) _exit(0);
                wait(0);
                return 0;
            }
            """)

    /// Sleeps a few times in schedule_timeout() and prints how its wake-ups are counted.
    static let waiter = GuestProgram(
        name: "waiter",
        code: """
            #include <stdio.h>
            #include <sys/socket.h>
            #include <sys/time.h>
            static long wakeups(void) {
                char line[256];
                long count = 0;
                FILE *f = fopen("/proc/self/sched", "r");
                while (f && fgets(line, sizeof line, f)) sscanf(line, "nr_wakeups : %ld", &count);
                if (f) fclose(f);
                return count;
            }
            int main(void) {
                int ends[2];
                char byte;
                struct timeval limit = { 0, 20000 };
                if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends)) return 1;
                setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
                long before = wakeups();
                for (int i = 0; i < 4; i++) recv(ends[0], &byte, 1, 0);
                long counted = wakeups() - before;
                puts(!counted ? "none" : counted < 1000 ? "ones" : "thousands");
                return 0;
            }
            """)

    /// Puts event polls into each other and prints how far that goes.
    static let epolls = GuestProgram(
        name: "epolls",
        code: """
            #include <stdio.h>
            #include <sys/epoll.h>
            int main(void) {
                struct epoll_event event = { EPOLLIN };
                int inner = epoll_create1(0);
                for (int level = 0; level < 4; level++) {
                    int outer = epoll_create1(0);
                    if (epoll_ctl(outer, EPOLL_CTL_ADD, inner, &event)) { printf("%d levels\\n", level); return 0; }
                    inner = outer;
                }
                puts("all levels");
                return 0;
            }
            """)

    /// Takes a network device up and down again.
    static let updown = GuestProgram(
        name: "updown",
        code: """
            #include <net/if.h>
            #include <stdio.h>
            #include <string.h>
            #include <sys/ioctl.h>
            #include <sys/socket.h>
            int main(int argc, char **argv) {
                struct ifreq request;
                int fd = socket(AF_INET, SOCK_DGRAM, 0);
                memset(&request, 0, sizeof request);
                strcpy(request.ifr_name, argv[1]);
                request.ifr_flags = IFF_UP;
                if (ioctl(fd, SIOCSIFFLAGS, &request)) { perror("up"); return 1; }
                request.ifr_flags = 0;
                if (ioctl(fd, SIOCSIFFLAGS, &request)) { perror("down"); return 1; }
                return 0;
            }
            """)
}
