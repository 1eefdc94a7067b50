// The files of ksplice.ko for one update (kernel/README.md describes them), and what its refusals mean to a person.

import Glibc

/// What is done about tasks that are in the way.
public struct Patience: Sendable {
    /// Seconds to go on trying.
    public var timeout: Double
    /// Whether tasks of user space that sleep are held at their way out while it is tried again.
    public var nudges: Bool

    public init(timeout: Double = 30, nudges: Bool = false) {
        self.timeout = timeout
        self.nudges = nudges
    }
}

struct UpdateSysfs: Sendable {
    static let root = "/sys/kernel/ksplice"
    let host: any Host & Sendable
    let id: String
    /// What people are told: the identity of the whole update.
    let shown: String

    /// - Parameters:
    ///   - id: of an update, or of a part of one.
    ///   - whole: of the whole update, where that is another one.
    init(host: any Host & Sendable, id: String, whole: String? = nil) {
        self.host = host
        self.id = id
        shown = whole ?? id
    }

    private var folder: String { "\(Self.root)/\(id)" }

    /// The identities of all updates that are loaded.
    static func loaded(_ host: any Host) async throws -> [String] {
        guard try await host.exists(root) else { return [] }
        return try await host.list(root).filter { $0.count == 64 }
    }

    /// `loaded`, `applied`, `undone`; nil where the update is not loaded.
    func state() async throws -> String? {
        guard try await host.exists(folder) else { return nil }
        return try await text("state")
    }

    func text(_ name: String) async throws -> String {
        String(decoding: try await host.read("\(folder)/\(name)"), as: UTF8.self).trimmed
    }

    func number(_ name: String) async throws -> Int { Int(try await text(name)) ?? 0 }

    /// Names of the replaced functions, without the number that tells equal names apart.
    func functions() async throws -> [String] {
        try await host.list(folder + "/functions").map { name in
            name.lastIndex(of: ",").map { String(name[..<$0]) } ?? name
        }
    }

    /// Tasks that are in the way.
    func conflicts() async throws -> [TaskInTheWay] {
        var tasks = try await text("conflicts").lines.compactMap { TaskInTheWay($0) }
        for index in tasks.indices { tasks[index].still = await host.stillness(of: tasks[index].pid) }
        return tasks
    }

    private static let explanations: [String: (text: String, hint: String)] = [
        "changed": (
            "the code is no longer what was matched",
            "something else has changed it since; run git ksplice check"
        ),
        "reserved": (
            "the bytes where the redirect would stand belong to a jump label, a static call or an alternative",
            "this function cannot be redirected; a caller may be changed instead"
        ),
        "kprobe": (
            "a kprobe is in one of the functions",
            "/sys/kernel/debug/kprobes/list names it; remove it and try again"
        ),
        "tracer": (
            "the kernel's ftrace does not let one of the functions be redirected",
            "another tool redirects it by ftrace, such as a kernel live patch, or ftrace is switched off (sysctl kernel.ftrace_enabled); dmesg has the number"
        ),
        "cache-line": (
            "a redirect would cross a cache line and cannot be written at once",
            "a caller may be changed instead"
        ),
        "size": ("one of the functions is too short for a redirect", "a caller may be changed instead"),
        "address": (
            "one of the functions is where no redirect may stand", "git ksplice show lists the functions"
        ),
        "module": ("a module that the update changes is missing or leaving", "lsmod"),
        "dependent": (
            "a later update stands on this one",
            "undo the later update first; git ksplice status shows the order"
        ),
        "used": (
            "a module uses a symbol that it exports", "lsmod names it; unload it first"
        ),
        "memory": ("the kernel is out of memory", "try again"),
    ]

    /// What the kernel's refusal of a change means.
    func refusal(_ verb: String, _ cause: String, _ code: Int32) async throws -> Failure {
        let short = shown.prefix(12)
        if cause == "hook" {
            let words = try await text("hook").split(separator: " ").map { String($0) }
            guard words.count == 3, let value = Int32(words[2]) else {
                throw Failure("'\(folder)/hook' cannot be understood")
            }
            let meaning = value < 0 ? " (\(describe(errno: -value)))" : ""
            return Failure(
                "cannot \(verb) \(short): the \(words[0]) hook '\(words[1])' refused with \(value)\(meaning)",
                status: .hookRefused,
                hint:
                    "the update's author says so; nothing was changed. git ksplice show --patch has the code")
        }
        return Self.refusal(verb, shown, cause, detail: nil)
            ?? Failure(
                "cannot \(verb) \(short): \(cause) (\(describe(errno: code)))", status: .busy, hint: "dmesg")
    }

    /// Who is inside, as a text and for programs.
    static func busy(_ verb: String, _ id: String, _ who: [(text: String, json: JSON)], mayNudge: Bool)
        -> Failure
    {
        var failure = Failure(
            "cannot \(verb) \(id.prefix(12)): tasks are inside the functions\n"
                + who.map { "  " + $0.text }.joined(separator: "\n"), status: .busy,
            hint: "it works once they have left; stop them, or try again later")
        if mayNudge {
            failure.hints.append("those of user space that sleep can be taken out for a moment: --nudge")
        }
        failure.details = .array(who.map(\.json))
        return failure
    }

    /// What a cause of ksplice.ko means; nil for one that is not known. `detail` says where.
    static func refusal(_ verb: String, _ id: String, _ cause: String, detail: String?) -> Failure? {
        guard let known = explanations[cause] else { return nil }
        return Failure(
            "cannot \(verb) \(id.prefix(12)): \(known.text)" + (detail.map { ": " + $0 } ?? ""),
            status: cause == "changed" ? .verificationRefused : .busy, hint: known.hint)
    }
}
