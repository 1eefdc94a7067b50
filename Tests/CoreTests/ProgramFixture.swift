// The program as a user runs it: in a repository, with a host's folder of its own, and none of the machine's configuration.

import Testing

@testable import Core

/// The program that was built with these tests.
struct ProgramFixture: Sendable {
    let fixture: GitFixture
    let state: String
    /// Added to the environment of each call.
    var environment: [String: String?] = [:]

    static let path: String = {
        // What cannot be found is said by the first test.
        let folder = (try? Files.absolute("/proc/self/exe"))?.directoryPart ?? ""
        return folder + "/git-ksplice"
    }()

    init() async throws {
        guard Files.exists(Self.path) else {
            throw Failure("'\(Self.path)' is missing", hint: "swift build --build-tests")
        }
        fixture = try await GitFixture()
        state = fixture.directory + "/.git/host"
        try Files.createDirectory(state)
    }

    private var values: [String: String?] {
        var values: [String: String?] = [
            "GIT_KSPLICE_STATE_DIR": state, "HOME": state, "XDG_CONFIG_HOME": state,
            "GIT_CONFIG_NOSYSTEM": "1", "GIT_KSPLICE_KERNEL_DIR": SourceTree.root + "/kernel",
            "TERM": "xterm",
        ]
        for name in ["GIT_PAGER", "PAGER", "LESS", "NO_COLOR", "GIT_PAGER_IN_USE"] {
            values[name] = .some(nil)
        }
        values.merge(environment) { $1 }
        return values
    }

    /// Runs a command to its end.
    func run(_ arguments: [String], input: String = "", in folder: String? = nil) async throws
        -> CommandResult
    {
        try await Command(
            [Self.path] + arguments, directory: folder ?? fixture.directory, environment: values,
            input: Array(input.utf8)
        ).run()
    }

    /// What a command that must succeed prints.
    @discardableResult
    func output(_ arguments: String..., input: String = "") async throws -> String {
        let result = try await run(arguments, input: input)
        guard result.succeeded else {
            throw Failure("\(arguments): exit status \(result.status)\n\(result.errorText)")
        }
        return result.text
    }

    /// Runs a shell command, in which `$P` is the program.
    func shell(_ text: String, in folder: String? = nil) async throws -> CommandResult {
        var values = values
        values["P"] = Self.path
        return try await Command(
            ["sh", "-c", text], directory: folder ?? fixture.directory, environment: values
        ).run()
    }

    /// A kernel, a commit with an update, one that cannot have one, one without code, and one that was not tried.
    func populate() async throws -> (kernel: KernelSummary, update: StoredUpdate, commits: [String]) {
        let base = try await fixture.commit("base", ["f.c": GitFixture.lines(1...9)])
        let kernel = try await fixture.register("one", source: base, buildID: "ab12")
        var commits: [String] = []
        for (subject, file) in [
            ("fix a bug", "g.c"), ("an odd file", "odd"), ("words", "a.txt"), ("new", "n.c"),
        ] {
            commits.append(try await fixture.commit(subject, [file: "1\n"]))
        }
        return (kernel, try await fixture.storeUpdate(commits[0], for: kernel), commits)
    }
}
