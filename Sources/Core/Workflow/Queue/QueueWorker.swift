// The one worker of the queue: it waits until nothing comes any more and nothing is being rebased, and builds an update
// of each commit for each registered kernel, one after the other. What became of each is recorded before its entry
// goes. After each build it looks at everything anew, for meanwhile commits come and go.

import Glibc

/// What a user can say about builds in the background.
public struct QueueOptions: Sendable {
    /// How long nothing may have come before the work begins, in seconds: a commit is often amended at once.
    public var delay = 5.0
    /// Most commits of one merge that are built.
    public var limit = 20
    /// Names of the kernels to build for; empty for all.
    public var kernels: [String] = []
    /// Whether to wait for what is being rebased, instead of leaving it in the queue.
    public var waits = true
    /// How long to wait for that, in seconds. The hook that ends a rebase starts another worker.
    var patience = 3600.0
    /// How long to sleep meanwhile, in seconds.
    var pause = 2.0

    init() {}

    /// Reads `ksplice.hook.*` of the configuration.
    public init(_ repository: Repository) async throws {
        func number(_ key: String) async throws -> Int? {
            guard let text = try await repository.config(key) else { return nil }
            guard let value = Int(text), value >= 0 else {
                throw Failure("'\(key)' wants a number, not '\(text)'", hint: "git config \(key) 5")
            }
            return value
        }
        if let seconds = try await number("ksplice.hook.delay") { delay = Double(seconds) }
        if let commits = try await number("ksplice.hook.limit") { limit = commits }
        kernels = try await repository.configAll("ksplice.hook.kernel")
    }
}

/// The worker.
public struct QueueWorker: Sendable {
    let repository: Repository
    let queue: BuildQueue
    let options: QueueOptions
    let builder: QueueBuilder
    let report: @Sendable (BuildRecord) -> Void

    /// - Parameter report: called with each result.
    public init(
        _ repository: Repository, options: QueueOptions, builder: QueueBuilder,
        report: @escaping @Sendable (BuildRecord) -> Void
    ) {
        self.init(
            repository, queue: BuildQueue(repository), options: options, builder: builder, report: report)
    }

    init(
        _ repository: Repository, queue: BuildQueue, options: QueueOptions, builder: QueueBuilder,
        report: @escaping @Sendable (BuildRecord) -> Void
    ) {
        self.repository = repository
        self.queue = queue
        self.options = options
        self.builder = builder
        self.report = report
    }

    /// What a worker leaves behind.
    public enum Outcome: Sendable, Equatable {
        case done
        /// These stay in the queue, because of something that is in progress.
        case left([BuildQueue.Entry], String)
        /// Another worker is at work, and will find what is new.
        case occupied
    }

    /// Works until nothing is left to do.
    ///
    /// - Parameter begun: called when it is clear that this is the one worker.
    public func run(begun: () throws -> Void = {}) async throws -> Outcome {
        while true {
            guard let outcome = try await alone(begun) else { return .occupied }
            // Who has come meanwhile, found the lock taken and gone, is found here.
            let entries = try queue.entries()
            guard case .left(let left, _) = outcome else {
                if entries.isEmpty { return outcome }
                continue
            }
            if entries.allSatisfy(left.contains) { return outcome }
        }
    }

    /// Nil where another worker has the lock.
    private func alone(_ begun: () throws -> Void) async throws -> Outcome? {
        guard let lock = try queue.lock() else { return nil }
        defer { lock.release() }
        try begun()
        return try await work()
    }

    private func work() async throws -> Outcome {
        try await calm()
        var waited = 0.0
        while true {
            let plan = try await plan()
            if let next = plan.ready {
                try await build(next)
                waited = 0
            } else if plan.held.isEmpty {
                return .done
            } else if options.waits, waited < options.patience {
                try await Task.sleep(for: .seconds(options.pause))
                waited += options.pause
            } else {
                return .left(plan.held, plan.words)
            }
        }
    }

    /// Waits until nothing has come for a while.
    private func calm() async throws {
        while options.waits, let newest = try queue.entries().map(\.time).max() {
            var now = timespec()
            clock_gettime(CLOCK_REALTIME, &now)
            let age = Double(now.tv_sec * 1_000_000_000 + now.tv_nsec - newest) / 1e9
            // A clock that was set back must not make it wait for hours.
            guard age < options.delay, age >= 0 else { return }
            try await Task.sleep(for: .seconds(options.delay - age))
        }
    }

    private struct Plan {
        var ready: BuildQueue.Entry?
        var held: [BuildQueue.Entry] = []
        /// What the held ones wait for.
        var words = ""
    }

    /// Removes what nothing has any more, replaces ranges by their commits, and finds the first commit to build.
    private func plan() async throws -> Plan {
        var plan = Plan()
        let entries = try queue.entries()
        if entries.isEmpty { return plan }
        let history = try await SettledHistory(repository)
        for entry in entries {
            switch try await history.standing(of: entry.commit) {
            case .gone: try queue.remove(entry)
            case .moving(let words):
                plan.held.append(entry)
                plan.words = words
            case .settled:
                if let start = try rangeStart(entry) {
                    try await expand(entry, from: start)
                    return try await self.plan()
                }
                plan.ready = entry
                return plan
            }
        }
        return plan
    }

    /// Where a range starts, and what a merge brought; nil for one commit.
    private func rangeStart(_ entry: BuildQueue.Entry) throws -> String? {
        if let start = entry.start { return try repository.hasObject(start) ? start : nil }
        let parents = try repository.commit(entry.commit).parents
        return parents.count > 1 ? parents[0] : nil
    }

    private func expand(_ entry: BuildQueue.Entry, from start: String) async throws {
        let listed = try await repository.git([
            "rev-list", "--reverse", "--topo-order", "--no-merges", "--max-count=\(options.limit + 1)",
            "\(start)..\(entry.commit)",
        ]).check("cannot list what a merge has brought")
        let commits = listed.text.lines.map(String.init)
        if commits.count > options.limit {
            var record = BuildRecord(
                commit: entry.commit, subject: try repository.commit(entry.commit).subject, kernel: nil,
                builder: builder.name, time: time(nil))
            record.state = .skipped
            record.reason = "it brought more than \(options.limit) commits (ksplice.hook.limit)"
            try keep(record)
        } else {
            // If the process ends between them, they are made once more.
            for commit in commits { try queue.add(commit) }
        }
        try queue.remove(entry)
    }

    /// Builds for all kernels.
    private func build(_ entry: BuildQueue.Entry) async throws {
        let registry = KernelRegistry(repository)
        var kernels = try await registry.all()
        if !options.kernels.isEmpty {
            kernels = []
            for name in options.kernels { kernels.append(try await registry.summary(name)) }
        }
        for kernel in kernels {
            let before = try queue.lastBuilding()
            let isAgain = before?.commit == entry.commit && before?.kernel == kernel.name
            let building = BuildQueue.Building(
                commit: entry.commit, kernel: kernel.name, tries: (isAgain ? before?.tries ?? 0 : 0) + 1,
                since: time(nil))
            try queue.begin(building)
            if let record = try await builder.record(
                building, kernel: kernel, known: try queue.results(), in: repository)
            {
                try keep(record)
            }
            try queue.end()
        }
        try queue.remove(entry)
    }

    private func keep(_ record: BuildRecord) throws {
        try queue.keep(record)
        report(record)
    }
}
