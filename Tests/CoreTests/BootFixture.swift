// A machine that boots again and again, with a folder of updates that outlives its boots.

import Testing

@testable import Core

final class BootFixture: @unchecked Sendable {
    let folder: String
    let host = FakeHost()
    private var boots = 0
    private var isAlive = true
    /// What was applied at this boot, in its order.
    private(set) var applied: [String] = []
    /// What the update of an identity does to this machine.
    var effects: [String: Effect] = [:]
    /// The kind of file system that the folder is on, where it is one that forgets.
    var forgetful: String?
    /// How many steps of writing the machine still lives for.
    var stepsToLive: Int?

    enum Effect { case refuse, kill, killProgram, killPreparing }

    init() throws {
        folder = try Files.temporaryDirectory("ksplice-test")
        reboot()
    }

    deinit { try? Files.remove(folder) }

    var store: BootStore {
        var store = BootStore(folder + "/boot")
        store.folder.interruption = { [weak self] _ in try self?.step() }
        store.forgetful = { [forgetful] _ in forgetful }
        return store
    }

    private func step() throws {
        guard isAlive else { throw Failure("the machine is dead") }
        guard let left = stepsToLive else { return }
        if left == 0 {
            isAlive = false
            throw Failure("the machine died")
        }
        stepsToLive = left - 1
    }

    /// The state of the kernel is gone, the folder stays.
    func reboot(_ parameters: String = "quiet", buildID: String = "ab12") {
        boots += 1
        (isAlive, stepsToLive, applied) = (true, nil, [])
        host.files = [
            "/proc/cmdline": parameters + "\n", "/proc/sys/kernel/random/boot_id": "boot-\(boots)\n",
        ]
        host.kernel = KernelIdentity(
            arch: "x86_64", buildID: buildID, release: "6.1.0-1", version: "#1", compiler: "",
            configDigest: "")
    }

    /// What remains where a program is killed: the kernel as it is.
    func restartProgram() { isAlive = true }

    @discardableResult
    func add(_ update: Update) async throws -> Bool {
        try store.create()
        return try await store.locked { try store.add(update) }
    }

    func boot(isEarly: Bool = false, deadline: ContinuousClock.Instant? = nil) async throws -> BootReport {
        var run = BootRun(host: host, store: store)
        run.isEarly = isEarly
        run.deadline = deadline
        return try await run.run(preparing: prepare, applying: apply)
    }

    private func prepare(_ update: Update) async throws {
        if case .trying = try store.mark(update.id) { Issue.record("it has its mark too early") }
        if effects[update.id] == .killPreparing {
            isAlive = false
            throw Failure("the machine died")
        }
    }

    private func apply(_ update: Update) async throws -> ApplyReport? {
        switch effects[update.id] {
        case .refuse: throw Failure("tasks are inside the functions\n  who", status: .busy)
        case .kill, .killProgram:
            isAlive = false
            throw Failure("the machine died")
        case .killPreparing, nil: break
        }
        applied.append(update.id)
        host.files["/sys/kernel/ksplice/\(update.id)/state"] = "applied\n"
        return nil
    }

    func confirm() async throws -> [String] { try await BootRun(host: host, store: store).confirm() }

    @discardableResult
    func release(_ specs: String...) async throws -> [BootList.Entry] {
        try await store.locked { try await BootRun(host: host, store: store).release(specs) }
    }

    func overview() async throws -> [BootOverview] {
        try await BootRun(host: host, store: store).overview()
    }

    /// Names of all files, without those that a crash leaves and nobody reads.
    func files() throws -> [String] {
        try ["kernels", "updates", "marks"].flatMap { sub in
            try store.folder.names(in: sub).map { "\(sub)/\($0)" }
        }
    }

    static func update(
        _ name: String, on ground: [Update] = [], buildID: String = "ab12", module: String? = nil
    ) -> Update {
        let update = GitFixture.update(description: name, buildID: buildID)
        var manifest = update.manifest
        manifest.depends = ground.map(\.id)
        return Update(manifest: manifest, files: update.files)
    }
}

extension BootReport {
    /// A word for each update, in the order of applying.
    var words: [String] {
        results.map { entry, result in
            let word =
                switch result {
                case .applied: "applied"
                case .present: "present"
                case .held: "held"
                case .refused: "refused"
                }
            return "\(entry.description) \(word)"
        }
    }
}
