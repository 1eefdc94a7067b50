// What went wrong, in git's words: one line that names the subject, hints that name the next step, and the
// exit status that a script can rely on.

/// The exit statuses of every command. The table is documented in `git-ksplice(1)`.
public enum ExitStatus: Int32, Sendable, CaseIterable {
    case success = 0
    /// The question that the command asks has the answer no.
    case no = 1
    /// What was asked for does not exist.
    case notFound = 2
    /// There is no update for this kernel, or the update is for another kernel.
    case wrongKernel = 3
    /// A check of integrity failed: altered archive, run-pre mismatch, unknown signer.
    case verificationRefused = 4
    /// What is stored no longer belongs to what it was made from.
    case stale = 5
    /// The change cannot be made to a running kernel; the findings say why.
    case cannotBePatched = 6
    /// Something is in use: a task inside the function, another process at work.
    case busy = 7
    /// The change does not change any code that the kernel runs.
    case noChange = 8
    /// Code of the update's author said that this machine is not to be changed now.
    case hookRefused = 9
    case fatal = 128
    case usage = 129
}

/// A failure that is shown to the user as `fatal: message` followed by `hint: ...` lines.
public struct Failure: Error, Sendable, CustomStringConvertible {
    public var status: ExitStatus
    /// Without the word "fatal", without a full stop; further lines are details.
    public var message: String
    /// Each names a next step.
    public var hints: [String]
    /// The code of the finding that this is, where it says something about a change; see `Finding.init(_:file:)`.
    public var finding: String?
    /// For programs: what the message is about; of run-pre matching, the mismatches. Nil where the message says it all.
    public var details: JSON?

    public init(
        _ message: String, status: ExitStatus = .fatal, hints: [String] = [], finding: String? = nil
    ) {
        self.status = status
        self.message = message
        self.hints = hints
        self.finding = finding
    }

    public init(_ message: String, status: ExitStatus = .fatal, hint: String, finding: String? = nil) {
        self.init(message, status: status, hints: [hint], finding: finding)
    }

    /// An error of any kind as a failure.
    public init(_ error: any Error) { self = error as? Failure ?? Failure("\(error)") }

    /// A failed system call on a path: `cannot open 'x': No such file or directory`.
    public static func system(_ what: String, _ path: String, errno code: Int32) -> Failure {
        Failure("cannot \(what) '\(path)': \(describe(errno: code))")
    }

    public var description: String { message }

    /// Of an update that was to be applied or undone, as git-ksplice-apply(1) describes it.
    ///
    /// - Parameter id: the update's identity; nil where it is about several.
    public func json(update id: String?) -> JSON {
        .object([
            ("v", .number(1)), ("update", id.map { .string($0) } ?? .null), ("done", .bool(false)),
            ("status", .number(Int(status.rawValue))), ("message", .string(message)),
            ("hints", .strings(hints)), ("details", details ?? .null),
        ])
    }
}
