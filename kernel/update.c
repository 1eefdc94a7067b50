// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The glue that is linked into every update module: hands the tables, which the program wrote into another object
 * of the same module, to ksplice.ko, and takes them back. Loading an update module changes no code; writing 1 to its
 * file "enabled" in sysfs does.
 */
#include <linux/init.h>
#include <linux/module.h>
#include "register.h"

extern const struct ksplice_table ksplice_table;
extern const struct ksplice_function ksplice_functions[];
extern const struct ksplice_part ksplice_parts[];
extern const struct ksplice_hook ksplice_hooks[];
extern const struct ksplice_shadow ksplice_shadows[];
extern const struct ksplice_data ksplice_data[];
extern const char ksplice_modules[];

static struct ksplice_update update = {
	.owner = THIS_MODULE,
	.table = &ksplice_table,
	.functions = ksplice_functions,
	.parts = ksplice_parts,
	.hooks = ksplice_hooks,
	.shadows = ksplice_shadows,
	.data = ksplice_data,
	.modules = ksplice_modules,
};

static int __init update_init(void)
{
	return ksplice_register(&update);
}

static void __exit update_exit(void)
{
	ksplice_unregister(&update);
	/* Here and not in ksplice.ko, which could be gone before the call returned into it. */
	module_put(update.core);
}

module_init(update_init);
module_exit(update_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Hot update made by git ksplice");
