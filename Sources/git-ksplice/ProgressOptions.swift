import ArgumentParser
import Core
import Glibc

/// Whether the steps of what takes long are told.
struct ProgressOptions: ParsableArguments {
    @Flag(
        inversion: .prefixedNo,
        help: "Tell each step, also where standard error is no terminal; --no-progress tells none.")
    var progress: Bool?

    /// Whether somebody seems to read along: a dumb terminal is mostly a log.
    private static var isWatched: Bool {
        isatty(STDERR_FILENO) == 1 && getenv("TERM").map { String(cString: $0) } != "dumb"
    }

    /// What tells a step. As with git, only on a terminal unless it is asked for.
    func steps(isQuiet: Bool) -> Progress {
        Talk.progress(isQuiet: isQuiet || !(progress ?? Self.isWatched))
    }
}
