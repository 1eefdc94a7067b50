// What makes a process that a hook has started one of the background: nobody waits for it, reads from it, or is
// disturbed by it.

import Core
import Glibc

enum Background {
    /// Leaves the session, and the caller's files and variables. Low priority is given by who starts it: inside, it would be
    /// that of one thread.
    static func detach() {
        _ = setsid()
        signal(SIGHUP, SIG_IGN)
        closeOthers()
        for name in variables { unsetenv(name) }
    }

    /// What fails from now on is said in a file, which is emptied first.
    static func write(to path: String) throws {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw Failure.system("open", path, errno: errno) }
        dup2(descriptor, STDERR_FILENO)
        close(descriptor)
    }

    // What git sets for its hooks: the worker is for the whole repository, and its updates are not by the author of the
    // commit that happened to start it.
    private static let variables = [
        "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_CONFIG", "GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT",
        "GIT_IMPLICIT_WORK_TREE", "GIT_GRAFT_FILE", "GIT_SHALLOW_FILE", "GIT_INTERNAL_SUPER_PREFIX",
        "GIT_REFLOG_ACTION", "GIT_EDITOR", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_AUTHOR_DATE",
        "GIT_COMMITTER_DATE",
    ]

    /// Closes the files that were inherited: a pipe that somebody reads to its end, or a lock, would be held for as long as
    /// the work takes. Those of Swift's own runtime, which are no files, stay.
    private static func closeOthers() {
        guard let names = try? Files.list("/proc/self/fd") else { return }
        for name in names {
            guard let descriptor = Int32(name), descriptor > STDERR_FILENO,
                let target = Files.linkTarget("/proc/self/fd/" + name), !target.hasPrefix("anon_inode:")
            else { continue }
            close(descriptor)
        }
    }
}
