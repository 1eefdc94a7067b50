import ArgumentParser

@main
struct GitKsplice: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "git-ksplice")
}
