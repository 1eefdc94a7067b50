// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One attempt to apply or undo an update: a reference, locks, checks, the pause, and what comes after it.
 *
 * Lock order: ksplice_mutex, module_mutex, kprobe_mutex, cpus_read_lock(), jump_label_lock(), text_mutex; then the
 * machine is stopped. module_mutex, because of exports (exports.c). kprobe_mutex, because a kprobe copies the
 * instruction under text_mutex, drops it, and arms itself later;
 * cpus_read_lock() before text_mutex and stop_machine_cpuslocked() inside, because stop_machine() under text_mutex
 * deadlocks with CPU hotplug. This is also the order in which kernel/kprobes.c and kernel/jump_label.c take them.
 *
 * In the pause every CPU scans its own stack; the last to arrive reads all expected bytes again, scans everybody
 * else, asks the check hooks, writes all redirects and constants, and runs the hooks that are to see them; then every
 * CPU serialises. Nothing is allocated or printed there.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpu.h>
#include <linux/jump_label.h>
#include <linux/memory.h>
#include <linux/kprobes.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/stop_machine.h>
#include <linux/timekeeping.h>
#include <asm/sync_core.h>
#include "internal.h"

extern struct mutex kprobe_mutex;	/* static in kernel/kprobes.c; resolved by the loader */
extern struct mutex text_mutex;

static void lock_all(void)
{
	ksplice_lock_exports();
#ifdef CONFIG_KPROBES
	mutex_lock(&kprobe_mutex);
#endif
	cpus_read_lock();
	jump_label_lock();
	mutex_lock(&text_mutex);
}

static void unlock_all(void)
{
	mutex_unlock(&text_mutex);
	jump_label_unlock();
	cpus_read_unlock();
#ifdef CONFIG_KPROBES
	mutex_unlock(&kprobe_mutex);
#endif
	ksplice_unlock_exports();
}

/* What the last CPU to arrive does for all. */
static void lead(struct ksplice_pause *pause)
{
	struct ksplice_record *record = pause->record;
	bool same = pause->undo ? ksplice_jumps_in_place(record) : ksplice_bytes_expected(record);

	if (!same || !ksplice_data_in_place(record, pause->undo)) {
		pause->cause = KSPLICE_CHANGED;
	} else {
		ksplice_scan_others(pause);
		if (record->conflict_count)
			pause->cause = KSPLICE_BUSY;
		else if (!ksplice_run_hooks(record, KSPLICE_HOOK_CHECK, pause->undo))
			pause->cause = KSPLICE_HOOK;
		else if (!ksplice_write_sites(record, pause->undo))
			pause->cause = KSPLICE_CHANGED;
	}
	/* Nothing refuses any more. */
	if (!pause->cause) {
		ksplice_write_data(record, pause->undo);
		ksplice_run_hooks(record, KSPLICE_HOOK_ACT, pause->undo);
	}
	record->pause_ns = ktime_get_mono_fast_ns() - pause->begin;
}

static int in_pause(void *data)
{
	struct ksplice_pause *pause = data;

	if (atomic_inc_return(&pause->arrived) == 1)
		pause->begin = ktime_get_mono_fast_ns();
	/* From this frame upwards: what is below is ours. */
	ksplice_scan_own(pause, (unsigned long)__builtin_frame_address(0));
	if (atomic_inc_return(&pause->scanned) == num_online_cpus()) {
		lead(pause);
		smp_store_release(&pause->done, 1);	/* pairs with the acquire below */
	} else {
		while (!smp_load_acquire(&pause->done))	/* pairs with the release above */
			cpu_relax();
	}
	sync_core();
	return 0;
}

static int compare_ranges(const void *a, const void *b)
{
	const struct ksplice_range *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

/* Replaced code: behind the redirect, and all of each part. Addresses of entries lie on stacks for ever. */
static bool ranges_of_old(struct ksplice_pause *pause)
{
	const struct ksplice_update *update = pause->record->update;
	struct ksplice_range *range = pause->record->ranges;
	unsigned int i;

	for (i = 0; i < update->table->function_count; i++, range++) {
		const struct ksplice_function *f = &update->functions[i];

		range->first = f->old_start + f->site + 1;
		range->end = f->old_start + f->old_size;
		range->name = (const char *)(unsigned long)f->name;
	}
	for (i = 0; i < update->table->part_count; i++, range++) {
		const struct ksplice_part *p = &update->parts[i];

		range->first = p->old_start;
		range->end = p->old_start + p->old_size;
		range->name = pause->record->ranges[p->function].name;
	}
	pause->range_count = range - pause->record->ranges;
	/* The names above are taken; now the order may change. */
	sort(pause->record->ranges, pause->range_count, sizeof(*range), compare_ranges, NULL);
	for (i = 1; i < pause->range_count; i++)
		if (pause->record->ranges[i].first < pause->record->ranges[i - 1].end)
			return false;
	return true;
}

/* All text of the update module: its new functions, and between them what they call. */
static bool ranges_of_new(struct ksplice_pause *pause)
{
	const struct ksplice_update *update = pause->record->update;
	struct ksplice_range *range = pause->record->ranges;

	ksplice_module_text(update->owner, &range->first, &range->end);
	range->name = update->owner->name;
	pause->range_count = 1;
	return true;
}

static enum ksplice_cause locked_attempt(struct ksplice_pause *pause)
{
	struct ksplice_record *record = pause->record;
	enum ksplice_cause cause;
	int ret;

	cause = pause->undo ? ksplice_may_undo(record) : ksplice_may_apply(record);
	if (cause)
		return cause;
	if (ksplice_map_sites(record))
		return KSPLICE_MEMORY;
	ret = ksplice_map_data(record);
	if (!ret) {
		ret = stop_machine_cpuslocked(in_pause, pause, cpu_online_mask);
		ksplice_unmap_data(record);
	}
	ksplice_unmap_sites(record);
	record->tasks = atomic_long_read(&pause->tasks);
	record->words = atomic_long_read(&pause->words);
	return ret ? KSPLICE_MEMORY : pause->cause;
}

static enum ksplice_cause attempt(struct ksplice_record *record, bool undo)
{
	struct ksplice_pause *pause = kzalloc(sizeof(*pause), GFP_KERNEL);
	enum ksplice_cause cause = KSPLICE_SIZE;

	if (!pause)
		return KSPLICE_MEMORY;
	pause->record = record;
	pause->undo = undo;
	pause->ranges = record->ranges;
	raw_spin_lock_init(&pause->lock);
	if (undo ? ranges_of_new(pause) : ranges_of_old(pause)) {
		lock_all();
		cause = locked_attempt(pause);
		if (!cause)
			ksplice_show_exports(record, !undo);
		unlock_all();
	}
	kfree(pause);
	return cause;
}

/* Hooks that may sleep stand around the attempt; what the first have begun, those for failure end. */
static enum ksplice_cause attempt_with_hooks(struct ksplice_record *record, bool undo)
{
	enum ksplice_cause cause = KSPLICE_HOOK;

	if (ksplice_run_hooks(record, KSPLICE_HOOK_PRE, undo))
		cause = attempt(record, undo);
	if (cause)
		ksplice_run_hooks(record, KSPLICE_HOOK_FAIL, undo);
	return cause;
}

/* What an applied update holds: its own module, and the ids of its shadow variables. */
static enum ksplice_cause acquire(struct ksplice_record *record)
{
	if (!record->pinned && !try_module_get(record->update->owner))
		return KSPLICE_MODULE;
	if (!ksplice_shadow_hold(record))
		return KSPLICE_NONE;
	if (!record->pinned)
		module_put(record->update->owner);
	return KSPLICE_MEMORY;
}

static enum ksplice_cause apply(struct ksplice_record *record)
{
	enum ksplice_cause cause = ksplice_check_books(record, false);

	if (!cause)
		cause = acquire(record);
	if (cause)
		return cause;
	cause = attempt_with_hooks(record, false);
	if (cause) {
		ksplice_shadow_drop(record);
		if (!record->pinned)
			module_put(record->update->owner);
		return cause;
	}
	record->pinned = true;
	WRITE_ONCE(record->state, KSPLICE_APPLIED);
	add_taint(TAINT_LIVEPATCH, LOCKDEP_STILL_OK);
	ksplice_run_hooks(record, KSPLICE_HOOK_POST, false);
	return KSPLICE_NONE;
}

static enum ksplice_cause undo(struct ksplice_record *record)
{
	const struct ksplice_table *table = record->update->table;
	bool resident = table->flags & KSPLICE_UPDATE_RESIDENT;
	enum ksplice_cause cause = ksplice_check_books(record, true);

	if (!cause)
		cause = attempt_with_hooks(record, true);
	if (cause)
		return cause;
	WRITE_ONCE(record->state, KSPLICE_UNDONE);
#ifdef CONFIG_TASKS_RCU
	/* A task may be preempted in a tracer's trampoline, on its way into code and to data that are about to go. */
	if (!resident || table->hook_count || table->shadow_count)
		synchronize_rcu_tasks();
#endif
	ksplice_run_hooks(record, KSPLICE_HOOK_POST, true);
	ksplice_shadow_drop(record);
	if (!resident) {
		record->pinned = false;
		module_put(record->update->owner);
	}
	return KSPLICE_NONE;
}

static int error_of(enum ksplice_cause cause)
{
	switch (cause) {
	case KSPLICE_NONE:
		return 0;
	case KSPLICE_BUSY:
	case KSPLICE_USED:
		return -EBUSY;
	case KSPLICE_KPROBE:
		return -EAGAIN;
	case KSPLICE_CHANGED:
		return -ESTALE;
	case KSPLICE_RESERVED:
	case KSPLICE_CACHE_LINE:
		return -EOPNOTSUPP;
	case KSPLICE_MODULE:
		return -ENODEV;
	case KSPLICE_DEPENDENT:
		return -ENOTEMPTY;
	case KSPLICE_MEMORY:
		return -ENOMEM;
	case KSPLICE_HOOK:
		return -ECANCELED;
	default:
		return -ERANGE;
	}
}

static void report(const struct ksplice_record *record, bool enable)
{
	const struct ksplice_conflict *first = &record->conflicts[0];
	unsigned int count = record->update->table->function_count;

	if (!record->cause)
		pr_info("%.12s: %s, %u %s, paused for %llu ns\n", record->id, enable ? "applied" : "undone",
			count, count == 1 ? "function" : "functions", record->pause_ns);
	else if (record->cause == KSPLICE_BUSY)
		pr_info("%.12s: not %s: busy, %u %s in the way (first %d in %s)\n", record->id,
			enable ? "applied" : "undone", record->conflict_count,
			record->conflict_count == 1 ? "task" : "tasks", first->pid, first->function);
	else if (record->cause == KSPLICE_HOOK)
		pr_info("%.12s: not %s: hook %s %s says %d\n", record->id, enable ? "applied" : "undone",
			ksplice_hook_words[record->hook->kind],
			(const char *)(unsigned long)record->hook->name, record->hook_value);
	else
		pr_info("%.12s: not %s: %s\n", record->id, enable ? "applied" : "undone",
			ksplice_cause_words[record->cause]);
}

/* The caller holds ksplice_mutex. Asking for the state that is there does nothing and succeeds. */
int ksplice_set(struct ksplice_record *record, bool enable)
{
	record->hook = NULL;
	if (enable == (record->state == KSPLICE_APPLIED)) {
		record->cause = KSPLICE_NONE;
		return 0;
	}
	record->tries = record->settled ? 1 : record->tries + 1;
	record->conflict_count = 0;
	record->tasks = record->words = 0;
	record->pause_ns = 0;
	record->cause = enable ? apply(record) : undo(record);
	record->settled = !record->cause;
	report(record, enable);
	return error_of(record->cause);
}
