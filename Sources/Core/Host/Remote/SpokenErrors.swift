// The error numbers behind what programs on another machine say. A shell passes on words, not numbers: those of the C
// library (glibc's or musl's), or those that insmod(8) has of its own.

import Glibc

enum SpokenErrors {
    /// What musl says otherwise than glibc, of the numbers that matter here.
    private static let others: [(words: String, code: Int32)] = [
        ("Resource busy", EBUSY), ("Not supported", EOPNOTSUPP), ("Out of memory", ENOMEM),
        ("Result not representable", ERANGE), ("I/O error", EIO),
    ]

    /// What insmod(8) of busybox says of a module.
    private static let modules: [(words: String, code: Int32)] = [
        ("invalid module format", ENOEXEC), ("unknown symbol in module", ENOENT),
        ("wrong symbol version", ESRCH), ("invalid parameters", EINVAL),
        ("Invalid module format", ENOEXEC), ("Unknown symbol in module", ENOENT),
        ("Key was rejected", EKEYREJECTED), ("Required key not available", ENOKEY),
    ]

    /// The number that a message is about, which ends with the words for it; nil where it has none that are known.
    static func number(in message: String) -> Int32? {
        let text = message.trimmed
        return modules.first { text.contains($0.words) }?.code
            ?? (1...133).first { text.hasSuffix(describe(errno: $0)) }
            ?? others.first { text.hasSuffix($0.words) }?.code
    }
}
