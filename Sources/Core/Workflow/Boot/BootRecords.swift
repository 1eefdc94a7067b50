// What is kept for the next boot, as text: for each kernel the updates in the order of applying, and for an update that is
// being tried, or was, a mark. ARCHITECTURE.md describes both. Records have the form of the manifest's.

/// The updates that come back at a boot of one kernel.
public struct BootList: Sendable, Equatable {
    public struct Entry: Sendable, Equatable {
        public var id: String
        public var description: String
        /// Identities of updates that must be applied before.
        public var depends: [String]

        public init(id: String, description: String, depends: [String]) {
            self.id = id
            self.description = description
            self.depends = depends
        }
    }

    public static let formatVersion = 1

    public var arch: String
    public var buildID: String
    /// For people.
    public var release: String
    /// In the order of applying.
    public var entries: [Entry] = []

    init(kernel: KernelIdentity) {
        (arch, buildID, release) = (kernel.arch, kernel.buildID, kernel.release)
    }

    /// The name of the kernel's file.
    var name: String { "\(arch)-\(buildID)" }

    var text: String {
        var out = "ksplice-boot \(Self.formatVersion)\n"
        out += "kernel " + [arch, buildID, release].map(encodeField).joined(separator: " ") + "\n"
        for entry in entries {
            let fields = [entry.id, entry.description] + entry.depends
            out += "update " + fields.map(encodeField).joined(separator: " ") + "\n"
        }
        return out
    }

    init(parsing text: String) throws {
        func refusal(_ why: String) -> Failure { Failure(why, status: .verificationRefused) }
        let lines = text.lines
        guard text.hasSuffix("\n"), let first = lines.first, first.hasPrefix("ksplice-boot ") else {
            throw refusal("it is no list of updates")
        }
        guard first == "ksplice-boot \(Self.formatVersion)" else {
            throw refusal("it is of another version (\(first.dropFirst("ksplice-boot ".count)))")
        }
        func fields(_ line: Substring) throws -> [String] {
            try line.split(separator: " ", omittingEmptySubsequences: false).map { field in
                guard let text = decodeField(String(field)) else {
                    throw refusal("bad encoding in '\(field)'")
                }
                return text
            }
        }
        guard lines.count > 1, case let kernel = try fields(lines[1]), kernel.count == 4,
            kernel[0] == "kernel"
        else { throw refusal("it names no kernel") }
        (arch, buildID, release) = (kernel[1], kernel[2], kernel[3])
        for line in lines.dropFirst(2) {
            let update = try fields(line)
            guard update.count >= 3, update[0] == "update",
                ([update[1]] + update.dropFirst(3)).allSatisfy(BootList.isIdentity)
            else { throw refusal("'\(line)' cannot be understood") }
            entries.append(Entry(id: update[1], description: update[2], depends: Array(update.dropFirst(3))))
        }
    }

    static func isIdentity(_ text: String) -> Bool {
        text.count == 64 && text.utf8.allSatisfy { hexDigit($0) != nil }
    }
}

/// What is known of the last attempt to apply an update at a boot. Where there is no mark, the system came up with it, or
/// it was never tried. A boot is named as `/proc/sys/kernel/random/boot_id` does.
enum BootMark: Equatable {
    /// Written before it is applied.
    case trying(boot: String)
    /// It is applied, and nobody has said yet that the system came up.
    case applied(boot: String)
    /// The host refused it and went on. It is tried again at the next boot.
    case refused(boot: String, why: String)
    /// It is not tried again before the administrator releases it.
    case held(why: String)

    static let formatVersion = 1

    var text: String {
        let fields =
            switch self {
            case .trying(let boot): ["trying", boot]
            case .applied(let boot): ["applied", boot]
            case .refused(let boot, let why): ["refused", boot, why]
            case .held(let why): ["held", why]
            }
        return "ksplice-mark \(Self.formatVersion)\n" + fields.map(encodeField).joined(separator: " ") + "\n"
    }

    /// A mark that cannot be read says that something went wrong, and holds.
    init(parsing text: String) {
        let lines = text.lines
        let fields = lines.last.map { line in
            line.split(separator: " ", omittingEmptySubsequences: false).map { decodeField(String($0)) ?? "" }
        }
        guard text.hasSuffix("\n"), lines.count == 2, lines[0] == "ksplice-mark \(Self.formatVersion)",
            let fields
        else {
            self = .held(why: "the mark of its last attempt is damaged")
            return
        }
        switch (fields[0], fields.count) {
        case ("trying", 2): self = .trying(boot: fields[1])
        case ("applied", 2): self = .applied(boot: fields[1])
        case ("refused", 3): self = .refused(boot: fields[1], why: fields[2])
        case ("held", 2): self = .held(why: fields[1])
        default: self = .held(why: "the mark of its last attempt is damaged")
        }
    }
}
