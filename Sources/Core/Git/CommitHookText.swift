// The lines that `git ksplice hook install` puts into git's hooks, and where they stand there. They are bytes of files
// that belong to somebody: what is put in can be taken out again, and leaves every byte as it was.
//
// The lines stand behind the first line of a hook and not at its end: an `exit` or `exec` further down, which most
// hooks have, would never let them run. They are a subshell that reads nothing and whose status is dropped, so that
// neither options of the shell nor names of variables get in or out, and what the hook is given on its standard input
// (post-rewrite) stays for whom it is for: post-commit and post-applypatch have queued each commit of a rebase
// already, and post-rewrite only says that it is over. Until then no worker is started: it could only wait, and a hundred
// picks would be a hundred starts.
//
// An entry of the queue is an empty file whose name says everything (`Workflow/Queue/BuildQueue.swift`): made by one
// system call, it is there as a whole or not at all, and nobody has to lock anything.

/// The text of the hooks.
public enum CommitHookText {
    /// The hooks of git after which there is a new commit. post-commit is not called by `git am` and `git merge`.
    public static let names = ["post-commit", "post-rewrite", "post-applypatch", "post-merge"]

    static let begin = "# >>> git ksplice hook >>> (git ksplice hook uninstall takes these lines out)\n"
    static let end = "# <<< git ksplice hook <<<\n"
    static let firstLine = "#!/bin/sh\n"
    /// What is added to the name of a hook that is no shell script, to call it from one.
    static let keptSuffix = ".before-ksplice"
    static let chaining =
        "[ -x \"$0\(keptSuffix)\" ] || exit 0\nexec \"$0\(keptSuffix)\" \"$@\"\n"

    /// The lines, the same for every hook.
    /// - Parameter program: the path of git-ksplice. Where it is gone, the one in `PATH` is taken.
    public static func block(program: String) -> String {
        let quoted = "'" + program.replacing("'", with: "'\\''") + "'"
        return begin + """
            # Puts the new commit into the queue of updates that are built in the background: git-ksplice-hook(1). It never waits,
            # prints or fails.
            (
            	set +euC -f
            	IFS='
            '
            	from=
            	moving=
            	case ${0##*/} in
            	post-merge)
            		[ "$1" != 1 ] || exit
            		from=ORIG_HEAD
            		;;
            	post-commit) moving=yes ;;
            	esac
            	set -- $(git rev-parse --git-common-dir --git-path rebase-merge HEAD $from)
            	[ "$moving" ] && [ -d "$2" ] || moving=
            	cd "$1" || exit
            	shift
            	queue=ksplice/queue/waiting
            	[ -d $queue ] || mkdir -p $queue || exit
            	case ${#2} in 40|64) ;; *) exit ;; esac
            	case ${#3} in
            	${#2}) : >"$queue/$3..$2" ;;
            	*) : >"$queue/$2" ;;
            	esac
            	program=\(quoted)
            	[ -x "$program" ] || program=git-ksplice
            	# At the end of a rebase, post-rewrite starts one for all.
            	[ "$moving" ] || setsid nice -n 10 "$program" hook run --background &
            ) </dev/null >/dev/null 2>&1 || :

            """ + end
    }

    /// A hook with the lines in it; nil for what is no script for a POSIX shell with more than its first line.
    static func inserted(_ block: String, into hook: [UInt8]) -> [UInt8]? {
        guard let newline = hook.firstIndex(of: UInt8(ascii: "\n")), newline + 1 < hook.count,
            isShell(String(decoding: hook[..<newline], as: UTF8.self))
        else { return nil }
        return Array(hook[...newline]) + Array(block.utf8) + hook[(newline + 1)...]
    }

    /// Whether the first line of a file names a shell that understands the lines.
    static func isShell(_ line: String) -> Bool {
        guard line.hasPrefix("#!"), !line.contains("\r") else { return false }
        var words = line.dropFirst(2).split(whereSeparator: { $0 == " " || $0 == "\t" }).map(String.init)
        if words.first?.lastPathComponent == "env" { words.removeFirst() }
        guard let name = words.first?.lastPathComponent else { return false }
        return ["sh", "bash", "dash", "ksh", "mksh", "ash"].contains(name)
    }

    /// A hook cut at the lines: what is before them, they themselves, what is behind. Nil where they are not in it.
    ///
    /// Fails where they begin and do not end.
    static func parts(_ hook: [UInt8]) throws -> (before: [UInt8], block: [UInt8], after: [UInt8])? {
        guard let start = position(of: begin, in: hook[...]) else { return nil }
        guard let last = position(of: end, in: hook[start...]) else {
            throw Failure(
                "the lines of git ksplice have no end there: '\(end.trimmed)' is missing",
                hint: "take them out by hand")
        }
        let after = last + end.utf8.count
        return (Array(hook[..<start]), Array(hook[start..<after]), Array(hook[after...]))
    }

    /// Where a line stands.
    private static func position(of line: String, in bytes: ArraySlice<UInt8>) -> Int? {
        let wanted = Array(line.utf8)
        var start = bytes.startIndex
        while start < bytes.endIndex {
            if bytes[start...].starts(with: wanted) { return start }
            guard let newline = bytes[start...].firstIndex(of: UInt8(ascii: "\n")) else { return nil }
            start = newline + 1
        }
        return nil
    }
}
