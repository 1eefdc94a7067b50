// Lines for scripts (`--porcelain`): a word that says what the line is about, and fields in a fixed order, separated by one
// blank. A field is encoded as in the manifest (`FieldEncoding.swift`), so that it never holds a blank and is never empty.
// Only the last may be text as it is. Lines and fields may be added in later versions; none changes its meaning.

/// How lines for scripts are written.
public struct Porcelain: Sendable {
    /// What ends a line: a line feed, or with `-z` a NUL.
    public let end: String

    public init(endsWithNull: Bool) { end = endsWithNull ? "\0" : "\n" }

    /// One line with its end.
    ///
    /// - Parameter text: the last field as it is, blanks included; a line end in it becomes a blank.
    public func line(_ fields: [String], text: String? = nil) -> String {
        let encoded = fields.map(encodeField)
        let rest = text.map { [$0.lines.joined(separator: " ").replacing("\0", with: " ")] } ?? []
        return (encoded + rest).joined(separator: " ") + end
    }
}
