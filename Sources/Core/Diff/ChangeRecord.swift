// Why a function is in an update: what `create` finds out while the objects with debug information exist, and keeps in
// the update for `show --why`. The file `changes` holds one record a line; Documentation/ARCHITECTURE.md describes it.

public struct ChangeRecord: Sendable, Equatable {
    public enum Kind: String, Sendable { case changed, new, removed }

    /// One cause of a change.
    public struct Reason: Sendable, Equatable {
        public enum Kind: String, Sendable {
            /// Lines of the function itself are in the change.
            case edited
            /// A function that is inlined into it was edited.
            case inlined
            /// The same, where the callee stands in a header.
            case header
            /// The definition of a macro that it names was edited.
            case macro
            /// The compiler inlines another set of functions into it.
            case inlining
            /// The compiler makes a specialised copy, or no longer does, of it or of what it calls.
            case clone
            /// A string or a constant that it refers to has other content, or it refers to another symbol.
            case data
            /// Members of a type are elsewhere.
            case layout
            /// An entry of a table that describes its code differs.
            case table
            /// None of these: the compiler has arranged the code in another way.
            case compiler
        }

        public var kind: Kind
        /// What exactly, in words.
        public var text: String
        /// Of the edit, in post.
        public var place: SourceLine?
        /// The functions that lead to the edited one, which is the last.
        public var callees: [String] = []
    }

    /// Some instructions around the first one that differs.
    public struct Code: Sendable, Equatable {
        public struct Line: Sendable, Equatable {
            /// Bytes from the function's start.
            public var offset: Int
            public var text: String
        }

        /// Of the function, in bytes.
        public var size: Int
        /// Where the function is declared.
        public var declared: SourceLine?
        /// The first differing instruction's offset and the line that it was made from; nil where the whole differs.
        public var offset: Int?
        public var place: SourceLine?
        /// The functions that are inlined there, outermost first, each with the line of its call.
        public var inlined: [String] = []
        public var instructions: [Line] = []
    }

    /// The unit's source.
    public var unit: String
    /// The function's symbol in post; in pre for one that is gone.
    public var function: String
    public var kind: Kind
    public var reasons: [Reason] = []
    public var pre: Code?
    public var post: Code?

    /// A few words.
    public var summary: String {
        let words = reasons.map { $0.text + ($0.place.map { " (\($0.text))" } ?? "") }.joined(separator: "; ")
        switch kind {
        case .new: return words.isEmpty ? "new" : "new: " + words
        case .removed: return words.isEmpty ? "gone" : "gone: " + words
        case .changed: return words
        }
    }
}

// MARK: - JSON

extension ChangeRecord {
    public var json: JSON {
        .object([
            ("v", .number(1)), ("unit", .string(unit)), ("function", .string(function)),
            ("change", .string(kind.rawValue)), ("reasons", .array(reasons.map(\.json))),
            ("pre", pre?.json ?? .null), ("post", post?.json ?? .null),
        ])
    }

    /// Reads the file `changes` of an update.
    public static func read(_ text: String) throws -> [ChangeRecord] {
        try text.lines.filter { !$0.isEmpty }.map { line in
            let json = try JSON(parsing: String(line))
            guard json["v"]?.number == 1 else {
                throw Failure("the update's reasons are in a format that this program does not know")
            }
            guard let record = ChangeRecord(json) else {
                throw Failure("the update's file 'changes' is malformed", status: .verificationRefused)
            }
            return record
        }
    }

    private init?(_ json: JSON) {
        guard let unit = json["unit"]?.string, let function = json["function"]?.string,
            let kind = json["change"]?.string.flatMap({ Kind(rawValue: $0) }),
            let reasons = json["reasons"]?.array
        else { return nil }
        self.init(unit: unit, function: function, kind: kind)
        for reason in reasons {
            guard let reason = Reason(reason) else { return nil }
            self.reasons.append(reason)
        }
        pre = json["pre"].flatMap { Code($0) }
        post = json["post"].flatMap { Code($0) }
    }
}

extension SourceLine {
    var json: JSON { .object([("file", .string(file)), ("line", .number(line))]) }

    init?(_ json: JSON?) {
        guard let file = json?["file"]?.string, let line = json?["line"]?.number else { return nil }
        self.init(file: file, line: line)
    }
}

extension ChangeRecord.Reason {
    var json: JSON {
        .object([
            ("kind", .string(kind.rawValue)), ("text", .string(text)), ("place", place?.json ?? .null),
            ("callees", .strings(callees)),
        ])
    }

    init?(_ json: JSON) {
        // A kind that is newer than this program is told by its words.
        guard let word = json["kind"]?.string, let text = json["text"]?.string else { return nil }
        self.init(
            kind: Kind(rawValue: word) ?? .compiler, text: text, place: SourceLine(json["place"]),
            callees: json["callees"]?.array?.compactMap(\.string) ?? [])
    }
}

extension ChangeRecord.Code {
    var json: JSON {
        .object([
            ("size", .number(size)), ("declared", declared?.json ?? .null),
            ("offset", offset.map { .number($0) } ?? .null), ("place", place?.json ?? .null),
            ("inlined", .strings(inlined)),
            (
                "instructions",
                .array(
                    instructions.map {
                        .object([("offset", .number($0.offset)), ("text", .string($0.text))])
                    })
            ),
        ])
    }

    init?(_ json: JSON) {
        guard let size = json["size"]?.number else { return nil }
        self.init(
            size: size, declared: SourceLine(json["declared"]), offset: json["offset"]?.number,
            place: SourceLine(json["place"]), inlined: json["inlined"]?.array?.compactMap(\.string) ?? [],
            instructions: (json["instructions"]?.array ?? []).compactMap { line in
                guard let offset = line["offset"]?.number, let text = line["text"]?.string else { return nil }
                return Line(offset: offset, text: text)
            })
    }
}
