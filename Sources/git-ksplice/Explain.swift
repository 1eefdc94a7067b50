import ArgumentParser
import Core

struct Explain: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Explain a finding of create.", usage: "git ksplice explain [<code>]")

    @Argument(help: "The code in brackets at the end of a finding; default: list all.")
    var code: String?

    func run() async throws {
        let pages = try FindingPages(folder: Locations.findings())
        if let code {
            print(try pages.page(code), terminator: "")
        } else {
            for line in try pages.summaries().map({ [$0.code, $0.summary] }).columns { print(line) }
        }
    }
}
