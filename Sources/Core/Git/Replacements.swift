// Objects that stand in the place of others (git-replace(1)), and objects that come when they are asked for (partial clones): what git
// does behind everybody's back, as far as it must be known here.

import Glibc

extension StoreChoice {
    /// The one that the environment names. Fails where it names none that there is.
    static func named() throws -> StoreChoice? {
        guard let text = getenv(variable).map({ String(cString: $0) }), !text.isEmpty else { return nil }
        guard let choice = StoreChoice(rawValue: text) else {
            throw Failure("\(variable) is '\(text)': it can be 'git' or 'libgit2'", status: .usage)
        }
        return choice
    }
}

extension Repository {
    /// For calls of git about updates, channels and notes: there, nothing stands in the place of anything.
    static let asStored: [String: String?] = ["GIT_NO_REPLACE_OBJECTS": "1"]

    /// Where refs say what stands in the place of what.
    static var replacementBase: String {
        getenv("GIT_REPLACE_REF_BASE").map { String(cString: $0) } ?? "refs/replace/"
    }

    /// What stands in the place of what; nothing where git does not heed it.
    static func replacements(git: ([String]) -> Command) async throws -> [String: String] {
        if getenv("GIT_NO_REPLACE_OBJECTS") != nil { return [:] }
        let heeded = try await git(["config", "--type=bool", "--get", "core.useReplaceRefs"]).run()
        if heeded.text.trimmed == "false" { return [:] }
        let listed = try await git([
            "for-each-ref", "--format=%(refname:lstrip=2) %(objectname)", replacementBase,
        ])
        .check("cannot read which objects are replaced")
        var found: [String: String] = [:]
        for line in listed.text.lines {
            let words = line.split(separator: " ").map(String.init)
            guard words.count == 2, let name = words[0].split(separator: "/").last.map(String.init) else {
                continue
            }
            if ObjectFormat.isName(name) { found[name] = words[1] }
        }
        return found
    }

    /// Whether objects that are not here come from elsewhere when they are asked for (git-clone(1), `--filter`): git marks the packs
    /// that came so.
    var isPartial: Bool {
        get throws {
            let packs = commonDirectory + "/objects/pack"
            guard Files.isDirectory(packs) else { return false }
            return try Files.list(packs).contains { $0.hasSuffix(".promisor") }
        }
    }

    /// The object that git shows for a name; one that stands in another's place may itself be replaced.
    func replacement(of id: String) -> String {
        var name = id
        for _ in 0..<5 {
            guard let next = replacements[name] else { break }
            name = next
        }
        return name
    }
}
