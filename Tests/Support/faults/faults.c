// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which call fails: the parameter fail_at counts them down, and last_fault says which it was.
 */
#define KSPLICE_WITHOUT_FAULTS
#include <linux/moduleparam.h>
#include "internal.h"

static int fail_at;
module_param(fail_at, int, 0600);
static char *last_fault = "none";
module_param(last_fault, charp, 0400);
static int live;	/* allocations */
module_param(live, int, 0400);

bool ksplice_fault(const char *where)
{
	if (fail_at <= 0 || --fail_at)
		return false;
	last_fault = (char *)where;
	return true;
}

void *ksplice_got(void *pointer)
{
	live += !!pointer;
	return pointer;
}

const void *ksplice_gave(const void *pointer)
{
	live -= !!pointer;
	return pointer;
}

bool ksplice_hook_fault(struct ksplice_record *record)
{
	if (!record->update->table->hook_count || !ksplice_fault("hook"))
		return false;
	record->hook = record->update->hooks;
	record->hook_value = -EIO;
	return true;
}
