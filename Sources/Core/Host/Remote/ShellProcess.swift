// The process at the near end of a remote shell: `sh -c COMMAND` with pipes to its standard input and from its standard
// output. What it says on its standard error, this program's user reads directly.

import CShims
import Glibc

/// Owns a child process and both pipes; all end together.
final class ShellProcess: @unchecked Sendable {
    // Used by one `RemoteShell`, under its lock.
    private let process: pid_t
    private let input: Int32
    private let output: Int32
    private var status: Int32?
    /// What was printed while something was written.
    private var early: [UInt8] = []

    init(_ command: String) throws {
        var (child, toChild, fromChild): (pid_t, Int32, Int32) = (0, -1, -1)
        let code = ks_shell(command, &child, &toChild, &fromChild)
        guard code == 0 else { throw Failure("cannot start '\(command)': \(describe(errno: code))") }
        (process, input, output) = (child, toChild, fromChild)
    }

    deinit { _ = finish() }

    /// Writes all of it, and takes in what is printed meanwhile, so that neither side waits for the other. Fails where nothing
    /// moves for so many seconds.
    func write(_ bytes: [UInt8], _ patience: Double) throws {
        var done = 0
        while done < bytes.count {
            let n = bytes.withUnsafeBytes {
                Self.writeQuietly(input, $0.baseAddress! + done, bytes.count - done)
            }
            if n > 0 {
                done += n
            } else if errno == EAGAIN {
                try wait([(input, POLLOUT), (output, POLLIN)], patience)
                let printed = Self.readSome(output)
                early += printed.bytes
                if printed.isEnd { return }
            } else if errno == EPIPE {
                // The end is told where the answer is read.
                return
            } else if errno != EINTR {
                throw Failure("cannot write to the shell: \(describe(errno: errno))")
            }
        }
    }

    /// What is there, at least a byte; nothing at the end.
    func read(_ patience: Double) throws -> [UInt8] {
        if !early.isEmpty {
            defer { early = [] }
            return early
        }
        while true {
            let (bytes, isEnd) = Self.readSome(output)
            if isEnd || !bytes.isEmpty { return bytes }
            try wait([(output, POLLIN)], patience)
        }
    }

    /// What is there without waiting; an error that is not for now is an end.
    private static func readSome(_ descriptor: Int32) -> (bytes: [UInt8], isEnd: Bool) {
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        let n = Glibc.read(descriptor, &buffer, buffer.count)
        if n > 0 { return (Array(buffer[..<n]), false) }
        return ([], n == 0 || errno != EAGAIN && errno != EINTR)
    }

    private func wait(_ events: [(descriptor: Int32, event: Int32)], _ patience: Double) throws {
        var wanted = events.map { pollfd(fd: $0.descriptor, events: Int16($0.event), revents: 0) }
        let n = poll(&wanted, nfds_t(wanted.count), Int32(clamping: Int(patience * 1000)))
        guard n != 0 else {
            throw Failure(
                "the shell has not answered for \(Int(patience)) seconds",
                hint: "is the host alive, and does the command give a shell there?")
        }
    }

    /// A shell that has died must not kill this program with a signal.
    private static func writeQuietly(_ descriptor: Int32, _ bytes: UnsafeRawPointer, _ count: Int) -> Int {
        var (pipe, old) = (sigset_t(), sigset_t())
        sigemptyset(&pipe)
        sigaddset(&pipe, SIGPIPE)
        pthread_sigmask(SIG_BLOCK, &pipe, &old)
        let n = Glibc.write(descriptor, bytes, count)
        let code = errno
        if n < 0 && code == EPIPE {
            var now = timespec()
            while sigtimedwait(&pipe, nil, &now) < 0 && errno == EINTR {}
        }
        pthread_sigmask(SIG_SETMASK, &old, nil)
        errno = code
        return n
    }

    /// Closes the pipes, which ends a shell, and waits for it, not for long. Gives its exit status, as a shell says it.
    func finish() -> Int32 {
        if let status { return status }
        close(input)
        close(output)
        var raw: Int32 = 0
        for pause in [1, 10, 100, 300, 600, 2000, 2000] as [UInt32] {
            let found = waitpid(process, &raw, WNOHANG)
            if found == process || found < 0 && errno != EINTR { return note(raw) }
            usleep(pause * 1000)
        }
        kill(process, SIGKILL)
        while waitpid(process, &raw, 0) < 0 && errno == EINTR {}
        return note(raw)
    }

    private func note(_ raw: Int32) -> Int32 {
        let signal = raw & 0x7f
        let result = signal == 0 ? raw >> 8 & 0xff : 128 + signal
        status = result
        return result
    }
}
