// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The books of ksplice.ko: which updates there are, what state each is in, and which modules it holds.
 *
 * A record is allocated apart from the update module, because sysfs may keep it alive a little longer than the
 * module's wish to go. References: a registered update, applied or not, holds ksplice.ko, the modules that it names,
 * and every module whose text it redirects or whose constants it replaces, because the addresses in it are good only as long as those stay where they
 * are, and because its jump labels and static calls hang on keys in them. An applied update holds its own module too; a
 * resident one, once applied, for ever.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/kallsyms.h>
#include <linux/slab.h>
#include <linux/string.h>
#include "internal.h"

DEFINE_MUTEX(ksplice_mutex);
LIST_HEAD(ksplice_records);

const char * const ksplice_cause_words[KSPLICE_CAUSES] = {
	[KSPLICE_NONE] = "none",
	[KSPLICE_BUSY] = "busy",
	[KSPLICE_CHANGED] = "changed",
	[KSPLICE_RESERVED] = "reserved",
	[KSPLICE_KPROBE] = "kprobe",
	[KSPLICE_TRACER] = "tracer",
	[KSPLICE_CACHE_LINE] = "cache-line",
	[KSPLICE_SIZE] = "size",
	[KSPLICE_ADDRESS] = "address",
	[KSPLICE_MODULE] = "module",
	[KSPLICE_DEPENDENT] = "dependent",
	[KSPLICE_USED] = "used",
	[KSPLICE_MEMORY] = "memory",
	[KSPLICE_HOOK] = "hook",
};

/* The macro came with the members of struct module that it iterates over (Linux 6.4). */
void ksplice_module_text(const struct module *module, unsigned long *first, unsigned long *end)
{
#ifdef for_each_mod_mem_type
	*first = (unsigned long)module->mem[MOD_TEXT].base;
	*end = *first + module->mem[MOD_TEXT].size;
#else
	*first = (unsigned long)module->core_layout.base;
	*end = *first + module->core_layout.text_size;
#endif
}

/*
 * Takes a reference; the caller has disabled preemption, so that the module is still there. Only on a live module, or one
 * that waits for us (late.c): a reference on one that is being loaded does not keep it, it is freed nevertheless when its
 * init function fails.
 */
static bool get_module(struct ksplice_record *record, struct module *module)
{
	if (!module || (READ_ONCE(module->state) != MODULE_STATE_LIVE && module != record->coming) ||
	    record->module_count == record->module_room || !try_module_get(module))
		return false;
	record->modules[record->module_count++] = module;
	return true;
}

static bool get_named_module(struct ksplice_record *record, const char *name)
{
	bool ok;

	preempt_disable();
	ok = get_module(record, find_module(name));
	preempt_enable();
	return ok;
}

static bool get_module_of(struct ksplice_record *record, unsigned long address)
{
	bool ok;

	if (core_kernel_text(address))
		return true;
	preempt_disable();
	ok = get_module(record, __module_text_address(address));
	preempt_enable();
	return ok;
}

static bool get_module_of_data(struct ksplice_record *record, const struct ksplice_data *data)
{
	bool ok;

	if (ksplice_is_image_constant(data->address, data->size))
		return true;
	preempt_disable();
	ok = get_module(record, __module_address(data->address));
	preempt_enable();
	return ok;
}

static void put_modules(struct ksplice_record *record)
{
	while (record->module_count)
		module_put(record->modules[--record->module_count]);
}

/* All or none. */
static int get_modules(struct ksplice_record *record)
{
	const struct ksplice_update *update = record->update;
	const char *name;
	unsigned int i;

	for (name = update->modules; *name; name += strlen(name) + 1) {
		if (get_named_module(record, name))
			continue;
		pr_err("%.12s: module %s is not there, or on its way in or out\n", record->id, name);
		goto fail;
	}
	for (i = 0; i < update->table->function_count; i++)
		if (!get_module_of(record, update->functions[i].old_start))
			goto fail;
	for (i = 0; i < update->table->part_count; i++)
		if (!get_module_of(record, update->parts[i].old_start))
			goto fail;
	for (i = 0; i < update->table->data_count; i++)
		if (!get_module_of_data(record, &update->data[i]))
			goto fail;
	return 0;
fail:
	put_modules(record);
	return -ENODEV;
}

static bool holds(const struct ksplice_record *record, const struct module *module)
{
	unsigned int i;

	for (i = 0; i < record->module_count; i++)
		if (record->modules[i] == module)
			return true;
	return false;
}

static bool holds_coming(const struct ksplice_record *record)
{
	unsigned int i;

	for (i = 0; i < record->module_count; i++)
		if (READ_ONCE(record->modules[i]->state) != MODULE_STATE_LIVE)
			return true;
	return false;
}

/* Is the part of an update for a module applied? */
bool ksplice_has_part(const char *update, const struct module *module)
{
	const struct ksplice_record *record;
	bool has = false;

	mutex_lock(&ksplice_mutex);
	list_for_each_entry(record, &ksplice_records, list)
		has = has || (record->state == KSPLICE_APPLIED && holds(record, module) &&
			      !strcmp(record->update->table->update, update));
	mutex_unlock(&ksplice_mutex);
	return has;
}

/* In the module, or in an update for it? The caller holds ksplice_mutex. */
static bool is_of(u64 address, const struct module *module)
{
	const struct ksplice_record *record;

	if (within_module(address, module))
		return true;
	list_for_each_entry(record, &ksplice_records, list)
		if (within_module(address, record->update->owner))
			return holds(record, module);
	return false;
}

/*
 * If the update is for a module that is being loaded and waits for it, it is for nothing else: all of it is given up if that
 * module does not come up.
 */
static bool is_only_for(const struct ksplice_update *update, const struct module *module)
{
	bool only = true;
	unsigned int i;

	mutex_lock(&ksplice_mutex);
	for (i = 0; i < update->table->function_count; i++)
		only = only && is_of(update->functions[i].old_start, module);
	for (i = 0; i < update->table->part_count; i++)
		only = only && is_of(update->parts[i].old_start, module);
	for (i = 0; i < update->table->data_count; i++)
		only = only && is_of(update->data[i].address, module);
	mutex_unlock(&ksplice_mutex);
	return only;
}

static void leave_gate(struct ksplice_record *record)
{
	if (record->coming)
		ksplice_leave_gate(record->coming);
	record->coming = NULL;
}

#ifdef CONFIG_JUMP_LABEL
/* static in kernel/jump_label.c; resolved by the loader */
int jump_label_module_notify(struct notifier_block *block, unsigned long event, void *data);
#endif
#ifdef CONFIG_HAVE_STATIC_CALL_INLINE
/* the same, kernel/static_call_inline.c */
int static_call_module_notify(struct notifier_block *block, unsigned long event, void *data);
#endif

/*
 * Takes the jump labels and static calls of an update module off their keys, as the kernel does when the module goes. Where
 * a key is in a module that goes before, it could not do that later.
 */
static void unlink_keys(struct module *owner)
{
#ifdef CONFIG_JUMP_LABEL
	jump_label_module_notify(NULL, MODULE_STATE_GOING, owner);
	owner->num_jump_entries = 0;
#endif
#ifdef CONFIG_HAVE_STATIC_CALL_INLINE
	static_call_module_notify(NULL, MODULE_STATE_GOING, owner);
	owner->num_static_call_sites = 0;
#endif
}

static bool forget_module(struct ksplice_record *record, const struct module *module)
{
	unsigned int i, kept = 0;

	for (i = 0; i < record->module_count; i++)
		if (record->modules[i] != module)
			record->modules[kept++] = record->modules[i];
	if (kept == record->module_count)
		return false;
	record->module_count = kept;
	return true;
}

/*
 * A module goes though it is held, because its init function failed: nobody runs its code any more. What stands on it is
 * not applied any more, and never again.
 */
void ksplice_give_up(struct module *module)
{
	struct ksplice_record *record;

	mutex_lock(&ksplice_mutex);
	list_for_each_entry(record, &ksplice_records, list) {
		if (!forget_module(record, module))
			continue;
		pr_warn("%.12s: module %s did not come up; the update's part for it is given up\n", record->id,
			module->name);
		record->leaving = true;
		unlink_keys(record->update->owner);
		ksplice_abandon(record);
	}
	mutex_unlock(&ksplice_mutex);
}

static void free_record(struct ksplice_record *record)
{
	/* What is at the gate stays until we have left it. */
	put_modules(record);
	leave_gate(record);
	kfree(record->files);
	kvfree(record->modules);
	kvfree(record->sites);
	kvfree(record->uses);
	kvfree(record->aliases);
	kfree(record);
}

static struct ksplice_record *new_record(struct ksplice_update *update, unsigned int names)
{
	const struct ksplice_table *table = update->table;
	unsigned int functions = table->function_count;
	unsigned int both = functions + table->part_count;
	struct ksplice_record *record = kzalloc(sizeof(*record), GFP_KERNEL);

	if (!record)
		return NULL;
	record->update = update;
	record->settled = true;
	record->module_room = names + both + table->data_count;
	init_completion(&record->released);
	INIT_LIST_HEAD(&record->list);
	INIT_LIST_HEAD(&record->step);
	memcpy(record->id, table->id, KSPLICE_ID_SIZE);
	record->modules = kvcalloc(record->module_room, sizeof(*record->modules), GFP_KERNEL);
	record->sites = kvcalloc(functions, sizeof(*record->sites), GFP_KERNEL);
	record->uses = kvcalloc(table->shadow_count, sizeof(*record->uses), GFP_KERNEL);
	record->aliases = kvcalloc(table->data_count, sizeof(*record->aliases), GFP_KERNEL);
	if (record->modules && record->sites && record->uses && record->aliases)
		return record;
	free_record(record);
	return NULL;
}

static bool is_known(const char *id)
{
	const struct ksplice_record *record;

	list_for_each_entry(record, &ksplice_records, list)
		if (!strcmp(record->id, id))
			return true;
	return false;
}

/* Shows the record in sysfs, then enters it in the books. Consumes @record on failure. */
static int enter_record(struct ksplice_record *record)
{
	int ret;

	mutex_lock(&ksplice_mutex);
	ret = is_known(record->id) ? -EEXIST : 0;
	if (!ret)
		list_add_tail(&record->list, &ksplice_records);
	/* Not yet to be applied: the files are there a moment before all of them are. */
	record->leaving = true;
	mutex_unlock(&ksplice_mutex);
	if (ret) {
		free_record(record);
		return ret;
	}

	ret = ksplice_sysfs_add(record);
	mutex_lock(&ksplice_mutex);
	if (ret)
		list_del(&record->list);
	else
		record->leaving = false;
	mutex_unlock(&ksplice_mutex);
	if (ret) {
		ksplice_sysfs_remove(record);
		free_record(record);
	}
	return ret;
}

int ksplice_register(struct ksplice_update *update)
{
	const char *trouble = ksplice_check_tables(update);
	int names = trouble ? 0 : ksplice_count_modules(update);
	struct ksplice_record *record;
	int ret;

	if (!trouble && names < 0)
		trouble = "has a wrong list of modules";
	if (trouble) {
		pr_err("module %s %s\n", update->owner->name, trouble);
		return -EINVAL;
	}
	if (!try_module_get(THIS_MODULE))
		return -ENODEV;
	ret = -ENOMEM;
	record = new_record(update, names);
	if (record) {
		ksplice_hide_new_exports(record);
		record->coming = ksplice_enter_gate(update);
		ret = record->coming && !is_only_for(update, record->coming) ? -EINVAL : get_modules(record);
		if (ret)
			free_record(record);
		else
			ret = enter_record(record);
	}
	if (ret) {
		pr_err("%.12s: cannot be registered (%d)\n", update->table->id, ret);
		module_put(THIS_MODULE);
		return ret;
	}
	leave_gate(record);
	update->record = record;
	update->core = THIS_MODULE;
	pr_info("%.12s: loaded\n", record->id);
	return 0;
}

void ksplice_unregister(struct ksplice_update *update)
{
	struct ksplice_record *record = update->record;

	mutex_lock(&ksplice_mutex);
	if (WARN_ON(record->state == KSPLICE_APPLIED)) {	/* only if the module was forced out */
		ksplice_shadow_drop(record);
		ksplice_end_tracers(record);
	}
	record->leaving = true;
	list_del(&record->list);
	/* A module that is being loaded may go at once, and nobody would tell us any more. */
	if (holds_coming(record))
		unlink_keys(update->owner);
	put_modules(record);
	mutex_unlock(&ksplice_mutex);
	/* Without the mutex: this waits for those who are in our files and may wait for it. */
	ksplice_sysfs_remove(record);
	pr_info("%.12s: unloaded\n", record->id);
	free_record(record);
	update->record = NULL;
}

static int __init ksplice_init(void)
{
	int ret = ksplice_sysfs_init();

	if (ret)
		return ret;
	ret = ksplice_late_init(ksplice_sysfs_root());
	if (ret)
		ksplice_sysfs_exit();
	return ret;
}

static void __exit ksplice_exit(void)
{
	ksplice_sysfs_close();
	ksplice_late_exit();
	ksplice_sysfs_exit();
	ksplice_transition_exit();
#ifdef CONFIG_TASKS_RCU
	/* Whoever has just given our last reference back may be preempted behind that, in our text. */
	synchronize_rcu_tasks();
#endif
}

module_init(ksplice_init);
module_exit(ksplice_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Applies and undoes hot updates made by git ksplice");
