// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The window: code and constants of the kernel, for matching where /proc/kcore is not there.
 *
 * Who writes to /sys/kernel/ksplice/window gets a descriptor, as KVM and BPF hand out theirs. So the window has no
 * name that anybody else could open, and it ends with its last close, that of a killed process included. It asks of
 * its reader what /proc/kcore asks, and shows less: text and read-only data of the kernel, what is write-protected in
 * module space (modules, and the thunks and trampolines that belong to their text), and the paravirtual operations,
 * which tell what their patched calls may be.
 */
#include <linux/anon_inodes.h>
#include <linux/capability.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched/signal.h>
#include <linux/security.h>
#include <linux/uaccess.h>
#include <asm/pgtable.h>
#include <asm/sections.h>
#ifdef CONFIG_PARAVIRT
#include <asm/paravirt_types.h>
#endif
#include "internal.h"

static bool between(unsigned long address, const void *first, const void *end)
{
	return address >= (unsigned long)first && address < (unsigned long)end;
}

static bool is_paravirt_operation(unsigned long address)
{
#ifdef CONFIG_PARAVIRT
	return between(address, &pv_ops, &pv_ops + 1);
#else
	return false;
#endif
}

static bool is_write_protected(unsigned long address)
{
	unsigned int level;
	pte_t *entry = lookup_address(address, &level);

	return entry && (pte_flags(*entry) & (_PAGE_PRESENT | _PAGE_RW)) == _PAGE_PRESENT;
}

static bool is_shown(unsigned long address)
{
	if (core_kernel_text(address) || between(address, __start_rodata, __end_rodata) ||
	    is_paravirt_operation(address))
		return true;
	return address >= MODULES_VADDR && address < MODULES_END && is_write_protected(address);
}

/* @size bytes within one page. Memory of a module that leaves is not given to others while preemption is off. */
static int copy_shown(void *to, unsigned long address, size_t size)
{
	int ret = -EFAULT;

	preempt_disable();
	if (is_shown(address) && is_shown(address + size - 1) &&
	    !copy_from_kernel_nofault(to, (void *)address, size))
		ret = 0;
	preempt_enable();
	return ret;
}

/* An offset is an address without its highest bit of 64, because offsets are not negative. */
static bool to_address(loff_t offset, unsigned long *address)
{
	u64 value = offset;

	if (BITS_PER_LONG == 64)
		value |= BIT_ULL(63);
	*address = value;
	return *address == value;
}

/* Up to the first byte that is not shown; EFAULT if that is the first of all. */
static ssize_t window_read(struct file *file, char __user *to, size_t count, loff_t *offset)
{
	u8 *page = (u8 *)__get_free_page(GFP_KERNEL);
	size_t done = 0;
	int ret = 0;

	if (!page)
		return -ENOMEM;
	while (done < count) {
		unsigned long address;
		size_t size;

		ret = fatal_signal_pending(current) ? -EINTR : to_address(*offset, &address) ? 0 : -EFAULT;
		if (ret)
			break;
		size = min_t(size_t, count - done, PAGE_SIZE - offset_in_page(address));
		ret = copy_shown(page, address, size);
		if (!ret && copy_to_user(to + done, page, size))
			ret = -EFAULT;
		if (ret)
			break;
		done += size;
		*offset += size;
		cond_resched();
	}
	free_page((unsigned long)page);
	return done ? done : ret;
}

static const struct file_operations window_operations = {
	.owner = THIS_MODULE,
	.llseek = default_llseek,
	.read = window_read,
};

/* Gives the calling process a descriptor; returns 0 or a negative error number. */
int ksplice_open_window(void)
{
	struct file *file;
	int descriptor, ret;

	/* As open_kcore() in fs/proc/kcore.c. */
	if (!capable(CAP_SYS_RAWIO))
		return -EPERM;
	ret = security_locked_down(LOCKDOWN_KCORE);
	if (ret)
		return ret;
	descriptor = get_unused_fd_flags(O_CLOEXEC);
	if (descriptor < 0)
		return descriptor;
	file = anon_inode_getfile("[ksplice-window]", &window_operations, NULL, O_RDONLY);
	if (IS_ERR(file)) {
		put_unused_fd(descriptor);
		return PTR_ERR(file);
	}
	/* Anonymous files are not seekable by themselves. */
	file->f_mode |= FMODE_LSEEK | FMODE_PREAD;
	fd_install(descriptor, file);
	return 0;
}
