// What a careful reviewer would say of a change: one value for each remark, printed like a compiler's diagnostics
// and as JSON.

/// A remark about a change that is to become an update.
public struct Finding: Sendable, Equatable {
    public enum Severity: String, Sendable {
        /// The update is not made, unless its author lets the code through with `--force`.
        case error
        case warning
        case note

        var rank: Int {
            switch self {
            case .error: 2
            case .warning: 1
            case .note: 0
            }
        }
    }

    /// Stable and documented: lower-case words joined with `-`.
    public var code: String
    public var severity: Severity
    /// The source file's path in the kernel's tree.
    public var file: String
    /// The line in the post text, where one is known.
    public var line: Int?
    /// The symbol or type that it is about; empty where it is about the file.
    public var symbol: String
    /// What was found.
    public var message: String
    /// Why it matters and what to do.
    public var advice: String
    /// The changed functions that it concerns, where it is about something that they share.
    public var functions: [String] = []

    public init(
        _ code: String, _ severity: Severity, file: String, line: Int? = nil, symbol: String = "",
        _ message: String,
        advice: String
    ) {
        self.code = code
        self.severity = severity
        self.file = file
        self.line = line
        self.symbol = symbol
        self.message = message
        self.advice = advice
    }

    /// What stands in the way of one file's comparison; nil for a failure that says nothing about the change.
    public init?(_ failure: Failure, file: String) {
        guard let code = failure.finding else { return nil }
        self.init(
            code, .error, file: file, failure.message, advice: failure.hints.joined(separator: "; "))
    }

    /// In the order of files and lines; what is about a whole file comes first.
    public static func sorted(_ findings: [Finding]) -> [Finding] {
        findings.enumerated().sorted { a, b in
            (a.element.file, a.element.line ?? 0, a.offset) < (b.element.file, b.element.line ?? 0, b.offset)
        }.map(\.element)
    }

    /// The same findings with a type that many files know from a common header told once, as the gravest of them.
    static func merged(_ findings: [Finding]) -> [Finding] {
        var result: [Finding] = []
        var others: [Int: Int] = [:]
        for finding in findings {
            let same = result.firstIndex {
                $0.code == "type-layout" && $0.code == finding.code && $0.symbol == finding.symbol
                    && $0.message == finding.message
            }
            guard let same else {
                result.append(finding)
                continue
            }
            others[same, default: 0] += 1
            let functions = result[same].functions + finding.functions
            if finding.severity.rank > result[same].severity.rank { result[same] = finding }
            result[same].functions = functions
        }
        for (index, count) in others {
            result[index].message += " (seen in \(count + 1) files)"
        }
        return result
    }

    /// The same remark with another weight.
    func with(_ severity: Severity) -> Finding {
        var copy = self
        copy.severity = severity
        return copy
    }

    /// Whether `--force` can let it through. A limit is raised instead, and a unit of which nothing is known cannot be
    /// left out of an update without harm to the others.
    public var canBeForced: Bool { !Self.unforceable.contains(code) }

    public static let unforceable: Set<String> = [
        "too-many-units", "unknown-section", "init-reference", "nameless-reference", "objtool",
    ]

    /// `file:line: error: message [code]`, and the advice on a line of its own.
    public var text: String {
        let place = file + (line.map { ":\($0)" } ?? "")
        let most = 10
        let more = functions.count > most ? " and \(functions.count - most) more" : ""
        let users =
            functions.isEmpty ? "" : "\n    used by \(functions.prefix(most).joined(separator: ", "))\(more)"
        return "\(place): \(severity.rawValue): \(message) [\(code)]\(users)\n    \(advice)"
    }
}

extension Finding {
    /// One object; `line` is null where none is known.
    public var json: JSON {
        .object([
            ("code", .string(code)), ("severity", .string(severity.rawValue)), ("file", .string(file)),
            ("line", line.map { .number($0) } ?? .null), ("symbol", .string(symbol)),
            ("message", .string(message)),
            ("advice", .string(advice)), ("functions", .strings(functions)),
        ])
    }
}
