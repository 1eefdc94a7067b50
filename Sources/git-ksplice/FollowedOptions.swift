import ArgumentParser

/// Of what this host has fetched.
struct FollowedOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The channel that this host follows.", valueName: "name"))
    var channel = "stable"
}
