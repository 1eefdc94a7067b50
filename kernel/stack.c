// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Is anybody inside the code that is about to change? Looked at while the machine is stopped, when every task but the
 * stopper threads is switched out and its stack lies still between thread.sp and its top.
 *
 * Every word there is taken for a possible return address, so no frame can be missed, whatever the code in between.
 * A hit may be a dead word in a live frame: it is cleared if the unwinder gives a trace that it calls reliable and
 * that has no address inside. Without such a trace the hit stands, as possible. Registers of user space at the top
 * of the stack are not addresses of ours. Tasks without a stack (zombies) are done with the kernel.
 *
 * Return addresses that are not on the stack: function-graph tracing and kretprobes put a trampoline's address there
 * and keep the real one in the task. Those are read from the task where the layout is known.
 *
 * Not seen: a task that has reaped itself and runs the end of do_exit(); the stack of the idle task of a CPU that is
 * offline, which starts afresh when it comes back (it is read at undo, whole, where memory is about to go away).
 */
#include <linux/cpumask.h>
#include <linux/ctype.h>
#include <linux/kprobes.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/sched/task_stack.h>
#include <linux/stacktrace.h>
#include <linux/string.h>
#ifdef CONFIG_RETHOOK
#include <linux/rethook.h>
#endif
#include "internal.h"

static const struct ksplice_range *find_range(const struct ksplice_pause *pause, unsigned long word)
{
	unsigned int low = 0, high = pause->range_count;

	while (low < high) {
		unsigned int middle = low + (high - low) / 2;
		const struct ksplice_range *range = &pause->ranges[middle];

		if (word < range->first)
			high = middle;
		else if (word >= range->end)
			low = middle + 1;
		else
			return range;
	}
	return NULL;
}

/*
 * The first word of [from, to) that is inside; poisoned stack memory is no reason to complain. Nearly all words are
 * dismissed by one comparison: this loop is most of the pause.
 */
static const struct ksplice_range *find_word(struct ksplice_pause *pause, unsigned long from, unsigned long to)
{
	const unsigned long low = pause->ranges[0].first;
	const unsigned long span = pause->ranges[pause->range_count - 1].end - low;
	const unsigned long *start = (const unsigned long *)round_up(from, sizeof(long));
	const unsigned long *end = (const unsigned long *)to;
	const struct ksplice_range *range = NULL;
	const unsigned long *p;

	for (p = start; p < end && !range; p++) {
		unsigned long word = READ_ONCE_NOCHECK(*p);

		if (word - low < span)
			range = find_range(pause, word);
	}
	atomic_long_add(p - start, &pause->words);
	return range;
}

static const struct ksplice_range *find_kretprobe(struct ksplice_pause *pause, struct task_struct *task)
{
	const struct ksplice_range *range = NULL;
#if defined(CONFIG_RETHOOK)
	struct llist_node *node;

	for (node = READ_ONCE(task->rethooks.first); node && !range; node = node->next)
		range = find_range(pause, llist_entry(node, struct rethook_node, llist)->ret_addr);
#elif defined(CONFIG_KRETPROBES)
	struct llist_node *node;

	/* Linux 5.15 to 5.18 */
	for (node = READ_ONCE(task->kretprobe_instances.first); node && !range; node = node->next)
		range = find_range(pause, (unsigned long)llist_entry(node, struct kretprobe_instance,
								     llist)->ret_addr);
#endif
	return range;
}

/*
 * The graph tracer's stack is an array of structures up to and including the index (up to Linux 6.10), or an array
 * of words up to it. Every word of either is looked at, so only the size matters.
 */
static const struct ksplice_range *find_graph(struct ksplice_pause *pause, struct task_struct *task)
{
#ifdef CONFIG_FUNCTION_GRAPH_TRACER
	size_t entry = sizeof(*task->ret_stack);
	int count = task->curr_ret_stack + (entry == sizeof(long) ? 0 : 1);
	unsigned long start = (unsigned long)task->ret_stack;

	if (start && count > 0)
		return find_word(pause, start, start + count * entry);
#endif
	return NULL;
}

/* The unwinder warns about a task that is runnable and has kretprobes pending. */
static bool may_unwind(struct task_struct *task)
{
#if defined(CONFIG_RETHOOK)
	return task == current || !task_is_running(task) || !task->rethooks.first;
#else
	return true;
#endif
}

/* What a second look at @task says; NULL clears it. */
static const struct ksplice_range *look_again(struct ksplice_pause *pause, struct task_struct *task,
					      const struct ksplice_range *hit, bool *reliable)
{
	int i, count = -EINVAL;

	if (may_unwind(task))
		count = stack_trace_save_tsk_reliable(task, pause->trace, KSPLICE_TRACE);
	if (count < 0)
		return hit;
	*reliable = true;
	for (i = 0; i < count; i++) {
		hit = find_range(pause, pause->trace[i]);
		if (hit)
			return hit;
	}
	return NULL;
}

static void note(struct ksplice_pause *pause, struct task_struct *task, const struct ksplice_range *range,
		 bool reliable)
{
	struct ksplice_record *record = range->record;
	struct ksplice_conflict *conflict;

	if (record->conflict_count++ >= KSPLICE_CONFLICTS)
		return;
	conflict = &record->conflicts[record->conflict_count - 1];
	conflict->pid = task->pid;
	memcpy(conflict->comm, task->comm, TASK_COMM_LEN);
	conflict->comm[TASK_COMM_LEN - 1] = '\0';
	conflict->function = range->name;
	conflict->reliable = reliable;
}

/* Is it the text of a module that may be unloaded afterwards? */
static bool memory_goes(const struct ksplice_range *range)
{
	return range->record->undo && !(range->record->update->table->flags & KSPLICE_UPDATE_RESIDENT);
}

/* Return addresses that are kept in @task, and at undo, which lets memory go, where a system call would restart. */
static const struct ksplice_range *find_in_task(struct ksplice_pause *pause, struct task_struct *task)
{
	const struct ksplice_range *range = find_kretprobe(pause, task);

	if (!range)
		range = find_graph(pause, task);
	if (range)
		return range;
	range = find_range(pause, (unsigned long)task->restart_block.fn);
	return range && memory_goes(range) ? range : NULL;
}

static void scan(struct ksplice_pause *pause, struct task_struct *task, unsigned long from, unsigned long to)
{
	const struct ksplice_range *hit = find_in_task(pause, task);
	bool reliable = hit;

	atomic_long_inc(&pause->tasks);
	if (!hit)
		hit = find_word(pause, from, to);
	if (!hit)
		return;
	raw_spin_lock(&pause->lock);
	if (!reliable)
		hit = look_again(pause, task, hit, &reliable);
	if (hit)
		note(pause, task, hit, reliable);
	raw_spin_unlock(&pause->lock);
}

/* The calling stopper's stack above @sp: its thread.sp is from the last time it was switched out. */
void ksplice_scan_own(struct ksplice_pause *pause, unsigned long sp)
{
	if (pause->range_count)
		scan(pause, current, sp, (unsigned long)task_pt_regs(current));
}

static void scan_other(struct ksplice_pause *pause, struct task_struct *task)
{
#ifdef CONFIG_SMP
	/* Only stopper threads are on a CPU now, and they scan themselves. */
	if (task->on_cpu)
		return;
#endif
	if (task == current || !try_get_task_stack(task))
		return;
	scan(pause, task, READ_ONCE(task->thread.sp), (unsigned long)task_pt_regs(task));
	put_task_stack(task);	/* not the last: the task does not run */
}

/* The whole stack of the idle task of a CPU that is offline, for what points into memory that goes. */
static void scan_offline(struct ksplice_pause *pause, struct task_struct *task)
{
	const unsigned long *p = end_of_stack(task);
	const unsigned long *end = (const unsigned long *)task_pt_regs(task);

	for (; p < end; p++) {
		const struct ksplice_range *range = find_range(pause, READ_ONCE_NOCHECK(*p));

		if (range && range->record->undo) {
			note(pause, task, range, false);
			return;
		}
	}
}

/* Everybody else. Called by one CPU when all have scanned their own; nothing else runs, so no lock is needed. */
void ksplice_scan_others(struct ksplice_pause *pause)
{
	struct task_struct *group, *task;
	int cpu;

	/* An update without functions. */
	if (!pause->range_count)
		return;
	for_each_process_thread(group, task)
		scan_other(pause, task);
	for_each_possible_cpu(cpu) {
		task = idle_task(cpu);
		if (!task)
			continue;
		if (cpu_online(cpu))
			scan_other(pause, task);
		else
			scan_offline(pause, task);
	}
}
