// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The second kind of redirect, for functions in which no jump can stand: its bytes belong to a jump label or a static call,
 * cross a cache line, or are too few. ftrace calls us at the function's entry, and we let it return into the new code.
 *
 * A tracer is registered before the pause and does nothing then; the pause aims it. ftrace allows one such
 * user per function: where a kernel live patch is one, registering fails; two updates of which one replaces the other share one. PERMANENT: nobody switches ftrace off meanwhile.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/ftrace.h>
#include <linux/jump_label.h>
#include <linux/memory.h>
#include <linux/slab.h>
#include "internal.h"

extern struct mutex text_mutex;

#if defined(CONFIG_DYNAMIC_FTRACE_WITH_REGS) || defined(CONFIG_DYNAMIC_FTRACE_WITH_ARGS)

/* The name of Linux 6.2. */
#if !defined(ftrace_regs_set_instruction_pointer) && defined(ftrace_instruction_pointer_set)
#define ftrace_regs_set_instruction_pointer ftrace_instruction_pointer_set
#endif

/* One for each function, also where one update takes over from another in the same pause. */
struct ksplice_tracer {
	struct ftrace_ops ops;
	struct list_head list;
	unsigned long ip;
	unsigned long target;	/* 0: the old code runs */
	unsigned int users;	/* sites */
};

static LIST_HEAD(tracers);	/* protected by ksplice_mutex */

static void notrace redirect(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
			     struct ftrace_regs *fregs)
{
	const struct ksplice_tracer *tracer = container_of(ops, struct ksplice_tracer, ops);

	unsigned long target = READ_ONCE(tracer->target);

	if (target)
		ftrace_regs_set_instruction_pointer(fregs, target);
}

/* ftrace may go on calling it after a failure of its own: then it stays, switched off, and so does this module. */
static void leave(struct ksplice_tracer *tracer)
{
	WRITE_ONCE(tracer->target, 0);
	__module_get(THIS_MODULE);
}

static int attach(struct ksplice_tracer *tracer)
{
	int ret = ftrace_set_filter_ip(&tracer->ops, tracer->ip, 0, 0);
	unsigned int tries;

	if (ret)
		return ret;
	/* A BPF trampoline that is busy says EAGAIN. */
	for (tries = 0; tries < 50; tries++) {
		ret = register_ftrace_function(&tracer->ops);
		if (ret != -EAGAIN)
			break;
		msleep(2);
	}
	return ret;
}

static struct ksplice_tracer *begin(const struct ksplice_function *f, enum ksplice_cause *cause)
{
	unsigned long ip = f->old_start + f->site - KSPLICE_FTRACE_SIZE;
	struct ksplice_tracer *tracer;
	int ret;

	*cause = KSPLICE_NONE;
	list_for_each_entry(tracer, &tracers, list) {
		if (tracer->ip != ip)
			continue;
		tracer->users++;
		return tracer;
	}
	*cause = KSPLICE_MEMORY;
	tracer = kzalloc(sizeof(*tracer), GFP_KERNEL);
	if (!tracer)
		return NULL;
	tracer->ip = ip;
	tracer->users = 1;
	tracer->ops.func = redirect;
	tracer->ops.flags = FTRACE_OPS_FL_DYNAMIC | FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_PERMANENT;
#ifndef CONFIG_HAVE_DYNAMIC_FTRACE_WITH_ARGS
	tracer->ops.flags |= FTRACE_OPS_FL_SAVE_REGS;
#endif
	ret = attach(tracer);
	if (!ret) {
		*cause = KSPLICE_NONE;
		list_add(&tracer->list, &tracers);
		return tracer;
	}
	pr_info("%s: ftrace says %d\n", (const char *)(unsigned long)f->name, ret);
	*cause = ret == -ENOMEM ? KSPLICE_MEMORY : KSPLICE_TRACER;
	if (ret == -ENODEV) {
		leave(tracer);
		return NULL;
	}
	ftrace_free_filter(&tracer->ops);
	kfree(tracer);
	return NULL;
}

static void end(struct ksplice_tracer *tracer)
{
	if (--tracer->users)
		return;
	list_del(&tracer->list);
	/* Also waits for those who are in it. */
	if (WARN_ON(unregister_ftrace_function(&tracer->ops))) {
		leave(tracer);
		return;
	}
	ftrace_free_filter(&tracer->ops);
	kfree(tracer);
}

/* Does the function call ftrace? It may be disabled for one, and registering succeeds nevertheless. */
bool ksplice_tracer_is_called(const struct ksplice_tracer *tracer)
{
	return tracer->ops.flags & FTRACE_OPS_FL_ENABLED && *(const u8 *)tracer->ip == 0xe8;
}

unsigned long ksplice_tracer_target(const struct ksplice_tracer *tracer)
{
	return tracer->target;
}

/* @target: the entry of the new code, or 0 for the old code. */
void ksplice_aim_tracer(struct ksplice_tracer *tracer, unsigned long target)
{
	WRITE_ONCE(tracer->target, target);
}

/* Does another update of the same transition use it, too? */
bool ksplice_tracer_is_shared(const struct ksplice_tracer *tracer)
{
	return tracer->users > 1;
}

#else

static struct ksplice_tracer *begin(const struct ksplice_function *f, enum ksplice_cause *cause)
{
	*cause = KSPLICE_RESERVED;
	return NULL;
}

static void end(struct ksplice_tracer *tracer)
{
}

bool ksplice_tracer_is_called(const struct ksplice_tracer *tracer)
{
	return false;
}

unsigned long ksplice_tracer_target(const struct ksplice_tracer *tracer)
{
	return 0;
}

void ksplice_aim_tracer(struct ksplice_tracer *tracer, unsigned long target)
{
}

bool ksplice_tracer_is_shared(const struct ksplice_tracer *tracer)
{
	return false;
}

#endif

static bool needs_tracer(const struct ksplice_function *f)
{
	bool needs;

	jump_label_lock();
	mutex_lock(&text_mutex);
	needs = ksplice_needs_tracer(f);
	mutex_unlock(&text_mutex);
	jump_label_unlock();
	return needs;
}

/* For the functions of an update that need one. If it fails, nothing is left of it. */
enum ksplice_cause ksplice_begin_tracers(struct ksplice_record *record)
{
	enum ksplice_cause cause = KSPLICE_NONE;
	unsigned int i;

	for (i = 0; i < record->update->table->function_count && !cause; i++) {
		const struct ksplice_function *f = &record->update->functions[i];

		record->sites[i].target = f->new_start;
		if (needs_tracer(f))
			WRITE_ONCE(record->sites[i].tracer, begin(f, &cause));
	}
	if (cause)
		ksplice_end_tracers(record);
	return cause;
}

void ksplice_end_tracers(struct ksplice_record *record)
{
	unsigned int i;

	for (i = 0; i < record->update->table->function_count; i++) {
		struct ksplice_tracer *tracer = record->sites[i].tracer;

		WRITE_ONCE(record->sites[i].tracer, NULL);
		if (tracer)
			end(tracer);
	}
}
