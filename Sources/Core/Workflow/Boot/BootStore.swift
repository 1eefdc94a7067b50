// The updates that come back after a reboot: archives, for each kernel a list, and marks. Everything that applying needs
// is in it, so that neither repository nor network nor compiler is needed at boot.
//
// A list is the only thing that makes an update count. What it names is written before it and removed after it, each
// durably: so whenever the machine dies, the lists are whole and what they name is there; an archive or a mark that no
// list names is left over, and goes with the next change.

public struct BootStore: Sendable {
    /// The folder below the program's folder of state.
    public static let name = "boot"

    var folder: DurableFolder
    /// What a folder lies on where marks in it are gone after a reboot; else nil. Tests lie on anything.
    var forgetful: @Sendable (String) -> String? = { DurableFolder.forgetfulFileSystem($0) }

    /// - Parameter path: need not exist.
    public init(_ path: String) { folder = DurableFolder(path) }

    private static let (kernels, archives, marks) = ("kernels", "updates", "marks")
    private static let suffix = ".tar.gz"
    /// The file that says which boot was confirmed last.
    private static let up = "up"

    /// Whether anything was ever written here.
    public var exists: Bool { Files.isDirectory(folder.path) }

    /// Does something while nobody else changes anything.
    ///
    /// - Parameter patience: how many seconds to wait for whoever does.
    public func locked<Result>(
        patience: Double = 2, _ body: () async throws -> Result
    ) async throws -> Result {
        try folder.refuseForeign([Self.kernels, Self.archives, Self.marks])
        return try await folder.locked(patience: patience, body)
    }

    // MARK: - Reading

    /// All lists. A file that cannot be understood is a failure.
    public func lists() throws -> [BootList] {
        try folder.names(in: Self.kernels).compactMap(list(named:))
    }

    /// The list of a kernel; nil where nothing is kept for it.
    public func list(for kernel: KernelIdentity) throws -> BootList? {
        try list(named: BootList(kernel: kernel).name)
    }

    private func list(named name: String) throws -> BootList? {
        guard !name.isEmpty, !name.contains("/"), name.first != ".",
            let bytes = try folder.read("\(Self.kernels)/\(name)")
        else { return nil }
        do {
            let list = try BootList(parsing: String(decoding: bytes, as: UTF8.self))
            guard list.name == name else { throw Failure("it is the list of another kernel") }
            return list
        } catch let failure as Failure {
            throw Failure(
                "'\(folder.path)/\(Self.kernels)/\(name)' is damaged: \(failure.message)",
                status: .verificationRefused,
                hint: "remove that file, then add the updates of that kernel again (git ksplice boot add)")
        }
    }

    /// The update that an entry names. Fails where the archive is missing, damaged, or of another update.
    public func update(_ id: String) throws -> Update {
        let again = "git ksplice boot remove \(id.prefix(12)), and add it again from an archive"
        guard let bytes = try folder.read("\(Self.archives)/\(id)\(Self.suffix)") else {
            throw Failure(
                "the archive of update \(id.prefix(12)) is missing", status: .notFound, hint: again)
        }
        do {
            let update = try Update(archive: bytes)
            guard update.id == id else { throw Failure("it holds update \(update.id.prefix(12))") }
            return update
        } catch let failure as Failure {
            throw Failure(
                "the archive of update \(id.prefix(12)) is damaged: \(failure.message)",
                status: .verificationRefused, hint: again)
        }
    }

    func mark(_ id: String) throws -> BootMark? {
        guard let bytes = try folder.read("\(Self.marks)/\(id)") else { return nil }
        return BootMark(parsing: String(decoding: bytes, as: UTF8.self))
    }

    /// The marks of a list's updates.
    func marks(of list: BootList) throws -> [String: BootMark] {
        var result: [String: BootMark] = [:]
        for entry in list.entries { result[entry.id] = try mark(entry.id) }
        return result
    }

    /// The identities of all updates that have a mark.
    func marked() throws -> [String] { try folder.names(in: Self.marks).filter(BootList.isIdentity) }

    /// Whether somebody has said that this boot came up.
    func isUp(_ boot: String) throws -> Bool {
        guard let bytes = try folder.read(Self.up) else { return false }
        return String(decoding: bytes, as: UTF8.self) == Self.upText(boot)
    }

    private static func upText(_ boot: String) -> String { "ksplice-up 1\nboot \(encodeField(boot))\n" }

    /// Fails where the marks are gone after a reboot: an update that kills the machine would be tried at each boot.
    func refuseForgetful() throws {
        let marks = "\(folder.path)/\(Self.marks)"
        let place = Files.isDirectory(marks) ? marks : folder.path
        guard let kind = forgetful(place) else { return }
        throw Failure(
            "nothing is tried: '\(place)' is on \(kind), which may forget at a reboot what was tried",
            hint: "mount something that lasts there")
    }

    /// The entries that an identity, or the beginning of one, names. Fails where that is none, or several.
    public func find(_ spec: String) throws -> BootList.Entry {
        let wanted = spec.hasPrefix("ksplice-") ? String(spec.dropFirst(8)) : spec
        let found = try lists().flatMap(\.entries).filter { wanted.count >= 4 && $0.id.hasPrefix(wanted) }
        guard found.count <= 1 else {
            throw Failure(
                "'\(spec)' is ambiguous: " + found.map { String($0.id.prefix(12)) }.joined(separator: ", "))
        }
        guard let entry = found.first else {
            throw Failure(
                "no update '\(spec)' is kept for the next boot", status: .notFound,
                hint: "git ksplice boot list")
        }
        return entry
    }

    // MARK: - Changing; each within `locked`

    /// Creates the folder. Called before `locked`.
    public func create() throws { try folder.create() }

    /// Keeps an update, behind those that are kept for its kernel already. Returns false where it is one of them.
    public func add(_ update: Update) throws -> Bool {
        let (manifest, short) = (update.manifest, update.id.prefix(12))
        guard !manifest.kernel.buildID.isEmpty else {
            throw Failure(
                "update \(short) does not know its kernel's build-id, by which a kernel is recognised at boot",
                status: .wrongKernel,
                hint: "register the kernel with its image (git ksplice kernel add), and make the update anew")
        }
        var list = try list(for: manifest.kernel) ?? BootList(kernel: manifest.kernel)
        if list.entries.contains(where: { $0.id == update.id }) { return false }
        for ground in manifest.depends where !list.entries.contains(where: { $0.id == ground }) {
            throw Failure(
                "update \(short) was made on update \(ground.prefix(12)), which is not kept for the next boot",
                status: .no, hint: "git ksplice boot add \(ground.prefix(12))")
        }
        list.entries.append(
            BootList.Entry(
                id: update.id, description: manifest.description, depends: manifest.depends))
        // A mark of earlier times says nothing of an update that is added anew.
        try folder.remove("\(Self.marks)/\(update.id)")
        try folder.write(try update.archive(), to: "\(Self.archives)/\(update.id)\(Self.suffix)")
        try write(list)
        try removeLeftovers()
        return true
    }

    /// Keeps updates no longer. Fails where one that stays stands on one of them.
    public func remove(_ ids: Set<String>) throws {
        var changed: [BootList] = []
        for var list in try lists() where list.entries.contains(where: { ids.contains($0.id) }) {
            list.entries.removeAll { ids.contains($0.id) }
            for entry in list.entries {
                guard let ground = entry.depends.first(where: ids.contains) else { continue }
                throw Failure(
                    "update \(entry.id.prefix(12)) stands on update \(ground.prefix(12))", status: .busy,
                    hint: "git ksplice boot remove \(entry.id.prefix(12)) \(ground.prefix(12))")
            }
            changed.append(list)
        }
        for list in changed { try write(list) }
        try removeLeftovers()
    }

    func set(_ mark: BootMark, for id: String) throws {
        try folder.write(Array(mark.text.utf8), to: "\(Self.marks)/\(id)")
    }

    /// Holds those that a channel has withdrawn, whatever has become of them before.
    ///
    /// - Returns: the ones that were not held yet, each with the reason.
    public func hold(withdrawn entries: [ChannelEntry]) throws -> [(entry: BootList.Entry, why: String)] {
        let reasons = Dictionary(
            entries.compactMap { entry in entry.withdrawn.map { (entry.id, $0) } }, uniquingKeysWith: { $1 })
        var held: [(entry: BootList.Entry, why: String)] = []
        for entry in try lists().flatMap(\.entries) {
            guard let reason = reasons[entry.id] else { continue }
            let why = "withdrawn: \(reason)"
            if case .held = try mark(entry.id) { continue }
            try set(.held(why: why), for: entry.id)
            held.append((entry, why))
        }
        return held
    }

    /// Notes that this boot came up.
    func setUp(_ boot: String) throws { try folder.write(Array(Self.upText(boot).utf8), to: Self.up) }

    /// Removes a mark, so that the update may be tried again.
    public func removeMark(_ id: String) throws { try folder.remove("\(Self.marks)/\(id)") }

    private func write(_ list: BootList) throws {
        if list.entries.isEmpty {
            try folder.remove("\(Self.kernels)/\(list.name)")
        } else {
            try folder.write(Array(list.text.utf8), to: "\(Self.kernels)/\(list.name)")
        }
    }

    /// Removes marks and archives that no list names; none where a list cannot be read.
    private func removeLeftovers() throws {
        guard let lists = try? lists() else { return }
        let named = Set(lists.flatMap(\.entries).map(\.id))
        for id in try marked() where !named.contains(id) { try removeMark(id) }
        for file in try folder.names(in: Self.archives)
        where file.hasSuffix(Self.suffix) && !named.contains(String(file.dropLast(Self.suffix.count))) {
            try folder.remove("\(Self.archives)/\(file)")
        }
    }
}
