/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For tests: the calls of ksplice.ko that can fail on the way in, at apply and at undo can be made to fail, and what it
 * has allocated is counted. This header comes behind everything else of internal.h in a copy of the folder, so that the
 * sources themselves know nothing of it; the exchange of bytes in text.c, a macro of the kernel, is wrapped where it stands.
 */
#ifndef KSPLICE_FAULTS_H
#define KSPLICE_FAULTS_H

#include <linux/slab.h>
#include <linux/stop_machine.h>
#include <linux/sysfs.h>
#include <linux/vmalloc.h>

struct ksplice_record;

/* Whether this is the call that is to fail. Also called in the pause. */
bool ksplice_fault(const char *where);
void *ksplice_got(void *pointer);
const void *ksplice_gave(const void *pointer);
bool ksplice_hook_fault(struct ksplice_record *record);

#ifndef KSPLICE_WITHOUT_FAULTS
#define kzalloc(...) (ksplice_fault("kzalloc") ? NULL : ksplice_got(kzalloc(__VA_ARGS__)))
#define kcalloc(...) (ksplice_fault("kcalloc") ? NULL : ksplice_got(kcalloc(__VA_ARGS__)))
#define kstrdup(...) (ksplice_fault("kstrdup") ? NULL : ksplice_got(kstrdup(__VA_ARGS__)))
#define kstrndup(...) (ksplice_fault("kstrndup") ? NULL : ksplice_got(kstrndup(__VA_ARGS__)))
#define kvcalloc(...) (ksplice_fault("kvcalloc") ? NULL : ksplice_got(kvcalloc(__VA_ARGS__)))
#define kvmalloc_array(...) (ksplice_fault("kvmalloc_array") ? NULL : ksplice_got(kvmalloc_array(__VA_ARGS__)))
#define kfree(pointer) kfree(ksplice_gave(pointer))
#define kvfree(pointer) kvfree(ksplice_gave(pointer))
#define vmap(...) (ksplice_fault("vmap") ? NULL : vmap(__VA_ARGS__))
#define try_module_get(module) (!ksplice_fault("try_module_get") && try_module_get(module))
#define find_module(name) (ksplice_fault("find_module") ? NULL : find_module(name))
#define __module_text_address(address) \
	(ksplice_fault("__module_text_address") ? NULL : __module_text_address(address))
#define __module_address(address) (ksplice_fault("__module_address") ? NULL : __module_address(address))
#define kobject_create_and_add(...) \
	(ksplice_fault("kobject_create_and_add") ? NULL : kobject_create_and_add(__VA_ARGS__))
#define kobject_init_and_add(kobj, type, ...) \
	(ksplice_fault("kobject_init_and_add") ? (kobject_init(kobj, type), -ENOMEM) : \
	 kobject_init_and_add(kobj, type, __VA_ARGS__))
#define sysfs_create_file(...) (ksplice_fault("sysfs_create_file") ? -ENOMEM : sysfs_create_file(__VA_ARGS__))
#define call_usermodehelper_setup(...) \
	(ksplice_fault("call_usermodehelper_setup") ? NULL : call_usermodehelper_setup(__VA_ARGS__))
#define stop_machine_cpuslocked(...) \
	(ksplice_fault("stop_machine_cpuslocked") ? -ENOMEM : stop_machine_cpuslocked(__VA_ARGS__))
#define ksplice_run_hooks(record, step, undo) \
	(!((step) <= KSPLICE_HOOK_CHECK && ksplice_hook_fault(record)) && ksplice_run_hooks(record, step, undo))
#endif

#endif
