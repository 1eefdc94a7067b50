// What perf does, as small programs for the guest.

import Core

extension GuestProgram {
    /// `counted ADDRESS COMMAND...`: runs a command and prints how often it came to the entry of a kernel function, as
    /// perf counts it. By address: the kernel takes no name that several functions have, and the update has one of it, too.
    static let counted = GuestProgram(
        name: "counted",
        code: """
            #include <linux/perf_event.h>
            #include <stdio.h>
            #include <stdlib.h>
            #include <string.h>
            #include <sys/syscall.h>
            #include <sys/wait.h>
            #include <unistd.h>
            int main(int n, char **v) {
                struct perf_event_attr a;
                unsigned long long count = 0;
                FILE *type = fopen("/sys/bus/event_source/devices/kprobe/type", "r");
                memset(&a, 0, sizeof a);
                if (!type || fscanf(type, "%u", &a.type) != 1) { puts("no such event"); return 1; }
                a.size = sizeof a;
                a.inherit = 1;
                a.kprobe_addr = strtoul(v[1], 0, 16);
                int fd = syscall(SYS_perf_event_open, &a, 0, -1, -1, 0);
                if (fd < 0) { perror("perf_event_open"); return 1; }
                if (!fork()) { execvp(v[2], v + 2); perror(v[2]); _exit(127); }
                wait(0);
                if (read(fd, &count, sizeof count) != sizeof count) { perror("read"); return 1; }
                printf("counted %llu\\n", count);
                return 0;
            }
            """)

    /// Samples stacks on all processors until /tmp/stop is there; prints how many, and how many of them went through code
    /// of modules.
    static let samples = GuestProgram(
        name: "samples",
        code: """
            #include <linux/perf_event.h>
            #include <poll.h>
            #include <stdio.h>
            #include <string.h>
            #include <sys/mman.h>
            #include <sys/syscall.h>
            #include <unistd.h>
            #define PAGES 64
            static unsigned long samples, through, lost;
            static void drain(struct perf_event_mmap_page *page) {
                static unsigned char record[1 << 16];
                unsigned char *data = (unsigned char *)page + 4096;
                unsigned long long head = __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE), tail = page->data_tail;
                while (tail < head) {
                    struct perf_event_header h;
                    for (unsigned i = 0; i < sizeof h; i++) ((unsigned char *)&h)[i] = data[(tail + i) % (PAGES * 4096)];
                    for (unsigned i = 0; i < h.size; i++) record[i] = data[(tail + i) % (PAGES * 4096)];
                    tail += h.size;
                    if (h.type == PERF_RECORD_LOST) lost++;
                    if (h.type != PERF_RECORD_SAMPLE) continue;
                    unsigned long long *chain = (void *)(record + sizeof h);
                    int found = 0;
                    for (unsigned long long i = 1; i <= chain[0]; i++)
                        found |= chain[i] >= 0xffffffffc0000000 && chain[i] < 0xffffffffff000000;
                    samples++;
                    through += found;
                }
                __atomic_store_n(&page->data_tail, tail, __ATOMIC_RELEASE);
            }
            int main(void) {
                struct perf_event_mmap_page *pages[8];
                struct pollfd fds[8];
                int count = sysconf(_SC_NPROCESSORS_ONLN);
                for (int i = 0; i < count && i < 8; i++) {
                    struct perf_event_attr a;
                    memset(&a, 0, sizeof a);
                    a.type = PERF_TYPE_SOFTWARE;
                    a.config = PERF_COUNT_SW_CPU_CLOCK;
                    a.size = sizeof a;
                    a.sample_period = 2000000;
                    a.sample_type = PERF_SAMPLE_CALLCHAIN;
                    a.exclude_callchain_user = 1;
                    fds[i].fd = syscall(SYS_perf_event_open, &a, -1, i, -1, 0);
                    fds[i].events = POLLIN;
                    if (fds[i].fd < 0) { perror("perf_event_open"); return 1; }
                    pages[i] = mmap(0, (PAGES + 1) * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fds[i].fd, 0);
                    if (pages[i] == MAP_FAILED) { perror("mmap"); return 1; }
                }
                while (access("/tmp/stop", F_OK)) {
                    poll(fds, count, 100);
                    for (int i = 0; i < count; i++) drain(pages[i]);
                }
                printf("samples: %lu, through modules: %lu\\n", samples, through);
                return 0;
            }
            """)
}
