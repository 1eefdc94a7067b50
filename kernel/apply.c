// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One attempt at a transition: updates that are undone and updates that are applied in the same pause, mostly just one. Each
 * is a step; those of undo come first. References, locks, checks, the pause, and what comes after it.
 *
 * Lock order: ksplice_mutex, module_mutex, kprobe_mutex, cpus_read_lock(), jump_label_lock(), text_mutex; then the
 * machine is stopped. module_mutex, because of exports (exports.c). kprobe_mutex, because a kprobe copies the
 * instruction under text_mutex, drops it, and arms itself later;
 * cpus_read_lock() before text_mutex and stop_machine_cpuslocked() inside, because stop_machine() under text_mutex
 * deadlocks with CPU hotplug. This is also the order in which kernel/kprobes.c and kernel/jump_label.c take them.
 *
 * In the pause every CPU scans its own stack and its share of all others; the last to end asks the check hooks, puts back
 * what is undone, reads all bytes that an applied update expects, which are there only then, writes all redirects and
 * constants, and runs the hooks that are to see them; then every CPU serialises. Nothing is allocated or printed there.
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

#define CREATE_TRACE_POINTS
#include "ksplice_trace.h"

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

/* Notes who refused, and why. */
static bool refuse(struct ksplice_pause *pause, struct ksplice_record *record, enum ksplice_cause cause)
{
	pause->cause = cause;
	record->cause = cause;
	return false;
}

static bool nobody_inside(struct ksplice_pause *pause)
{
	struct ksplice_record *record;

	list_for_each_entry(record, pause->steps, step)
		if (record->conflict_count)
			refuse(pause, record, KSPLICE_BUSY);
	return !pause->cause;
}

static bool hooks_agree(struct ksplice_pause *pause)
{
	struct ksplice_record *record;

	list_for_each_entry(record, pause->steps, step)
		if (!ksplice_run_hooks(record, KSPLICE_HOOK_CHECK, record->undo))
			return refuse(pause, record, KSPLICE_HOOK);
	return true;
}

/* Checks the bytes of one step, and writes all of it or nothing. */
static bool write_step(struct ksplice_record *record)
{
	if (!ksplice_is_expected(record) || !ksplice_write_sites(record, record->undo))
		return false;
	ksplice_write_data(record, record->undo);
	return true;
}

/* Takes a step back that was written before in the same pause. */
static void take_back(struct ksplice_record *record)
{
	ksplice_write_sites(record, !record->undo);
	ksplice_write_data(record, !record->undo);
}

static bool write_all(struct ksplice_pause *pause)
{
	struct ksplice_record *record;

	list_for_each_entry(record, pause->steps, step) {
		if (write_step(record))
			continue;
		refuse(pause, record, KSPLICE_CHANGED);
		list_for_each_entry_continue_reverse(record, pause->steps, step)
			take_back(record);
		return false;
	}
	return true;
}

/* What the last CPU to have scanned its share does for all. */
static void lead(struct ksplice_pause *pause)
{
	struct ksplice_record *record;

	if (nobody_inside(pause) && hooks_agree(pause) && write_all(pause)) {
		/* Nothing refuses any more. Hooks may call what was written, through other addresses than it was written to. */
		sync_core();
		list_for_each_entry(record, pause->steps, step)
			ksplice_run_hooks(record, KSPLICE_HOOK_ACT, record->undo);
	}
	pause->length = ktime_get_mono_fast_ns() - pause->begin;
}

static int in_pause(void *data)
{
	struct ksplice_pause *pause = data;
	unsigned int order = atomic_inc_return(&pause->arrived) - 1;

	if (!order)
		pause->begin = ktime_get_mono_fast_ns();
	/* A CPU that is on its way here may still wake a task (multi_cpu_stop() in kernel/stop_machine.c). */
	while (atomic_read(&pause->arrived) != num_online_cpus())
		cpu_relax();
	/* From this frame upwards: what is below is ours. */
	ksplice_scan_share(pause, (unsigned long)__builtin_frame_address(0), order);
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

static struct ksplice_range *next_range(struct ksplice_pause *pause, struct ksplice_record *record)
{
	struct ksplice_range *range = &pause->ranges[pause->range_count++];

	range->record = record;
	return range;
}

/*
 * Replaced code: behind the redirect, and all of each part. Addresses of entries lie on stacks for ever. Where a tracer
 * redirects, a task that returns from it to the first instruction behind the ftrace site goes on in the old code.
 */
static void add_old(struct ksplice_pause *pause, struct ksplice_record *record)
{
	const struct ksplice_update *update = record->update;
	unsigned int i;

	for (i = 0; i < update->table->function_count; i++) {
		const struct ksplice_function *f = &update->functions[i];
		struct ksplice_range *range = next_range(pause, record);

		range->first = f->old_start + f->site + (record->sites[i].tracer ? 0 : 1);
		range->end = f->old_start + f->old_size;
		range->name = (const char *)(unsigned long)f->name;
	}
	for (i = 0; i < update->table->part_count; i++) {
		const struct ksplice_part *p = &update->parts[i];
		struct ksplice_range *range = next_range(pause, record);

		range->first = p->old_start;
		range->end = p->old_start + p->old_size;
		range->name = (const char *)(unsigned long)update->functions[p->function].name;
	}
}

/*
 * All text of the update module: its new functions, and between them what they call. A task in a tracer may be on its way
 * there with no more to show for it than the address that the tracer was called from.
 */
static void add_new(struct ksplice_pause *pause, struct ksplice_record *record)
{
	const struct ksplice_update *update = record->update;
	struct ksplice_range *range = next_range(pause, record);
	unsigned int i;

	ksplice_module_text(update->owner, &range->first, &range->end);
	range->name = update->owner->name;
	for (i = 0; i < update->table->function_count; i++) {
		const struct ksplice_site *site = &record->sites[i];

		/* Where one update takes over from another, the old code of that one covers it. */
		if (!site->tracer || ksplice_tracer_is_shared(site->tracer))
			continue;
		range = next_range(pause, record);
		range->first = site->address;
		range->end = site->address + 1;
		range->name = (const char *)(unsigned long)update->functions[i].name;
	}
}

static unsigned int count_ranges(const struct ksplice_record *record)
{
	return 1 + record->update->table->function_count + record->update->table->part_count;
}

/* Where nobody may be. */
static bool find_ranges(struct ksplice_pause *pause)
{
	struct ksplice_record *record;
	unsigned int i, room = 0;

	list_for_each_entry(record, pause->steps, step)
		room += count_ranges(record);
	pause->ranges = kvcalloc(room + 1, sizeof(*pause->ranges), GFP_KERNEL);
	if (!pause->ranges) {
		record = list_first_entry(pause->steps, struct ksplice_record, step);
		return refuse(pause, record, KSPLICE_MEMORY);
	}
	list_for_each_entry(record, pause->steps, step) {
		if (record->undo)
			add_new(pause, record);
		else
			add_old(pause, record);
	}
	sort(pause->ranges, pause->range_count, sizeof(*pause->ranges), compare_ranges, NULL);
	for (i = 1; i < pause->range_count; i++)
		if (pause->ranges[i].first < pause->ranges[i - 1].end)
			return refuse(pause, pause->ranges[i].record, KSPLICE_SIZE);
	return true;
}

/* With everything locked: may all steps be done? */
static bool may_all(struct ksplice_pause *pause)
{
	struct ksplice_record *record;
	bool is_first = true;

	list_for_each_entry(record, pause->steps, step) {
		enum ksplice_cause cause = record->undo ? ksplice_may_undo(record) : ksplice_may_apply(record);

		/* What an update expects may be there only when another one is undone: the pause looks anyway. */
		if (!cause && !record->undo && is_first && !ksplice_is_expected(record))
			cause = KSPLICE_CHANGED;
		if (cause)
			return refuse(pause, record, cause);
		is_first = is_first && !record->undo;
	}
	return true;
}

static bool map_all(struct ksplice_pause *pause)
{
	struct ksplice_record *record;

	list_for_each_entry(record, pause->steps, step) {
		if (ksplice_map_sites(record))
			return refuse(pause, record, KSPLICE_MEMORY);
		if (ksplice_map_data(record))
			return refuse(pause, record, KSPLICE_MEMORY);
	}
	return true;
}

static void unmap_all(struct ksplice_pause *pause)
{
	struct ksplice_record *record;

	list_for_each_entry(record, pause->steps, step) {
		ksplice_unmap_data(record);
		ksplice_unmap_sites(record);
	}
}

static void locked_attempt(struct ksplice_pause *pause)
{
	struct ksplice_record *record = list_first_entry(pause->steps, struct ksplice_record, step);

	if (may_all(pause) && map_all(pause) && stop_machine_cpuslocked(in_pause, pause, cpu_online_mask))
		refuse(pause, record, KSPLICE_MEMORY);
	unmap_all(pause);
	list_for_each_entry(record, pause->steps, step) {
		record->tasks = atomic_long_read(&pause->tasks);
		record->words = atomic_long_read(&pause->words);
		record->pause_ns = pause->length;
		if (!pause->cause)
			ksplice_show_exports(record, !record->undo);
	}
}

/* Tracers are registered without any of our locks, and do nothing yet; this says so for those that apply. */
static bool begin_tracers(struct ksplice_pause *pause)
{
	struct ksplice_record *record;

	list_for_each_entry(record, pause->steps, step) {
		enum ksplice_cause cause = record->undo ? KSPLICE_NONE : ksplice_begin_tracers(record);

		if (cause)
			return refuse(pause, record, cause);
	}
	return true;
}

/* Of what is not applied now, whether it was before or not. */
static void end_tracers(struct ksplice_pause *pause)
{
	struct ksplice_record *record;

	list_for_each_entry(record, pause->steps, step)
		if (record->undo == !pause->cause)
			ksplice_end_tracers(record);
}

static bool attempt(struct ksplice_pause *pause)
{
	if (begin_tracers(pause) && find_ranges(pause)) {
		lock_all();
		locked_attempt(pause);
		unlock_all();
	}
	end_tracers(pause);
	kvfree(pause->ranges);
	return !pause->cause;
}

/* Hooks that may sleep stand around the attempt; what the first have begun, those for failure end. */
static bool attempt_with_hooks(struct ksplice_pause *pause)
{
	struct ksplice_record *record, *last = NULL;

	list_for_each_entry(record, pause->steps, step) {
		last = record;
		if (!ksplice_run_hooks(record, KSPLICE_HOOK_PRE, record->undo)) {
			refuse(pause, record, KSPLICE_HOOK);
			break;
		}
	}
	if (!pause->cause && attempt(pause))
		return true;
	record = list_next_entry(last, step);
	list_for_each_entry_continue_reverse(record, pause->steps, step)
		ksplice_run_hooks(record, KSPLICE_HOOK_FAIL, record->undo);
	return false;
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

static void release(struct ksplice_record *record)
{
	ksplice_shadow_drop(record);
	if (!record->pinned)
		module_put(record->update->owner);
}

static void release_before(struct ksplice_pause *pause, struct ksplice_record *record)
{
	list_for_each_entry_continue_reverse(record, pause->steps, step)
		if (!record->undo)
			release(record);
}

/* Asks the books, and takes what the applied will hold. */
static bool begin(struct ksplice_pause *pause)
{
	struct ksplice_record *record;

	list_for_each_entry(record, pause->steps, step) {
		enum ksplice_cause cause = ksplice_check_books(record);

		if (cause)
			return refuse(pause, record, cause);
	}
	list_for_each_entry(record, pause->steps, step) {
		enum ksplice_cause cause = record->undo ? KSPLICE_NONE : acquire(record);

		if (!cause)
			continue;
		release_before(pause, record);
		return refuse(pause, record, cause);
	}
	return true;
}

static void finish_applied(struct ksplice_record *record)
{
	record->pinned = true;
	WRITE_ONCE(record->state, KSPLICE_APPLIED);
	add_taint(TAINT_LIVEPATCH, LOCKDEP_STILL_OK);
	ksplice_run_hooks(record, KSPLICE_HOOK_POST, false);
}

static bool is_resident(const struct ksplice_record *record)
{
	return record->update->table->flags & KSPLICE_UPDATE_RESIDENT;
}

static void finish_undone(struct ksplice_record *record)
{
	ksplice_run_hooks(record, KSPLICE_HOOK_POST, true);
	ksplice_shadow_drop(record);
	if (!is_resident(record)) {
		record->pinned = false;
		module_put(record->update->owner);
	}
}

/*
 * The module whose code was replaced is going, with the redirects in it: nothing is to be written, what the update held goes,
 * also of one that would have stayed, because what it refers to does not. The caller holds ksplice_mutex.
 */
void ksplice_abandon(struct ksplice_record *record)
{
	bool applied = record->state == KSPLICE_APPLIED;

	if (applied) {
		ksplice_lock_exports();
		ksplice_show_exports(record, false);
		ksplice_unlock_exports();
		ksplice_end_tracers(record);
	}
	WRITE_ONCE(record->state, KSPLICE_LOST);
	if (applied) {
#ifdef CONFIG_TASKS_RCU
		synchronize_rcu_tasks();
#endif
		ksplice_run_hooks(record, KSPLICE_HOOK_POST, true);
		ksplice_shadow_drop(record);
	}
	if (record->pinned) {
		record->pinned = false;
		module_put(record->update->owner);
	}
}

static void finish(struct ksplice_pause *pause)
{
	struct ksplice_record *record;
	bool waits = false;

	list_for_each_entry(record, pause->steps, step) {
		const struct ksplice_table *table = record->update->table;

		if (!record->undo) {
			finish_applied(record);
			continue;
		}
		WRITE_ONCE(record->state, KSPLICE_UNDONE);
		waits = waits || !is_resident(record) || table->hook_count || table->shadow_count;
	}
#ifdef CONFIG_TASKS_RCU
	/* A task may be preempted in a tracer's trampoline, on its way into code and to data that are about to go. */
	if (waits)
		synchronize_rcu_tasks();
#endif
	list_for_each_entry(record, pause->steps, step)
		if (record->undo)
			finish_undone(record);
}

static enum ksplice_cause transition(struct list_head *steps)
{
	struct ksplice_pause *pause = kzalloc(sizeof(*pause), GFP_KERNEL);
	enum ksplice_cause cause;

	if (!pause) {
		list_first_entry(steps, struct ksplice_record, step)->cause = KSPLICE_MEMORY;
		return KSPLICE_MEMORY;
	}
	pause->steps = steps;
	raw_spin_lock_init(&pause->lock);
	if (begin(pause)) {
		if (attempt_with_hooks(pause))
			finish(pause);
		else
			release_before(pause, list_entry(steps, struct ksplice_record, step));
	}
	cause = pause->cause;
	kfree(pause);
	return cause;
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
	case KSPLICE_TRACER:
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

static void report(const struct ksplice_record *record)
{
	const struct ksplice_conflict *first = &record->conflicts[0];
	unsigned int count = record->update->table->function_count;
	const char *verb = record->undo ? "undone" : "applied";

	if (record->state == (record->undo ? KSPLICE_UNDONE : KSPLICE_APPLIED))
		pr_info("%.12s: %s, %u %s, paused for %llu ns\n", record->id, verb, count,
			count == 1 ? "function" : "functions", record->pause_ns);
	else if (record->cause == KSPLICE_BUSY)
		pr_info("%.12s: not %s: busy, %u %s in the way (first %d in %s)\n", record->id, verb,
			record->conflict_count, record->conflict_count == 1 ? "task" : "tasks", first->pid,
			first->function);
	else if (record->cause == KSPLICE_HOOK)
		pr_info("%.12s: not %s: hook %s %s says %d\n", record->id, verb,
			ksplice_hook_words[record->hook->kind],
			(const char *)(unsigned long)record->hook->name, record->hook_value);
	else if (record->cause)
		pr_info("%.12s: not %s: %s\n", record->id, verb, ksplice_cause_words[record->cause]);
	if (record->undo)
		trace_ksplice_undo(record);
	else
		trace_ksplice_apply(record);
}

/*
 * Adds a step behind the others. Returns false if that makes no sense: the update is a step already, or is applied after
 * another one was, which is undone behind it. What is so already is no step.
 */
bool ksplice_add_step(struct list_head *steps, struct ksplice_record *record, bool undo)
{
	if (!list_empty(&record->step))
		return false;
	if (undo && !list_empty(steps) && !list_last_entry(steps, struct ksplice_record, step)->undo)
		return false;
	if (undo == (record->state != KSPLICE_APPLIED)) {
		record->hook = NULL;
		record->cause = KSPLICE_NONE;
		return true;
	}
	record->undo = undo;
	list_add_tail(&record->step, steps);
	return true;
}

static void begin_step(struct ksplice_record *record)
{
	record->hook = NULL;
	record->cause = KSPLICE_NONE;
	record->tries = record->settled ? 1 : record->tries + 1;
	record->conflict_count = 0;
	record->tasks = record->words = 0;
	record->pause_ns = 0;
}

void ksplice_drop_steps(struct list_head *steps)
{
	struct ksplice_record *record, *next;

	list_for_each_entry_safe(record, next, steps, step)
		list_del_init(&record->step);
}

/* All steps in one pause, or none; empties the list. Returns 0 or a negative error number, with the causes set. */
int ksplice_make_transition(struct list_head *steps)
{
	struct ksplice_record *record;
	enum ksplice_cause cause;

	if (list_empty(steps))
		return 0;
	list_for_each_entry(record, steps, step)
		begin_step(record);
	cause = transition(steps);
	list_for_each_entry(record, steps, step) {
		record->settled = !cause;
		report(record);
	}
	ksplice_drop_steps(steps);
	return error_of(cause);
}
