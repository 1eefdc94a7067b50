import ArgumentParser
import Core

struct Explain: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Explain a finding of create, or why code does not match.",
        usage: "git ksplice explain [<code>]")

    @Argument(help: "The code in brackets, as create, match, check and apply print it; default: list all.")
    var code: String?

    func run() async throws {
        let pages = try FindingPages(folders: [Locations.findings(), Locations.mismatches()])
        if let code {
            print(try pages.page(code), terminator: "")
        } else {
            for line in try pages.summaries().map({ [$0.code, $0.summary] }).columns { print(line) }
        }
    }
}
