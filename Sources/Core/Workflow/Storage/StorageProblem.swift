// What can be wrong with what the project stores in git. Each kind has a code that does not change, so that scripts can
// know it, and a severity: an error is damage, something that is not what it says or that others cannot use; a warning
// is what an interruption leaves, and what somebody should know.

/// One thing that is wrong, or left over.
public struct StorageProblem: Sendable, Equatable {
    public enum Severity: String, Sendable {
        case error, warning
    }

    /// The kinds. git-ksplice-fsck(1) explains each.
    public enum Code: String, Sendable, CaseIterable {
        // Objects and refs.
        case objectMissing = "object-missing"
        case objectCorrupt = "object-corrupt"
        case objectKind = "object-kind"
        case refBroken = "ref-broken"
        case refSymbolic = "ref-symbolic"
        case refName = "ref-name"
        case refUnknown = "ref-unknown"
        case refLeftover = "ref-leftover"
        case refLock = "ref-lock"
        case formatUnknown = "format-unknown"
        case formatOld = "format-old"
        // Updates and kernels.
        case updateManifest = "update-manifest"
        case updateFile = "update-file"
        case updateTrailer = "update-trailer"
        case updateParents = "update-parents"
        case dependsMissing = "depends-missing"
        case kernelMissing = "kernel-missing"
        case kernelDamaged = "kernel-damaged"
        case kernelDuplicate = "kernel-duplicate"
        case kernelSource = "kernel-source"
        case localStale = "local-stale"
        // Notes.
        case notePlace = "note-place"
        case noteDamaged = "note-damaged"
        case noteTorn = "note-torn"
        case noteDangling = "note-dangling"
        case noteHalf = "note-half"
        // Channels and trust.
        case channelState = "channel-state"
        case channelSerial = "channel-serial"
        case channelForm = "channel-form"
        case channelOrder = "channel-order"
        case channelUpdateMissing = "channel-update-missing"
        case channelUpdateOther = "channel-update-other"
        case channelUntrusted = "channel-untrusted"
        case channelSigners = "channel-signers"
        case channelExpired = "channel-expired"
        case updateUntrusted = "update-untrusted"
        case trustPolicy = "trust-policy"
        case trustChain = "trust-chain"
        case trustSigners = "trust-signers"
        // The folder of state.
        case workspaceUnfinished = "workspace-unfinished"
        case workspaceUnregistered = "workspace-unregistered"
        case leftover = "leftover"
        case kernelPaths = "kernel-paths"
        case queueEntry = "queue-entry"
        case queueRecord = "queue-record"
        case queueInterrupted = "queue-interrupted"
        // A host.
        case hostMemory = "host-memory"
        case hostRollback = "host-rollback"

        public var severity: Severity {
            switch self {
            case .refUnknown, .refLeftover, .refLock, .formatOld, .kernelMissing, .kernelDuplicate,
                .kernelSource, .localStale, .noteDangling, .noteHalf, .channelSigners, .channelExpired,
                .trustSigners, .workspaceUnfinished, .workspaceUnregistered, .leftover, .kernelPaths,
                .queueEntry, .queueInterrupted:
                .warning
            default: .error
            }
        }
    }

    public var code: Code
    /// The ref, or the path of the file, that it is about.
    public var subject: String
    /// One line.
    public var message: String
    /// The next step.
    public var hint: String

    public var severity: Severity { code.severity }

    /// As `git ksplice fsck` prints it, without the hint.
    public var text: String { "\(subject): \(severity.rawValue): \(message) [\(code.rawValue)]" }

    public var json: JSON {
        .object([
            ("v", .number(1)), ("code", .string(code.rawValue)), ("severity", .string(severity.rawValue)),
            ("subject", .string(subject)), ("message", .string(message)), ("hint", .string(hint)),
        ])
    }
}
