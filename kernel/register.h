/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an update module and ksplice.ko say to each other. Neither function is exported with EXPORT_SYMBOL: the
 * loader resolves them by address, so the update module takes no module dependency; ksplice_register() takes a
 * reference on ksplice.ko instead.
 */
#ifndef KSPLICE_REGISTER_H
#define KSPLICE_REGISTER_H

#include <linux/module.h>
#include "update.h"

struct ksplice_record;

/* One for each update module; lives in its data. */
struct ksplice_update {
	struct module *owner;			/* the update module */
	const struct ksplice_table *table;
	const struct ksplice_function *functions;
	const struct ksplice_part *parts;	/* this and the next three may be NULL if the table counts none */
	const struct ksplice_hook *hooks;
	const struct ksplice_shadow *shadows;
	const struct ksplice_data *data;
	const char *modules;			/* names, each NUL-terminated, an empty one at the end */

	/* Filled in by ksplice_register(). */
	struct module *core;			/* ksplice.ko: put it after ksplice_unregister() */
	struct ksplice_record *record;
};

/*
 * Checks the tables and shows the update in sysfs; changes no code. Returns 0 or a negative error number, and then
 * keeps nothing. May sleep.
 */
int ksplice_register(struct ksplice_update *update);

/*
 * Forgets the update, which is not applied: while it is, ksplice.ko holds a reference on its module. The caller
 * drops the reference on @update->core afterwards, from its own text. May sleep.
 */
void ksplice_unregister(struct ksplice_update *update);

#endif
