import ArgumentParser
import Core

/// Output for scripts that read lines.
struct LineOptions: ParsableArguments {
    @Flag(help: "Print lines for scripts, in a form that stays.")
    var porcelain = false

    @Flag(
        name: [.customShort("z"), .customLong("null")],
        help: "End lines with NUL instead of a line feed, also those of --stdin; implies --porcelain.")
    var null = false

    /// How to write lines for scripts; nil where people read.
    var form: Porcelain? { porcelain || null ? Porcelain(endsWithNull: null) : nil }
}
