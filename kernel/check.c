// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Is the code still what was matched, and are the bytes of each redirect ours to write? Everything was proved by
 * user space before, and may have changed since: another update, a probe, a tracer. The functions below run with
 * all locks of an attempt held (see apply.c), so what they find stays true until the pause is over.
 */
#include <linux/ftrace.h>
#include <linux/jump_label.h>
#include <linux/kprobes.h>
#include <linux/static_call.h>
#include <linux/string.h>
#include <asm/alternative.h>
#include <asm/sections.h>
#include "internal.h"

/* As the kernel itself knows them (kernel/kprobes.c, entry code); not exported, resolved by the loader. */
extern char __entry_text_start[], __entry_text_end[];

static bool overlap(unsigned long a, unsigned long a_size, unsigned long b, unsigned long b_size)
{
	return a < b + b_size && b < a + a_size;
}

static bool in_module_text(const struct module *module, unsigned long address)
{
	unsigned long first, end;

	ksplice_module_text(module, &first, &end);
	return first <= address && address < end;
}

/* Is [start, start + size) text of the kernel or of one module that is there to stay? Not a module's text for its start. */
static bool is_text(unsigned long start, unsigned long size)
{
	struct module *module;
	bool ok;

	if (!size || start + size < start)
		return false;
	if (core_kernel_text(start) && core_kernel_text(start + size - 1))
		/* Entry code also runs on page tables that do not map module text. */
		return !overlap(start, size, (unsigned long)__entry_text_start,
				__entry_text_end - __entry_text_start);
	preempt_disable();
	module = __module_text_address(start);
	ok = module && in_module_text(module, start) && in_module_text(module, start + size - 1);
	preempt_enable();
	return ok;
}

/* Does an update replace code of another one, refer to it, or say that it was made on it? */
static bool stands_on(const struct ksplice_record *upper, const struct module *module)
{
	const struct ksplice_update *update = upper->update;
	unsigned int i;

	for (i = 0; i < upper->module_count; i++)
		if (upper->modules[i] == module)
			return true;
	for (i = 0; i < update->table->function_count; i++)
		if (in_module_text(module, update->functions[i].old_start))
			return true;
	for (i = 0; i < update->table->part_count; i++)
		if (in_module_text(module, update->parts[i].old_start))
			return true;
	return false;
}

static bool same_target(const struct ksplice_update *a, const struct ksplice_update *b)
{
	unsigned int i, j;

	for (i = 0; i < a->table->function_count; i++)
		for (j = 0; j < b->table->function_count; j++)
			if (overlap(a->functions[i].old_start, a->functions[i].old_size,
				    b->functions[j].old_start, b->functions[j].old_size))
				return true;
	for (i = 0; i < a->table->data_count; i++)
		for (j = 0; j < b->table->data_count; j++)
			if (overlap(a->data[i].address, a->data[i].size, b->data[j].address, b->data[j].size))
				return true;
	return false;
}

/* When the transition is made. */
static bool will_be_applied(const struct ksplice_record *record)
{
	return list_empty(&record->step) ? record->state == KSPLICE_APPLIED : !record->undo;
}

/* What other updates have to say to a step. Needs only ksplice_mutex. */
enum ksplice_cause ksplice_check_books(const struct ksplice_record *record)
{
	const struct ksplice_record *other;

	list_for_each_entry(other, &ksplice_records, list) {
		bool applied = will_be_applied(other);

		if (other == record)
			continue;
		if (record->undo && applied && stands_on(other, record->update->owner))
			return KSPLICE_DEPENDENT;
		if (!record->undo && applied && same_target(other->update, record->update))
			return KSPLICE_DEPENDENT;
		/* A redirect in code that nothing reaches would seem to work. */
		if (!record->undo && !applied && stands_on(record, other->update->owner))
			return KSPLICE_DEPENDENT;
	}
	return KSPLICE_NONE;
}

static bool has_kprobe(unsigned long start, unsigned long end)
{
#ifdef CONFIG_KPROBES
	for (; start < end; start++)
		if (get_kprobe((void *)start))
			return true;
#endif
	return false;
}

/*
 * Lock prefixes are rewritten when a kernel that was booted with one CPU gets a second one, but only where a `ds`
 * prefix (0x3e) stands at that moment; a jump without that byte is safe there.
 */
static bool prefix_in_the_way(const struct ksplice_site *site)
{
	unsigned int i;

	for (i = 0; i < KSPLICE_JUMP_SIZE; i++) {
		void *byte = (void *)(site->address + i);

		if ((site->jump[i] == 0x3e || site->jump[i] == 0xf0) &&
		    alternatives_text_reserved(byte, byte + 1))
			return true;
	}
	return false;
}

/* Do others hold an entry for these bytes, which they will rewrite with a BUG() if they are not what they know? */
static bool is_reserved(const struct ksplice_site *site)
{
	void *first = (void *)site->address;
	void *last = first + KSPLICE_JUMP_SIZE - 1;

	return jump_label_text_reserved(first, last) ||
	       static_call_text_reserved(first, last) ||
	       ftrace_text_reserved(first, last) ||
	       prefix_in_the_way(site);
}

static bool same_bytes(const u8 *run, const u8 *want, const u8 *mask, size_t size)
{
	u64 a, b, m;
	size_t i = 0;

	for (; i + sizeof(m) <= size; i += sizeof(m)) {
		memcpy(&a, run + i, sizeof(a));
		memcpy(&b, want + i, sizeof(b));
		memcpy(&m, mask + i, sizeof(m));
		if ((a ^ b) & m)
			return false;
	}
	for (; i < size; i++)
		if ((run[i] ^ want[i]) & mask[i])
			return false;
	return true;
}

/* How much of the head is to be looked at: the ftrace site before the redirect has a life of its own. */
static size_t head_size(const struct ksplice_function *f)
{
	return f->flags & KSPLICE_FUNCTION_TRACED ? f->site - KSPLICE_FTRACE_SIZE : f->site;
}

static bool function_expected(const struct ksplice_function *f)
{
	const u8 *run = (const u8 *)(unsigned long)f->old_start;
	const u8 *want = (const u8 *)(unsigned long)f->expected;
	const u8 *mask = want + f->old_size;

	return same_bytes(run, want, mask, head_size(f)) &&
	       same_bytes(run + f->site, want + f->site, mask + f->site, f->old_size - f->site);
}

/* Compares all old code with what was matched. */
static bool bytes_expected(const struct ksplice_record *record)
{
	const struct ksplice_update *update = record->update;
	unsigned int i;

	for (i = 0; i < update->table->function_count; i++)
		if (!function_expected(&update->functions[i]))
			return false;
	for (i = 0; i < update->table->part_count; i++) {
		const struct ksplice_part *p = &update->parts[i];
		const u8 *want = (const u8 *)(unsigned long)p->expected;

		if (!same_bytes((const u8 *)(unsigned long)p->old_start, want, want + p->old_size, p->old_size))
			return false;
	}
	return true;
}

static bool redirect_in_place(const struct ksplice_site *site)
{
	if (!site->tracer)
		return !memcmp((void *)site->address, site->jump, KSPLICE_JUMP_SIZE);
	return ksplice_tracer_is_called(site->tracer) && ksplice_tracer_target(site->tracer) == site->target;
}

static bool redirects_in_place(const struct ksplice_record *record)
{
	unsigned int i;

	for (i = 0; i < record->update->table->function_count; i++) {
		const struct ksplice_site *site = &record->sites[i];

		if (!redirect_in_place(site))
			return false;
	}
	return true;
}

/* Does the kernel let a jump stand there? */
static enum ksplice_cause check_jump(const struct ksplice_function *f, struct ksplice_site *site)
{
	unsigned long address = f->old_start + f->site;
	s64 distance = (s64)(f->new_start - (address + KSPLICE_JUMP_SIZE));

	if ((u64)f->site + KSPLICE_JUMP_SIZE > f->old_size || distance != (s32)distance)
		return KSPLICE_SIZE;
	if (address % 64 > 64 - KSPLICE_JUMP_SIZE)
		return KSPLICE_CACHE_LINE;
	ksplice_prepare_site(site, address, f->new_start);
	return is_reserved(site) ? KSPLICE_RESERVED : KSPLICE_NONE;
}

/*
 * Is it a function where no jump can stand, and which has an ftrace site? The caller holds jump_label_lock() and
 * text_mutex.
 */
bool ksplice_needs_tracer(const struct ksplice_function *f)
{
	struct ksplice_site site = {};

	return f->flags & KSPLICE_FUNCTION_TRACED && check_jump(f, &site);
}

static enum ksplice_cause check_function(const struct ksplice_function *f, struct ksplice_site *site)
{
	unsigned long address = f->old_start + f->site;

	if (!is_text(f->old_start, f->old_size))
		return KSPLICE_ADDRESS;
	/* A kprobe on the ftrace site goes through ftrace and leaves the body alone. */
	if (has_kprobe(f->old_start, f->old_start + head_size(f)) ||
	    has_kprobe(address, f->old_start + f->old_size))
		return KSPLICE_KPROBE;
	if (!site->tracer)
		return check_jump(f, site);
	site->address = address;
	return ksplice_tracer_is_called(site->tracer) ? KSPLICE_NONE : KSPLICE_TRACER;
}

enum ksplice_cause ksplice_may_apply(struct ksplice_record *record)
{
	const struct ksplice_update *update = record->update;
	enum ksplice_cause cause;
	unsigned int i;

	for (i = 0; i < update->table->function_count; i++) {
		cause = check_function(&update->functions[i], &record->sites[i]);
		if (cause)
			return cause;
	}
	for (i = 0; i < update->table->part_count; i++) {
		const struct ksplice_part *p = &update->parts[i];

		if (!is_text(p->old_start, p->old_size))
			return KSPLICE_ADDRESS;
		if (has_kprobe(p->old_start, p->old_start + p->old_size))
			return KSPLICE_KPROBE;
	}
	return ksplice_check_data(record);
}

/* Is everything what the step expects: what was matched, or what we have written? Also asked in the pause. */
bool ksplice_is_expected(const struct ksplice_record *record)
{
	bool same = record->undo ? redirects_in_place(record) : bytes_expected(record);

	return same && ksplice_data_in_place(record, record->undo);
}

/*
 * Old bodies: a kprobe that came after the redirect was placed behind it as if the jump were an instruction of the
 * function; what undo puts back may have its boundaries elsewhere, and the breakpoint would stand in the middle of one.
 * New code, all of it: the out-of-line slots of its probes are ways back into memory that is about to go.
 */
enum ksplice_cause ksplice_may_undo(struct ksplice_record *record)
{
	const struct ksplice_update *update = record->update;
	enum ksplice_cause cause;
	unsigned long first, end;
	unsigned int i;

	if (ksplice_exports_used(record))
		return KSPLICE_USED;
	ksplice_module_text(update->owner, &first, &end);
	if (has_kprobe(first, end))
		return KSPLICE_KPROBE;
	for (i = 0; i < update->table->function_count; i++) {
		const struct ksplice_function *f = &update->functions[i];

		if (has_kprobe(record->sites[i].address, f->old_start + f->old_size))
			return KSPLICE_KPROBE;
		if (!record->sites[i].tracer)
			ksplice_refresh_saved(&record->sites[i]);
	}
	cause = ksplice_check_data(record);
	if (cause)
		return cause;
	return ksplice_is_expected(record) ? KSPLICE_NONE : KSPLICE_CHANGED;
}
