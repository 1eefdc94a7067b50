// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Is anybody inside the code that is about to change? Looked at while the machine is stopped, when every task but the
 * stopper threads is switched out and its stack lies still between thread.sp and its top.
 *
 * Every word there is taken for a possible return address, so no frame can be missed, whatever the code in between.
 * A hit may be a dead word in a live frame: it is cleared if the unwinder gives a trace that it calls reliable and
 * that has no address inside, and no word hits above its end. Without such a trace the hit stands, as possible. Registers of user space at the top
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
#ifdef CONFIG_UNWINDER_ORC
#include <asm/unwind.h>
#endif
#ifdef CONFIG_RETHOOK
#include <linux/rethook.h>
#endif
#include "internal.h"

/* What one CPU has looked at. */
struct tally {
	unsigned long tasks, words;
};

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
static const struct ksplice_range *find_word(const struct ksplice_pause *pause, struct tally *tally,
					     unsigned long from, unsigned long to)
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
	tally->words += p - start;
	return range;
}

static const struct ksplice_range *find_kretprobe(const struct ksplice_pause *pause, struct task_struct *task)
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
static const struct ksplice_range *find_graph(const struct ksplice_pause *pause, struct tally *tally,
					      struct task_struct *task)
{
#ifdef CONFIG_FUNCTION_GRAPH_TRACER
	size_t entry = sizeof(*task->ret_stack);
	int count = task->curr_ret_stack + (entry == sizeof(long) ? 0 : 1);
	unsigned long start = (unsigned long)task->ret_stack;

	if (start && count > 0)
		return find_word(pause, tally, start, start + count * entry);
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

#ifdef CONFIG_UNWINDER_ORC
/*
 * What the unwinder says about @task, whose stack ends at @top; NULL clears @hit. Not by stack_trace_save_tsk_reliable():
 * up to Linux 6.2 the unwinder takes a retpoline, or the graph tracer's way back, for the end of a stack, and the trace for
 * reliable, though it has not seen the frames above (UNWIND_HINT_EMPTY). So what it has not seen is looked at here.
 */
static const struct ksplice_range *look_again(struct ksplice_pause *pause, struct tally *tally,
					      struct task_struct *task, unsigned long top,
					      const struct ksplice_range *hit, bool *reliable)
{
	const struct ksplice_range *found = NULL, *unseen = NULL;
	struct unwind_state state;
	bool is_whole = false;

	if (!may_unwind(task))
		return hit;
	for (unwind_start(&state, task, NULL, NULL); !unwind_done(&state); unwind_next_frame(&state)) {
		struct pt_regs *regs = unwind_get_entry_regs(&state, NULL);
		unsigned long address;

		/* What follows is user space. */
		is_whole = regs && user_mode(regs);
		if (is_whole)
			break;
		address = unwind_get_return_address(&state);
		/* Code that the unwinder does not know. */
		if (!address)
			return hit;
		if (!found)
			found = find_range(pause, address);
	}
	if (unwind_error(&state))
		return hit;
	if (!is_whole)
		unseen = find_word(pause, tally, state.sp, top);
	*reliable = found || !unseen;
	return found ? found : unseen;
}
#else
static const struct ksplice_range *look_again(struct ksplice_pause *pause, struct tally *tally,
					      struct task_struct *task, unsigned long top,
					      const struct ksplice_range *hit, bool *reliable)
{
	int i, count = -EINVAL;

	raw_spin_lock(&pause->lock);
	if (may_unwind(task))
		count = stack_trace_save_tsk_reliable(task, pause->trace, KSPLICE_TRACE);
	*reliable = count >= 0;
	if (*reliable)
		hit = NULL;
	for (i = 0; i < count && !hit; i++)
		hit = find_range(pause, pause->trace[i]);
	raw_spin_unlock(&pause->lock);
	return hit;
}
#endif

static void note(struct ksplice_pause *pause, struct task_struct *task, const struct ksplice_range *range,
		 bool reliable)
{
	struct ksplice_record *record = range->record;

	raw_spin_lock(&pause->lock);
	if (record->conflict_count++ < KSPLICE_CONFLICTS) {
		struct ksplice_conflict *conflict = &record->conflicts[record->conflict_count - 1];

		conflict->pid = task->pid;
		memcpy(conflict->comm, task->comm, TASK_COMM_LEN);
		conflict->comm[TASK_COMM_LEN - 1] = '\0';
		conflict->function = range->name;
		conflict->reliable = reliable;
	}
	raw_spin_unlock(&pause->lock);
}

/* Is it the text of a module that may be unloaded afterwards? */
static bool memory_goes(const struct ksplice_range *range)
{
	return range->record->undo && !(range->record->update->table->flags & KSPLICE_UPDATE_RESIDENT);
}

/* Return addresses that are kept in @task, and at undo, which lets memory go, where a system call would restart. */
static const struct ksplice_range *find_in_task(const struct ksplice_pause *pause, struct tally *tally,
						struct task_struct *task)
{
	const struct ksplice_range *range = find_kretprobe(pause, task);

	if (!range)
		range = find_graph(pause, tally, task);
	if (range)
		return range;
	range = find_range(pause, (unsigned long)task->restart_block.fn);
	return range && memory_goes(range) ? range : NULL;
}

static void scan(struct ksplice_pause *pause, struct tally *tally, struct task_struct *task, unsigned long from,
		 unsigned long to)
{
	const struct ksplice_range *hit = find_in_task(pause, tally, task);
	bool reliable = hit;

	tally->tasks++;
	if (!hit)
		hit = find_word(pause, tally, from, to);
	if (hit && !reliable)
		hit = look_again(pause, tally, task, to, hit, &reliable);
	if (hit)
		note(pause, task, hit, reliable);
}

static void scan_other(struct ksplice_pause *pause, struct tally *tally, struct task_struct *task)
{
#ifdef CONFIG_SMP
	/* Only stopper threads are on a CPU now, and they scan themselves. */
	if (task->on_cpu)
		return;
#endif
	/* Nothing runs that could take a stack away: there is no need to hold it. */
	if (task == current || !refcount_read(&task->stack_refcount))
		return;
	scan(pause, tally, task, READ_ONCE(task->thread.sp), (unsigned long)task_pt_regs(task));
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

static void scan_idle(struct ksplice_pause *pause, struct tally *tally)
{
	int cpu;

	for_each_possible_cpu(cpu) {
		struct task_struct *task = idle_task(cpu);

		if (!task)
			continue;
		if (cpu_online(cpu))
			scan_other(pause, tally, task);
		else
			scan_offline(pause, task);
	}
}

/*
 * One CPU's share: its own stopper's stack above @sp, whose thread.sp is from the last time it was switched out, and of
 * all other tasks each that comes to it when they are dealt to the CPUs in turn. @order is the CPU's number among those that
 * take part, from 0.
 */
void ksplice_scan_share(struct ksplice_pause *pause, unsigned long sp, unsigned int order)
{
	unsigned int turn = 0, cpus = num_online_cpus();
	struct task_struct *group, *task;
	struct tally tally = {};

	/* An update without functions. */
	if (!pause->range_count)
		return;
	scan(pause, &tally, current, sp, (unsigned long)task_pt_regs(current));
	for_each_process_thread(group, task) {
		if (turn == order)
			scan_other(pause, &tally, task);
		if (++turn == cpus)
			turn = 0;
	}
	if (!order)
		scan_idle(pause, &tally);
	atomic_long_add(tally.tasks, &pause->tasks);
	atomic_long_add(tally.words, &pause->words);
}
