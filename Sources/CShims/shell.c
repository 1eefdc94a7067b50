// A shell command with pipes to its standard input and from its standard output.

#define _GNU_SOURCE
#include "include/cshims.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <unistd.h>

extern char **environ;

static int spawn(const char *command, int in, int out, pid_t *child)
{
	char *const words[] = {"sh", "-c", (char *)command, NULL};
	posix_spawn_file_actions_t actions;
	int code = posix_spawn_file_actions_init(&actions);

	if (code)
		return code;
	code = posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
	if (!code)
		code = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	if (!code)
		code = posix_spawn(child, "/bin/sh", &actions, NULL, words, environ);
	posix_spawn_file_actions_destroy(&actions);
	return code;
}

int ks_shell(const char *command, pid_t *child, int *input, int *output)
{
	int in[2], out[2], code;

	if (pipe2(in, O_CLOEXEC))
		return errno;
	if (pipe2(out, O_CLOEXEC)) {
		code = errno;
		close(in[0]);
		close(in[1]);
		return code;
	}
	code = spawn(command, in[0], out[1], child);
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
