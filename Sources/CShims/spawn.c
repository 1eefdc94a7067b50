// A program with pipes to its standard input and from its standard output.

#define _GNU_SOURCE
#include "include/cshims.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern char **environ;

static size_t name_length(const char *entry)
{
	return strcspn(entry, "=");
}

static int is_changed(const char *entry, char *const *changes)
{
	size_t length = name_length(entry);

	for (; *changes; changes++)
		if (name_length(*changes) == length && !strncmp(*changes, entry, length))
			return 1;
	return 0;
}

// This process's environment with changes: `NAME=value` sets, `NAME` removes. The strings stay the caller's.
static char **changed_environment(char *const *changes)
{
	size_t count = 1, used = 0, i;
	char **list;

	for (i = 0; environ[i]; i++)
		count++;
	for (i = 0; changes[i]; i++)
		count++;
	list = calloc(count, sizeof(*list));
	if (!list)
		return NULL;
	for (i = 0; environ[i]; i++)
		if (!is_changed(environ[i], changes))
			list[used++] = environ[i];
	for (i = 0; changes[i]; i++)
		if (strchr(changes[i], '='))
			list[used++] = changes[i];
	return list;
}

static int spawn(char *const *words, char **environment, const char *directory, const int from[3], pid_t *child)
{
	posix_spawn_file_actions_t actions;
	int code = posix_spawn_file_actions_init(&actions), i;

	if (code)
		return code;
	for (i = 0; !code && i < 3; i++)
		if (from[i] >= 0)
			code = posix_spawn_file_actions_adddup2(&actions, from[i], i);
	if (!code && directory)
		code = posix_spawn_file_actions_addchdir_np(&actions, directory);
	if (!code)
		code = posix_spawnp(child, words[0], &actions, NULL, words, environment);
	posix_spawn_file_actions_destroy(&actions);
	return code;
}

int ks_unnamed_file(void)
{
	return memfd_create("errors", MFD_CLOEXEC);
}

int ks_spawn(char *const *words, char *const *changes, const char *directory, int errors, pid_t *child, int *input,
	     int *output)
{
	int in[2], out[2], code;
	char **environment;

	if (pipe2(in, O_CLOEXEC))
		return errno;
	if (pipe2(out, O_CLOEXEC)) {
		code = errno;
		close(in[0]);
		close(in[1]);
		return code;
	}
	environment = changed_environment(changes);
	code = environment ? spawn(words, environment, directory, (int[]){in[0], out[1], errors}, child) : ENOMEM;
	free(environment);
	close(in[0]);
	close(out[1]);
	if (!code && (fcntl(in[1], F_SETFL, O_NONBLOCK) || fcntl(out[0], F_SETFL, O_NONBLOCK)))
		code = errno;
	if (code) {
		close(in[1]);
		close(out[0]);
		return code;
	}
	*input = in[1];
	*output = out[0];
	return 0;
}
