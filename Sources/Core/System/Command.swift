// Other programs, run without a shell.

import Subprocess
import SystemPackage

/// What a finished program left.
public struct CommandResult: Sendable {
    /// The exit status; 128 plus the signal's number if a signal ended it, as a shell says it.
    public var status: Int32
    public var output: [UInt8]
    public var errorOutput: [UInt8]

    public var text: String { String(decoding: output, as: UTF8.self) }
    public var errorText: String { String(decoding: errorOutput, as: UTF8.self) }
    public var succeeded: Bool { status == 0 }
}

/// A program, its arguments, and where it runs.
public struct Command: Sendable {
    /// The program's path or name, then its arguments.
    public var arguments: [String]
    public var directory: String?
    /// Added to this process's environment, over `LC_ALL=C`; nil removes a variable.
    public var environment: [String: String?]
    public var input: [UInt8]

    public init(
        _ arguments: [String], directory: String? = nil, environment: [String: String?] = [:],
        input: [UInt8] = []
    ) {
        self.arguments = arguments
        self.directory = directory
        self.environment = environment
        self.input = input
    }

    /// Most that is kept of a program's output, in bytes. It may be taken from memory beforehand, which a small machine does not
    /// have.
    public var outputLimit = 1 << 27

    /// Runs it to its end, whatever its exit status. Fails only where it cannot be started.
    public func run() async throws -> CommandResult {
        var values: [Environment.Key: String?] = ["LC_ALL": "C"]
        for (name, value) in environment { values[Environment.Key(stringLiteral: name)] = value }
        let program = arguments[0]
        do {
            let result = try await Subprocess.run(
                program.contains("/") ? .path(.init(program)) : .name(program),
                arguments: Arguments(Array(arguments.dropFirst())),
                environment: .inherit.updating(values),
                workingDirectory: directory.map { .init($0) },
                input: .array(input),
                output: .bytes(limit: outputLimit),
                error: .bytes(limit: min(outputLimit, 1 << 24)))
            let status: Int32 =
                switch result.terminationStatus {
                case .exited(let code): code
                case .signaled(let signal): 128 + signal
                }
            return CommandResult(
                status: status, output: result.standardOutput, errorOutput: result.standardError)
        } catch {
            throw Failure("cannot run '\(program)': \(error)")
        }
    }

    /// The same on the calling thread, for what is soon done and asked for where nothing can wait.
    func runHere() throws -> CommandResult {
        let process = try ChildProcess(
            arguments, directory: directory, environment: ["LC_ALL": "C"].merging(environment) { $1 },
            name: "'\(arguments[0])'", keepsErrors: true)
        try process.write(input)
        process.closeInput()
        var output: [UInt8] = []
        while true {
            let more = try process.read()
            if more.isEmpty { break }
            output += more
            guard output.count <= outputLimit else { throw Failure("'\(arguments[0])' prints without end") }
        }
        let status = process.finish(isPatient: true)
        return CommandResult(status: status, output: output, errorOutput: Array(process.errorText.utf8))
    }

    /// Runs it and fails where its exit status is not zero, with what it wrote to its standard error.
    @discardableResult
    public func check(_ purpose: String? = nil) async throws -> CommandResult {
        let result = try await run()
        guard result.succeeded else {
            let said = (result.errorText.isEmpty ? result.text : result.errorText).trimmed
            throw Failure(
                "\(purpose ?? "'\(arguments.prefix(3).joined(separator: " "))' failed"): "
                    + "exit status \(result.status)\(said.isEmpty ? "" : "\n\(said)")")
        }
        return result
    }
}

extension String {
    /// Without white space at both ends.
    public var trimmed: String {
        var part = self[...]
        while let c = part.first, c.isWhitespace { part.removeFirst() }
        while let c = part.last, c.isWhitespace { part.removeLast() }
        return String(part)
    }

    /// The lines without their ends; a last line end makes no empty line.
    public var lines: [Substring] {
        var parts = split(separator: "\n", omittingEmptySubsequences: false)
        if parts.last == "" { parts.removeLast() }
        return parts
    }
}
