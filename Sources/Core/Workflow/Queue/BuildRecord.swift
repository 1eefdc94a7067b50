// What became of a commit in the background, or by hand, for one kernel. A record says which trees it is about: it is true of a
// commit as long as the commit, merged onto that kernel's source, gives that tree, and no longer.

/// The result of one build in the background.
public struct BuildRecord: Sendable, Equatable {
    public enum State: String, Sendable, CaseIterable {
        /// There is an update.
        case made = "update"
        /// The change cannot be made to a running kernel; the codes say why.
        case refused
        /// The change changes nothing that this kernel runs.
        case nothing
        /// It could not be tried to the end.
        case failed
        /// It was not tried; the reason says why.
        case skipped
    }

    /// For one commit of several that were left out together, the last one.
    public var commit: String
    public var subject: String
    /// The kernel's name; empty where the record is about all of them.
    public var kernel: String
    public var arch: String
    /// The kernel as refs name it (`KernelIdentity.refName`).
    public var buildID: String
    /// The kernel's source, and what the commit makes of it; empty where it does not fit.
    public var preTree: String
    public var postTree: String
    /// `git patch-id --stable` of the commit; empty where it has none.
    public var patchID: String
    /// The program that found it out (`CreateOptions.builder`).
    public var builder: String
    public var state: State
    /// The update's identity; empty where there is none.
    public var update: String
    /// The codes of the findings that stand in the way.
    public var codes: [String]
    /// One line; empty where the state says it all.
    public var reason: String
    /// Seconds since 1970.
    public var time: Int
    /// Whether it is what `create` has told somebody, and not a build in the background.
    public var isByHand = false

    /// A record without a result yet.
    init(commit: String, subject: String, kernel: KernelSummary?, builder: String, time: Int) {
        self.commit = commit
        self.subject = subject
        self.kernel = kernel?.name ?? ""
        arch = kernel?.identity.arch ?? ""
        buildID = kernel?.identity.refName ?? ""
        (preTree, postTree, patchID) = ("", "", "")
        self.builder = builder
        state = .failed
        (update, codes, reason) = ("", [], "")
        self.time = time
    }

    /// Whether it is about the same commit and kernel as another one.
    func isAbout(_ other: BuildRecord) -> Bool {
        commit == other.commit && arch == other.arch && buildID == other.buildID
    }

    /// Whether it is about a kernel.
    func isFor(_ kernel: KernelSummary) -> Bool {
        arch == kernel.identity.arch && buildID == kernel.identity.refName
    }

    /// Why it is as it is, in one line.
    public var words: String {
        switch state {
        case .made: String(update.prefix(12))
        case .refused: codes.joined(separator: ", ")
        case .nothing, .failed, .skipped: reason
        }
    }

    public var json: JSON {
        .object([
            ("v", .number(1)), ("commit", .string(commit)), ("subject", .string(subject)),
            ("kernel", .string(kernel)), ("arch", .string(arch)), ("build_id", .string(buildID)),
            ("pre_tree", .string(preTree)), ("post_tree", .string(postTree)), ("patch_id", .string(patchID)),
            ("builder", .string(builder)), ("state", .string(state.rawValue)), ("update", .string(update)),
            ("codes", .strings(codes)), ("reason", .string(reason)), ("time", .number(time)),
            ("by_hand", .bool(isByHand)),
        ])
    }

    /// Reads a line of the file `results`; nil for what another version has written, and for half of one.
    init?(line: some StringProtocol) {
        guard let json = try? JSON(parsing: String(line)), json["v"]?.number == 1,
            let state = json["state"]?.string.flatMap({ State(rawValue: $0) }),
            let time = json["time"]?.number
        else { return nil }
        func text(_ name: String) -> String { json[name]?.string ?? "" }
        commit = text("commit")
        subject = text("subject")
        kernel = text("kernel")
        (arch, buildID) = (text("arch"), text("build_id"))
        (preTree, postTree, patchID) = (text("pre_tree"), text("post_tree"), text("patch_id"))
        builder = text("builder")
        self.state = state
        update = text("update")
        codes = json["codes"]?.array?.compactMap(\.string) ?? []
        reason = text("reason")
        self.time = time
        isByHand = json["by_hand"] == .bool(true)
    }
}
