// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Constants whose content is replaced where they stand. As for text, the pages are mapped a second time, writable,
 * before the pause; write protection is never cleared. An NMI may read while we write: fields as wide as a pointer
 * are stored at once, so that it sees an old or a new one, never half of each.
 */
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/vmalloc.h>
#include <asm/sections.h>
#include "internal.h"

static bool inside(u64 start, u64 size, unsigned long first, unsigned long end)
{
	return start >= first && start < end && size <= end - start;
}

static bool outside(u64 start, u64 size, unsigned long first, unsigned long end)
{
	return start >= end || start + size <= first;
}

/*
 * Is it in what the kernel image never writes? What it writes while it boots holds jump labels and their keys; where that
 * is, a kernel that lists functions only does not tell.
 */
bool ksplice_is_image_constant(u64 start, u64 size)
{
#ifdef CONFIG_KALLSYMS_ALL
	return inside(start, size, (unsigned long)__start_rodata, (unsigned long)__end_rodata) &&
	       outside(start, size, (unsigned long)__start_ro_after_init, (unsigned long)__end_ro_after_init);
#else
	return false;
#endif
}

/* The caller holds a reference on the module; the macro is explained at ksplice_module_text(). */
static bool is_module_constant(u64 start, u64 size)
{
	struct module *module;
	bool ok = false;

	preempt_disable();
	module = __module_address(start);
	if (module) {
#ifdef for_each_mod_mem_type
		unsigned long first = (unsigned long)module->mem[MOD_RODATA].base;
		unsigned long end = first + module->mem[MOD_RODATA].size;
#else
		unsigned long first = (unsigned long)module->core_layout.base + module->core_layout.text_size;
		unsigned long end = (unsigned long)module->core_layout.base + module->core_layout.ro_size;
#endif
		ok = inside(start, size, first, end);
	}
	preempt_enable();
	return ok;
}

bool ksplice_data_in_place(const struct ksplice_record *record, bool replaced)
{
	const struct ksplice_update *update = record->update;
	unsigned int i;

	for (i = 0; i < update->table->data_count; i++) {
		const struct ksplice_data *d = &update->data[i];
		u64 want = replaced ? d->content : d->expected;

		if (memcmp((void *)(unsigned long)d->address, (void *)(unsigned long)want, d->size))
			return false;
	}
	return true;
}

/* Are they where they may be written? */
enum ksplice_cause ksplice_check_data(const struct ksplice_record *record)
{
	const struct ksplice_update *update = record->update;
	unsigned int i;

	for (i = 0; i < update->table->data_count; i++) {
		const struct ksplice_data *d = &update->data[i];

		if (!ksplice_is_image_constant(d->address, d->size) && !is_module_constant(d->address, d->size))
			return KSPLICE_ADDRESS;
	}
	return KSPLICE_NONE;
}

static void *map(u64 address, u64 size)
{
	unsigned long first = address & PAGE_MASK;
	unsigned int i, count = DIV_ROUND_UP(address + size - first, PAGE_SIZE);
	bool image = ksplice_is_image_constant(address, size);
	struct page **pages = kvmalloc_array(count, sizeof(*pages), GFP_KERNEL);
	void *alias = NULL;

	if (!pages)
		return NULL;
	for (i = 0; i < count; i++) {
		unsigned long page = first + i * PAGE_SIZE;

		pages[i] = image ? pfn_to_page(PHYS_PFN(__pa_symbol(page))) : vmalloc_to_page((void *)page);
		if (!pages[i])
			goto out;
	}
	alias = vmap(pages, count, VM_MAP, PAGE_KERNEL);
out:
	kvfree(pages);
	return alias ? alias + offset_in_page(address) : NULL;
}

int ksplice_map_data(struct ksplice_record *record)
{
	unsigned int i;

	for (i = 0; i < record->update->table->data_count; i++) {
		const struct ksplice_data *d = &record->update->data[i];

		record->aliases[i] = map(d->address, d->size);
		if (!record->aliases[i]) {
			ksplice_unmap_data(record);
			return -ENOMEM;
		}
	}
	return 0;
}

void ksplice_unmap_data(struct ksplice_record *record)
{
	unsigned int i;

	for (i = 0; i < record->update->table->data_count; i++) {
		if (record->aliases[i])
			vunmap((void *)((unsigned long)record->aliases[i] & PAGE_MASK));
		record->aliases[i] = NULL;
	}
}

/* An alias lies in its page as the constant does, so both are aligned alike. */
static void store(u8 *to, const u8 *from, size_t size)
{
	unsigned long word;
	size_t i = 0;

	while (i < size) {
		if (IS_ALIGNED((unsigned long)to + i, sizeof(word)) && size - i >= sizeof(word)) {
			memcpy(&word, from + i, sizeof(word));
			WRITE_ONCE(*(unsigned long *)(to + i), word);
			i += sizeof(word);
		} else {
			WRITE_ONCE(to[i], from[i]);
			i++;
		}
	}
}

/* In the pause, when everything that could refuse has agreed. */
void ksplice_write_data(struct ksplice_record *record, bool undo)
{
	unsigned int i;

	for (i = 0; i < record->update->table->data_count; i++) {
		const struct ksplice_data *d = &record->update->data[i];

		store(record->aliases[i], (const u8 *)(unsigned long)(undo ? d->expected : d->content), d->size);
	}
}
