// SPDX-License-Identifier: GPL-3.0-or-later
// Takes sleeping tasks out of the kernel for a moment. A tracer can stop a task without a signal that it or its parent would
// see: it wakes up, leaves its system call, stops, and when it goes on, the call begins again.
//
// The tracer is a process of its own, because the kernel lets go of what a tracer holds when it ends, and only then also of
// tasks that have not stopped. It does not sleep while it holds them: it would be inside of a function of the kernel itself.
// Whatever becomes of us, it ends after a second: what is held may be what somebody needs to go on, us included.
#include "cshims.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LIMIT 1

struct ks_holder {
    pid_t process;
    atomic_int holds, may_end;
};

static void wait_a_millisecond(void)
{
    nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

// The holder ends with its parent, and by itself after LIMIT seconds; no key of a terminal stops it.
static void bind(pid_t parent)
{
    struct itimerval limit = { .it_value.tv_sec = LIMIT };
    sigset_t alarm;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    setsid();
    sched_setscheduler(0, SCHED_OTHER, &(struct sched_param){ 0 });
    signal(SIGALRM, SIG_DFL);
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    if (sigprocmask(SIG_UNBLOCK, &alarm, NULL) || setitimer(ITIMER_REAL, &limit, NULL))
        _exit(1);
}

// In the child of a process with several threads: only calls that are safe in handlers of signals.
static _Noreturn void hold(struct ks_holder *holder, pid_t parent, const pid_t *tasks, size_t count, int milliseconds)
{
    size_t waiting = 0;
    bind(parent);
    for (size_t i = 0; i < count; i++)
        if (ptrace(PTRACE_SEIZE, tasks[i], NULL, NULL) == 0 && ptrace(PTRACE_INTERRUPT, tasks[i], NULL, NULL) == 0)
            waiting++;
    while (waiting > 0 && milliseconds-- > 0) {
        pid_t stopped;
        while (waiting > 0 && (stopped = waitpid(-1, NULL, __WALL | WNOHANG)) > 0)
            waiting--;
        if (waiting > 0)
            wait_a_millisecond();
    }
    atomic_store(&holder->holds, 1);
    while (!atomic_load(&holder->may_end))
        ;
    _exit(0);
}

struct ks_holder *ks_hold(const pid_t *tasks, size_t count, int milliseconds)
{
    struct ks_holder *holder =
        mmap(NULL, sizeof *holder, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (holder == MAP_FAILED)
        return NULL;
    pid_t parent = getpid();
    pid_t process = fork();
    if (process == 0)
        hold(holder, parent, tasks, count, milliseconds);
    if (process < 0) {
        munmap(holder, sizeof *holder);
        return NULL;
    }
    holder->process = process;
    // Its limit has begun before it holds anybody; a little more for its start.
    for (int i = 0; i < LIMIT * 1500 && !atomic_load(&holder->holds) && holder->process; i++) {
        if (waitpid(process, NULL, WNOHANG) != 0)
            holder->process = 0;
        else
            wait_a_millisecond();
    }
    return holder;
}

void ks_let_go(struct ks_holder *holder)
{
    atomic_store(&holder->may_end, 1);
    if (holder->process) {
        kill(holder->process, SIGKILL);
        while (waitpid(holder->process, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    munmap(holder, sizeof *holder);
}
