import ArgumentParser
import Core

/// The options of commands that apply updates which may wait for modules.
struct LateOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "What becomes of a module that is loaded later and cannot get its part: refuse or allow.",
            valueName: "policy"))
    var late = Choice.refuse

    enum Choice: String, ExpressibleByArgument, CaseIterable { case refuse, allow }

    var policy: LatePolicy { LatePolicy(rawValue: late.rawValue) ?? .refuse }
}
