import ArgumentParser
import Core

/// The options of commands that change the running kernel.
struct ChangeOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "How long to go on trying while tasks are inside the functions.", valueName: "seconds"))
    var timeout = 30.0

    @Flag(help: "Take sleeping tasks out of the functions for a moment.")
    var nudge = false

    @Flag(name: .shortAndLong, help: "Say nothing but the result.")
    var quiet = false

    var patience: Patience { Patience(timeout: timeout, nudges: nudge) }
}
