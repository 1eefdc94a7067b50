// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What an update exports is there for other modules only while the update is applied: its code is made for the changed
 * kernel. The kernel looks a name up in as many entries of a module as its structure counts; without any, it finds none.
 *
 * Who links to an export looks it up and takes a reference on its module under module_mutex, so with that mutex held
 * nobody is in between, and the references tell who has linked. Others read the counts with preemption off
 * (/proc/kallsyms, symbol_put() of a reference that exists); to them either count is right, since the entries stay.
 */
#include <linux/compiler.h>
#include <linux/version.h>
#include "internal.h"

extern struct mutex module_mutex;	/* in kernel/module/main.c; resolved by the loader */

/* Later kernels have one table for both licences. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(7, 1, 0)
#define gpl_count(module) (&(module)->num_gpl_syms)
#else
#define gpl_count(module) ((unsigned int *)NULL)
#endif

void ksplice_lock_exports(void)
{
	mutex_lock(&module_mutex);
}

void ksplice_unlock_exports(void)
{
	mutex_unlock(&module_mutex);
}

/* The caller holds the lock. */
void ksplice_show_exports(struct ksplice_record *record, bool show)
{
	struct module *owner = record->update->owner;

	WRITE_ONCE(owner->num_syms, show ? record->exports : 0);
	if (gpl_count(owner))
		WRITE_ONCE(*gpl_count(owner), show ? record->gpl_exports : 0);
}

/*
 * From the init function of the update module: nobody has linked to it yet, because the kernel lets everybody who finds
 * a name in a module that is being loaded wait, and look again.
 */
void ksplice_hide_new_exports(struct ksplice_record *record)
{
	struct module *owner = record->update->owner;

	ksplice_lock_exports();
	record->exports = owner->num_syms;
	record->gpl_exports = gpl_count(owner) ? *gpl_count(owner) : 0;
	ksplice_show_exports(record, false);
	ksplice_unlock_exports();
}

/*
 * Has anybody linked to the update's exports? All references on its module that are not ours are such; those of a
 * record that is just being entered make it one too many, and undo is tried again. The caller holds both locks.
 */
bool ksplice_exports_used(const struct ksplice_record *record)
{
	struct module *owner = record->update->owner;
	const struct ksplice_record *other;
	int own = record->pinned;
	unsigned int i;

	if (!record->exports && !record->gpl_exports)
		return false;
	list_for_each_entry(other, &ksplice_records, list)
		for (i = 0; i < other->module_count; i++)
			own += other->modules[i] == owner;
#ifdef CONFIG_MODULE_UNLOAD
	return module_refcount(owner) > own;
#else
	return true;	/* nobody counts */
#endif
}
