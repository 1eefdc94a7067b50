// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Modules that are loaded after an update that changes them was applied. They wait at a gate in front of their init
 * function while a program matches them, loads the update's part for them and applies it; so from their init function on they
 * never run what is to be replaced. Constructors, and functions that set parameters, run before.
 *
 * The gate stands in place of mod->init, because a notifier must not wait: its chain is locked for reading, and whoever
 * loads a module, as the program does, reads it again; a writer in between would stop all three. The notifier only puts
 * the gate there. The kernel's loader calls it in the loading task, with none of its locks held, when the module is complete
 * in memory and in kallsyms.
 *
 * The program is started like modprobe is by the kernel. Its exit status is the answer, and the books must agree. If it fails,
 * or cannot be started, each awaited update says whether the module may run without it.
 *
 * If init fails, the kernel frees the module, whatever references there are. The notifier then gives up what stands on it.
 *
 * Lock order: late_mutex is taken last and held for moments; ksplice_mutex is never taken with it held. The notifier takes
 * ksplice_mutex, only for a module that was at the gate: nobody may wait for the notifier chain who holds ksplice_mutex.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/ctype.h>
#include <linux/kobject.h>
#include <linux/notifier.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include <linux/umh.h>
#include <linux/wait.h>
#include "internal.h"

#define MAX_AWAITED	4096
#define MAX_PATH	256

struct awaited {
	struct kobject kobj;		/* late/ID:MODULE */
	struct list_head list;
	unsigned int number;
	char update[KSPLICE_ID_SIZE + 1];
	char module[MODULE_NAME_LEN];
	bool refuse;			/* the module rather than the update's absence */
};

struct gate {
	struct list_head list;
	struct module *module;		/* its state is COMING */
	struct task_struct *task;	/* that loads it; valid while the module is being loaded */
	int (*init)(void);		/* may be NULL */
	bool open;			/* the program is at work */
	bool passed;			/* the program has ended */
	unsigned int users;		/* updates that are being registered */
};

static DEFINE_MUTEX(request_mutex);	/* held while a request is carried out; taken before late_mutex */
static DEFINE_MUTEX(late_mutex);
static DECLARE_WAIT_QUEUE_HEAD(users_gone);
static LIST_HEAD(all_awaited);		/* in the order in which they are to be applied */
static LIST_HEAD(gates);
static struct kobject *folder;
static unsigned int awaited_count, last_number;
static char helper[MAX_PATH];

/* Until "The program": the caller holds late_mutex. */

static struct awaited *find_awaited(const char *update, const char *module)
{
	struct awaited *a;

	list_for_each_entry(a, &all_awaited, list)
		if ((!update || !strcmp(a->update, update)) && !strcmp(a->module, module))
			return a;
	return NULL;
}

static bool is_refused_without(const char *module)
{
	struct awaited *a;

	list_for_each_entry(a, &all_awaited, list)
		if (a->refuse && !strcmp(a->module, module))
			return true;
	return false;
}

static struct gate *find_gate(const struct module *module)
{
	struct gate *gate;

	list_for_each_entry(gate, &gates, list)
		if (gate->module == module)
			return gate;
	return NULL;
}

static struct gate *own_gate(void)
{
	struct gate *gate;

	list_for_each_entry(gate, &gates, list)
		if (gate->task == current && !gate->open)
			return gate;
	return NULL;
}

/* The program. */

static void free_words(struct subprocess_info *info)
{
	kfree(info->argv[2]);
	kfree(info->argv[0]);
	kfree(info->argv);
	module_put(THIS_MODULE);
}

/* 0, a negative error number, or what the program's end looks like to wait(2). */
static int run_helper(const char *module)
{
	static char *environment[] = { "HOME=/", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	struct subprocess_info *info;
	char **words = kcalloc(4, sizeof(*words), GFP_KERNEL);

	if (!words)
		return -ENOMEM;
	mutex_lock(&late_mutex);
	words[0] = kstrdup(helper, GFP_KERNEL);
	mutex_unlock(&late_mutex);
	words[1] = "late";
	words[2] = kstrdup(module, GFP_KERNEL);
	info = words[0] && words[0][0] && words[2] ?
		call_usermodehelper_setup(words[0], words, environment, GFP_KERNEL, NULL, free_words, NULL) : NULL;
	/* The program may outlive whoever waits for it, and ends in free_words(). */
	if (info)
		__module_get(THIS_MODULE);
	if (info)
		return call_usermodehelper_exec(info, UMH_WAIT_PROC | UMH_KILLABLE);
	kfree(words[2]);
	kfree(words[0]);
	kfree(words);
	return -ENOENT;
}

static void open_gate(struct gate *gate, bool open)
{
	mutex_lock(&late_mutex);
	gate->open = open;
	gate->passed = !open;
	mutex_unlock(&late_mutex);
}

/* The identity of the next update that does not let the module run without its part; false where there is none. */
static bool next_strict(const char *module, unsigned int *number, char *update)
{
	struct awaited *a;
	bool found = false;

	mutex_lock(&late_mutex);
	list_for_each_entry(a, &all_awaited, list) {
		if (a->number <= *number || !a->refuse || strcmp(a->module, module))
			continue;
		*number = a->number;
		strscpy(update, a->update, KSPLICE_ID_SIZE + 1);
		found = true;
		break;
	}
	mutex_unlock(&late_mutex);
	return found;
}

/* A program that ends well may have done nothing. */
static int check_parts(const struct module *module)
{
	char update[KSPLICE_ID_SIZE + 1];
	unsigned int number = 0;

	while (next_strict(module->name, &number, update))
		if (!ksplice_has_part(update, module))
			return -ENOENT;
	return 0;
}

/* In place of the module's init function. */
static int at_gate(void)
{
	struct gate *gate;
	struct module *module;
	bool refuse;
	int ret;

	mutex_lock(&late_mutex);
	gate = own_gate();
	mutex_unlock(&late_mutex);
	if (WARN_ON(!gate))
		return -EINVAL;
	module = gate->module;
	module->init = gate->init;	/* the kernel looks at it when the module is to go */
	pr_info("module %s waits for its updates\n", module->name);
	open_gate(gate, true);
	ret = run_helper(module->name);
	open_gate(gate, false);
	if (!ret)
		ret = check_parts(module);
	if (ret) {
		mutex_lock(&late_mutex);
		refuse = is_refused_without(module->name);
		mutex_unlock(&late_mutex);
		if (refuse) {
			pr_err("module %s is refused: it did not get its updates (%d)\n", module->name, ret);
			return -ECANCELED;
		}
		pr_warn("module %s did not get its updates (%d), and runs without\n", module->name, ret);
	}
	return gate->init ? gate->init() : 0;
}

/* Modules. */

static int put_gate(struct module *module)
{
	struct gate *gate;
	bool wanted, refuse;

	mutex_lock(&late_mutex);
	wanted = find_awaited(NULL, module->name);
	refuse = wanted && is_refused_without(module->name);
	mutex_unlock(&late_mutex);
	if (!wanted)
		return 0;
	gate = kzalloc(sizeof(*gate), GFP_KERNEL);
	if (!gate || !try_module_get(THIS_MODULE)) {
		kfree(gate);
		pr_err("module %s did not get its updates\n", module->name);
		return refuse ? -ENOMEM : 0;
	}
	gate->module = module;
	gate->task = current;
	gate->init = module->init;
	module->init = at_gate;
	mutex_lock(&late_mutex);
	list_add_tail(&gate->list, &gates);
	mutex_unlock(&late_mutex);
	return 0;
}

static bool no_users(struct gate *gate)
{
	bool none;

	mutex_lock(&late_mutex);
	none = !gate->users;
	mutex_unlock(&late_mutex);
	return none;
}

/* The module is up, or goes. */
static void take_gate(struct module *module, bool is_lost)
{
	struct gate *gate;

	mutex_lock(&late_mutex);
	gate = find_gate(module);
	mutex_unlock(&late_mutex);
	if (!gate)
		return;
	wait_event(users_gone, no_users(gate));
	if (is_lost)
		ksplice_give_up(module);
	mutex_lock(&late_mutex);
	list_del(&gate->list);
	mutex_unlock(&late_mutex);
	kfree(gate);
	/* Who unloads ksplice.ko unregisters the notifier first, and waits for this call. */
	module_put(THIS_MODULE);
}

static int module_event(struct notifier_block *block, unsigned long event, void *data)
{
	switch (event) {
	case MODULE_STATE_COMING:
		return notifier_from_errno(put_gate(data));
	case MODULE_STATE_LIVE:
	case MODULE_STATE_GOING:
		take_gate(data, event == MODULE_STATE_GOING);
		break;
	}
	return NOTIFY_OK;
}

/* Behind all others, whose view of a coming module is complete then. */
static struct notifier_block module_block = { .notifier_call = module_event, .priority = INT_MIN };

static bool is_for(const struct ksplice_update *update, const struct module *module)
{
	const char *name;

	for (name = update->modules; *name; name += strlen(name) + 1)
		if (!strcmp(name, module->name))
			return true;
	return update->table->function_count && within_module(update->functions[0].old_start, module);
}

/* The module at an open gate that an update is for, or NULL. It stays where it is until ksplice_leave_gate(). */
struct module *ksplice_enter_gate(const struct ksplice_update *update)
{
	struct module *module = NULL;
	struct gate *gate;

	mutex_lock(&late_mutex);
	list_for_each_entry(gate, &gates, list) {
		if (!gate->open || !is_for(update, gate->module))
			continue;
		gate->users++;
		module = gate->module;
		break;
	}
	mutex_unlock(&late_mutex);
	return module;
}

void ksplice_leave_gate(const struct module *module)
{
	mutex_lock(&late_mutex);
	find_gate(module)->users--;
	mutex_unlock(&late_mutex);
	wake_up(&users_gone);
}

/* The files. */

static struct awaited *to_awaited(struct kobject *kobj)
{
	return container_of(kobj, struct awaited, kobj);
}

static ssize_t number_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", to_awaited(kobj)->number);
}
static struct kobj_attribute number_attr = __ATTR_RO(number);

static ssize_t policy_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", READ_ONCE(to_awaited(kobj)->refuse) ? "refuse" : "allow");
}
static struct kobj_attribute policy_attr = __ATTR_RO(policy);

static ssize_t state_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	struct awaited *a = to_awaited(kobj);
	bool coming = false;
	struct gate *gate;

	mutex_lock(&late_mutex);
	list_for_each_entry(gate, &gates, list)
		coming = coming || (!gate->passed && !strcmp(gate->module->name, a->module));
	mutex_unlock(&late_mutex);
	return sysfs_emit(buf, "%s\n", coming ? "coming" : "awaited");
}
static struct kobj_attribute state_attr = __ATTR_RO(state);

static struct attribute *awaited_attrs[] = { &number_attr.attr, &policy_attr.attr, &state_attr.attr, NULL };
ATTRIBUTE_GROUPS(awaited);

static void awaited_release(struct kobject *kobj)
{
	kfree(to_awaited(kobj));
}

static struct kobj_type awaited_type = {
	.release = awaited_release,
	.sysfs_ops = &kobj_sysfs_ops,
	.default_groups = awaited_groups,
};

static int change_awaited(const char *update, const char *module, bool refuse)
{
	struct awaited *a;

	mutex_lock(&late_mutex);
	a = find_awaited(update, module);
	if (a)
		WRITE_ONCE(a->refuse, refuse);
	mutex_unlock(&late_mutex);
	return a ? 0 : -ENOENT;
}

static int add_awaited(const char *update, const char *module, bool refuse)
{
	struct awaited *a;
	int ret;

	if (!change_awaited(update, module, refuse))
		return 0;
	if (!try_module_get(THIS_MODULE))
		return -ENODEV;
	a = kzalloc(sizeof(*a), GFP_KERNEL);
	if (!a) {
		module_put(THIS_MODULE);	/* whoever writes to a file of ours holds it */
		return -ENOMEM;
	}
	strscpy(a->update, update, sizeof(a->update));
	strscpy(a->module, module, sizeof(a->module));
	a->refuse = refuse;
	INIT_LIST_HEAD(&a->list);
	a->number = ++last_number;
	ret = kobject_init_and_add(&a->kobj, &awaited_type, folder, "%s:%s", update, module);
	mutex_lock(&late_mutex);
	if (!ret && awaited_count == MAX_AWAITED)
		ret = -ENOSPC;
	if (!ret) {
		list_add_tail(&a->list, &all_awaited);
		awaited_count++;
	}
	mutex_unlock(&late_mutex);
	if (ret) {
		kobject_put(&a->kobj);
		module_put(THIS_MODULE);
	}
	return ret;
}

static int remove_awaited(const char *update, const char *module)
{
	struct awaited *a;

	mutex_lock(&late_mutex);
	a = find_awaited(update, module);
	if (a) {
		list_del(&a->list);
		awaited_count--;
	}
	mutex_unlock(&late_mutex);
	if (!a)
		return -ENOENT;
	kobject_put(&a->kobj);
	module_put(THIS_MODULE);
	return 0;
}

static bool is_name(const char *text)
{
	size_t i, size = strlen(text);

	for (i = 0; i < size; i++)
		if (!isascii(text[i]) || !isgraph(text[i]) || text[i] == '/')
			return false;
	return size && size < MODULE_NAME_LEN;
}

/* `+ID MODULE refuse`, `+ID MODULE allow` or `-ID MODULE`, with or without a newline; the text is taken apart. */
int ksplice_late_text(char *text)
{
	char *words = strim(text), *update, *module, *policy;
	char sign = *words;
	int ret;

	if (sign != '+' && sign != '-')
		return -EINVAL;
	words++;
	update = strsep(&words, " ");
	module = strsep(&words, " ");
	policy = strsep(&words, " ");
	if (words || !module || strlen(update) != KSPLICE_ID_SIZE || !ksplice_is_identity(update) || !is_name(module))
		return -EINVAL;
	if (sign == '-' ? !!policy : !policy || (strcmp(policy, "refuse") && strcmp(policy, "allow")))
		return -EINVAL;
	mutex_lock(&request_mutex);
	if (sign == '-')
		ret = remove_awaited(update, module);
	else
		ret = add_awaited(update, module, *policy == 'r');
	mutex_unlock(&request_mutex);
	return ret;
}

/* The path of the program. */
int ksplice_set_helper(const char *path, size_t size)
{
	while (size && path[size - 1] == '\n')
		size--;
	if (!size || size >= MAX_PATH || path[0] != '/' || memchr(path, '\n', size) || memchr(path, '\0', size))
		return -EINVAL;
	mutex_lock(&late_mutex);
	memcpy(helper, path, size);
	helper[size] = '\0';
	mutex_unlock(&late_mutex);
	return 0;
}

int ksplice_show_helper(char *to)
{
	int size;

	mutex_lock(&late_mutex);
	size = sysfs_emit(to, "%s\n", helper[0] ? helper : "none");
	mutex_unlock(&late_mutex);
	return size;
}

int ksplice_late_init(struct kobject *root)
{
	int ret;

	folder = kobject_create_and_add("late", root);
	if (!folder)
		return -ENOMEM;
	ret = register_module_notifier(&module_block);
	if (ret)
		kobject_put(folder);
	return ret;
}

/* Nothing is awaited and nobody is at a gate: each would hold ksplice.ko. */
void ksplice_late_exit(void)
{
	unregister_module_notifier(&module_block);
	kobject_put(folder);
}
