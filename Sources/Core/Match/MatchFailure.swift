// A function that did not match, told so that a person can act on it: where pre and run part, with the instructions around
// that place side by side, what speaks for which cause, what to do, and which functions near it did match.

/// Why a function did not match.
public struct MatchFailure: Sendable, CustomStringConvertible {
    /// What was seen. `code` is its stable name.
    public enum Cause: String, Sendable, CaseIterable {
        case differentCode = "different code"
        case patchSite = "patch site"
        case differentContent = "different constant"
        case symbolConflict = "conflicting symbol"
        case ambiguous = "ambiguous"
        case notFound = "not found"
        case unreadable = "unreadable memory"
        case kprobe = "kprobe"
        case traced = "traced"
        case redirected = "redirected"
        case otherUpdate = "redirected by an update"
        case livePatched = "patched by another system"
        case unsupported = "not understood"
    }

    /// What may be behind it.
    public struct Reason: Sendable, Equatable {
        public var code: MismatchCode
        /// Whether what was found speaks for this reason; otherwise nothing speaks against it.
        public var isLikely: Bool
        /// One sentence: the evidence.
        public var text: String
    }

    /// A function near it that did match.
    public struct Neighbour: Sendable, Equatable {
        public var function: String
        public var address: UInt64
        /// Whether it is of the same unit.
        public var isOfUnit: Bool
    }

    /// Index into the units.
    public var unit: Int
    /// The unit's source file.
    public var path: String
    public var function: String
    /// Where the function's code was expected to begin; nil where no place is known.
    public var address: UInt64?
    /// From the start of the pre function, in bytes.
    public var offset: Int
    public var cause: Cause
    /// One sentence.
    public var explanation: String
    /// Empty where the failure is not at an instruction.
    public var window = MismatchWindow()
    /// The likely ones first.
    public var reasons: [Reason] = []
    /// What to do.
    public var hints: [String] = []
    public var neighbours: [Neighbour] = []
    /// How many functions of the unit match, and how many were compared.
    public var matched = 0
    public var compared = 0

    /// The instruction in the pre object at `offset`; empty where the failure is not at an instruction.
    public var preText: String { window.pre.map(\.full) ?? "" }
    /// The instruction in memory there.
    public var runText: String { window.run.map(\.full) ?? "" }

    /// On one line, without the instructions.
    public var headline: String {
        "\(function)+\(hex(UInt64(max(offset, 0)))): \(cause.rawValue): \(explanation) [\(cause.code.rawValue)]"
    }

    /// The headline, and the two instructions that differ.
    public var description: String {
        var text = headline
        if !preText.isEmpty || !runText.isEmpty { text += "\n    pre: \(preText)\n    run: \(runText)" }
        return text
    }

    /// For people: everything; the window is at most 80 columns wide. All lines but the first are indented.
    public var lines: [String] { lines(withHints: true) }

    func lines(withHints: Bool) -> [String] {
        [headline] + (details + (withHints ? hints.map { "hint: \($0)" } : [])).map { "    " + $0 }
    }

    private var details: [String] {
        var lines = window.lines
        lines += reasons.map { "\($0.isLikely ? "likely" : "possible"): \($0.text) [\($0.code.rawValue)]" }
        if compared > 0 { lines.append("\(matched) of \(compared) functions of \(path) match") }
        for (title, isOfUnit) in [("nearest of the unit", true), ("nearest by address", false)] {
            let names = neighbours.filter { $0.isOfUnit == isOfUnit }
                .map { "\($0.function) (\(hex($0.address)))" }
            if !names.isEmpty { lines.append("\(title) that match: \(names.joined(separator: ", "))") }
        }
        return lines
    }

    /// For programs, as git-ksplice-match(1) describes it.
    public var json: JSON {
        .object([
            ("function", .string(function)), ("offset", .number(offset)), ("cause", .string(cause.rawValue)),
            ("explanation", .string(explanation)), ("pre", .string(preText)), ("run", .string(runText)),
            ("code", .string(cause.code.rawValue)), ("unit", .string(path)),
            ("address", address.map { .string(hex($0)) } ?? .null),
            ("pre_window", .array(window.preLines.map(\.json))),
            ("run_window", .array(window.runLines.map(\.json))),
            (
                "causes",
                .array(
                    reasons.map {
                        .object([
                            ("code", .string($0.code.rawValue)), ("likely", .bool($0.isLikely)),
                            ("text", .string($0.text)),
                        ])
                    })
            ), ("hints", .strings(hints)),
            ("unit_matched", .number(matched)), ("unit_compared", .number(compared)),
            (
                "near",
                .array(
                    neighbours.map {
                        .object([
                            ("function", .string($0.function)), ("address", .string(hex($0.address))),
                            ("same_unit", .bool($0.isOfUnit)),
                        ])
                    })
            ),
        ])
    }
}

/// The stable names of what `git ksplice explain` explains about mismatches. Tests hold the list against the pages.
public enum MismatchCode: String, Sendable, CaseIterable {
    // What was seen.
    case differentCode = "different-code"
    case differentConstant = "different-constant"
    case patchSite = "patch-site"
    case symbolConflict = "symbol-conflict"
    case severalPlaces = "several-places"
    case notInKernel = "not-in-kernel"
    case unreadable = "unreadable-memory"
    case kprobe
    case traced
    case redirected
    case otherUpdate = "other-update"
    case livePatched = "live-patched"
    case notUnderstood = "not-understood"
    // What may be behind it.
    case otherCompiler = "other-compiler"
    case otherConfig = "other-config"
    case otherSource = "other-source"
    case modifiedCode = "modified-code"
}

extension MatchFailure.Cause {
    public var code: MismatchCode {
        switch self {
        case .differentCode: .differentCode
        case .patchSite: .patchSite
        case .differentContent: .differentConstant
        case .symbolConflict: .symbolConflict
        case .ambiguous: .severalPlaces
        case .notFound: .notInKernel
        case .unreadable: .unreadable
        case .kprobe: .kprobe
        case .traced: .traced
        case .redirected: .redirected
        case .otherUpdate: .otherUpdate
        case .livePatched: .livePatched
        case .unsupported: .notUnderstood
        }
    }
}
