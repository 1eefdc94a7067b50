// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Requests for transitions: one update on or off, or several in one pause, so that the system never runs in between
 * without the one that is replaced or the one that replaces it.
 *
 * A request that is to be carried out later returns at once, and a thread of its own does the work a moment after: so
 * whoever asked need not be inside the kernel meanwhile, and functions that lie on the way of the write can be replaced.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include "internal.h"

#define LATER		"later\n"
#define LATER_MS	20

/* One step in a request: `+` or `-`, the identity, a newline. */
#define LINE_SIZE	(1 + KSPLICE_ID_SIZE + 1)

struct request {
	size_t size;
	char text[];
};

/* Protected by ksplice_mutex. */
static struct task_struct *later;	/* the thread of the last request, until it is collected */
static struct request *pending;		/* what it has not begun with */
static unsigned long finished;		/* transitions of the thread so far */
static int last_error;			/* of the last one, positive */

static struct ksplice_record *find_record(const char *id)
{
	struct ksplice_record *record;

	list_for_each_entry(record, &ksplice_records, list)
		if (!memcmp(record->id, id, KSPLICE_ID_SIZE))
			return record;
	return NULL;
}

static int add_line(struct list_head *steps, const char *line)
{
	struct ksplice_record *record;

	if ((line[0] != '+' && line[0] != '-') || line[LINE_SIZE - 1] != '\n')
		return -EINVAL;
	record = find_record(line + 1);
	if (!record || record->leaving)
		return -ENODEV;
	return ksplice_add_step(steps, record, line[0] == '-') ? 0 : -EINVAL;
}

/* The caller holds ksplice_mutex. */
static int carry_out(const char *text, size_t size)
{
	LIST_HEAD(steps);
	int ret = size && size % LINE_SIZE == 0 ? 0 : -EINVAL;
	size_t i;

	for (i = 0; i < size && !ret; i += LINE_SIZE)
		ret = add_line(&steps, text + i);
	if (ret) {
		ksplice_drop_steps(&steps);
		return ret;
	}
	return ksplice_make_transition(&steps);
}

static int run_later(void *data)
{
	msleep(LATER_MS);
	mutex_lock(&ksplice_mutex);
	last_error = -carry_out(pending->text, pending->size);
	finished++;
	kfree(pending);
	pending = NULL;
	mutex_unlock(&ksplice_mutex);
	while (!kthread_should_stop()) {
		set_current_state(TASK_INTERRUPTIBLE);
		if (!kthread_should_stop())
			schedule();
		__set_current_state(TASK_RUNNING);
	}
	return 0;
}

/* The thread is done, or has not run at all if ksplice.ko goes. */
static void collect(void)
{
	if (later)
		kthread_stop(later);
	later = NULL;
	kfree(pending);
	pending = NULL;
}

/* The caller holds ksplice_mutex. */
static int begin_later(const char *text, size_t size)
{
	struct request *request;
	struct task_struct *task;

	if (pending)
		return -EBUSY;
	request = kzalloc(sizeof(*request) + size, GFP_KERNEL);
	if (!request)
		return -ENOMEM;
	request->size = size;
	memcpy(request->text, text, size);
	collect();
	pending = request;
	task = kthread_run(run_later, NULL, "ksplice");
	if (!IS_ERR(task)) {
		later = task;
		return 0;
	}
	pending = NULL;
	kfree(request);
	return PTR_ERR(task);
}

/* What was written to the file: all of it is understood and done, or nothing. */
int ksplice_transition_text(const char *text, size_t size)
{
	bool is_later = size >= strlen(LATER) && !memcmp(text, LATER, strlen(LATER));
	int ret;

	mutex_lock(&ksplice_mutex);
	if (is_later)
		ret = begin_later(text + strlen(LATER), size - strlen(LATER));
	else
		ret = carry_out(text, size);
	mutex_unlock(&ksplice_mutex);
	return ret;
}

/* How many later transitions have been tried, and the error of the last. */
int ksplice_transition_outcome(char *to)
{
	int size;

	mutex_lock(&ksplice_mutex);
	size = sysfs_emit(to, "%lu %d\n", finished, last_error);
	mutex_unlock(&ksplice_mutex);
	return size;
}

/* One update on or off, now. The caller holds ksplice_mutex. */
int ksplice_set(struct ksplice_record *record, bool enable)
{
	LIST_HEAD(steps);

	if (!ksplice_add_step(&steps, record, !enable))
		return -EINVAL;
	return ksplice_make_transition(&steps);
}

/* Nobody asks any more: the files are gone, or going. */
void ksplice_transition_exit(void)
{
	collect();
}
