// The pager, as git starts it: only on a terminal, `GIT_PAGER`, `core.pager` and `PAGER` as `git var GIT_PAGER` says, with
// `LESS=FRX` where the user has not said otherwise. `git --no-pager` and `pager.ksplice` are git's own doing: it sets
// `GIT_PAGER=cat`, or starts the pager itself. `pager.ksplice` is read here only for `git-ksplice`, called without git.
//
// A pager that is left before the end closes the pipe, and the signal of that ends this program, without a word, as it
// ends git. It must not end before its pager, or both the pager and the shell would read the terminal.

import Core
import Glibc
import Synchronization

enum Pager {
    /// Whether git, or this program, writes to one.
    static var isInUse: Bool { getenv("GIT_PAGER_IN_USE").map { String(cString: $0) == "true" } ?? false }

    /// The pager's process; 0 where there is none. Read by a signal handler.
    private static let process = Atomic<Int32>(0)

    /// What makes a command one for a shell (`prepare_shell_cmd` of git's run-command.c).
    private static let shellCharacters = "|&;<>()$`\\\"' \t\n*?[#~=%"

    /// Sends standard output, and standard error where that is the terminal, to a pager. Where none can be started, it stays as
    /// it is.
    static func start() async {
        guard isatty(STDOUT_FILENO) == 1, !isInUse, let program = await program() else { return }
        var ends: [Int32] = [0, 0]
        guard pipe(&ends) == 0 else { return }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        defer { for end in ends { close(end) } }
        setenv("GIT_PAGER_IN_USE", "true", 1)
        setenv("LESS", "FRX", 0)
        setenv("LV", "-c", 0)
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, ends[0], STDIN_FILENO)
        var child: pid_t = 0
        var arguments: [UnsafeMutablePointer<CChar>?] = []
        // As git does it: a name alone needs no shell, and one that is not there is no pager.
        let words =
            program.contains { shellCharacters.contains($0) } ? ["/bin/sh", "-c", program] : [program]
        for word in words { arguments.append(strdup(word)) }
        arguments.append(nil)
        defer { for argument in arguments { free(argument) } }
        guard posix_spawnp(&child, words[0], &actions, nil, &arguments, environ) == 0 else {
            unsetenv("GIT_PAGER_IN_USE")
            return
        }
        fflush(nil)
        dup2(ends[1], STDOUT_FILENO)
        if isatty(STDERR_FILENO) == 1 { dup2(ends[1], STDERR_FILENO) }
        process.store(child, ordering: .releasing)
        atexit { Pager.finish() }
        for number in [SIGINT, SIGHUP, SIGTERM, SIGQUIT, SIGPIPE] {
            signal(number) { number in
                Pager.finish(flushes: false)
                signal(number, SIG_DFL)
                raise(number)
            }
        }
    }

    /// The pager's command; nil where there is none to use.
    private static func program() async -> String? {
        if getenv("GIT_PAGER") == nil, let own = await git(["config", "--get", "pager.ksplice"]) {
            switch own.lowercased() {
            case "false", "no", "off", "0", "": return nil
            case "true", "yes", "on", "1": break
            default: return own
            }
        }
        guard let usual = await git(["var", "GIT_PAGER"]), !usual.isEmpty, usual != "cat" else { return nil }
        return usual
    }

    /// Lets the pager see the end, and waits until it is left.
    private static func finish(flushes: Bool = true) {
        let child = process.exchange(0, ordering: .acquiring)
        guard child > 0 else { return }
        if flushes { fflush(nil) }
        close(STDOUT_FILENO)
        close(STDERR_FILENO)
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0 && errno == EINTR {}
    }

    /// One line that git answers; nil where it has none.
    static func git(_ arguments: [String]) async -> String? {
        // A question about the looks of the output is no reason to fail.
        guard let result = try? await Command(["git"] + arguments).run() else { return nil }
        guard result.succeeded || arguments.contains("--get-colorbool") else { return nil }
        return result.text.trimmed
    }
}
