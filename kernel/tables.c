// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Are the tables of an update module what update.h says? Every address in them that is the update's own must lie in
 * the update module, every count and size within reason. What lies outside is looked at when the update is applied.
 */
#include <linux/ctype.h>
#include <linux/kallsyms.h>
#include "internal.h"

#define MAX_FUNCTIONS	4096
#define MAX_PARTS	16384
#define MAX_HOOKS	4096
#define MAX_SHADOWS	256
#define MAX_DATA	1024
#define MAX_NAMES	1024
#define MAX_OLD_SIZE	(1 << 24)
#define MAX_DATA_SIZE	(1 << 20)

/* Do @size bytes at @address belong to the update module? */
static bool is_own(const struct ksplice_update *update, u64 address, u64 size)
{
	return size && address == (unsigned long)address && address + size > address &&
	       within_module(address, update->owner) && within_module(address + size - 1, update->owner);
}

static bool is_own_text(const struct ksplice_update *update, u64 address, u64 size)
{
	unsigned long first, end;

	ksplice_module_text(update->owner, &first, &end);
	return size && address >= first && address < end && size <= end - address;
}

static bool is_own_string(const struct ksplice_update *update, u64 address, size_t room)
{
	size_t i;

	for (i = 0; i < room; i++) {
		if (!is_own(update, address + i, 1))
			return false;
		if (!*(const char *)(unsigned long)(address + i))
			return i > 0;
	}
	return false;
}

static bool is_own_expected(const struct ksplice_update *update, u64 expected, u64 old_size)
{
	return old_size && old_size <= MAX_OLD_SIZE && is_own(update, expected, 2 * old_size);
}

bool ksplice_is_identity(const char *id)
{
	unsigned int i;

	for (i = 0; i < KSPLICE_ID_SIZE; i++)
		if (!isdigit(id[i]) && !(id[i] >= 'a' && id[i] <= 'f'))
			return false;
	return id[KSPLICE_ID_SIZE] == '\0';
}

static const char *check_head(const struct ksplice_table *table)
{
	if (table->abi != KSPLICE_ABI)
		return "was made for another version of ksplice.ko";
	if (table->function_count > MAX_FUNCTIONS || table->part_count > MAX_PARTS ||
	    table->hook_count > MAX_HOOKS || table->shadow_count > MAX_SHADOWS || table->data_count > MAX_DATA)
		return "has an impossible number of functions, hooks, ids or constants";
	if (!table->function_count && !table->hook_count && !table->data_count &&
	    !(table->flags & KSPLICE_UPDATE_EXPORTS))
		return "changes nothing";
	if (table->flags & ~(KSPLICE_UPDATE_RESIDENT | KSPLICE_UPDATE_EXPORTS) || table->reserved)
		return "has an unknown flag";
	if (!ksplice_is_identity(table->id) || !ksplice_is_identity(table->update))
		return "has an identity that is not 64 hexadecimal digits";
	return NULL;
}

static const char *check_functions(const struct ksplice_update *update)
{
	const struct ksplice_table *table = update->table;
	unsigned int i;

	for (i = 0; i < table->function_count; i++) {
		const struct ksplice_function *f = &update->functions[i];

		if (!is_own_text(update, f->new_start, f->new_size))
			return "names new code that is not its own";
		if (!is_own_string(update, f->name, KSYM_NAME_LEN))
			return "has a function without a name";
		if (!is_own_expected(update, f->expected, f->old_size))
			return "has no room for the expected bytes of a function";
		if (f->flags & ~KSPLICE_FUNCTION_TRACED || f->site > f->old_size ||
		    (f->flags & KSPLICE_FUNCTION_TRACED && f->site < KSPLICE_FTRACE_SIZE))
			return "has a wrong place for a redirect";
	}
	for (i = 0; i < table->part_count; i++) {
		const struct ksplice_part *p = &update->parts[i];

		if (p->function >= table->function_count)
			return "has a part of no function";
		if (!is_own_expected(update, p->expected, p->old_size))
			return "has no room for the expected bytes of a part";
	}
	return NULL;
}

static const char *check_hooks(const struct ksplice_update *update)
{
	unsigned int i;

	for (i = 0; i < update->table->hook_count; i++) {
		const struct ksplice_hook *h = &update->hooks[i];

		if (h->kind >= KSPLICE_HOOK_KINDS || h->reserved || !is_own_text(update, h->function, 1))
			return "has a hook that is not its own";
		if (!is_own_string(update, h->name, KSYM_NAME_LEN))
			return "has a hook without a name";
	}
	for (i = 0; i < update->table->shadow_count; i++) {
		const struct ksplice_shadow *s = &update->shadows[i];

		if (s->release && !is_own_text(update, s->release, 1))
			return "has a release function that is not its own";
	}
	return NULL;
}

static const char *check_data(const struct ksplice_update *update)
{
	unsigned int i;

	for (i = 0; i < update->table->data_count; i++) {
		const struct ksplice_data *d = &update->data[i];

		if (d->size > MAX_DATA_SIZE || !is_own(update, d->content, d->size) ||
		    !is_own(update, d->expected, d->size))
			return "has no room for the contents of a constant";
		if (d->address != (unsigned long)d->address || d->address + d->size < d->address ||
		    within_module(d->address, update->owner))
			return "has a constant at an impossible address";
		if (!is_own_string(update, d->name, KSYM_NAME_LEN))
			return "has a constant without a name";
	}
	return NULL;
}

/* What is wrong, for a message that begins with the module's name; NULL for nothing. */
const char *ksplice_check_tables(const struct ksplice_update *update)
{
	const char *trouble = check_head(update->table);

	if (!trouble)
		trouble = check_functions(update);
	if (!trouble)
		trouble = check_hooks(update);
	if (!trouble)
		trouble = check_data(update);
	return trouble;
}

/* The number of names, or -EINVAL. */
int ksplice_count_modules(const struct ksplice_update *update)
{
	const char *name = update->modules;
	int count = 0;

	while (is_own(update, (unsigned long)name, 1) && *name && count < MAX_NAMES) {
		if (!is_own_string(update, (unsigned long)name, MODULE_NAME_LEN))
			return -EINVAL;
		name += strlen(name) + 1;
		count++;
	}
	return is_own(update, (unsigned long)name, 1) && !*name ? count : -EINVAL;
}
