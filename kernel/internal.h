/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of ksplice.ko share. core.c keeps the books of what tables.c let in, sysfs.c shows them, apply.c
 * changes code with the help of check.c (is it still what was matched?), stack.c (is nobody in it?), text.c and data.c
 * (write it), tracer.c (redirect without writing it) and hooks.c (what does the author want besides?). transition.c
 * takes the requests, late.c waits for modules that are not there yet. exports.c shows modules what applied updates export.
 * shadow.c serves the code of updates, window.c user space that matches.
 */
#ifndef KSPLICE_INTERNAL_H
#define KSPLICE_INTERNAL_H

#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/kobject.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include "register.h"

#define KSPLICE_JUMP_SIZE	5	/* jmp rel32 */
#define KSPLICE_FTRACE_SIZE	5	/* call __fentry__ */
#define KSPLICE_CONFLICTS	24	/* kept per attempt, so that they fit in one sysfs page */
#define KSPLICE_TRACE		256	/* return addresses; a kernel stack does not hold more frames */

/* Lost: its module did not come up (late.c). */
enum ksplice_state { KSPLICE_LOADED, KSPLICE_APPLIED, KSPLICE_UNDONE, KSPLICE_LOST };

/* Why the last attempt was refused. The words and error numbers are in core.c. */
enum ksplice_cause {
	KSPLICE_NONE,
	KSPLICE_BUSY,		/* a task is inside */
	KSPLICE_CHANGED,	/* code is not what was expected */
	KSPLICE_RESERVED,	/* others rewrite the bytes of a redirect */
	KSPLICE_KPROBE,
	KSPLICE_TRACER,		/* ftrace does not let us redirect */
	KSPLICE_CACHE_LINE,	/* a redirect cannot be written at once */
	KSPLICE_SIZE,		/* a redirect does not fit or does not reach */
	KSPLICE_ADDRESS,	/* not kernel text, or text we must not touch */
	KSPLICE_MODULE,		/* the update's own module is leaving */
	KSPLICE_DEPENDENT,	/* another update stands on this code */
	KSPLICE_USED,		/* a module uses an export */
	KSPLICE_MEMORY,
	KSPLICE_HOOK,		/* a hook of the patch's author refused */
	KSPLICE_CAUSES
};

struct ksplice_conflict {
	pid_t pid;
	char comm[TASK_COMM_LEN];
	const char *function;
	bool reliable;		/* false: a word on the stack, perhaps a dead one */
};

/* A redirect: five bytes of text, and the window of eight around them that is exchanged; or a tracer (tracer.c). */
struct ksplice_site {
	struct ksplice_tracer *tracer;		/* NULL for none */
	unsigned long target;			/* where it leads to */
	unsigned long address;
	unsigned long window;			/* within the same 64 bytes */
	u64 *alias;				/* the window, writable; NULL outside an attempt */
	u8 jump[KSPLICE_JUMP_SIZE];
	u8 saved[KSPLICE_JUMP_SIZE];		/* what stood there before */
};

/* A word w on a stack is inside if first <= w < end. */
struct ksplice_range {
	unsigned long first;
	unsigned long end;
	const char *name;
	struct ksplice_record *record;
};

/* An id of shadow variables that an update declares; linked while the update holds it (shadow.c). */
struct ksplice_shadow_use {
	struct list_head list;
	const struct ksplice_shadow *shadow;
	struct shadow_id *owner;
};

/* The files of one function in sysfs. */
struct ksplice_function_files {
	struct kobject kobj;
	const struct ksplice_function *function;
	const struct ksplice_site *site;
};

/* The books of one update. Everything below `kobj` that changes is protected by ksplice_mutex. */
struct ksplice_record {
	struct kobject kobj;
	struct completion released;	/* the kobject and its children are gone */
	struct kobject *functions_kobj;
	struct ksplice_function_files *files;
	struct list_head list;		/* ksplice_records, in the order of loading */
	struct ksplice_update *update;
	char id[72];

	struct list_head step;		/* of the transition that is being tried; else empty */
	bool undo;			/* what that step or the last one is */
	bool leaving;
	bool pinned;			/* we hold a reference on the update module */
	enum ksplice_state state;
	enum ksplice_cause cause;
	bool settled;			/* the last attempt succeeded: the next one counts from 1 */
	unsigned int tries;
	unsigned long tasks, words;
	u64 pause_ns;

	unsigned int exports, gpl_exports;	/* of the update module, while they are hidden, too */
	struct module **modules;	/* references */
	struct module *coming;		/* one of them, that is being loaded, until it is registered; NULL for none */
	unsigned int module_count, module_room;
	struct ksplice_site *sites;	/* one per function */
	struct ksplice_shadow_use *uses;	/* one per declared id */
	u8 **aliases;			/* one per constant: writable; NULL outside an attempt */
	const struct ksplice_hook *hook;	/* that refused the last attempt; NULL for none */
	int hook_value;
	unsigned int conflict_count;	/* found; at most KSPLICE_CONFLICTS are kept */
	struct ksplice_conflict conflicts[KSPLICE_CONFLICTS];
};

/* One attempt; what every CPU needs to see while the machine is stopped. */
struct ksplice_pause {
	struct list_head *steps;		/* records; first those that are undone */
	struct ksplice_range *ranges;		/* sorted, not overlapping */
	unsigned int range_count;
	atomic_t arrived, scanned;
	int done;
	u64 begin, length;
	enum ksplice_cause cause;
	atomic_long_t tasks, words;
	raw_spinlock_t lock;			/* the records' conflicts, and trace */
#ifndef CONFIG_UNWINDER_ORC
	unsigned long trace[KSPLICE_TRACE];
#endif
};

extern struct mutex ksplice_mutex;
extern struct list_head ksplice_records;
extern const char * const ksplice_cause_words[];
#define KSPLICE_ID_SIZE		64	/* hexadecimal digits */

/* core.c */
void ksplice_give_up(struct module *module);
bool ksplice_has_part(const char *update, const struct module *module);
void ksplice_module_text(const struct module *module, unsigned long *first, unsigned long *end);

/* tables.c */
const char *ksplice_check_tables(const struct ksplice_update *update);
int ksplice_count_modules(const struct ksplice_update *update);
bool ksplice_is_identity(const char *id);

/* hooks.c */
extern const char * const ksplice_hook_words[];
bool ksplice_run_hooks(struct ksplice_record *record, unsigned int step, bool undo);

/* exports.c */
void ksplice_lock_exports(void);
void ksplice_unlock_exports(void);
void ksplice_show_exports(struct ksplice_record *record, bool show);
void ksplice_hide_new_exports(struct ksplice_record *record);
bool ksplice_exports_used(const struct ksplice_record *record);

/* shadow.c; for updates: see ksplice.h */
int ksplice_shadow_hold(struct ksplice_record *record);
void ksplice_shadow_drop(struct ksplice_record *record);

/* data.c */
bool ksplice_is_image_constant(u64 start, u64 size);
enum ksplice_cause ksplice_check_data(const struct ksplice_record *record);
bool ksplice_data_in_place(const struct ksplice_record *record, bool replaced);
int ksplice_map_data(struct ksplice_record *record);
void ksplice_unmap_data(struct ksplice_record *record);
void ksplice_write_data(struct ksplice_record *record, bool undo);

/* apply.c; the caller holds ksplice_mutex */
bool ksplice_add_step(struct list_head *steps, struct ksplice_record *record, bool undo);
void ksplice_drop_steps(struct list_head *steps);
int ksplice_make_transition(struct list_head *steps);
void ksplice_abandon(struct ksplice_record *record);

/* transition.c: 0 or a negative error number */
int ksplice_set(struct ksplice_record *record, bool enable);
int ksplice_transition_text(const char *text, size_t size);
int ksplice_transition_outcome(char *to);
void ksplice_transition_exit(void);

/* check.c */
enum ksplice_cause ksplice_check_books(const struct ksplice_record *record);
enum ksplice_cause ksplice_may_apply(struct ksplice_record *record);
enum ksplice_cause ksplice_may_undo(struct ksplice_record *record);
bool ksplice_is_expected(const struct ksplice_record *record);

bool ksplice_needs_tracer(const struct ksplice_function *f);

/* tracer.c */
enum ksplice_cause ksplice_begin_tracers(struct ksplice_record *record);
void ksplice_end_tracers(struct ksplice_record *record);
bool ksplice_tracer_is_called(const struct ksplice_tracer *tracer);
unsigned long ksplice_tracer_target(const struct ksplice_tracer *tracer);
void ksplice_aim_tracer(struct ksplice_tracer *tracer, unsigned long target);
bool ksplice_tracer_is_shared(const struct ksplice_tracer *tracer);

/* stack.c */
void ksplice_scan_share(struct ksplice_pause *pause, unsigned long sp, unsigned int order);

/* text.c */
void ksplice_prepare_site(struct ksplice_site *site, unsigned long address, unsigned long target);
void ksplice_refresh_saved(struct ksplice_site *site);
int ksplice_map_sites(struct ksplice_record *record);
void ksplice_unmap_sites(struct ksplice_record *record);
bool ksplice_write_sites(struct ksplice_record *record, bool undo);

/* window.c */
int ksplice_open_window(void);

/* late.c */
int ksplice_late_init(struct kobject *root);
void ksplice_late_exit(void);
int ksplice_late_text(char *text);
int ksplice_set_helper(const char *path, size_t size);
int ksplice_show_helper(char *to);
struct module *ksplice_enter_gate(const struct ksplice_update *update);
void ksplice_leave_gate(const struct module *module);

/* sysfs.c */
int ksplice_sysfs_init(void);
struct kobject *ksplice_sysfs_root(void);
void ksplice_sysfs_close(void);
void ksplice_sysfs_exit(void);
int ksplice_sysfs_add(struct ksplice_record *record);
void ksplice_sysfs_remove(struct ksplice_record *record);

#endif
