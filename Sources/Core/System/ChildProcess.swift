// A program that is spoken with: pipes to its standard input and from its standard output. Where it is kept, a question costs
// a write and a read instead of a start. It blocks its caller; what may take long belongs to `Command.run`.

import CShims
import Glibc

/// Owns a child process and both pipes; all end together. It serves one thread at a time.
final class ChildProcess: @unchecked Sendable {
    // Used under its owner's lock.
    private let name: String
    private let process: pid_t
    private var input: Int32
    private let output: Int32
    /// A file without a name that its standard error goes to; -1 where that is this process's own.
    private let errors: Int32
    private var status: Int32?
    /// What was printed while something was written.
    private var early: [UInt8] = []

    /// Starts a program. Its environment is changed as a `Command`'s.
    ///
    /// - Parameter name: what it is called in messages.
    /// - Parameter keepsErrors: whether what it writes to its standard error is for `errorText`, not for this program's user.
    init(
        _ arguments: [String], directory: String? = nil, environment: [String: String?] = [:], name: String,
        keepsErrors: Bool
    ) throws {
        let words = arguments.map { strdup($0) } + [nil]
        let changes = environment.map { strdup($0.key + ($0.value.map { "=" + $0 } ?? "")) } + [nil]
        defer { for text in words + changes { free(text) } }
        errors = keepsErrors ? ks_unnamed_file() : -1
        var (child, toChild, fromChild): (pid_t, Int32, Int32) = (0, -1, -1)
        let code = ks_spawn(words, changes, directory, errors, &child, &toChild, &fromChild)
        (process, input, output, self.name) = (child, toChild, fromChild, name)
        guard code == 0 else {
            status = 127
            throw Failure("cannot start '\(arguments[0])': \(describe(errno: code))")
        }
    }

    deinit {
        _ = finish()
        if errors >= 0 { close(errors) }
    }

    /// Writes all of it, and takes in what is printed meanwhile, so that neither side waits for the other. Fails where nothing
    /// moves for so many seconds, where a patience is given.
    func write(_ bytes: [UInt8], _ patience: Double? = nil) throws {
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
                throw Failure("cannot write to \(name): \(describe(errno: errno))")
            }
        }
    }

    /// What is there, at least a byte; nothing at the end.
    func read(_ patience: Double? = nil) throws -> [UInt8] {
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

    private func wait(_ events: [(descriptor: Int32, event: Int32)], _ patience: Double?) throws {
        var wanted = events.map { pollfd(fd: $0.descriptor, events: Int16($0.event), revents: 0) }
        let limit = patience.map { Int32(clamping: Int($0 * 1000)) } ?? -1
        let n = poll(&wanted, nfds_t(wanted.count), limit)
        guard n != 0 else {
            throw Failure(
                "\(name) has not answered for \(Int(patience ?? 0)) seconds",
                hint: "is the host alive, and does the command give a shell there?")
        }
    }

    /// A program that has died must not kill this program with a signal.
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

    /// What it has written to its standard error.
    var errorText: String {
        guard errors >= 0 else { return "" }
        var (bytes, place) = ([UInt8](), 0)
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while place < 1 << 24 {
            let n = pread(errors, &buffer, buffer.count, off_t(place))
            if n <= 0 { break }
            bytes += buffer[..<n]
            place += n
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Lets it see the end of its input.
    func closeInput() {
        if input >= 0 { close(input) }
        input = -1
    }

    /// Closes the pipes, which ends a program that is spoken with, and waits for it. Gives its exit status, as a shell says it.
    ///
    /// - Parameter isPatient: whether to wait as long as it takes; else it is killed after some seconds.
    func finish(isPatient: Bool = false) -> Int32 {
        if let status { return status }
        closeInput()
        close(output)
        var raw: Int32 = 0
        for pause in (isPatient ? [] : [1, 10, 100, 300, 600, 2000, 2000]) as [UInt32] {
            let found = waitpid(process, &raw, WNOHANG)
            if found == process || found < 0 && errno != EINTR { return note(raw) }
            usleep(pause * 1000)
        }
        if !isPatient { kill(process, SIGKILL) }
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
