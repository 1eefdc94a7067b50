import ArgumentParser
import Core
import Glibc

/// Colours for people, as git has them.
struct ColorOptions: ParsableArguments {
    @Option(
        name: .customLong("color"),
        help: ArgumentHelp("When to use colours: always, never or auto.", valueName: "when"))
    var color: String?

    @Flag(name: .customLong("no-color"), help: "Use no colours.")
    var noColor = false

    func validate() throws {
        guard color.map({ ["always", "never", "auto"].contains($0) }) ?? true else {
            throw ValidationError("--color is always, never or auto")
        }
    }

    /// To be asked before a pager is started, which takes the terminal's place.
    func paint() async -> Paint {
        if noColor || color == "never" { return Paint(isOn: false) }
        if color == "always" { return Paint(isOn: true) }
        let isSeen = isatty(STDOUT_FILENO) == 1 || Pager.isInUse
        // Without a terminal, only `color.ksplice=always` means something.
        let isPlain = getenv("NO_COLOR").map { $0.pointee != 0 } ?? false
        guard
            let answer = await Pager.git([
                "config", "--get-colorbool", "color.ksplice", isSeen && !isPlain ? "true" : "false",
            ])
        else { return Paint(isOn: false) }
        return Paint(isOn: answer == "true")
    }
}

/// Words in colours, or as they are.
struct Paint: Sendable {
    let isOn: Bool

    enum Color: Int {
        case red = 31
        case green, yellow, blue, magenta, cyan
    }

    func callAsFunction(_ text: some StringProtocol, _ color: Color?) -> String {
        guard isOn, let color, !text.isEmpty else { return String(text) }
        return "\u{1b}[\(color.rawValue)m\(text)\u{1b}[m"
    }

    /// The colour of a word for how something stands.
    static func color(of state: some StringProtocol) -> Color? {
        switch state {
        case "update", "applied", "current", "ready", "listed": .green
        case "refused", "failed", "held", "withdrawn", "partial", "unknown", "stale": .red
        case "building", "waiting", "loaded", "behind", "ahead", "unconfirmed", "available": .cyan
        default: nil
        }
    }
}
