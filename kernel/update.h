/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The contract between three parties: `git ksplice create`, which writes these tables into an update module;
 * the loader (`git ksplice apply`), which fills in what only the running kernel knows; and ksplice.ko, which acts
 * on them. Fields that hold an address are 64 bits wide on every architecture.
 *
 * Each table is a section of the update module. "create", "loader" and "relocation" say who fills a field.
 */
#ifndef KSPLICE_UPDATE_H
#define KSPLICE_UPDATE_H

#ifdef __KERNEL__
#include <linux/types.h>
#endif

#define KSPLICE_ABI 4

/* Section .ksplice.functions, symbol ksplice_functions: one for each replaced function. */
struct ksplice_function {
	__u64 old_start;	/* loader: the entry of the code that runs now */
	__u64 old_size;		/* create, in bytes */
	__u64 new_start;	/* relocation: the entry of the new code */
	__u64 new_size;		/* create, in bytes */
	__u64 name;		/* relocation: a NUL-terminated string */
	__u64 expected;		/* relocation: old_size bytes of code, then old_size bytes of mask (0xff: must be equal) */
	__u32 site;		/* loader: where the jump goes, as an offset from old_start */
	__u32 flags;		/* KSPLICE_FUNCTION_* */
};

/* loader: an ftrace site of 5 bytes stands directly before the redirect; its content may change at any time */
#define KSPLICE_FUNCTION_TRACED 1

/* Section .ksplice.parts, symbol ksplice_parts: other pieces of replaced functions (`.cold`). */
struct ksplice_part {
	__u64 old_start;	/* loader */
	__u64 old_size;		/* create */
	__u64 expected;		/* relocation, as above */
	__u32 function;		/* create: index into ksplice_functions */
	__u32 reserved;
};

/*
 * Section .ksplice.hooks, symbol ksplice_hooks: code of the patch's author (ksplice.h), in the order in which the
 * hooks of one kind run when the update is applied.
 */
struct ksplice_hook {
	__u64 function;		/* relocation: in the text of the update module */
	__u64 name;		/* relocation: a NUL-terminated string */
	__u32 kind;		/* create: KSPLICE_HOOK_* and, for those of undo, KSPLICE_HOOK_REVERSE */
	__u32 reserved;
};

#define KSPLICE_HOOK_PRE	0
#define KSPLICE_HOOK_CHECK	1
#define KSPLICE_HOOK_ACT	2
#define KSPLICE_HOOK_POST	3
#define KSPLICE_HOOK_FAIL	4
#define KSPLICE_HOOK_REVERSE	5	/* added to one of the above */
#define KSPLICE_HOOK_KINDS	10

/* Section .ksplice.shadows, symbol ksplice_shadows: the ids of shadow variables that the update uses (ksplice.h). */
struct ksplice_shadow {
	__u64 id;		/* create */
	__u64 release;		/* relocation: in the text of the update module; 0 for none */
};

/*
 * Section .ksplice.data, symbol ksplice_data: constants whose content is replaced where they stand. All fields of
 * `content` that depend on addresses are relocated by the module loader.
 */
struct ksplice_data {
	__u64 address;		/* loader: in the read-only data of the kernel or of one module */
	__u64 size;		/* create, in bytes */
	__u64 content;		/* relocation: size bytes, the new content */
	__u64 expected;		/* relocation: size bytes, the old content; the loader fills it */
	__u64 name;		/* relocation: a NUL-terminated string */
};

/* Section .ksplice.table, symbol ksplice_table: one. */
struct ksplice_table {
	__u32 abi;		/* create: KSPLICE_ABI */
	__u32 function_count;	/* create */
	__u32 part_count;	/* create */
	__u32 flags;		/* create: KSPLICE_UPDATE_* */
	__u32 hook_count;	/* create; this and the next two */
	__u32 shadow_count;
	__u32 data_count;
	__u32 reserved;
	/* loader; both are 64 hexadecimal digits, NUL-terminated */
	char id[72];		/* of what this module holds: an update, or the part of one that is one module's */
	char update[72];	/* of the whole update */
};

/* addresses of the update's own code or data may be kept by the kernel: it stays loaded after undo */
#define KSPLICE_UPDATE_RESIDENT 1
/* the update module exports symbols, which may be all that it does */
#define KSPLICE_UPDATE_EXPORTS 2

/*
 * Section .ksplice.modules, symbol ksplice_modules: the names of modules that must stay while the update is
 * loaded, each NUL-terminated, an empty one at the end. create; the loader writes it anew with those it found besides.
 *
 * Section .ksplice.expected: the bytes that `expected` points to; the loader fills it.
 */

#endif
