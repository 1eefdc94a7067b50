// A shell on another machine, behind any command that gives one there (`ssh root@box`, a connection to a console). It is kept
// for the life of this object: scripts go in, what they print comes back, one after the other.
//
// The way there may be a terminal: it may echo, change line ends, and lose bytes with the highest bit. So everything that is
// not the shell's own language travels as base64, and the mark behind each answer is spelled in a way that an echo of the
// script does not contain.

import Glibc
import Synchronization

/// A running shell. Its calls block, and wait for each other.
final class RemoteShell: Sendable {
    /// For `sh -c` here.
    let command: String
    /// Seconds without a byte after which the shell is taken for dead.
    let patience: Double
    /// Tells this shell's marks from those that another one, which was broken off, may have left on the way.
    private let token: String
    private let state: Mutex<State>

    private struct State: ~Copyable {
        var process: ChildProcess?
        /// Of the next script.
        var number = 0
        /// What came and was not asked for yet.
        var pending: [UInt8] = []
        /// Why there is no shell any more.
        var end: Failure?
    }

    init(command: String, patience: Double = 120) {
        self.command = command
        self.patience = patience
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        token = "\(getpid()).\(time.tv_nsec)"
        state = Mutex(State())
    }

    /// What a script prints, on standard output and standard error, and its exit status. It runs in a subshell without input.
    /// Fails where the shell cannot be started, has ended, or does not answer.
    func run(_ script: String) throws -> (status: Int, output: [UInt8]) {
        let text = try exchange(
            "{ ( \(script)\n) </dev/null 2>&1; printf '\\n%d' $?; } | base64")
        guard let bytes = Base64.decode(text), let end = bytes.lastIndex(of: 0x0a),
            let status = Int(String(decoding: bytes[(end + 1)...], as: UTF8.self))
        else { throw garbled(text) }
        return (status, Array(bytes[..<end]))
    }

    /// The lines that a script prints, without empty ones, which must not be of a form that a terminal changes.
    func lines(_ script: String) throws -> [String] {
        let text = try exchange("( \(script)\n) </dev/null 2>/dev/null")
        return String(decoding: text.filter { $0 != 0x0d }, as: UTF8.self).lines.map { String($0) }
            .filter { !$0.isEmpty }
    }

    private func garbled(_ text: [UInt8]) -> Failure {
        let said = String(decoding: text.prefix(200), as: UTF8.self).trimmed
        return Failure(
            "what the shell of '\(command)' printed is not understood: '\(said)'",
            hints: [
                "it must be a shell without anything else that writes to the same place, such as the kernel's log",
                "the host needs sh, base64, dd, insmod and rmmod, as busybox has them",
            ])
    }

    /// Sends a command line, and gives what comes until its mark.
    private func exchange(_ line: String) throws -> [UInt8] {
        try state.withLock { state throws -> [UInt8] in
            if let end = state.end { throw end }
            do {
                if state.process == nil { try start(&state) }
                return try exchange(line, &state)
            } catch {
                // What was begun cannot be told from what comes next.
                state.process = nil
                state.end = Failure(error)
                throw error
            }
        }
    }

    private func start(_ state: inout State) throws {
        state.process = try ChildProcess(
            ["sh", "-c", command], name: "the shell", keepsErrors: false)
        // A terminal is told to be quiet; the first mark comes behind whatever greets a user.
        _ = try exchange("export LC_ALL=C; PS1=; PS2=; stty -echo -onlcr 2>/dev/null", &state)
    }

    private func exchange(_ line: String, _ state: inout State) throws -> [UInt8] {
        guard let process = state.process else { preconditionFailure("the shell was not started") }
        state.number += 1
        let mark = Array("@ksplice@\(token).\(state.number)@".utf8)
        try process.write(
            Array("\(line)\necho; echo '@ksp''lice@\(token).\(state.number)@'\n".utf8), patience)
        var searched = 0
        while true {
            if let found = state.pending[max(0, searched - mark.count)...].firstRange(of: mark) {
                // The mark stands on a line of its own.
                var answer = state.pending[..<found.lowerBound]
                if answer.last == 0x0a { answer.removeLast() }
                state.pending.removeFirst(found.upperBound)
                return Array(answer)
            }
            searched = state.pending.count
            let more = try process.read(patience)
            guard !more.isEmpty else {
                let status = process.finish()
                let said = String(decoding: state.pending.suffix(400), as: UTF8.self).trimmed
                throw Failure(
                    "the shell of '\(command)' has ended (exit status \(status))"
                        + (said.isEmpty ? "" : "\n\(said)"),
                    hint:
                        "the command must give a shell of root on the host and keep it, as 'ssh root@HOST' does"
                )
            }
            state.pending += more
        }
    }
}

extension RemoteShell {
    /// A text as one word for the shell, whatever is in it.
    static func quoted(_ text: String) -> String { "'" + text.replacing("'", with: "'\\''") + "'" }
}
