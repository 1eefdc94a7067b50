/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For authors of patches: code that runs when an update is applied or undone, and fields that are attached to existing
 * objects from outside. `git ksplice create` finds this header; a patch needs only `#include "ksplice.h"`.
 * Documentation/hooks.md of git ksplice has the whole contract, with examples.
 */
#ifndef KSPLICE_H
#define KSPLICE_H

#include <linux/compiler.h>
#include <linux/types.h>

/*
 * Hooks. Each macro takes the name of a function of the same file that is new in the patch, and stands at file scope.
 *
 *	apply		undo		signature	where it runs
 *	pre_apply	pre_reverse	int f(void)	before the attempt; may sleep; not 0 refuses it
 *	check_apply	check_reverse	int f(void)	in the pause; not 0 refuses
 *	apply		reverse		void f(void)	in the pause, when all code and data is changed
 *	post_apply	post_reverse	void f(void)	after a success; may sleep
 *	fail_apply	fail_reverse	void f(void)	after a refusal, from whichever step on; may sleep
 *
 * Hooks of one kind run in the order of the files in the update and of the lines in a file; all hooks of undo, and
 * fail_apply, in the reverse order; fail_reverse, which ends what ran in that reverse order, forwards again.
 * fail hooks run whenever pre hooks have begun and the attempt failed, so they meet pre hooks that have not run.
 * Each attempt runs them all: the program tries again while tasks are inside the functions.
 *
 * In the pause, all processors stand still with interrupts off and locks may be held by whoever was stopped: no
 * sleeping, no lock, no allocation, no printk, no waiting. Reading and writing memory, and ksplice_shadow_get(), are
 * what can be done there. The other kinds run in a task, with a mutex of ksplice.ko held: they must not apply, undo,
 * load or unload updates, nor wait for somebody who does.
 */
#define ksplice_pre_apply(f)		KSPLICE_HOOK_OF(pre_apply, int, f)
#define ksplice_check_apply(f)		KSPLICE_HOOK_OF(check_apply, int, f)
#define ksplice_apply(f)		KSPLICE_HOOK_OF(apply, void, f)
#define ksplice_post_apply(f)		KSPLICE_HOOK_OF(post_apply, void, f)
#define ksplice_fail_apply(f)		KSPLICE_HOOK_OF(fail_apply, void, f)
#define ksplice_pre_reverse(f)		KSPLICE_HOOK_OF(pre_reverse, int, f)
#define ksplice_check_reverse(f)	KSPLICE_HOOK_OF(check_reverse, int, f)
#define ksplice_reverse(f)		KSPLICE_HOOK_OF(reverse, void, f)
#define ksplice_post_reverse(f)		KSPLICE_HOOK_OF(post_reverse, void, f)
#define ksplice_fail_reverse(f)		KSPLICE_HOOK_OF(fail_reverse, void, f)

/* What `git ksplice create` reads; the counter keeps the order of the source. */
#define KSPLICE_HOOK_OF(kind, type, f)							\
	static const struct {								\
		type (*function)(void);							\
		unsigned long order;							\
	} __ksplice_##kind##_##f __used __section(".ksplice.hooks." #kind) = { f, __COUNTER__ }

/*
 * Shadow variables: memory that belongs to an object (any address) under an id (any number that the patches agree
 * on). They live in ksplice.ko as long as an applied update declares the id, and so are shared by all updates that
 * declare it. What is left when the last of them is undone is detached, after its post_reverse hooks.
 */

/*
 * Declares, at file scope, that the patch uses @id: a constant expression. @release, which may be NULL, is a function
 * `void release(const void *object, void *variable)` that gives up what a variable holds, for those that are left at
 * the end and for ksplice_shadow_detach_all(). It runs in a task and may sleep.
 */
#define ksplice_shadow_id(id, release) KSPLICE_SHADOW_ID(id, release, __COUNTER__)
#define KSPLICE_SHADOW_ID(id, release, n) KSPLICE_SHADOW_ENTRY(id, release, n)
#define KSPLICE_SHADOW_ENTRY(id, release, n)						\
	static const struct {								\
		unsigned long number;							\
		void (*function)(const void *, void *);					\
	} __ksplice_shadow_##n __used __section(".ksplice.shadow_ids") = { id, release }

/*
 * The variable, or NULL if there is none. Constant time, no lock: for any context, the pause and NMI included. It
 * stays valid until it is detached; as for a member of the object, keeping the object alive is the caller's task.
 */
void *ksplice_shadow_get(const void *object, unsigned long id);

/*
 * Attaches @size bytes: a copy of @initial, or zeros if that is NULL. Returns the variable; NULL if there is one
 * already, if no applied update declares the id, or without memory. For any context that allows @gfp, but not in the
 * pause and not in an NMI. The two of one object and id that come at the same time: one gets it.
 */
void *ksplice_shadow_attach(const void *object, unsigned long id, size_t size, const void *initial, gfp_t gfp);

/* The same, but returns the variable that is there already. */
void *ksplice_shadow_get_or_attach(const void *object, unsigned long id, size_t size, const void *initial, gfp_t gfp);

/*
 * Detaches the variable, if there is one, and frees it after a grace period of RCU: where the object dies. For any
 * context but the pause and NMI.
 */
void ksplice_shadow_detach(const void *object, unsigned long id);

/*
 * Detaches all variables of @id, with the release function of the update that was applied last among those that declare
 * it. For pre, post and fail hooks.
 */
void ksplice_shadow_detach_all(unsigned long id);

#endif
