// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Runs the code of the patch's author. ksplice.h has the contract; apply.c decides when.
 */
#include <linux/kernel.h>
#include "internal.h"

const char * const ksplice_hook_words[KSPLICE_HOOK_KINDS] = {
	[KSPLICE_HOOK_PRE] = "pre_apply",
	[KSPLICE_HOOK_CHECK] = "check_apply",
	[KSPLICE_HOOK_ACT] = "apply",
	[KSPLICE_HOOK_POST] = "post_apply",
	[KSPLICE_HOOK_FAIL] = "fail_apply",
	[KSPLICE_HOOK_REVERSE + KSPLICE_HOOK_PRE] = "pre_reverse",
	[KSPLICE_HOOK_REVERSE + KSPLICE_HOOK_CHECK] = "check_reverse",
	[KSPLICE_HOOK_REVERSE + KSPLICE_HOOK_ACT] = "reverse",
	[KSPLICE_HOOK_REVERSE + KSPLICE_HOOK_POST] = "post_reverse",
	[KSPLICE_HOOK_REVERSE + KSPLICE_HOOK_FAIL] = "fail_reverse",
};

static int call(const struct ksplice_hook *hook, unsigned int step)
{
	unsigned long function = hook->function;

	if (step == KSPLICE_HOOK_PRE || step == KSPLICE_HOOK_CHECK)
		return ((int (*)(void))function)();
	((void (*)(void))function)();
	return 0;
}

/*
 * The hooks of one step (KSPLICE_HOOK_PRE to _FAIL). Forwards for apply, backwards for undo; what a failed attempt
 * leaves is ended in the order that is opposite to that of its beginning. Returns false if one refused, which is then
 * noted, and calls none behind it. Also called in the pause.
 */
bool ksplice_run_hooks(struct ksplice_record *record, unsigned int step, bool undo)
{
	const struct ksplice_hook *hooks = record->update->hooks;
	unsigned int count = record->update->table->hook_count;
	unsigned int kind = step + (undo ? KSPLICE_HOOK_REVERSE : 0);
	bool forward = undo == (step == KSPLICE_HOOK_FAIL);
	unsigned int i;

	for (i = 0; i < count; i++) {
		const struct ksplice_hook *hook = &hooks[forward ? i : count - 1 - i];
		int value;

		if (hook->kind != kind)
			continue;
		value = call(hook, step);
		if (value) {
			record->hook = hook;
			record->hook_value = value;
			return false;
		}
	}
	return true;
}
