// What is said to people: on standard error, so that standard output stays data.

import ArgumentParser
import Core
import Glibc

enum Talk {
    static func line(_ text: String) {
        write(Array((text + "\n").utf8), to: STDERR_FILENO)
    }

    /// Writes bytes as they are, behind what was printed before.
    static func write(_ bytes: [UInt8], to descriptor: Int32 = STDOUT_FILENO) {
        fflush(nil)
        var rest = bytes[...]
        while !rest.isEmpty {
            let n = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if n < 0 && errno == EINTR { continue }
            // Nobody is left to tell that nobody listens.
            guard n > 0 else { return }
            rest = rest.dropFirst(n)
        }
    }

    /// What ended the command; with `name`, only what the command was to do with that.
    static func fatal(_ failure: Failure, about name: String? = nil) {
        line(name.map { "error: '\($0)': " + failure.message } ?? "fatal: " + failure.message)
        for hint in failure.hints { line("hint: " + hint) }
    }

    /// Which modules an update waits for.
    static func waiting(_ report: ApplyReport) {
        guard !report.waiting.isEmpty else { return }
        print("waiting for \(report.waiting.joined(separator: ", ")): not loaded; changed when loaded")
    }

    static func warning(_ text: String) { line("warning: " + text) }

    /// What a change of an update gives. Where JSON is wanted, a failure is printed as such instead of on standard error.
    static func result<Result>(of update: String?, isJSON: Bool, _ body: () async throws -> Result)
        async throws -> Result
    {
        do { return try await body() } catch let failure as Failure where isJSON {
            print(failure.json(update: update).text)
            throw ExitCode(failure.status.rawValue)
        }
    }

    /// Steps of something that takes time, none where `isQuiet`, and what went wrong beside.
    static func progress(isQuiet: Bool) -> Progress {
        Progress(step: { text in if !isQuiet { line(text + " ...") } }, warn: { warning($0) })
    }

    /// Ends the output of something for scripts, as it is.
    static func raw(_ text: String) { write(Array(text.utf8)) }
}

extension Array where Element == [String] {
    /// Columns padded to their widest entry, two blanks between them.
    var columns: [String] {
        guard let count = map(\.count).max() else { return [] }
        let widths = (0..<count).map { column in map { column < $0.count ? $0[column].count : 0 }.max() ?? 0 }
        return map { row in
            row.enumerated().map { position, text in
                position == row.count - 1
                    ? text : text + String(repeating: " ", count: widths[position] - text.count + 2)
            }.joined()
        }
    }
}
