// Looks through the window of ksplice.ko without git-ksplice, and beside /proc/kcore.

import Core

extension GuestProgram {
    /// `window try`, as root or not, says whether a window opens; `window no-rawio` the same without CAP_SYS_RAWIO; `window
    /// facts KCORE` says what it shows, and `window speed KCORE` how fast both are; `window die` is killed with a window
    /// open.
    static let window = GuestProgram(
        name: "window",
        code: """
            #include <dirent.h>
            #include <elf.h>
            #include <errno.h>
            #include <fcntl.h>
            #include <linux/capability.h>
            #include <signal.h>
            #include <stdio.h>
            #include <stdlib.h>
            #include <string.h>
            #include <sys/syscall.h>
            #include <time.h>
            #include <unistd.h>
            typedef unsigned long word;
            static unsigned char one[1 << 20], two[1 << 20];
            static int ask(const char *text) {
                int fd = open("/sys/kernel/ksplice/window", O_WRONLY);
                if (fd < 0) return errno;
                int error = write(fd, text, strlen(text)) < 0 ? errno : 0;
                close(fd);
                return error;
            }
            static int find(void) {
                char link[64], name[64];
                for (int fd = 3; fd < 64; fd++) {
                    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
                    ssize_t n = readlink(name, link, sizeof link - 1);
                    if (n > 0 && !strncmp(link, "anon_inode:[ksplice-window]", n)) return fd;
                }
                return -1;
            }
            /* The address of a symbol of the kernel, or of a module whose name stands in brackets. */
            static word symbol(const char *wanted, const char *module) {
                char line[512], name[256], home[128];
                word address;
                FILE *all = fopen("/proc/kallsyms", "r");
                while (all && fgets(line, sizeof line, all)) {
                    *home = 0;
                    sscanf(line, "%lx %*c %255s %127s", &address, name, home);
                    if (!strcmp(name, wanted) && !strcmp(home, module)) { fclose(all); return address; }
                }
                printf("no symbol %s\\n", wanted);
                exit(1);
            }
            static long look(int fd, word address, size_t count) {
                long n = pread(fd, one, count, address & ~(1UL << 63));
                return n < 0 ? -errno : n;
            }
            /* Where the file of a core has an address. */
            static long offset(int fd, word address) {
                Elf64_Ehdr head;
                Elf64_Phdr p;
                pread(fd, &head, sizeof head, 0);
                for (int i = 0; i < head.e_phnum; i++) {
                    pread(fd, &p, sizeof p, head.e_phoff + i * sizeof p);
                    if (p.p_type == PT_LOAD && address >= p.p_vaddr && address - p.p_vaddr < p.p_memsz)
                        return p.p_offset + (address - p.p_vaddr);
                }
                return -1;
            }
            static void say(const char *what, long n) {
                if (n < 0) printf("%s: %s\\n", what, strerror(-n)); else printf("%s: %ld\\n", what, n);
            }
            static void same(int fd, int core, const char *what, word address, size_t count) {
                long n = look(fd, address, count);
                long m = pread(core, two, count, offset(core, address));
                printf("%s: %ld %s\\n", what, n, n == m && !memcmp(one, two, count) ? "equal" : "different");
            }
            static void facts(int fd, int core) {
                same(fd, core, "text", symbol("_stext", ""), 300000);
                same(fd, core, "constants", symbol("__start_rodata", ""), 300000);
                same(fd, core, "module text", symbol("ksplice_register", "[ksplice]"), 100);
                same(fd, core, "operations", symbol("pv_ops", ""), 8);
                say("end of constants", look(fd, symbol("__end_rodata", "") - 4096, 8192));
                say("beyond text", look(fd, symbol("_etext", ""), 1));
                say("data", look(fd, symbol("init_task", ""), 8));
                say("data of a module", look(fd, symbol("ksplice_mutex", "[ksplice]"), 8));
                say("direct mapping", look(fd, 0xffff888000001000, 8));
                say("nothing", look(fd, 0xfffffffffff00000, 8));
                say("not canonical", look(fd, 0x8000000000001000, 8));
                say("write", write(fd, one, 1) < 0 ? -errno : 1);
                printf("seek: %d\\n", (int)lseek(fd, 4096, SEEK_SET));
            }
            static double rate(int fd, long start, size_t size, int turns) {
                struct timespec a, b;
                long all = 0;
                clock_gettime(CLOCK_MONOTONIC, &a);
                for (int turn = 0; turn < turns; turn++)
                    for (size_t at = 0; at + 65536 <= size; at += 65536) {
                        if (pread(fd, one, 65536, start + at) != 65536) return -1;
                        all += 65536;
                    }
                clock_gettime(CLOCK_MONOTONIC, &b);
                return all / 1e6 / ((b.tv_sec - a.tv_sec) + (b.tv_nsec - a.tv_nsec) / 1e9);
            }
            int main(int argc, char **argv) {
                if (!strcmp(argv[1], "no-rawio")) {
                    struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
                    struct __user_cap_data_struct caps[2];
                    syscall(SYS_capget, &head, caps);
                    caps[0].effective &= ~(1 << CAP_SYS_RAWIO);
                    if (syscall(SYS_capset, &head, caps)) { perror("capset"); return 1; }
                }
                if (!strcmp(argv[1], "words")) {
                    const char *words[] = { "0", "2", "11", "1\\n\\n", "x", "1\\n" };
                    for (int i = 0; i < 6; i++) printf("%s\\n", strerror(ask(words[i])));
                    return 0;
                }
                int error = ask("1"), fd = find();
                if (error) { printf("%s\\n", strerror(error)); return fd >= 0; }
                if (fd < 0) { puts("no descriptor"); return 1; }
                int core = argc > 2 ? open(argv[2], O_RDONLY) : -1;
                if (!strcmp(argv[1], "facts")) facts(fd, core);
                else if (!strcmp(argv[1], "speed")) {
                    word start = symbol("_stext", "");
                    size_t size = symbol("_etext", "") - start;
                    double kcore = rate(core, offset(core, start), size, 4);
                    double window = rate(fd, start & ~(1UL << 63), size, 4);
                    printf("window %.0f MB/s, kcore %.0f MB/s, %.2f\\n", window, kcore, window / kcore);
                } else if (!strcmp(argv[1], "die")) { fflush(stdout); kill(getpid(), SIGKILL); }
                else printf("opened%s\\n", fcntl(fd, F_GETFD) == FD_CLOEXEC ? ", for this program alone" : "");
                return 0;
            }
            """)
}
