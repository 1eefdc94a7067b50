// A host that is a table of files, for what no machine of the tests can be brought to say.

@testable import Core

final class FakeHost: Host, @unchecked Sendable {
    var files: [String: String]
    /// What `/proc/kcore` would show.
    var shown: (any KernelMemory)?
    /// What the window of ksplice.ko would show.
    var behindWindow: FakeWindow?
    /// What runs.
    var kernel: KernelIdentity?
    private(set) var unloaded: [String] = []
    /// Why no module can be unloaded; nil where they can.
    var refusal: Failure?
    /// What the next writes end with; 0 when there is none left. And who was held during each.
    var answers: [Int32] = []
    private(set) var held: [[Int]] = []

    init(_ files: [String: String] = [:]) { self.files = files }

    var title: String { "the fake host" }

    func identity() async throws -> KernelIdentity {
        guard let kernel else { throw Failure("no kernel") }
        return kernel
    }
    func symbols() async throws -> KernelSymbols { throw Failure("no symbols") }
    func memory(covering ranges: [Range<UInt64>]) async throws -> (any KernelMemory)? { shown }
    func window() async throws -> any OpenMemory {
        guard let behindWindow else { throw Failure("no window") }
        return behindWindow
    }
    func read(_ path: String) async throws -> [UInt8] {
        guard let text = files[path] else { throw Failure("cannot open '\(path)'") }
        return Array(text.utf8)
    }
    func exists(_ path: String) async throws -> Bool {
        files[path] != nil || files.keys.contains { $0.hasPrefix(path + "/") }
    }
    func list(_ path: String) async throws -> [String] {
        let folder = path.hasSuffix("/") ? path : path + "/"
        return Set(
            files.keys.filter { $0.hasPrefix(folder) }.map { name in
                String(name.dropFirst(folder.count).prefix { $0 != "/" })
            }
        ).sorted()
    }
    func store(_ text: String, into path: String) async throws -> Int32 {
        files[path] = text
        return answers.isEmpty ? 0 : answers.removeFirst()
    }
    func store(_ text: String, into path: String, holding tasks: [Int]) async throws -> Int32 {
        held.append(tasks)
        return try await store(text, into: path)
    }
    func load(module bytes: [UInt8], name: String, parameters: String) async throws {
        throw Failure("no modules")
    }
    func unload(module name: String) async throws {
        if let refusal { throw refusal }
        unloaded.append(name)
    }
    func modules() async throws -> [LoadedModule] { [] }
    func appendToJournal(_ line: String) async throws { throw Failure("no journal") }
    func tasks() async throws -> [HostTask] { [] }
}

final class FakeWindow: OpenMemory {
    private(set) var isOpen = true
    func read(at address: UInt64, count: Int) throws -> [UInt8] { [UInt8](repeating: 1, count: count) }
    func close() { isOpen = false }
}
