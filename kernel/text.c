// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Writing kernel text. The page is mapped a second time, writable, before the pause; write protection is never
 * cleared. A redirect is five bytes, which no single store covers, and an NMI on another CPU may fetch them at any
 * moment: they are exchanged by one LOCK CMPXCHG of eight bytes that lie in one cache line, of which three stay.
 */
#include <linux/mm.h>
#include <linux/string.h>
#include <linux/vmalloc.h>
#include <asm/alternative.h>
#include "internal.h"

#define LINE 64

/* The bytes of `jmp target` at @address; the caller has checked that it reaches and lies within a line. */
void ksplice_prepare_site(struct ksplice_site *site, unsigned long address, unsigned long target)
{
	unsigned long last = round_down(address, LINE) + LINE - sizeof(u64);
	s32 distance = target - (address + KSPLICE_JUMP_SIZE);

	site->address = address;
	site->window = min(address, last);
	site->jump[0] = 0xe9;
	memcpy(&site->jump[1], &distance, sizeof(distance));
}

static struct page *text_page(unsigned long address)
{
	if (core_kernel_text(address))
		return pfn_to_page(PHYS_PFN(__pa_symbol(address)));
	return vmalloc_to_page((void *)address);
}

int ksplice_map_sites(struct ksplice_record *record)
{
	unsigned int i;

	for (i = 0; i < record->update->table->function_count; i++) {
		struct ksplice_site *site = &record->sites[i];
		struct page *page = site->tracer ? NULL : text_page(site->window);
		void *alias = page ? vmap(&page, 1, VM_MAP, PAGE_KERNEL) : NULL;

		if (site->tracer)
			continue;
		if (!alias) {
			ksplice_unmap_sites(record);
			return -ENOMEM;
		}
		site->alias = alias + offset_in_page(site->window);
	}
	return 0;
}

void ksplice_unmap_sites(struct ksplice_record *record)
{
	unsigned int i;

	for (i = 0; i < record->update->table->function_count; i++) {
		struct ksplice_site *site = &record->sites[i];

		if (site->alias)
			vunmap((void *)((unsigned long)site->alias & PAGE_MASK));
		site->alias = NULL;
	}
}

/*
 * Settles what undo puts back; the caller holds text_mutex. A kernel that was booted with one CPU has patched `lock`
 * to `ds`, and may have wanted the prefix back when a second CPU came, while our jump stood there. It wants it back once,
 * even if that CPU has gone again by now; and `lock` is right on one CPU, too.
 */
void ksplice_refresh_saved(struct ksplice_site *site)
{
	unsigned int i;

	for (i = 0; i < KSPLICE_JUMP_SIZE; i++) {
		void *byte = (void *)(site->address + i);

		if (site->saved[i] == 0x3e && alternatives_text_reserved(byte, byte + 1))
			site->saved[i] = 0xf0;
	}
}

static bool exchange(struct ksplice_site *site, const u8 *bytes)
{
	u64 old, new;

	memcpy(&old, (void *)site->window, sizeof(old));
	new = old;
	memcpy((u8 *)&new + (site->address - site->window), bytes, KSPLICE_JUMP_SIZE);
	return cmpxchg64(site->alias, old, new) == old;
}

/* Switches one redirect on or off. */
static bool write_site(struct ksplice_site *site, bool undo)
{
	if (!site->tracer)
		return exchange(site, undo ? site->saved : site->jump);
	ksplice_aim_tracer(site->tracer, undo ? 0 : site->target);
	return true;
}

/*
 * All redirects of an update, while the machine is stopped and nothing else writes text. Writes all or, if memory
 * does not hold still, none.
 */
bool ksplice_write_sites(struct ksplice_record *record, bool undo)
{
	unsigned int count = record->update->table->function_count;
	unsigned int i;

	for (i = 0; i < count; i++) {
		struct ksplice_site *site = &record->sites[i];

		if (!undo)
			memcpy(site->saved, (void *)site->address, KSPLICE_JUMP_SIZE);
		if (!write_site(site, undo))
			goto back;
	}
	return true;
back:
	while (i--)
		write_site(&record->sites[i], !undo);
	return false;
}
