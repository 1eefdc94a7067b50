/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Replaces the process's saved auxiliary vector by one entry and counts the entries that /proc/self/auxv shows then.
 * A kernel that copies only what it was given leaves the old ones behind it.
 */
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifndef PR_SET_MM
#define PR_SET_MM 35
#endif
#ifndef PR_SET_MM_AUXV
#define PR_SET_MM_AUXV 12
#endif

int main(void)
{
	Elf64_auxv_t one = { AT_PAGESZ, { 4096 } }, seen[64];
	int file, count;

	if (prctl(PR_SET_MM, PR_SET_MM_AUXV, &one, sizeof(one), 0)) {
		perror("prctl");
		return 1;
	}
	file = open("/proc/self/auxv", O_RDONLY);
	count = read(file, seen, sizeof(seen)) / sizeof(seen[0]);
	/* The last one is AT_NULL. */
	printf("1 entry was set, the kernel shows %d\n", count - 1);
	return 0;
}
