// The worked examples of Documentation/hooks.md: changes with code of their author's, with fields attached from outside,
// and with constants replaced in place.

extension KernelChange {
    /// A new field of struct uts_namespace: how often its name was set; after two times it is refused.
    static let shadow = KernelChange(
        "uts: count changes of the name",
        Edit(
            path: "kernel/sys.c",
            old: """
                SYSCALL_DEFINE2(sethostname, char __user *, name, int, len)
                {
                	int errno;
                	char tmp[__NEW_UTS_LEN];

                """,
            new: """
                #include "ksplice.h"
                #define UTS_CHANGES 0x757473
                ksplice_shadow_id(UTS_CHANGES, NULL);

                SYSCALL_DEFINE2(sethostname, char __user *, name, int, len)
                {
                	int errno;
                	char tmp[__NEW_UTS_LEN];
                	atomic_t *changes;

                	changes = ksplice_shadow_get_or_attach(current->nsproxy->uts_ns, UTS_CHANGES,
                					       sizeof(*changes), NULL, GFP_KERNEL);
                	if (!changes)
                		return -ENOMEM;
                	if (atomic_inc_return(changes) > 2)
                		return -EBUSY;

                """),
        Edit(
            path: "kernel/utsname.c", old: "void free_uts_ns(struct uts_namespace *ns)\n{\n",
            new: """
                #include "ksplice.h"
                #define UTS_CHANGES 0x757473

                void free_uts_ns(struct uts_namespace *ns)
                {
                	ksplice_shadow_detach(ns, UTS_CHANGES);

                """))

    /// Another update that works with the same field.
    static let shadowShared = KernelChange(
        "uts: count changes by sysctl too",
        Edit(
            path: "kernel/utsname_sysctl.c",
            old: """
                static int proc_do_uts_string(struct ctl_table *table, int write,
                		  void *buffer, size_t *lenp, loff_t *ppos)
                {
                	struct ctl_table uts_table;
                	int r;
                	char tmp_data[__NEW_UTS_LEN + 1];

                """,
            new: """
                #include "ksplice.h"
                #define UTS_CHANGES 0x757473
                ksplice_shadow_id(UTS_CHANGES, NULL);

                static int proc_do_uts_string(struct ctl_table *table, int write,
                		  void *buffer, size_t *lenp, loff_t *ppos)
                {
                	struct ctl_table uts_table;
                	int r;
                	char tmp_data[__NEW_UTS_LEN + 1];
                	atomic_t *changes;

                	changes = ksplice_shadow_get_or_attach(current->nsproxy->uts_ns, UTS_CHANGES,
                					       sizeof(*changes), NULL, GFP_KERNEL);
                	if (!changes)
                		return -ENOMEM;
                	if (write && atomic_inc_return(changes) > 2)
                		return -EBUSY;

                """))

    /// Another initial value, only where nobody has chosen one.
    static let initial = KernelChange(
        "sys: another overflow user",
        Edit(
            path: "kernel/sys.c", old: "EXPORT_SYMBOL(overflowuid);\n",
            new: """
                EXPORT_SYMBOL(overflowuid);

                #include "ksplice.h"

                static int nobody_has_chosen(void)
                {
                	return overflowuid == DEFAULT_OVERFLOWUID ? 0 : -EBUSY;
                }
                ksplice_check_apply(nobody_has_chosen);

                static void set_default(void)
                {
                	overflowuid = 4711;
                }
                ksplice_apply(set_default);

                static void reset_default(void)
                {
                	if (overflowuid == 4711)
                		overflowuid = DEFAULT_OVERFLOWUID;
                }
                ksplice_reverse(reset_default);

                """))

    /// Every hook says that it runs, in two files; the second file's check refuses on demand.
    static let order = KernelChange(
        "sys, uts: hooks that say so",
        Edit(
            path: "kernel/sys.c", old: "EXPORT_SYMBOL(overflowuid);\n",
            new: "EXPORT_SYMBOL(overflowuid);\n" + talkingHooks("a")
                + "static int check_a(void) { return 0; }\nksplice_check_apply(check_a);\n"),
        Edit(
            path: "kernel/utsname.c", old: "static struct ucounts *inc_uts_namespaces",
            new: talkingHooks("b")
                + """
                extern int overflowuid;
                static int check_b(void) { return overflowuid == 5 ? -EBUSY : overflowuid == 6 ? 42 : 0; }
                ksplice_check_apply(check_b);
                ksplice_check_reverse(check_b);

                static struct ucounts *inc_uts_namespaces
                """))

    private static func talkingHooks(_ unit: String) -> String {
        var text = "#include \"ksplice.h\"\n"
        for kind in ["pre_apply", "post_apply", "fail_apply", "pre_reverse", "post_reverse", "fail_reverse"] {
            let (type, end) = kind.hasPrefix("pre") ? ("int", " return 0;") : ("void", "")
            text += """
                static \(type) \(kind)_\(unit)(void) { pr_info("hook \(kind) \(unit)\\n");\(end) }
                ksplice_\(kind)(\(kind)_\(unit));

                """
        }
        return text
    }

    /// A table of names that others use too.
    static let nameTable = KernelChange(
        "vmstat: another name", options: ["--replace-constant", "vmstat_text"],
        Edit(path: "mm/vmstat.c", old: "\t\"nr_free_pages\",", new: "\t\"nr_pages_free\","))

    /// A table of operations gets a new function.
    static let operations = KernelChange(
        "x86: tell less of processors", options: ["--replace-constant", "cpuinfo_op"],
        Edit(
            path: "arch/x86/kernel/cpu/proc.c",
            old: """
                const struct seq_operations cpuinfo_op = {
                	.start	= c_start,
                	.next	= c_next,
                	.stop	= c_stop,
                	.show	= show_cpuinfo,

                """,
            new: """
                static int show_less(struct seq_file *m, void *v)
                {
                	seq_puts(m, "processor\\t: some\\n");
                	return 0;
                }

                const struct seq_operations cpuinfo_op = {
                	.start	= c_start,
                	.next	= c_next,
                	.stop	= c_stop,
                	.show	= show_less,

                """))

    /// The same table once more, otherwise.
    static let nameTableAgain = KernelChange(
        "vmstat: yet another name", options: ["--replace-constant", "vmstat_text"],
        Edit(path: "mm/vmstat.c", old: "\t\"nr_free_pages\",", new: "\t\"nr_free_frames\","))

    /// Operations of a module, to which devices point that exist already.
    static let deviceOperations = KernelChange(
        "dummy: the carrier stays as it is", options: ["--replace-constant", "dummy_netdev_ops"],
        Edit(
            path: "drivers/net/dummy.c", old: "\t.ndo_change_carrier\t= dummy_change_carrier,\n", new: ""))

    /// Hooks around a function that tasks sleep in.
    static let busyHooks = KernelChange(
        "signal: pause returns at once, with hooks",
        Edit(
            path: "kernel/signal.c", old: "SYSCALL_DEFINE0(pause)\n{\n",
            new: talkingHooks("a")
                + "SYSCALL_DEFINE0(pause)\n{\n\tif (current->pid > 1)\n\t\treturn -EDOM;\n"))

    /// Every call of the interface of shadow variables; the results go to the log, a letter each.
    static let shadowCalls = KernelChange(
        "sys: try shadow variables",
        Edit(
            path: "kernel/sys.c", old: "EXPORT_SYMBOL(overflowuid);\n",
            new: """
                EXPORT_SYMBOL(overflowuid);

                #include "ksplice.h"
                #define SHADOW_TRIAL 0x747279

                static int trial_objects[4], trial_seen;

                static void trial_release(const void *object, void *variable)
                {
                	pr_info("shadow release %ld %d\\n", (long)((const int *)object - trial_objects), *(int *)variable);
                }
                ksplice_shadow_id(SHADOW_TRIAL, trial_release);

                static int trial_attach(void)
                {
                	int *first, value = 41;

                	first = ksplice_shadow_attach(&trial_objects[0], SHADOW_TRIAL, sizeof(value), &value, GFP_KERNEL);
                	if (!first || *first != 41)
                		return 1;
                	if (ksplice_shadow_attach(&trial_objects[0], SHADOW_TRIAL, sizeof(value), NULL, GFP_KERNEL))
                		return 2;
                	if (ksplice_shadow_get_or_attach(&trial_objects[0], SHADOW_TRIAL, 4, NULL, GFP_KERNEL) != first)
                		return 3;
                	if (ksplice_shadow_get(&trial_objects[0], SHADOW_TRIAL + 1) ||
                	    ksplice_shadow_get(&trial_objects[1], SHADOW_TRIAL))
                		return 4;
                	if (ksplice_shadow_attach(&trial_objects[0], SHADOW_TRIAL + 1, 4, NULL, GFP_KERNEL) ||
                	    ksplice_shadow_get_or_attach(&trial_objects[0], SHADOW_TRIAL + 1, 4, NULL, GFP_KERNEL))
                		return 5;
                	if (ksplice_shadow_attach(&trial_objects[1], SHADOW_TRIAL, ~0UL - 8, NULL, GFP_KERNEL | __GFP_NOWARN))
                		return 6;
                	return 0;
                }
                ksplice_pre_apply(trial_attach);

                static int trial_get(void)
                {
                	int *first = ksplice_shadow_get(&trial_objects[0], SHADOW_TRIAL);

                	trial_seen = first ? (*first)++ : 0;
                	return first ? 0 : -ENOENT;
                }
                ksplice_check_apply(trial_get);

                static void trial_detach(void)
                {
                	int *second, *third, value = 7;

                	second = ksplice_shadow_get_or_attach(&trial_objects[1], SHADOW_TRIAL, 4, NULL, GFP_KERNEL);
                	third = ksplice_shadow_get_or_attach(&trial_objects[2], SHADOW_TRIAL, 4, &value, GFP_ATOMIC);
                	pr_info("shadow values %d %d %d\\n", trial_seen, second ? *second : -1, third ? *third : -1);
                	ksplice_shadow_detach(&trial_objects[2], SHADOW_TRIAL);
                	ksplice_shadow_detach(&trial_objects[2], SHADOW_TRIAL);
                	pr_info("shadow detached %d\\n", !ksplice_shadow_get(&trial_objects[2], SHADOW_TRIAL));
                	ksplice_shadow_detach_all(SHADOW_TRIAL);
                	pr_info("shadow empty %d\\n", !ksplice_shadow_get(&trial_objects[0], SHADOW_TRIAL));
                	value = 99;
                	ksplice_shadow_attach(&trial_objects[3], SHADOW_TRIAL, 4, &value, GFP_KERNEL);
                }
                ksplice_post_apply(trial_detach);

                """))
}
