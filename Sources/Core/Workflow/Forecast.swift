// A dry run: everything that apply would look at, and what it would meet, without loading anything. Where apply ends with
// the first obstacle, the dry run goes on as far as it can and reports all, in apply's order, so that the first one is the
// one that apply would fail with.

/// What a dry run found out.
public struct Forecast: Sendable {
    /// What apply depends on, in the order in which it finds out.
    public enum Point: String, Sendable {
        /// Whether the update is applied already.
        case state
        /// Whether the kernel takes modules that are not signed.
        case loading
        /// Whether the running kernel is the one that the update was made for.
        case identity
        /// The updates that it was made on.
        case dependencies
        /// The modules whose code is replaced.
        case modules
        /// Live patches of the kernel's own kind, and exports that exist already.
        case neighbours
        /// Run-pre matching.
        case matching
        /// Everything that the new code refers to.
        case symbols
        /// Other updates.
        case updates
        /// Whether there is room for the redirects, and nobody else's hands on it.
        case room
        /// Tasks inside of what would be replaced.
        case tasks
    }

    /// Something that apply would fail with.
    public struct Obstacle: Sendable {
        public var point: Point
        public var failure: Failure
    }

    /// Something that could not be looked at.
    public struct Unknown: Sendable {
        public var point: Point
        /// Why.
        public var text: String
    }

    public var obstacles: [Obstacle] = []
    public var unknown: [Unknown] = []
    public var statistics = MatchResult.Statistics()
    /// Names of functions and constants that would be replaced, and of hooks that would be run.
    public let functions: [String]
    public let constants: [String]
    public let hooks: [String]
    /// Modules that are not loaded, whose parts would wait for them.
    public var waiting: [String] = []
    /// Functions that would be replaced and whose entry calls somebody else's code now.
    public var traced: [TracedFunction] = []
    /// Tasks that are inside of them.
    public var inside: [TaskInside] = []

    init(_ manifest: Manifest) {
        functions = manifest.replacements.filter { $0.partOf == nil }.map(\.symbol)
        constants = manifest.constants.map(\.symbol)
        hooks = manifest.hooks.map(\.symbol)
    }

    /// The exit status that apply would end with.
    public var status: ExitStatus { obstacles.first?.failure.status ?? .success }

    /// Takes down what a step fails with. Returns its result where it does not.
    @discardableResult
    mutating func collect<T>(_ point: Point, _ step: () async throws -> T) async -> T? {
        do { return try await step() } catch {
            let failure = Failure(error)
            obstacles.append(Obstacle(point: point, failure: failure))
            return nil
        }
    }

    mutating func add(_ point: Point, _ failures: [Failure]) {
        obstacles += failures.map { Obstacle(point: point, failure: $0) }
    }

    mutating func leave(_ point: Point, _ reason: String) {
        unknown.append(Unknown(point: point, text: reason))
    }
}

extension Forecast {
    /// As git-ksplice-check(1) describes it.
    public func json(id: String) -> JSON {
        return .object([
            ("v", .number(2)), ("update", .string(id)), ("applies", .bool(obstacles.isEmpty)),
            ("status", .number(Int(status.rawValue))),
            ("obstacles", .array(obstacles.map(\.json))),
            (
                "unknown",
                .array(
                    unknown.map {
                        .object([("point", .string($0.point.rawValue)), ("text", .string($0.text))])
                    })
            ),
            ("matched_functions", .number(statistics.functions)),
            ("matched_bytes", .number(statistics.bytes)),
            ("match_ns", .number(Int(statistics.nanoseconds))),
            ("functions", .strings(functions)), ("constants", .strings(constants)),
            ("hooks", .strings(hooks)),
            (
                "traced",
                .array(
                    traced.map {
                        .object([("function", .string($0.name)), ("tracers", .strings($0.tracers))])
                    })
            ),
            ("inside", .array(inside.map(\.json))), ("waiting", .strings(waiting)),
        ])
    }
}

extension Forecast.Obstacle {
    var json: JSON {
        .object([
            ("point", .string(point.rawValue)), ("message", .string(failure.message)),
            ("hints", .strings(failure.hints)), ("status", .number(Int(failure.status.rawValue))),
            ("details", failure.details ?? .null),
        ])
    }
}
