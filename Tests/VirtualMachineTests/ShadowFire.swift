// Shadow variables in use on all processors while their update comes and goes.

import Core

extension KernelChange {
    /// prctl(0x6b7301, N) works with the shadow variable of the object N: attaches it, reads it, and detaches it if N is odd.
    /// Those of even numbers stay until undo, which must release each once: applying again finds out.
    static let shadowFire = KernelChange(
        "sys: shadow variables under fire",
        Edit(
            path: "kernel/sys.c", old: "EXPORT_SYMBOL(overflowuid);\n",
            new: """
                EXPORT_SYMBOL(overflowuid);

                #include "ksplice.h"
                #define FIRE 0x66697265

                struct fire {
                	unsigned long number, check;
                };
                static atomic_long_t fire_attached, fire_released;

                static void fire_release(const void *object, void *variable)
                {
                	struct fire *fire = variable;

                	WARN_ON(fire->number != (unsigned long)object || fire->check != ~fire->number);
                	if (!(fire->number & 1))
                		atomic_long_inc(&fire_released);
                }
                ksplice_shadow_id(FIRE, fire_release);

                static int fire_begin(void)
                {
                	return atomic_long_read(&fire_attached) == atomic_long_read(&fire_released) ? 0 : -EIO;
                }
                ksplice_pre_apply(fire_begin);

                static int fire(unsigned long number)
                {
                	struct fire initial = { number, ~number }, *found;
                	const void *object = (const void *)number;
                	int result = 0;

                	rcu_read_lock();
                	if (ksplice_shadow_attach(object, FIRE, sizeof(initial), &initial, GFP_ATOMIC) && !(number & 1))
                		atomic_long_inc(&fire_attached);
                	found = ksplice_shadow_get(object, FIRE);
                	if (found && (found->number != number || found->check != ~number))
                		result = -EIO;
                	if (!found && !(number & 1))
                		result = -ENOENT;
                	rcu_read_unlock();
                	if (number & 1)
                		ksplice_shadow_detach(object, FIRE);
                	return result;
                }

                """),
        Edit(
            path: "kernel/sys.c", old: "\tcase PR_GET_DUMPABLE:\n",
            new: "\tcase 0x6b7301:\n\t\terror = fire(arg2);\n\t\tbreak;\n\tcase PR_GET_DUMPABLE:\n"))
}

extension GuestProgram {
    /// Threads that work with shadow variables of the same objects and of their own until /tmp/stop is there.
    static let shadows = GuestProgram(
        name: "shadows",
        code: """
            #include <errno.h>
            #include <stdio.h>
            #include <sys/prctl.h>
            #include <sys/wait.h>
            #include <unistd.h>
            int main(void) {
                int bad = 0, status;
                for (int worker = 1; worker <= 4; worker++) {
                    if (fork()) continue;
                    long with = 0, without = 0;
                    for (unsigned long i = 0; access("/tmp/stop", F_OK); i++)
                        for (unsigned long n = 2; n < 10; n++) {
                            /* Some of all, some of this one: the latter are ever new ones. */
                            unsigned long number = n < 6 ? n : (worker << 24) + (i % 1000) * 16 + n;
                            if (!prctl(0x6b7301, number, 0, 0, 0)) with++;
                            else if (errno == EINVAL) without++;
                            else { printf("wrong: %lx %m\\n", number); return 1; }
                        }
                    printf("worker %d: with %s, without %s\\n", worker, with ? "some" : "none", without ? "some" : "none");
                    return 0;
                }
                while (wait(&status) > 0) bad |= status;
                return bad != 0;
            }
            """)
}
