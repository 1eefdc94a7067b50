// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The files under /sys/kernel/ksplice/; README.md is their description. Each directory is a kobject inside the books
 * of its update; the last release of the directory completes `released`, for which the one who frees the books waits.
 */
#include <linux/ctype.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include "internal.h"

static struct kobject *root;

static struct ksplice_record *to_record(struct kobject *kobj)
{
	return container_of(kobj, struct ksplice_record, kobj);
}

static const struct ksplice_function *to_function(struct kobject *kobj)
{
	return container_of(kobj, struct ksplice_function_files, kobj)->function;
}

static ssize_t version_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", KSPLICE_ABI);
}
static struct kobj_attribute version_attr = __ATTR_RO(version);

/* Who writes exactly `1`, with or without a newline, has one more descriptor afterwards. */
static ssize_t window_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf, size_t count)
{
	int ret;

	if (count < 1 || count > 2 || buf[0] != '1' || (count == 2 && buf[1] != '\n'))
		return -EINVAL;
	ret = ksplice_open_window();
	return ret ? ret : count;
}
static struct kobj_attribute window_attr = __ATTR_WO(window);

static ssize_t transition_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return ksplice_transition_outcome(buf);
}

static ssize_t transition_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf, size_t count)
{
	int ret = ksplice_transition_text(buf, count);

	return ret ? ret : count;
}
static struct kobj_attribute transition_attr = __ATTR_RW_MODE(transition, 0600);

static ssize_t await_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf, size_t count)
{
	char *text = kstrndup(buf, count, GFP_KERNEL);
	int ret;

	if (!text)
		return -ENOMEM;
	ret = ksplice_late_text(text);
	kfree(text);
	return ret ? ret : count;
}
static struct kobj_attribute await_attr = __ATTR(await, 0200, NULL, await_store);

static ssize_t helper_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return ksplice_show_helper(buf);
}

static ssize_t helper_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf, size_t count)
{
	int ret = ksplice_set_helper(buf, count);

	return ret ? ret : count;
}
static struct kobj_attribute helper_attr = __ATTR_RW_MODE(helper, 0600);

static struct attribute *root_attrs[] = {
	&version_attr.attr, &window_attr.attr, &transition_attr.attr, &await_attr.attr, &helper_attr.attr, NULL
};
static const struct attribute_group root_group = { .attrs = root_attrs };

static ssize_t enabled_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", READ_ONCE(to_record(kobj)->state) == KSPLICE_APPLIED);
}

/* Exactly one digit, with or without a newline: half a word must not change a kernel. */
static ssize_t enabled_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf, size_t count)
{
	struct ksplice_record *record = to_record(kobj);
	int ret;

	if (count < 1 || count > 2 || (buf[0] != '0' && buf[0] != '1') || (count == 2 && buf[1] != '\n'))
		return -EINVAL;
	mutex_lock(&ksplice_mutex);
	ret = record->leaving ? -ENODEV : ksplice_set(record, buf[0] == '1');
	mutex_unlock(&ksplice_mutex);
	return ret ? ret : count;
}
static struct kobj_attribute enabled_attr = __ATTR_RW(enabled);

static ssize_t state_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	static const char * const words[] = { "loaded", "applied", "undone", "lost" };

	return sysfs_emit(buf, "%s\n", words[READ_ONCE(to_record(kobj)->state)]);
}
static struct kobj_attribute state_attr = __ATTR_RO(state);

static ssize_t cause_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", ksplice_cause_words[READ_ONCE(to_record(kobj)->cause)]);
}
static struct kobj_attribute cause_attr = __ATTR_RO(cause);

/* A task chooses its name: blanks and control characters would make other lines of it. */
static void plain(char *word)
{
	for (; *word; word++)
		if (!isascii(*word) || !isgraph(*word))
			*word = '_';
}

static ssize_t conflicts_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	struct ksplice_record *record = to_record(kobj);
	unsigned int i, count;
	int size = 0;

	mutex_lock(&ksplice_mutex);
	count = min_t(unsigned int, record->conflict_count, KSPLICE_CONFLICTS);
	for (i = 0; i < count; i++) {
		struct ksplice_conflict *c = &record->conflicts[i];

		plain(c->comm);
		size += sysfs_emit_at(buf, size, "%d %s %.96s %s\n", c->pid, c->comm[0] ? c->comm : "_",
				      c->function, c->reliable ? "reliable" : "possible");
	}
	mutex_unlock(&ksplice_mutex);
	return size;
}
static struct kobj_attribute conflicts_attr = __ATTR_RO_MODE(conflicts, 0400);

static ssize_t hook_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	struct ksplice_record *record = to_record(kobj);
	const struct ksplice_hook *hook;
	int size;

	mutex_lock(&ksplice_mutex);
	hook = record->hook;
	if (hook)
		size = sysfs_emit(buf, "%s %s %d\n", ksplice_hook_words[hook->kind],
				  (const char *)(unsigned long)hook->name, record->hook_value);
	else
		size = sysfs_emit(buf, "none\n");
	mutex_unlock(&ksplice_mutex);
	return size;
}
static struct kobj_attribute hook_attr = __ATTR_RO(hook);

static ssize_t pause_ns_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%llu\n", to_record(kobj)->pause_ns);
}
static struct kobj_attribute pause_ns_attr = __ATTR_RO(pause_ns);

static ssize_t tries_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", to_record(kobj)->tries);
}
static struct kobj_attribute tries_attr = __ATTR_RO(tries);

static ssize_t stacks_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	struct ksplice_record *record = to_record(kobj);

	return sysfs_emit(buf, "%lu %lu\n", record->tasks, record->words);
}
static struct kobj_attribute stacks_attr = __ATTR_RO(stacks);

static ssize_t resident_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", !!(to_record(kobj)->update->table->flags & KSPLICE_UPDATE_RESIDENT));
}
static struct kobj_attribute resident_attr = __ATTR_RO(resident);

static ssize_t contents_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	const struct ksplice_table *table = to_record(kobj)->update->table;

	return sysfs_emit(buf, "%u %u %u %u\n", table->function_count, table->data_count, table->hook_count,
			  table->shadow_count);
}
static struct kobj_attribute contents_attr = __ATTR_RO(contents);

static ssize_t update_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", to_record(kobj)->update->table->update);
}
static struct kobj_attribute update_attr = __ATTR_RO(update);

static struct attribute *update_attrs[] = {
	&update_attr.attr,
	&enabled_attr.attr, &state_attr.attr, &cause_attr.attr, &conflicts_attr.attr, &hook_attr.attr,
	&pause_ns_attr.attr, &tries_attr.attr, &stacks_attr.attr, &resident_attr.attr, &contents_attr.attr,
	NULL
};
ATTRIBUTE_GROUPS(update);

static void update_release(struct kobject *kobj)
{
	complete(&to_record(kobj)->released);
}

static struct kobj_type update_type = {
	.release = update_release,
	.sysfs_ops = &kobj_sysfs_ops,
	.default_groups = update_groups,
};

#define FUNCTION_ATTR(field, format, mode) \
static ssize_t field##_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf) \
{ \
	return sysfs_emit(buf, format "\n", to_function(kobj)->field_of_##field); \
} \
static struct kobj_attribute field##_attr = __ATTR_RO_MODE(field, mode)

#define field_of_old_addr	old_start
#define field_of_new_addr	new_start
#define field_of_old_size	old_size
FUNCTION_ATTR(old_addr, "0x%llx", 0400);
FUNCTION_ATTR(new_addr, "0x%llx", 0400);
FUNCTION_ATTR(old_size, "%llu", 0444);

/* Where the redirect is and what stands under it; of use only while the update is applied. */
static ssize_t saved_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	const struct ksplice_site *site = container_of(kobj, struct ksplice_function_files, kobj)->site;

	return sysfs_emit(buf, "%*phN\n", KSPLICE_JUMP_SIZE, site->saved);
}
static struct kobj_attribute saved_attr = __ATTR_RO_MODE(saved, 0400);

static ssize_t site_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	const struct ksplice_site *site = container_of(kobj, struct ksplice_function_files, kobj)->site;

	return sysfs_emit(buf, "0x%lx\n", site->address);
}
static struct kobj_attribute site_attr = __ATTR_RO_MODE(site, 0400);

static ssize_t kind_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	const struct ksplice_site *site = container_of(kobj, struct ksplice_function_files, kobj)->site;

	return sysfs_emit(buf, "%s\n", READ_ONCE(site->tracer) ? "ftrace" : "jump");
}
static struct kobj_attribute kind_attr = __ATTR_RO(kind);

static struct attribute *function_attrs[] = {
	&old_addr_attr.attr, &new_addr_attr.attr, &old_size_attr.attr, &site_attr.attr, &saved_attr.attr,
	&kind_attr.attr, NULL
};
ATTRIBUTE_GROUPS(function);

/* The files are an array in the books, which outlive every directory below them. */
static void function_release(struct kobject *kobj)
{
}

static struct kobj_type function_type = {
	.release = function_release,
	.sysfs_ops = &kobj_sysfs_ops,
	.default_groups = function_groups,
};

/* `name,n`: n tells functions of one name apart, counted from 1 in the order of the table. */
static int add_function(struct ksplice_record *record, unsigned int index)
{
	const struct ksplice_function *all = record->update->functions;
	const char *name = (const char *)(unsigned long)all[index].name;
	struct ksplice_function_files *files = &record->files[index];
	unsigned int i, n = 1;

	for (i = 0; i < index; i++)
		if (!strcmp((const char *)(unsigned long)all[i].name, name))
			n++;
	files->function = &all[index];
	files->site = &record->sites[index];
	return kobject_init_and_add(&files->kobj, &function_type, record->functions_kobj, "%s,%u", name, n);
}

/* On failure, too, the caller calls ksplice_sysfs_remove(). */
int ksplice_sysfs_add(struct ksplice_record *record)
{
	unsigned int i, count = record->update->table->function_count;
	int ret;

	ret = kobject_init_and_add(&record->kobj, &update_type, root, "%s", record->id);
	if (ret)
		return ret;
	record->functions_kobj = kobject_create_and_add("functions", &record->kobj);
	record->files = kcalloc(count, sizeof(*record->files), GFP_KERNEL);
	if (!record->functions_kobj || !record->files)
		return -ENOMEM;
	for (i = 0; i < count && !ret; i++)
		ret = add_function(record, i);
	return ret;
}

void ksplice_sysfs_remove(struct ksplice_record *record)
{
	unsigned int i, count = record->update->table->function_count;

	/* A kobject whose initialisation was tried, and only that, has a function. */
	for (i = 0; record->files && i < count && record->files[i].function; i++)
		kobject_put(&record->files[i].kobj);
	if (record->functions_kobj)
		kobject_put(record->functions_kobj);
	kobject_put(&record->kobj);
	wait_for_completion(&record->released);
}

int ksplice_sysfs_init(void)
{
	int ret;

	root = kobject_create_and_add("ksplice", kernel_kobj);
	if (!root)
		return -ENOMEM;
	ret = sysfs_create_group(root, &root_group);
	if (ret)
		kobject_put(root);
	return ret;
}

struct kobject *ksplice_sysfs_root(void)
{
	return root;
}

/* From now on nobody asks for anything. */
void ksplice_sysfs_close(void)
{
	sysfs_remove_group(root, &root_group);
}

void ksplice_sysfs_exit(void)
{
	kobject_put(root);
}
